//! Errors. What the client reads and what the log gets are two fields; the set of codes is part of the contract.

use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use onelane_api::{ParamProblem, Problem};
use onelane_engine::{EngineError, Handle};
use onelane_tools::{ParamError, Refusal};

macro_rules! codes {
    ($($variant:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// The stable codes; `docs/errors.md` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant),* }

        impl Code {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$variant),*];

            const fn row(self) -> (&'static str, StatusCode, &'static str) {
                match self { $(Self::$variant => ($word, StatusCode::$status, $title)),* }
            }
        }
    };
}

codes! {
    BadRequest = "bad_request", BAD_REQUEST, "The request can't be read";
    BadQuery = "bad_query", BAD_REQUEST, "A query parameter is unknown or not right";
    BadIdempotencyKey = "bad_idempotency_key", BAD_REQUEST, "The Idempotency-Key is not right";
    UnknownHost = "unknown_host", FORBIDDEN, "The server is not known under this host name";
    ForeignOrigin = "foreign_origin", FORBIDDEN, "The request comes from another site's page";
    NotFound = "not_found", NOT_FOUND, "Nothing is there";
    UnknownJob = "unknown_job", NOT_FOUND, "There is no such job";
    UnknownTool = "unknown_tool", NOT_FOUND, "There is no such tool";
    UnknownAttempt = "unknown_attempt", NOT_FOUND, "The job has no such attempt";
    UnknownFile = "unknown_file", NOT_FOUND, "The results have no such file";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method does not go with this path";
    FilesGone = "files_gone", GONE, "The job's files are not there any more";
    AmbiguousId = "ambiguous_id", CONFLICT, "Several jobs' ids end like this";
    JobAlive = "job_alive", CONFLICT, "The job has not ended";
    NoToolsFile = "no_tools_file", CONFLICT, "The server runs without a tools file";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UnsupportedType = "unsupported_type", UNSUPPORTED_MEDIA_TYPE, "Bodies of this type are not read";
    BadRange = "bad_range", RANGE_NOT_SATISFIABLE, "The range lies outside";
    BadInput = "bad_input", UNPROCESSABLE_ENTITY, "The input is not right";
    BadToolsFile = "bad_tools_file", UNPROCESSABLE_ENTITY, "The tools file is not right";
    CurlDataFile = "curl_data_file", UNPROCESSABLE_ENTITY, "curl did not send the file as it is";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key belongs to another request";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server failed";
    Stopping = "stopping", SERVICE_UNAVAILABLE, "The server is stopping";
    ReadOnly = "read_only", SERVICE_UNAVAILABLE, "The disk can't be written";
    DiskFull = "disk_full", INSUFFICIENT_STORAGE, "The disk is full";
}

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: Code,
    detail: String,
    errors: Vec<ParamProblem>,
    /// For the log only.
    cause: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            cause: None,
            headers: Vec::new(),
        }
    }

    /// A failure that is not the client's: it reads a plain sentence, the log gets the cause.
    pub(crate) fn internal(cause: impl Display) -> Self {
        let mut error = Self::new(Code::Internal, "the server failed; its log says why");
        error.cause = Some(cause.to_string());
        error
    }

    /// A failure of the file system: a full disk is something that the client can be told.
    pub(crate) fn io(what: &str, cause: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match cause.kind() {
            StorageFull | QuotaExceeded => Handle::disk_full().into(),
            ReadOnlyFilesystem => EngineError::Unwritable(format!("{what}: {cause}")).into(),
            _ => Self::internal(format_args!("{what}: {cause}")),
        }
    }

    /// Bad input with its places.
    pub(crate) fn bad_input(errors: Vec<ParamProblem>) -> Self {
        let detail = summary(&errors);
        Self {
            errors,
            ..Self::new(Code::BadInput, detail)
        }
    }

    /// Bad input in one parameter.
    pub(crate) fn bad_param(param: &str, message: impl Into<String>) -> Self {
        Self::bad_input(vec![ParamProblem {
            param: Some(param.to_owned()),
            message: message.into(),
            ..ParamProblem::default()
        }])
    }

    /// The same with what is wrong in detail.
    pub(crate) fn with_errors(mut self, errors: Vec<ParamProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// Names a parameter as the client knows it, where a dialect has another word for it.
    pub(crate) fn with_param_renamed(mut self, from: &str, to: &str) -> Self {
        for error in &mut self.errors {
            if error.param.as_deref() == Some(from) {
                error.param = Some(to.to_owned());
            }
        }
        if self.code == Code::BadInput {
            self.detail = summary(&self.errors);
        }
        self
    }

    /// What went wrong, for another code.
    pub(crate) fn into_detail(self) -> String {
        self.detail
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// Bad input in a sentence.
fn summary(errors: &[ParamProblem]) -> String {
    match errors {
        [
            ParamProblem {
                param: Some(param),
                message,
                ..
            },
        ] => format!("`{param}`: {message}"),
        [only] => only.message.clone(),
        _ => format!("{} things are wrong; `errors` lists them", errors.len()),
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let errors = match refusal {
            Refusal::BadInput(errors) => errors,
            Refusal::Io(error) => return Self::io("can't check an upload", &error),
        };
        let view = |error: ParamError| ParamProblem {
            param: error.param,
            file: None,
            record: error.record,
            id: error.id,
            line: error.line,
            column: error.column,
            character: error.character,
            message: error.message,
        };
        Self::bad_input(errors.into_iter().map(view).collect())
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let after = |error: Self, seconds| {
            error.with_header(header::RETRY_AFTER, HeaderValue::from_static(seconds))
        };
        match error {
            EngineError::NoSuchJob(id) => {
                Self::new(Code::UnknownJob, format!("there is no job {id}"))
            }
            EngineError::Alive(id) => Self::new(
                Code::JobAlive,
                format!(
                    "job {id} has not ended; cancel it first, or delete it with `?cancel=true`"
                ),
            ),
            EngineError::KeyReused(id) => Self::new(
                Code::IdempotencyKeyReused,
                format!(
                    "this Idempotency-Key came with a different request before (job {id}); use a new key"
                ),
            ),
            EngineError::DiskFull(detail) => after(Self::new(Code::DiskFull, detail), "60"),
            EngineError::Unwritable(cause) => {
                let detail = "the server's disk can't be written, for example because it is read-only: nothing was taken \
                              in; the server's log says more";
                let mut error = Self::new(Code::ReadOnly, detail);
                error.cause = Some(cause);
                after(error, "60")
            }
            EngineError::Stopping => after(
                Self::new(
                    Code::Stopping,
                    "the server is stopping; try again in a moment",
                ),
                "30",
            ),
            EngineError::Damaged(cause) | EngineError::Broken(cause) => Self::internal(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, status, title) = self.code.row();
        if let Some(cause) = &self.cause {
            tracing::error!(code, cause, "a request failed: {cause}");
        }
        let problem = Problem {
            kind: format!("/errors#{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail,
            errors: self.errors,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_and_nothing_else_is() {
        let text = include_str!("../../../docs/errors.md");
        let explained: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .collect();
        let known: Vec<_> = Code::ALL
            .iter()
            .map(|code| format!("{} ({})", code.row().0, code.row().1.as_u16()))
            .collect();
        assert_eq!(explained, known);
    }

    #[test]
    fn a_cause_stays_in_the_log() {
        let error = ApiError::internal("password is swordfish");
        assert!(!error.detail().contains("swordfish"));
    }
}
