//! Looking at the jobs' folders without a server, or beside one. Takes no lock: that could keep a shim from its own.

use std::fs;
use std::io;
use std::path::Path;

use onelane_core::{AttemptNo, JobId};

use crate::AttemptId;
use crate::layout::JobPaths;
use crate::local::{self, Record};
use crate::record::{ExitRecord, ShimRecord};

/// What an attempt's folder shows.
#[derive(Debug)]
pub struct AttemptSight {
    /// The folder is there.
    pub folder: bool,
    /// Its results' folder is there.
    pub output: bool,
    /// Its end, if that is written down and can be read.
    pub exit: Option<ExitRecord>,
    /// A supervisor was written down, so that a tool may have started.
    pub began: bool,
    /// Records that can't be read, each with the reason.
    pub damaged: Vec<String>,
}

/// Looks at an attempt's folder.
///
/// # Errors
/// When a file is there and can't be read for a reason that is not its content.
pub fn look_at(jobs: &Path, id: AttemptId) -> io::Result<AttemptSight> {
    let folder = JobPaths::new(jobs, id.job).attempt(id.attempt);
    let mut damaged = Vec::new();
    let mut note = |name: &str, why: &str| damaged.push(format!("`{name}` is damaged: {why}"));
    let exit = match local::read::<ExitRecord>(&folder.join("exit.json"), id)? {
        Record::Whole(exit) => Some(exit),
        Record::Missing => None,
        Record::Damaged(why) => {
            note("exit.json", &why);
            None
        }
    };
    let began = match local::read::<ShimRecord>(&folder.join("shim.json"), id)? {
        Record::Whole(_) => true,
        Record::Missing => false,
        Record::Damaged(why) => {
            note("shim.json", &why);
            true
        }
    };
    Ok(AttemptSight {
        folder: folder.is_dir(),
        output: folder.join("output").is_dir(),
        exit,
        began,
        damaged,
    })
}

/// The jobs that have a folder, in no order. What is not named like a job is left out.
///
/// # Errors
/// When a folder can't be read.
pub fn job_folders(jobs: &Path) -> io::Result<impl Iterator<Item = JobId>> {
    let mut ids = Vec::new();
    for shard in folders(jobs)? {
        ids.extend(folders(&shard)?.iter().filter_map(|path| job_of(path)));
    }
    Ok(ids.into_iter())
}

fn job_of(folder: &Path) -> Option<JobId> {
    let id: JobId = folder.file_name()?.to_str()?.parse().ok()?;
    (folder.parent()?.file_name()?.to_str()? == id.shard()).then_some(id)
}

fn folders(parent: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The attempts that a job's folder holds, in order.
///
/// # Errors
/// When the folder can't be read.
pub fn attempts_of(jobs: &Path, job: JobId) -> io::Result<Vec<AttemptNo>> {
    let parent = JobPaths::new(jobs, job).job.join("attempts");
    let names = folders(&parent)?;
    let mut numbers: Vec<AttemptNo> = names
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Attempts whose lock somebody holds: they run. Takes each free lock for a moment, so only for who holds the data folder.
///
/// # Errors
/// When a folder or a lock can't be read.
pub fn running_attempts(jobs: &Path) -> io::Result<Vec<AttemptId>> {
    let mut running = Vec::new();
    for job in job_folders(jobs)? {
        for attempt in attempts_of(jobs, job)? {
            let folder = JobPaths::new(jobs, job).attempt(attempt);
            match local::try_lock(&folder) {
                Ok(Some(_)) => {}
                Ok(None) => running.push(AttemptId { job, attempt }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(running)
}
