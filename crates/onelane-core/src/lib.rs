//! The words of Onelane and the rules between them: ids, job states, needs, order and position.
//!
//! Pure by design: nothing here reads a clock, a file, a socket or a random number. `now` is always an argument, so
//! every rule can be tested by calling it.

mod failure;
mod id;
mod job;
mod limits;
mod needs;
mod order;
mod retry;
mod state;
mod time;

pub use failure::{Failure, FailureKind};
pub use id::{AttemptNo, JobId, ParseJobIdError};
pub use job::{Job, Priority, PriorityOutOfRange};
pub use limits::{CpuPriority, DEFAULT_LOG_BYTES, Limits};
pub use needs::{Capacity, Needs};
pub use order::{OrderKey, OrderStatistic};
pub use retry::{AfterInterruption, MAX_INTERRUPTIONS_PER_BOOT, OnInterrupt, after_interruption};
pub use state::{Ending, JobEvent, JobState, ParseStateError, Refused, StateWord, StopReason};
pub use time::Timestamp;
