use std::path::PathBuf;

use onelane_core::{AttemptNo, Capacity, CpuPriority, JobId, Limits, StopReason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::AttemptId;
use crate::level::Level;
use crate::local::cgroup::{AttemptGroups, Groups};

/// Version of what is written in an attempt's folder and said to a shim. Version 1, of the first release, is still
/// read: it knew neither levels nor limits.
pub(crate) const PROTOCOL: u32 = 2;

/// A process, told apart from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start (`/proc/<pid>/stat`, field 22; proc(5)).
    pub start_time: u64,
    /// The boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Its pid namespace (`/proc/<pid>/ns/pid`).
    pub pid_namespace: String,
}

/// `shim.json`: who looks after the attempt. Written before the tool starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// Version of this file's form.
    pub protocol: u32,
    /// The job.
    pub job: JobId,
    /// Which run.
    pub attempt: AttemptNo,
    /// Id of the data folder that this attempt belongs to.
    pub instance: String,
    /// The shim.
    #[serde(flatten)]
    pub shim: ProcessRecord,
    /// The guard.
    pub guard: ProcessRecord,
    /// Device of `attempt.lock`.
    pub lock_device: u64,
    /// Inode of `attempt.lock`.
    pub lock_inode: u64,
    /// Program and arguments of the tool.
    pub command: Vec<String>,
    /// The warm worker that the attempt runs in, if it does: its supervisors stay when the attempt is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// What holds the tool's process tree together.
    #[serde(default)]
    pub level: Level,
    /// The attempt's (or its worker's) control groups, at that level.
    #[serde(default, skip_serializing_if = "AttemptGroups::is_none")]
    pub(crate) groups: AttemptGroups,
}

/// `stop.json`: the wish to stop. Written before the shim is signalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// Why.
    pub reason: StopReason,
    /// When.
    pub at: Timestamp,
    /// Milliseconds between the polite signal and the final one.
    pub grace_ms: u64,
}

/// How the tool's main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// By itself.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It went beyond a limit that has no word of its own among the reasons to stop.
    Limit {
        /// Which, in a sentence.
        message: String,
    },
    /// A warm worker says so, or has broken its protocol.
    Failed {
        /// Why.
        message: String,
    },
    /// It never started.
    StartFailed {
        /// Why.
        message: String,
    },
    /// It is over, and how it ended is not known: its record was damaged or its folder deleted.
    Unknown {
        /// What is known.
        message: String,
    },
    /// Its supervisors were cut off.
    Interrupted {
        /// What is known.
        message: String,
    },
}

/// What the tool used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolUsage {
    /// Seconds from start to end.
    pub wall_s: f64,
    /// Processor seconds of all its processes that were waited for.
    pub cpu_s: f64,
    /// Largest resident size of a single one of its processes, in bytes (getrusage(2), `ru_maxrss`).
    pub memory_peak_bytes: u64,
}

/// Bytes of the logical streams, and how many of them could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounts {
    /// Bytes that the tool wrote to standard output.
    pub stdout_bytes: u64,
    /// Bytes that the tool wrote to standard error.
    pub stderr_bytes: u64,
    /// Bytes of either that could not be written to the disk.
    pub dropped_bytes: u64,
    /// What the log limit left out of the middle of standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_cut: Option<LogCut>,
    /// What the log limit left out of the middle of standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_cut: Option<LogCut>,
}

/// The middle of a log that was too long. In the file a line stands in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCut {
    /// Where in the logical stream it began.
    pub at: u64,
    /// How many bytes are left out.
    pub bytes: u64,
}

/// The [`ExitRecord::proof`] of an attempt that another boot has ended.
pub const OTHER_BOOT: &str = "other_boot";

/// `exit.json`: the attempt is over, and its process tree is proved dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version of this file's form.
    pub protocol: u32,
    /// The job.
    pub job: JobId,
    /// Which run.
    pub attempt: AttemptNo,
    /// How the tool ended.
    pub outcome: Outcome,
    /// The wish to stop that reached the tool before it had ended by itself.
    pub stopped: Option<StopReason>,
    /// When the tool started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What it used.
    pub usage: ToolUsage,
    /// Processes that outlived the tool's main process and were killed.
    pub leftovers_killed: u32,
    /// How the tree's death is known: `echild`, `cgroup`, `namespace`, `container`, `other_boot`, `other_folder`,
    /// `never_started`, or `worker`: the warm worker has ended the job, and lives on.
    pub proof: String,
    /// What held the tool's process tree together.
    #[serde(default)]
    pub level: Level,
    /// What the tool said of its version.
    pub tool_version: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The logs.
    pub logs: LogCounts,
    /// What went wrong around the tool, if anything: for example results that could not be synced.
    pub trouble: Option<String>,
}

/// What the server tells a shim, as lines of JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ShimOrder {
    /// Begin; nothing comes after this.
    Start(Box<StartMessage>),
    /// Make ready for an attempt that will come, with a guard and a process that is in its groups already.
    Spare(SpareMessage),
}

/// What a shim can do ahead of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SpareMessage {
    pub protocol: u32,
    pub level: Level,
    pub groups: Option<Groups>,
}

