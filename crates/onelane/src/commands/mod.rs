//! One file per command.

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod queue;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod submit;
pub(crate) mod tools;
pub(crate) mod tools_check;
pub(crate) mod wait;

use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Client, JobView, Patience, WireState};
use crate::exit::Exit;
use crate::output::Output;

/// What every command has at hand.
pub(crate) struct Context {
    /// The server.
    pub(crate) client: Client,
    /// The terminal.
    pub(crate) output: Output,
}

/// Which data folder, for the commands that work on it without a server; found as `serve` finds it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FolderOptions {
    /// Tools file, which may name the folders [default: ./onelane.toml if there is one]
    #[arg(long, env = "ONELANE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder [default: as for `serve`]
    #[arg(long, env = "ONELANE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The folders that a server works on.
pub(crate) struct Folders {
    /// With the database.
    pub(crate) data: PathBuf,
    /// With the jobs' folders.
    pub(crate) jobs: PathBuf,
}

impl FolderOptions {
    /// Looks where `serve` would.
    pub(crate) fn folders(&self) -> anyhow::Result<Folders> {
        let (data, jobs) = crate::serve::folders(self.config.clone(), self.data.clone())?;
        let data = std::path::absolute(data)?;
        let jobs = jobs.unwrap_or_else(|| data.join("jobs"));
        Ok(Folders { data, jobs })
    }
}

/// How an ended job ends the command that waited for it.
pub(crate) fn exit_of(job: &JobView) -> Exit {
    match job.state {
        WireState::Failed => Exit::JobFailed,
        WireState::Cancelled => Exit::JobCancelled,
        _ => Exit::Done,
    }
}

/// A duration as people type it: `90`, `90s`, `10m`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err(format!("`{unit}` is not a unit: use s, m or h")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration such as 90s, 10m or 2h"))?;
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is too long"))
}

/// `--retry-for`, shared by the commands that wait.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct RetryOptions {
    /// How long to wait for a server that is away [default: 10m]
    #[arg(long, value_name = "TIME", env = "ONELANE_RETRY_FOR", value_parser = parse_duration)]
    retry_for: Option<Duration>,
}

/// How long to wait for a server that is away, where nobody says.
const RETRY_FOR: Duration = Duration::from_mins(10);

impl RetryOptions {
    /// As the client wants it.
    pub(crate) fn patience(self) -> Patience {
        Patience(self.retry_for.unwrap_or(RETRY_FOR))
    }

    /// True for somebody who asked for patience: then a server that is away at the first word is no wrong address.
    pub(crate) fn is_asked_for(self) -> bool {
        self.retry_for.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_type_them() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_hours(2)));
        for text in [
            "",
            "m",
            "-1",
            "1d",
            "1.5h",
            "99999999999999999999h",
            "9999999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
