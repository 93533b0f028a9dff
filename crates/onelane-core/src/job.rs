use serde::{Deserialize, Serialize};

use crate::{AttemptNo, JobId, JobState, OrderKey, StopReason, Timestamp};

/// How urgent a job is: −100 to 100, higher first, 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Priority(i32);

/// A priority outside of −100 to 100.
#[derive(Debug, thiserror::Error)]
#[error("priority {0} is outside of -100 to 100")]
pub struct PriorityOutOfRange(i32);

impl Priority {
    /// The least urgent.
    pub const MIN: i32 = -100;
    /// The most urgent.
    pub const MAX: i32 = 100;
}

impl TryFrom<i32> for Priority {
    type Error = PriorityOutOfRange;

    fn try_from(value: i32) -> Result<Self, Self::Error> {
        if (Self::MIN..=Self::MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(PriorityOutOfRange(value))
        }
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// A job as the store knows it, without its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// For ever.
    pub id: JobId,
    /// Given by the writer in commit order: order and cursors.
    pub seq: i64,
    /// Who submitted: a token's name, or `anonymous`.
    pub owner: String,
    /// The tool's name.
    pub tool: String,
    /// Hash of the definition that the job was accepted with.
    pub definition: String,
    /// What the submitter calls it.
    pub name: Option<String>,
    /// The submitter's labels, sorted, without repeats.
    pub tags: Vec<String>,
    /// How urgent.
    pub priority: Priority,
    /// Its place in the queue.
    pub order_key: OrderKey,
    /// Where it is.
    pub state: JobState,
    /// The newest attempt; 0 before the first.
    pub attempt: AttemptNo,
    /// A durable wish to stop.
    pub stop_reason: Option<StopReason>,
    /// Digest of tool, parameters and inputs.
    pub digest: String,
    /// The job whose result this one shares.
    pub result_of: Option<JobId>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Grows with every change in the store; what follows changes resumes from it.
    pub changed_seq: i64,
}
