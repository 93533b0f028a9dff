//! Where jobs are kept: one narrow trait, and `SQLite` behind it.
//!
//! A store commits and tells; it decides nothing. Next states come from `onelane_core::JobState::apply`, and each
//! transition is a compare-and-set on (id, attempt, state).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use onelane_core::{
    AttemptNo, Job, JobId, JobState, OrderKey, Priority, StateWord, StopReason, Timestamp,
};
use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod sqlite;

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The `Idempotency-Key` was used before with another request.
    #[error("this Idempotency-Key was used before with a different request (job {0})")]
    KeyReused(JobId),
    /// Somebody else moved the job in between: nothing was changed.
    #[error("job {0} has moved on in the meantime")]
    Moved(JobId),
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The job has not ended, so that it can't be deleted.
    #[error("job {0} has not ended")]
    Alive(JobId),
    /// The disk is full: nothing was written.
    #[error("the disk is full")]
    Full,
    /// The disk takes no writes, for example because it was made read-only: nothing was written.
    #[error("the disk of the store can't be written: {0}")]
    Unwritable(String),
    /// The database comes from a newer Onelane, or is no Onelane database.
    #[error("`{path}` can't be used: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The database is damaged.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file; empty when it was found while the store was at work.
        path: PathBuf,
        /// What `SQLite` says.
        why: String,
    },
    /// Anything else; the cause is for the log.
    #[error("the store failed: {0}")]
    Broken(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One input file of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The parameter.
    pub param: String,
    /// The file's name under `input/`, such as `query.fasta`.
    pub file: String,
    /// Its content.
    pub content: InputContent,
}

/// Where an input's content is until the job starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputContent {
    /// In the store (all of a submission's together at most 256 KiB).
    Inline(String),
    /// In a file under `uploads/`, already synced; the path is relative to `uploads/`.
    Upload(PathBuf),
}

/// What a submission brings besides the job's row; written once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobInput {
    /// The parameters as shown on the wire: name → value (a sequence parameter shows its records and residues).
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The files that the parameters become.
    pub files: Vec<InputFile>,
    /// What was stripped from the input, as sentences.
    pub notes: Vec<String>,
}

/// What a job is shown with besides its row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Particulars {
    /// As in [`JobInput::params`].
    pub params: serde_json::Map<String, serde_json::Value>,
    /// As in [`JobInput::notes`].
    pub notes: Vec<String>,
    /// Its last attempt, if it had one.
    pub last_attempt: Option<AttemptRecord>,
}

/// `Idempotency-Key` of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key as the client sent it; keys belong to an owner.
    pub key: String,
    /// Hash of the whole request.
    pub request_hash: String,
}

/// A submission, checked and complete.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Made by the caller.
    pub id: JobId,
    /// Who submits.
    pub owner: String,
    /// The tool's name.
    pub tool: String,
    /// Hash of its definition, which is in the store already.
    pub definition: String,
    /// What the submitter calls it.
    pub name: Option<String>,
    /// Labels, sorted, without repeats.
    pub tags: Vec<String>,
    /// How urgent.
    pub priority: Priority,
    /// Jobs that must have ended before this one starts.
    pub after: Vec<JobId>,
    /// Digest of tool, parameters and inputs.
    pub digest: String,
    /// Parameters and files.
    pub input: JobInput,
    /// The key, if the client sent one.
    pub idempotency: Option<Idempotency>,
    /// Now.
    pub created_at: Timestamp,
}

/// The answer to a submission.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The job, new or (for a replay) the earlier one.
    pub job: Job,
    /// True when the `Idempotency-Key` was known: nothing new was made.
    pub replayed: bool,
}

/// What one attempt left in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The job.
    pub job: JobId,
    /// Which run.
    pub attempt: AttemptNo,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// The boot of the machine in which it was claimed; `another` once its end is that another boot had ended it.
    pub boot_id: Option<String>,
    /// When the tool started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended, if it did.
    pub finished_at: Option<Timestamp>,
    /// The shim's process, once it is known.
    pub shim: Option<ShimProcess>,
    /// What the tool said of its version at start.
    pub tool_version: Option<String>,
    /// How it ended: `exit`, `signal`, `interrupted`, … and its code.
    pub outcome: Option<String>,
    /// Exit code of the tool, if it had one.
    pub exit_code: Option<i32>,
    /// What it used.
    pub usage: Option<Usage>,
    /// What held its process tree together.
    pub process_control: Option<String>,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimProcess {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// Its pid namespace (`/proc/<pid>/ns/pid`).
    pub pid_namespace: String,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// From the tool's start to its end, in seconds.
    pub wall_s: f64,
    /// Processor time of the whole tree, in seconds.
    pub cpu_s: f64,
    /// The largest resident size of a single process of the tree, in bytes.
    pub memory_peak_bytes: u64,
}

