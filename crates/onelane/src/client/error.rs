use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Problem;
use crate::exit::Exit;

/// The client's own results.
pub(crate) type Result<T> = std::result::Result<T, ClientError>;

/// Why a question to the server got no good answer; each variant is something else to do for the person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address can't be one.
    #[error(
        "`{address}` is not a server's address\nhint: it looks like http://127.0.0.1:8000 (--server or ONELANE_URL)"
    )]
    BadAddress { address: String },
    /// Nothing listens there.
    #[error(
        "no server answers at {url}\nhint: start one with `onelane serve`, or name another with --server or ONELANE_URL"
    )]
    NoServer { url: String },
    /// Somebody else's program listens there.
    #[error(
        "something answers at {url}, but it is not Onelane\nhint: another program has this port; name the right address with --server or ONELANE_URL"
    )]
    NotOnelane { url: String },
    /// It is Onelane, but we don't understand it.
    #[error(
        "the server at {url} ({name}) answers in a form that this program does not know\nhint: use the same version on both sides"
    )]
    OtherVersion {
        url: String,
        name: String,
        source: serde_json::Error,
    },
    /// The connection broke, or no answer came in time.
    #[error("lost the connection to {url}")]
    Lost { url: String, source: reqwest::Error },
    /// The server says no, and why.
    #[error("{}", super::wire::problem_words(problem))]
    Refused {
        status: u16,
        problem: Box<Problem>,
        retry_after: Option<Duration>,
    },
    /// A parameter's file can't be read.
    #[error("failed to read `{}` for the parameter `{param}`", path.display())]
    ParamFile {
        param: String,
        path: PathBuf,
        source: io::Error,
    },
}

impl ClientError {
    /// The exit code that tells these apart for a script.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::BadAddress { .. } => Exit::Usage,
            Self::NoServer { .. }
            | Self::OtherVersion { .. }
            | Self::NotOnelane { .. }
            | Self::Lost { .. } => Exit::NoServer,
            Self::ParamFile { .. } => Exit::LocalTrouble,
            Self::Refused {
                status: 404 | 410, ..
            } => Exit::NoSuchJob,
            Self::Refused {
                status: 429 | 500..,
                ..
            } => Exit::ServerTrouble,
            Self::Refused { .. } => Exit::BadInput,
        }
    }

    /// Whether asking again later can help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NoServer { .. }
                | Self::Lost { .. }
                | Self::Refused {
                    status: 429 | 502..=504 | 507,
                    ..
                }
        )
    }

    /// When the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether the other side answered in a language that is not HTTP. hyper has no public name for it through reqwest.
pub(super) fn speaks_no_http(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains("invalid HTTP") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> ClientError {
        ClientError::Refused {
            status,
            problem: Box::new(crate::client::wire::bare_problem(status)),
            retry_after: None,
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(refused(422).exit(), Exit::BadInput);
        assert_eq!(refused(413).exit(), Exit::BadInput);
        assert_eq!(refused(404).exit(), Exit::NoSuchJob);
        assert_eq!(refused(429).exit(), Exit::ServerTrouble);
        assert_eq!(refused(500).exit(), Exit::ServerTrouble);
    }

    #[test]
    fn a_full_queue_passes_and_a_bad_input_does_not() {
        assert!(
            refused(429).is_passing() && refused(503).is_passing() && refused(507).is_passing()
        );
        assert!(!refused(422).is_passing() && !refused(500).is_passing());
    }
}
