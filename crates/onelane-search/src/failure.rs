//! What can go wrong, and the exit code that says so.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// clap's own text: help, the version, or what is wrong with the arguments.
    #[error("{text}")]
    Usage { text: String, exit_code: u8 },
    #[error("error: {0}")]
    BadInput(String),
    #[error("error: cannot write {}: {source}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("error: {0}")]
    TooLarge(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { exit_code, .. } => *exit_code,
            Self::BadInput(_) => 2,
            Self::Output { .. } | Self::TooLarge(_) => 1,
        }
    }

    pub(crate) fn output(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Output { path, source }
    }
}
