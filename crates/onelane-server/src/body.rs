//! Bodies with a limit: forms as the web reads them, and JSON objects.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use onelane_api::ParamProblem;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::problem::{ApiError, Code};

/// What forms, JSON and the text parts of a multipart body together may have.
pub(crate) const BODY_LIMIT_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Multipart,
    Form,
    Json,
    Other,
}

impl Kind {
    /// A body that says nothing of its type is a form.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Self::Form;
        };
        let essence = value
            .to_str()
            .unwrap_or("?")
            .split(';')
            .next()
            .unwrap_or_default();
        match essence.trim().to_ascii_lowercase().as_str() {
            "multipart/form-data" => Self::Multipart,
            "" | "application/x-www-form-urlencoded" => Self::Form,
            "application/json" => Self::Json,
            other if other.ends_with("+json") => Self::Json,
            _ => Self::Other,
        }
    }
}

pub(crate) fn too_large() -> ApiError {
    ApiError::new(
        Code::BodyTooLarge,
        "forms, JSON and text parts have at most 64 MiB (`body_limit`); send a large sequence as a multipart file, \
         such as `curl -F query=@query.fasta`",
    )
}

pub(crate) async fn read(body: Body) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|e| ApiError::new(Code::BadRequest, format!("the body ended early: {e}")))?;
        if all.len() + chunk.len() > BODY_LIMIT_BYTES {
            return Err(too_large());
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// A body has so many fields at most: each takes far more memory than the four bytes of `&a=b`.
const MAX_FIELDS: usize = 10_000;

/// Form fields, decoded as browsers encode them (`+` is a space, `%XX` a byte, UTF-8).
pub(crate) fn form(body: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
    let fields = form_urlencoded::parse(body).into_owned();
    let fields: Vec<_> = fields.take(MAX_FIELDS + 1).collect();
    if fields.len() > MAX_FIELDS {
        return Err(ApiError::new(Code::BadRequest, TOO_MANY_FIELDS));
    }
    Ok(fields)
}

const TOO_MANY_FIELDS: &str =
    "the body has more than 10000 fields; more values than that go into a file";

/// A JSON object's pairs in order, repeats included, so that a repeated parameter is noticed.
pub(crate) struct Pairs(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() == MAX_FIELDS {
                        return Err(serde::de::Error::custom(TOO_MANY_FIELDS));
                    }
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the JSON body is not right: {error}");
        if error.is_data() {
            return ApiError::bad_input(vec![ParamProblem {
                line: u64::try_from(error.line()).ok(),
                column: u64::try_from(error.column()).ok(),
                message,
                ..ParamProblem::default()
            }]);
        }
        ApiError::new(Code::BadRequest, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_as_the_web_does() {
        let pairs = form(b"query_name=a+b%26c&query_sequence=%3Eq%0AMKV&x").unwrap();
        let expected = [
            ("query_name", "a b&c"),
            ("query_sequence", ">q\nMKV"),
            ("x", ""),
        ];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_body_without_a_type_is_a_form() {
        let kind = |text: &str| {
            Kind::of(
                &[(header::CONTENT_TYPE, text.parse().unwrap())]
                    .into_iter()
                    .collect(),
            )
        };
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::Form);
        assert_eq!(kind("Application/JSON; charset=utf-8"), Kind::Json);
        assert_eq!(kind("multipart/form-data; boundary=x"), Kind::Multipart);
        assert_eq!(kind("text/plain"), Kind::Other);
    }

    #[test]
    fn a_body_of_more_fields_than_anybody_means_is_refused() {
        let fields = |count: usize| form("a=&".repeat(count).as_bytes()).map(|fields| fields.len());
        assert_eq!(fields(MAX_FIELDS).ok(), Some(MAX_FIELDS));
        assert!(fields(MAX_FIELDS + 1).is_err());
        let members = |count: usize| {
            let object = format!("{{{}\"b\":1}}", "\"a\":1,".repeat(count - 1));
            json::<Pairs>(object.as_bytes()).map(|pairs| pairs.0.len())
        };
        assert_eq!(members(MAX_FIELDS).ok(), Some(MAX_FIELDS));
        assert!(members(MAX_FIELDS + 1).is_err());
    }

    #[test]
    fn broken_json_is_a_bad_request_and_a_wrong_shape_is_bad_input() {
        assert_eq!(json::<Pairs>(b"{").err().unwrap().code(), Code::BadRequest);
        assert_eq!(json::<Pairs>(b"[1]").err().unwrap().code(), Code::BadInput);
        assert_eq!(json::<Pairs>(br#"{"a":1,"a":2}"#).ok().unwrap().0.len(), 2);
    }
}
