//! Records that can't be read, and attempts whose folder was deleted under them: what can still be said, and what not.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::process::{self, describe};
use crate::AttemptId;
use crate::record::{
    ExitRecord, LogCounts, Outcome, PROTOCOL, ProcessRecord, ShimRecord, ToolUsage,
};

/// A record of an attempt's folder.
pub(crate) enum Record<T> {
    Missing,
    /// It is there and says nothing that can be trusted; why, for a person.
    Damaged(String),
    Whole(T),
}

/// A record that names what it belongs to.
pub(crate) trait Names {
    fn attempt(&self) -> AttemptId;
    fn protocol(&self) -> u32;
}

impl Names for ExitRecord {
    fn attempt(&self) -> AttemptId {
        AttemptId {
            job: self.job,
            attempt: self.attempt,
        }
    }

    fn protocol(&self) -> u32 {
        self.protocol
    }
}

impl Names for ShimRecord {
    fn attempt(&self) -> AttemptId {
        AttemptId {
            job: self.job,
            attempt: self.attempt,
        }
    }

    fn protocol(&self) -> u32 {
        self.protocol
    }
}

/// Reads a record of this attempt. An error of the machine, such as too many open files, says nothing of the record.
pub(crate) fn read<T: DeserializeOwned + Names>(
    path: &Path,
    id: AttemptId,
) -> io::Result<Record<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::Missing),
        Err(error) => return Err(error),
    };
    Ok(judge(&bytes, id))
}

fn judge<T: DeserializeOwned + Names>(bytes: &[u8], id: AttemptId) -> Record<T> {
    let record: T = match serde_json::from_slice(bytes) {
        Ok(record) => record,
        Err(_) if bytes.is_empty() => return Record::Damaged("it is empty".to_owned()),
        Err(error) => return Record::Damaged(error.to_string()),
    };
    if record.protocol() > PROTOCOL {
        let newer = format!("a newer release wrote it (protocol {})", record.protocol());
        return Record::Damaged(newer);
    }
    if record.attempt() != id {
        let other = record.attempt();
        let why = format!(
            "it belongs to attempt {} of job {}",
            other.attempt, other.job
        );
        return Record::Damaged(why);
    }
    Record::Whole(record)
}

/// The end of an attempt that is over, though nothing says how it ended. It is no success, and it does not run again.
pub(crate) fn lost(id: AttemptId, command: Vec<String>, why: String, proof: &str) -> ExitRecord {
    unseen(id, command, Outcome::Unknown { message: why }, proof)
}

/// An end that no supervisor has written down: nothing is known but how its death was proved.
pub(crate) fn unseen(
    id: AttemptId,
    command: Vec<String>,
    outcome: Outcome,
    proof: &str,
) -> ExitRecord {
    ExitRecord {
        protocol: PROTOCOL,
        job: id.job,
        attempt: id.attempt,
        outcome,
        stopped: None,
        started_at: None,
        finished_at: process::now(),
        usage: ToolUsage::default(),
        leftovers_killed: 0,
        proof: proof.to_owned(),
        level: crate::Level::default(),
        tool_version: None,
        command,
        logs: LogCounts::default(),
        trouble: None,
    }
}

/// Who has this attempt's lock open, also when its folder was deleted: the supervisors are the only ones that do for
/// longer than a moment, besides this process.
pub(super) fn holders(folder: &Path) -> Vec<ProcessRecord> {
    let lock = folder.join("attempt.lock");
    let deleted = format!("{} (deleted)", lock.display());
    let is_it = |path: &Path| path == lock || path.as_os_str() == deleted.as_str();
    let own = std::process::id();
    let pids = process::all().into_iter().map(|stat| stat.pid);
    pids.filter(|pid| *pid != own && has_open(*pid, is_it))
        .filter_map(|pid| describe(pid).ok())
        .collect()
}

fn has_open(pid: u32, is_it: impl Fn(&Path) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| is_it(&link))
}

/// The boot in which the attempt's folder was made, which the lock's text tells. Its shim began in the same boot or never.
/// Within a boot nobody gets as far as a record before that text is written: without it, a power cut has taken it.
pub(super) fn made_in_another_boot(folder: &Path) -> io::Result<bool> {
    let made_in = fs::read_to_string(folder.join("attempt.lock"))?;
    let made_in = made_in.trim();
    Ok(made_in != process::boot_id()?)
}
