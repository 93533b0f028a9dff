//! Two mistakes that curl invites, and the line that was meant.

use crate::problem::{ApiError, Code};

/// Refuses a form that is a sequence file sent by `-d @file` (which strips newlines and so glues the header to the
/// sequence), or that has a file's name where its content was meant.
pub(crate) fn check(body: &[u8], pairs: &[(String, String)], param: &str) -> Result<(), ApiError> {
    let is_bare = !body.is_empty() && !body.contains(&b'=');
    if body.starts_with(b">") || is_bare {
        return Err(mistake(
            "the body is a file's content without a parameter's name, as `curl -d @q.fa` sends it, with the newlines lost",
            param,
            "q.fa",
        ));
    }
    let named = pairs
        .iter()
        .find_map(|(key, value)| Some((key, file_name(value)?)));
    match named {
        Some((key, file)) => Err(mistake(
            &format!(
                "`{key}` is the literal text `@{file}`: `curl -d {key}=@{file}` does not read the file"
            ),
            key,
            file,
        )),
        None => Ok(()),
    }
}

fn file_name(value: &str) -> Option<&str> {
    let name = value.strip_prefix('@')?;
    let is_plain = !name.is_empty() && name.len() < 256 && !name.contains(['\n', '\r']);
    is_plain.then_some(name)
}

fn mistake(what: &str, param: &str, file: &str) -> ApiError {
    let detail =
        format!("{what}; send it with `-F {param}=@{file}` or `--data-urlencode {param}@{file}`");
    ApiError::new(Code::CurlDataFile, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(body: &str) -> Option<String> {
        let pairs = crate::body::form(body.as_bytes()).unwrap();
        check(body.as_bytes(), &pairs, "query")
            .err()
            .map(|e| e.detail().to_owned())
    }

    #[test]
    fn a_file_sent_by_data_is_recognised() {
        for body in [">sp|P1|X OS=HumanMKVLA", "MKVLAAGG", ">q1MKV"] {
            assert!(detail(body).unwrap().contains("`-F query=@q.fa`"), "{body}");
        }
    }

    #[test]
    fn a_literal_file_name_is_recognised() {
        let detail = detail("evalue=1&seq=@my.fa").unwrap();
        assert!(
            detail.contains("`-F seq=@my.fa` or `--data-urlencode seq@my.fa`"),
            "{detail}"
        );
    }

    #[test]
    fn ordinary_forms_pass() {
        for body in ["", "query=%3Eq%0AMKV", "query=MKV&evalue=1", "name=@"] {
            assert_eq!(detail(body), None, "{body}");
        }
    }
}
