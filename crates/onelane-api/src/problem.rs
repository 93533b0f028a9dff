use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words; the same for every error of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable: programs may rely on it.
    pub code: String,
    /// What went wrong this time, for a person.
    pub detail: String,
    /// For bad input: what is wrong where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ParamProblem>,
}

/// One thing that is wrong with the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParamProblem {
    /// The parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The file, where it is none of the request's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The record in a sequence file, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// The record's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// The character found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub character: Option<String>,
    /// What is wrong, in a sentence.
    pub message: String,
}
