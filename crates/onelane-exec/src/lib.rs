//! Where attempts run: the [`Executor`] trait, and the [`local`] machine behind it.
//!
//! Knows nothing of the store or of HTTP. An attempt's folder is the whole interface between the server and what runs:
//! either side may die at any moment and the other finds there all that it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use onelane_core::{AttemptNo, Capacity, CpuPriority, JobId, Limits, StopReason, Timestamp};
use serde::{Deserialize, Serialize};

mod fail_points;
mod files;
pub mod inspect;
mod layout;
mod level;
pub mod local;
mod record;
mod room;

pub use fail_points::fail_point;
pub use files::{sync_folder, write_durably};
pub use layout::{DataFolder, DataFolderError, JobPaths, instance_of, is_on_network};
pub use level::{Level, ParseLevelError, WantedLevel};
pub use local::{Control, LocalExecutor, appended, shim_main};
pub use record::{
    ExitRecord, LogCounts, LogCut, OTHER_BOOT, Outcome, ProcessRecord, ShimRecord, StopRecord,
    ToolUsage,
};
pub use room::{DiskFloor, LowDisk};

/// One run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// Which run, from 1.
    pub attempt: AttemptNo,
}

/// An input file on its way to the job's `input/`.
#[derive(Clone, Debug)]
pub struct LaunchFile {
    /// Its name under `input/`.
    pub file: String,
    /// Where its content is.
    pub content: LaunchContent,
}

/// Where an input's content is.
#[derive(Clone, Debug)]
pub enum LaunchContent {
    /// Here.
    Inline(String),
    /// In a file that is moved into place.
    Upload(PathBuf),
}

/// All that an executor needs to start an attempt.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which attempt.
    pub id: AttemptId,
    /// The story of the job, written to `job.json`.
    pub story: serde_json::Value,
    /// The files for `input/`.
    pub files: Vec<LaunchFile>,
    /// Program and arguments, final: no shell touches them.
    pub command: Vec<String>,
    /// A command that tells the program's version, asked at start.
    pub version_command: Option<Vec<String>>,
    /// Environment for the tool, besides the server's own. It may hold secrets: it is sent to the shim and kept nowhere.
    pub env: BTreeMap<String, String>,
    /// The file that the tool reads on its standard input; nothing otherwise.
    pub stdin: Option<PathBuf>,
    /// The folder that the tool runs in; the attempt's `work/` otherwise.
    pub workdir: Option<PathBuf>,
    /// Milliseconds between the polite signal and the final one.
    pub grace_ms: u64,
    /// What it may use before it is ended.
    pub limits: Limits,
    /// Whether it yields to the server and to other programs.
    pub cpu_priority: CpuPriority,
    /// What is left of the machine beside all that runs, this attempt included: idle workers may have no more.
    pub spare: Capacity,
    /// The warm worker that it runs in, instead of a process of its own.
    pub warm: Option<Box<WarmLaunch>>,
}

/// An attempt in a warm worker.
#[derive(Clone, Debug)]
pub struct WarmLaunch {
    /// Which worker, and how to start one.
    pub worker: WorkerSpec,
    /// What the worker is sent (docs/warm-workers.md, `run`).
    pub run: serde_json::Map<String, serde_json::Value>,
    /// Members of `params` that are paths of JSON files, whose content is sent instead.
    pub json_params: Vec<String>,
}

/// A tool's warm workers.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// Tells it from other tools' workers: the definition's hash.
    pub key: String,
    /// The tool's name, for people.
    pub tool: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// A command that tells its version, asked at start.
    pub version_command: Option<Vec<String>>,
    /// Its environment, besides the server's own. It may hold secrets.
    pub env: BTreeMap<String, String>,
    /// The folder that it runs in; its own otherwise.
    pub workdir: Option<PathBuf>,
    /// Milliseconds between the polite signal and the final one.
    pub grace_ms: u64,
    /// What it may use before it is ended.
    pub limits: Limits,
    /// Whether it yields to the server and to other programs.
    pub cpu_priority: CpuPriority,
    /// What it takes of the machine.
    pub takes: Capacity,
    /// Milliseconds that an idle one stays; unset, always.
    pub keep_ms: Option<u64>,
    /// After so many jobs it is renewed.
    pub max_jobs: Option<u64>,
}