/// A compare-and-set: all of it happens, or nothing.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The job.
    pub id: JobId,
    /// What the caller believes to be there: attempt and state.
    pub from: (AttemptNo, StateWord),
    /// The attempt afterwards (a claim raises it).
    pub attempt: AttemptNo,
    /// The state afterwards.
    pub to: JobState,
    /// The wish to stop afterwards.
    pub stop_reason: Option<StopReason>,
    /// The attempt's record, if it changes too (inserted or replaced).
    pub record: Option<AttemptRecord>,
    /// Whether it is on the disk before it is answered. Otherwise a power cut, and nothing else, may undo it together
    /// with all that came after it, until the next one that is.
    pub durable: bool,
}

/// Which jobs a list shows; empty lists mean "all". Values within a field are alternatives; fields narrow each other.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// States.
    pub states: Vec<StateWord>,
    /// Tools.
    pub tools: Vec<String>,
    /// Owners.
    pub owners: Vec<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Names.
    pub names: Vec<String>,
    /// Ids.
    pub ids: Vec<JobId>,
    /// Only jobs with a smaller `seq`: the cursor.
    pub before_seq: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// A queued job, as much of it as the engine keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The job.
    pub id: JobId,
    /// Its place.
    pub order_key: OrderKey,
    /// Hash of its definition.
    pub definition: Arc<str>,
    /// Jobs that must have ended first (only those that have not).
    pub after: Vec<JobId>,
}

/// What a commit changed; told on the writer's thread, in commit order, before the caller gets its answer.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new job waits.
    Submitted(Job, QueueEntry),
    /// A job moved.
    Moved(Job),
    /// A job was deleted.
    Removed(JobId),
}

/// Who is told of changes. Must be quick and must not call the store.
pub type ChangeSink = Box<dyn Fn(Change) + Send + Sync>;

/// Who is shown the queue. Must not call the store.
pub type QueueSink = Box<dyn FnMut(QueueEntry) + Send>;

/// The durable truth. Every write is on disk before its answer, but for transitions that ask for less
/// ([`Transition::durable`]).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Says who is told of changes from now on. Call before [`Store::queue`], so that nothing falls between.
    fn subscribe(&self, sink: ChangeSink);

    /// Takes a job in, with its key in the same transaction.
    async fn submit(&self, job: NewJob) -> Result<Submitted>;

    /// The earlier job of this owner's key, to answer a replay before any work. [`StoreError::KeyReused`] if the
    /// request differs.
    async fn replay(&self, owner: &str, idempotency: &Idempotency) -> Result<Option<Job>>;

    /// Moves a job. [`StoreError::Moved`] if it is not where the caller believes it to be.
    async fn transition(&self, transition: Transition) -> Result<Job>;

    /// Deletes an ended job with its input, attempts and tags (its keys stay known and point nowhere).
    async fn remove(&self, id: JobId) -> Result<()>;

    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<Job>>;

    /// One job, and what it is shown with.
    async fn shown(&self, id: JobId) -> Result<Option<(Job, Particulars)>>;

    /// One job, its attempts (first one first) and its input, of one moment: what a start needs.
    async fn to_start(&self, id: JobId) -> Result<Option<(Job, Vec<AttemptRecord>, JobInput)>>;

    /// A page of jobs, newest first.
    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>>;

    /// Ids that end with this text (hexadecimal digits and dashes), newest first, at most `limit`.
    async fn ids_by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>>;

    /// A job's parameters and files.
    async fn input(&self, id: JobId) -> Result<Option<JobInput>>;

    /// What these jobs are shown with, in their order; of one that is not there it is empty.
    async fn particulars(&self, ids: Vec<JobId>) -> Result<Vec<Particulars>>;

    /// A job's attempts, first one first.
    async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>>;

    /// Shows all that waits, in order: of one moment, and one by one, since there may be millions.
    async fn queue(&self, see: QueueSink) -> Result<()>;

    /// All that is starting or running.
    async fn alive(&self) -> Result<Vec<Job>>;

    /// Keeps a tool's definition (JSON) under its hash; known hashes are left alone.
    async fn define(&self, hash: &str, definition: &str) -> Result<()>;

    /// A tool's definition by its hash.
    async fn definition(&self, hash: &str) -> Result<Option<String>>;

    /// A durable setting of the server, such as `paused`.
    async fn setting(&self, key: &str) -> Result<Option<String>>;

    /// Changes a setting.
    async fn set_setting(&self, key: &str, value: &str) -> Result<()>;
}
