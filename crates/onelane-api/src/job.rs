use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a job is, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WireState {
    /// Waits for its turn.
    Queued,
    /// Claimed; its process may not exist yet.
    Starting,
    /// The tool runs.
    Running,
    /// It was cancelled, and its processes are being ended.
    Cancelling,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by wish.
    Cancelled,
}

impl WireState {
    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for the three ends.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id for ever (UUID version 7).
    pub id: String,
    /// Given in commit order.
    pub seq: i64,
    /// The tool's name.
    pub tool: String,
    /// What the submitter calls it.
    pub name: Option<String>,
    /// Who submitted: a token's name, or `anonymous`.
    pub owner: String,
    /// Where it is.
    pub state: WireState,
    /// Its processes could not be proved dead: it keeps its resources.
    pub stuck: bool,
    /// −100 to 100, higher first.
    pub priority: i32,
    /// When it was accepted.
    pub created_at: String,
    /// When the tool started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    /// How many jobs start before it.
    pub position: Option<u64>,
    /// When it is expected to start, as a range.
    pub eta: Option<EtaView>,
    /// Why it waits, in one sentence.
    pub why: Option<String>,
    /// How far it is.
    pub progress: Option<ProgressView>,
    /// The parameters; a sequence parameter shows its records and residues.
    #[schema(value_type = Object)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The tool's exit code.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// What its newest attempt used.
    pub usage: Option<UsageView>,
    /// What holds its newest attempt's processes together: `cgroup`, `namespace` or `guard`.
    #[serde(default)]
    pub process_control: Option<String>,
    /// The job whose result this one shares.
    pub result_of: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// What was stripped from the input, as sentences.
    pub notes: Vec<String>,
    /// Where the rest is.
    pub links: JobLinks,
}

/// An estimate: half of such jobs have started by `p50`, nine in ten by `p90`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EtaView {
    /// The median.
    pub p50: String,
    /// The ninth decile.
    pub p90: String,
}

/// How far a tool says it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// From 0 to 1.
    pub fraction: f64,
    /// The tool's words.
    pub message: String,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// `exit`, `signal`, `timed_out`, `out_of_memory`, `output_limit`, `start_failed`, `interrupted`, `node_failed`,
    /// `preempted` or `unknown`.
    pub kind: String,
    /// The exit code, for `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal's number, for `signal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// One sentence for the person who submitted the job.
    pub message: String,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// From the tool's start to its end, in seconds.
    pub wall_s: f64,
    /// Processor time of the whole tree, in seconds.
    pub cpu_s: f64,
    /// The largest resident size of a process, in bytes.
    pub memory_peak_bytes: u64,
}

/// Paths of what belongs to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobLinks {
    /// The job.
    #[serde(rename = "self")]
    pub this: String,
    /// `POST` here to cancel it.
    pub cancel: String,
    /// Server-Sent Events.
    pub events: String,
    /// The newest attempt's standard output.
    pub stdout: String,
    /// The newest attempt's standard error.
    pub stderr: String,
    /// All attempts.
    pub attempts: String,
    /// The results.
    pub files: String,
    /// The results in one archive.
    pub archive: String,
}

/// A page of jobs, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Give it as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// One run of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Counted from 1.
    pub attempt: u32,
    /// When it was claimed.
    pub claimed_at: String,
    /// When the tool started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// The tool's exit code.
    pub exit_code: Option<i32>,
    /// What it used.
    pub usage: Option<UsageView>,
    /// What the tool said of its version at start.
    pub tool_version: Option<String>,
    /// What held its processes together: `cgroup`, `namespace` or `guard`.
    #[serde(default)]
    pub process_control: Option<String>,
    /// Its logs.
    pub links: AttemptLinks,
}

/// Paths of an attempt's logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptLinks {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A job's attempts, first one first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    /// The attempts.
    pub attempts: Vec<AttemptView>,
}

/// One file among a job's results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntry {
    /// Relative to the results' folder, with `/` between folders.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified_at: String,
    /// Its SHA-256 in hexadecimal; `null` as long as it is being computed: ask again for that of a large file.
    pub sha256: Option<String>,
    /// Its media type, as the tool declares it or as its name tells.
    pub media_type: String,
    /// The tool's name for it, if it declares it.
    pub result: Option<String>,
    /// The tool's title for it.
    pub title: Option<String>,
    /// How to show it, as the tool declares it.
    pub view: Option<String>,
    /// Where to get it.
    pub link: String,
}

/// A job's result files, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// The files.
    pub files: Vec<FileEntry>,
}