/// A running attempt, as far as the store keeps it.
#[derive(Clone, Debug)]
pub struct Running {
    /// The shim's process.
    pub shim: ProcessRecord,
    /// When the tool started.
    pub started_at: Timestamp,
    /// What the tool said of its version.
    pub tool_version: Option<String>,
    /// What holds its process tree together.
    pub level: Level,
}

/// What became of an attempt, with proof.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It ended, and its tree is proved dead.
    Exited(Box<ExitRecord>),
    /// No tool was ever started, and none can be any more.
    NeverStarted {
        /// Why, for a person.
        why: String,
    },
    /// Something may still run: nothing new may start in its place.
    Stuck {
        /// What is known, for a person.
        why: String,
    },
}

impl Verdict {
    /// It is over, and how it ended is not known, as its folder is gone: no success, and no second run. `proof` says
    /// how its death is known.
    pub fn folder_deleted(id: AttemptId, proof: &str) -> Self {
        let why = "its folder was deleted while it ran, so that how it ended is not known";
        Self::Exited(Box::new(local::lost(id, Vec::new(), why.to_owned(), proof)))
    }
}

/// What an executor finds when it looks at an attempt.
#[derive(Clone, Debug)]
pub enum Found {
    /// It runs.
    Running(Running),
    /// It is over.
    Over(Verdict),
}

/// An executor failed at something other than the attempt itself.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}: {source}")]
pub struct ExecError {
    /// What was tried.
    pub doing: String,
    /// Why it failed.
    pub source: std::io::Error,
}

impl ExecError {
    pub(crate) fn new(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            doing: doing.into(),
            source,
        }
    }

    /// Why the machine, not the attempt, is at fault, as a sentence; then trying again helps. Nothing for all else.
    pub fn machine_fault(&self) -> Option<&'static str> {
        room::machine_fault(&self.source)
    }
}

/// Somewhere that attempts run.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Makes the job's folder, before anything starts, and gives its path.
    async fn prepare(&self, job: JobId) -> Result<PathBuf, ExecError>;

    /// Starts an attempt and comes back when its tool runs or will never run.
    async fn start(&self, launch: Launch) -> Result<Found, ExecError>;

    /// Looks at an attempt of an earlier server: take the lock, then look under it. `claimed_in` is the boot that it was
    /// claimed in, if that is known: in another boot nothing of it can live, whatever a power cut has left of its folder.
    async fn recover(&self, id: AttemptId, claimed_in: Option<&str>) -> Result<Found, ExecError>;

    /// Comes back when the attempt is over.
    async fn watch(&self, id: AttemptId) -> Result<Verdict, ExecError>;

    /// Asks the attempt to stop; [`Executor::watch`] tells when it has.
    async fn stop(&self, id: AttemptId, reason: StopReason, grace_ms: u64)
    -> Result<(), ExecError>;

    /// Comes back, with a sentence for a person, when processes of the attempt don't die although they were killed.
    /// [`Executor::watch`] still tells when they have.
    async fn unkillable(&self, id: AttemptId) -> Result<String, ExecError>;

    /// The next line of progress after `seen` bytes of it, with the new count; waits for one. Never comes back when
    /// the attempt tells nothing.
    async fn progress(&self, id: AttemptId, seen: u64) -> Result<(String, u64), ExecError>;

    /// Deletes all files of an ended job.
    async fn remove(&self, job: JobId) -> Result<(), ExecError>;

    /// Syncs what is kept of attempts besides their results, after their ends were committed: until then a power cut may
    /// take that, as the store has all of it that decides anything.
    async fn make_lasting(&self, _ids: Vec<AttemptId>) -> Result<(), ExecError> {
        Ok(())
    }

    /// Takes up the warm workers that an earlier server left, those of these tools. Before the first attempt is
    /// looked at.
    async fn take_up_workers(&self, _workers: Vec<WorkerSpec>) {}

    /// From now on only these tools have warm workers; those that stay always are started, as far as they fit into
    /// `spare`, what is left of the machine.
    async fn keep_workers(&self, _workers: Vec<WorkerSpec>, _spare: Capacity) {}

    /// Sends all workers away, as their programs may have changed: idle ones now, the others after their jobs.
    async fn renew_workers(&self) {}

    /// Comes back when a worker that stays always has ended by itself or was sent away to be renewed, and is wanted again by
    /// [`Executor::keep_workers`].
    async fn until_worker_missing(&self) {
        std::future::pending::<()>().await;
    }

    /// The server ends: what runs no job does, too, and comes back when it has.
    async fn end_idle(&self) {}
}
