//! The loop between store and executor: claim → start → watch → finish.
//!
//! All decisions are in [`step`], a plain function; all doing is in the runner, which decides nothing. The store is the
//! truth: the engine's memory is what runs, the order of what waits, and can be rebuilt at any moment.

mod decide;
mod handle;
mod held;
mod launch;
mod runner;
mod state;
mod watchers;

pub use handle::{EngineError, Handle, Place, Progress, QueueView};
pub use onelane_exec::{DiskFloor, JobPaths, fail_point};
pub use onelane_store::{
    AttemptRecord, Idempotency, InputContent, InputFile, JobFilter, JobInput, NewJob, Particulars,
    ShimProcess, Submitted, Usage,
};
pub use runner::{Engine, Setup};
pub use state::{Action, Event, State, step};

use onelane_core::Timestamp;

/// What the engine takes from the world outside: a clock and dice.
pub trait Surroundings: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Ten random bytes, for a job's id.
    fn random(&self) -> [u8; 10];
}
