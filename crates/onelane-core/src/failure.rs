use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job failed, in one of a closed set of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureKind {
    /// The tool ended with an exit code that is not a success.
    Exit {
        /// The exit code, 1–255.
        code: i32,
    },
    /// A signal that nobody here sent ended the tool.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The tool's own time limit.
    TimedOut,
    /// The memory limit, or the kernel's out-of-memory killer.
    OutOfMemory,
    /// The output limit.
    OutputLimit,
    /// The tool could not be started at all.
    StartFailed,
    /// The run was cut off (power cut, its supervisors killed) and may not start again.
    Interrupted,
    /// The node failed under the job (cluster executors).
    NodeFailed,
    /// The cluster took the node away.
    Preempted,
    /// Something that has no word yet.
    Unknown,
}

impl FailureKind {
    /// The word of this kind, as the store and the wire spell it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Exit { .. } => "exit",
            Self::Signal { .. } => "signal",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputLimit => "output_limit",
            Self::StartFailed => "start_failed",
            Self::Interrupted => "interrupted",
            Self::NodeFailed => "node_failed",
            Self::Preempted => "preempted",
            Self::Unknown => "unknown",
        }
    }
}

/// A failure: its kind, and a sentence that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, with its number where it has one.
    #[serde(flatten)]
    pub kind: FailureKind,
    /// One sentence for the person who submitted the job.
    pub message: String,
}

impl Failure {
    /// A failure of this kind with this sentence.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_flat_object_on_the_wire() {
        let failure = Failure::new(FailureKind::Exit { code: 4 }, "ran out of memory");
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"exit","code":4,"message":"ran out of memory"}"#
        );
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    }
}