/// What a shim must know of what it looks after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartMessage {
    pub protocol: u32,
    pub subject: Subject,
    pub folder: PathBuf,
    pub instance: String,
    pub command: Vec<String>,
    pub version_command: Option<Vec<String>>,
    pub env: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub stdin: Option<PathBuf>,
    #[serde(default)]
    pub workdir: Option<PathBuf>,
    pub grace_ms: u64,
    pub limits: Limits,
    pub cpu_priority: CpuPriority,
    pub level: Level,
    pub groups: Option<Groups>,
}

impl Subject {
    /// The file whose lock the supervisors hold.
    pub(crate) const fn lock(&self) -> &'static str {
        match self {
            Self::Attempt(_) => "attempt.lock",
            Self::Worker(_) => "worker.lock",
        }
    }
}

/// What a pair of supervisors looks after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// One attempt, whose folder it is.
    Attempt(AttemptId),
    /// A warm worker, which gets attempts later.
    Worker(WorkerMessage),
}

/// What a warm worker's shim must know besides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerMessage {
    pub id: String,
    /// Which tool it is of: the definition's hash.
    pub key: String,
    /// What an idle one takes away from others.
    pub takes: Capacity,
    /// Where it is reached by its own process.
    pub socket: PathBuf,
    pub grace_ms: u64,
    pub max_jobs: Option<u64>,
}

impl StartMessage {
    /// What the control groups are called.
    pub(crate) fn group_name(&self) -> String {
        match &self.subject {
            Subject::Attempt(id) => group_name(*id),
            Subject::Worker(worker) => worker_group_name(&worker.id),
        }
    }

    /// Where the attempt's end is written down; nothing for a worker, whose attempts come later.
    pub(crate) fn place(&self) -> Option<Place> {
        match self.subject {
            Subject::Attempt(id) => Some(Place {
                id,
                folder: self.folder.clone(),
                command: self.command.clone(),
                level: self.level,
            }),
            Subject::Worker(_) => None,
        }
    }
}

/// An attempt's folder, and what its end must tell of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub id: AttemptId,
    pub folder: PathBuf,
    pub command: Vec<String>,
    pub level: Level,
}

/// An attempt for a warm worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttemptMessage {
    pub place: Place,
    pub limits: Limits,
    pub grace_ms: u64,
    /// What the worker gets.
    pub run: serde_json::Map<String, serde_json::Value>,
}

/// `worker.json`: who looks after a warm worker. Written before its process starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerRecord {
    pub protocol: u32,
    pub instance: String,
    #[serde(flatten)]
    pub worker: WorkerMessage,
    pub shim: ProcessRecord,
    pub guard: ProcessRecord,
    pub level: Level,
    #[serde(default, skip_serializing_if = "AttemptGroups::is_none")]
    pub groups: AttemptGroups,
}

/// What the server tells a warm worker's shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToWorker {
    Run(Box<AttemptMessage>),
    /// Start the worker, though no attempt is there.
    Warm,
    /// End when no attempt runs.
    End,
}

/// What a warm worker's shim tells the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromWorker {
    /// The first word on a connection.
    State { running: Option<AttemptId> },
    /// The attempt is the worker's now.
    Started {
        started_at: Timestamp,
        tool_version: Option<String>,
    },
    /// The attempt was not begun.
    Refused {
        message: String,
        os_error: Option<i32>,
        /// Another worker may take it.
        another: bool,
    },
    /// The attempt is over, and written down; its lock is free in a moment.
    Over {
        /// The worker takes no further one.
        leaving: bool,
    },
}

/// What an attempt's control groups are called.
pub(crate) fn group_name(id: AttemptId) -> String {
    format!("{}.{}", id.job, id.attempt)
}

/// What the control groups are called that a spare shim made before it knew its attempt.
pub(crate) fn spare_group_name(shim: &ProcessRecord) -> String {
    format!("spare.{}.{}", shim.pid, shim.start_time)
}

/// What a worker's control groups are called.
pub(crate) fn worker_group_name(id: &str) -> String {
    format!("worker.{id}")
}

/// What a shim answers, as one line of JSON on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatusLine {
    Started {
        started_at: Timestamp,
        tool_version: Option<String>,
    },
    /// A worker's shim can be connected to.
    Listening,
    Failed {
        message: String,
        /// The call's error number, where there is one: some are the machine's fault, and pass.
        #[serde(default)]
        os_error: Option<i32>,
    },
}

/// What the shim tells the guard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToGuard {
    Go,
    Stop {
        reason: StopReason,
        grace_ms: u64,
    },
    /// A spare guard gets its attempt, whose lock comes along.
    Take(Box<StartMessage>),
    /// The worker gets this attempt, whose lock comes along.
    Begin(Place),
    /// The attempt is written down: let go of its lock.
    Over,
}

/// What the guard tells the shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromGuard {
    Started {
        started_at: Timestamp,
        tool_version: Option<String>,
    },
    /// The attempt's lock is held by the guard as well.
    Began,
    /// The final signal was sent a while ago, and so many processes are still there.
    Unkillable {
        count: u32,
    },
    Ended(GuardReport),
}

/// The guard's whole finding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GuardReport {
    pub outcome: Outcome,
    pub stopped: Option<StopReason>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub usage: ToolUsage,
    pub leftovers_killed: u32,
    pub tool_version: Option<String>,
}
