//! Query strings, read strictly: a misspelt option must not be ignored silently.

use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderMap;

use crate::problem::{ApiError, Code};

/// Nobody is held longer than this.
const MAX_WAIT: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    pub(crate) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let pairs: Vec<_> = form_urlencoded::parse(raw.unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        match pairs.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) if known.is_empty() => Err(bad_query(format!(
                "`{key}` is unknown: this call has no query parameters"
            ))),
            Some((key, _)) => Err(bad_query(format!(
                "`{key}` is unknown; there are: {}",
                known.join(", ")
            ))),
            None => Ok(Self(pairs)),
        }
    }

    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn strings(&self, key: &str) -> Vec<String> {
        self.all(key).map(str::to_owned).collect()
    }

    pub(crate) fn one(&self, key: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(key);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad_query(format!("`{key}` is given more than once"))),
            (value, None) => Ok(value),
        }
    }

    pub(crate) fn parsed<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| bad_query(format!("`{key}` must be {what}")))
        };
        self.one(key)?.map(parse).transpose()
    }

    /// `?key`, `?key=true` and `?key=1` are yes.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.one(key)? {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(bad_query(format!("`{key}` must be true or false"))),
        }
    }

    /// How long the client wants to be held: `?wait=N` or, weaker, `Prefer: wait=N` (RFC 7240).
    pub(crate) fn wait(&self, headers: &HeaderMap) -> Result<Duration, ApiError> {
        let asked = self.parsed::<u64>("wait", "a whole number of seconds")?;
        let seconds = asked.or_else(|| preferred_wait(headers)).unwrap_or(0);
        Ok(Duration::from_secs(seconds).min(MAX_WAIT))
    }
}

fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let values = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    preferences.find_map(|preference| {
        preference
            .trim()
            .strip_prefix("wait=")?
            .trim_matches('"')
            .parse()
            .ok()
    })
}

pub(crate) fn bad_query(detail: impl Into<String>) -> ApiError {
    ApiError::new(Code::BadQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_repeated_options_are_refused() {
        assert_eq!(
            Options::parse(Some("stat=queued"), &["state"])
                .unwrap_err()
                .code(),
            Code::BadQuery
        );
        let options = Options::parse(Some("a=1&a=2&b=%20x+y"), &["a", "b"]).unwrap();
        assert_eq!(options.strings("a"), ["1", "2"]);
        assert!(options.one("a").is_err());
        assert_eq!(options.one("b").unwrap(), Some(" x y"));
    }

    #[test]
    fn a_wait_comes_from_the_query_or_the_prefer_header_and_is_capped() {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", "respond-async, wait=7".parse().unwrap());
        let wait = |raw| Options::parse(Some(raw), &["wait"]).unwrap().wait(&headers);
        assert_eq!(wait("").unwrap().as_secs(), 7);
        assert_eq!(wait("wait=3").unwrap().as_secs(), 3);
        assert_eq!(wait("wait=99999").unwrap(), MAX_WAIT);
        assert!(wait("wait=-1").is_err());
    }
}
