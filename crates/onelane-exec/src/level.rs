use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What holds an attempt's process tree together, besides the guard, which is always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Control groups: named, limited and killed by the kernel; an empty group proves the tree's death, whoever looks.
    Cgroup,
    /// A pid namespace whose first process is the guard: the kernel kills all of it when the guard ends.
    Namespace,
    /// The guard alone: a subreaper that kills what it sees until nothing is left. Killed together with the shim, it
    /// leaves no proof.
    #[default]
    Guard,
}

impl Level {
    /// All of them, the strongest first.
    pub const ALL: [Self; 3] = [Self::Cgroup, Self::Namespace, Self::Guard];

    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Guard => "guard",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no level.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no level of process control (auto, cgroup, namespace or guard)")]
pub struct ParseLevelError(String);

/// Which level is wanted: one, or the strongest that works here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedLevel {
    /// The strongest that works.
    #[default]
    Auto,
    /// This one, or no start.
    Only(Level),
}

impl fmt::Display for WantedLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(level) => level.fmt(f),
        }
    }
}

impl FromStr for WantedLevel {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let known = Level::ALL.into_iter().find(|level| level.as_str() == text);
        known
            .map(Self::Only)
            .ok_or_else(|| ParseLevelError(text.chars().take(64).collect()))
    }
}
