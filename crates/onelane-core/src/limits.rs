use serde::{Deserialize, Serialize};

/// What one stream of an attempt's log may hold when its tool says nothing: 64 MiB.
pub const DEFAULT_LOG_BYTES: u64 = 64 << 20;

/// What an attempt may use before it is ended. Nothing declared is no limit, except for the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Milliseconds from the tool's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Bytes of memory of all its processes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at one time (where no control group counts them: processes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Bytes of each log that are kept: the head and the tail of a longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Bytes of `output/` and `work/` together, as they lie on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

impl Limits {
    /// True when nothing is declared.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes of each log that are kept.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.unwrap_or(DEFAULT_LOG_BYTES)
    }
}

/// Who goes first when the server, or another program, wants the processor that a tool uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuPriority {
    /// The tool gets what nobody else wants.
    #[default]
    Idle,
    /// The tool is a process like any other.
    Normal,
}

impl CpuPriority {
    /// True for the default.
    pub fn is_idle(&self) -> bool {
        *self == Self::Idle
    }
}
