use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::multipart::{Form, Part};

use super::{ClientError, Result};

/// A parameter's value, as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// `key=value`.
    Text(String),
    /// `key=@file`.
    File(PathBuf),
    /// `key=-`: standard input, not read yet.
    Stdin,
    /// A file's content that is in memory.
    Content { file_name: String, bytes: Vec<u8> },
}

/// One `-p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    /// The parameter's name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) given: Given,
}

impl FromStr for Param {
    type Err = String;

    /// `key=value`, `key=@file`, `key=-`; `key=@@x` is the text `@x`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not key=value, key=@file or key=-"))?;
        if name.is_empty() {
            return Err(format!("`{text}` has no parameter's name before the `=`"));
        }
        let given = match value.strip_prefix('@') {
            None if value == "-" => Given::Stdin,
            None => Given::Text(value.to_owned()),
            Some("-") => Given::Stdin,
            Some("") => return Err(format!("`{text}` has no file's name after the `@`")),
            Some(literal) if literal.starts_with('@') => Given::Text(literal.to_owned()),
            Some(path) => Given::File(PathBuf::from(path)),
        };
        Ok(Self {
            name: name.to_owned(),
            given,
        })
    }
}

impl Param {
    /// Reads standard input where it is asked for, so that a submission can be sent more than once.
    pub(crate) fn settled(self) -> Result<Self> {
        if self.given != Given::Stdin {
            return Ok(self);
        }
        let mut bytes = Vec::new();
        let failed = |source| ClientError::ParamFile {
            param: self.name.clone(),
            path: PathBuf::from("-"),
            source,
        };
        io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        Ok(Self {
            name: self.name,
            given: Given::Content {
                file_name: "stdin".to_owned(),
                bytes,
            },
        })
    }

    async fn part(&self) -> Result<Part> {
        match &self.given {
            Given::Text(text) => Ok(Part::text(text.clone())),
            Given::Content { file_name, bytes } => {
                Ok(Part::bytes(bytes.clone()).file_name(file_name.clone()))
            }
            Given::Stdin => Ok(Part::text("-")),
            Given::File(path) => {
                let failed = |source| ClientError::ParamFile {
                    param: self.name.clone(),
                    path: path.clone(),
                    source,
                };
                Part::file(path).await.map_err(failed)
            }
        }
    }
}

/// The parameters as a multipart form. Files are streamed: built anew for each time it is sent.
pub(super) async fn form(params: &[Param]) -> Result<Form> {
    let mut form = Form::new();
    for param in params {
        form = form.part(param.name.clone(), param.part().await?);
    }
    Ok(form)
}

/// An `Idempotency-Key` that nobody has used.
pub(crate) fn fresh_key() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        text.parse::<Param>().unwrap().given
    }

    #[test]
    fn a_parameter_is_text_a_file_or_standard_input() {
        assert_eq!(given("evalue=1e-3"), Given::Text("1e-3".to_owned()));
        assert_eq!(given("query=@q.fa"), Given::File(PathBuf::from("q.fa")));
        assert_eq!(given("query=-"), Given::Stdin);
        assert_eq!(given("query=@-"), Given::Stdin);
    }

    #[test]
    fn only_the_first_equals_sign_divides_and_odd_values_stay() {
        assert_eq!(given("note=a=b@c"), Given::Text("a=b@c".to_owned()));
        assert_eq!(given("note="), Given::Text(String::new()));
        assert_eq!(given("note=@@home"), Given::Text("@home".to_owned()));
        assert_eq!(given("note=-1"), Given::Text("-1".to_owned()));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for text in ["query", "=x", "query=@", ""] {
            assert!(text.parse::<Param>().is_err(), "{text}");
        }
    }

    #[test]
    fn fresh_keys_differ() {
        assert_ne!(fresh_key().unwrap(), fresh_key().unwrap());
    }
}
