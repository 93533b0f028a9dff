//! Decides about an attempt whose lock is free: what its records say, and what proves that nothing of it is left.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::damage::{self, Record, lost};
use super::lock::{names_this_lock, try_lock};
use super::worker::RECORD;
use super::{LocalExecutor, blocking, process, read_json, tree};
use crate::files::write_whole;
use crate::level::Level;
use crate::record::{
    ExitRecord, OTHER_BOOT, Outcome, ShimRecord, WorkerRecord, group_name, spare_group_name,
    worker_group_name,
};
use crate::{AttemptId, ExecError, Verdict};

impl LocalExecutor {
    /// What became of an attempt that was claimed in another boot, unless somebody holds its lock all the same. A power
    /// cut may have left anything of its folder, so that nothing but a whole `exit.json` counts.
    pub(super) async fn ended_by_restart(
        &self,
        id: AttemptId,
        claimed_in: Option<&str>,
    ) -> Result<Option<Verdict>, ExecError> {
        let Some(claimed_in) = claimed_in.map(str::to_owned) else {
            return Ok(None);
        };
        let folder = self.folder(id);
        blocking("look at an attempt of another boot", move || {
            if claimed_in == process::boot_id()? {
                return Ok(None);
            }
            let held = match try_lock(&folder) {
                Ok(None) => return Ok(None),
                Ok(Some(lock)) => Some(lock),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let read = damage::read::<ExitRecord>(&folder.join("exit.json"), id)?;
            if let Record::Whole(record) = read {
                return Ok(Some(Verdict::Exited(Box::new(record))));
            }
            let why = "the machine was restarted";
            // With its folder gone there is nowhere to write it down; the store has it.
            let record = match held {
                Some(_held) => write_interrupted(&folder, id, None, why, OTHER_BOOT)?,
                None => interrupted(id, None, why, OTHER_BOOT),
            };
            Ok(Some(Verdict::Exited(Box::new(record))))
        })
        .await
    }

    /// Decides about an attempt whose lock is in our hands.
    pub(super) async fn conclude(&self, id: AttemptId, lock: File) -> Result<Verdict, ExecError> {
        let this = self.clone();
        blocking("conclude the attempt", move || this.conclude_now(id, &lock)).await
    }

    fn conclude_now(&self, id: AttemptId, _held: &File) -> io::Result<Verdict> {
        let folder = self.folder(id);
        match damage::read::<ExitRecord>(&folder.join("exit.json"), id)? {
            Record::Whole(record) => return Ok(Verdict::Exited(Box::new(record))),
            // It is written after the tree's death, so the attempt is over; but nothing says that it was a success.
            // Unless a power cut has left it so.
            Record::Damaged(_) if damage::made_in_another_boot(&folder)? => {}
            Record::Damaged(why) => return Ok(unreadable_exit(id, &why)),
            Record::Missing => {}
        }
        let record = match damage::read::<ShimRecord>(&folder.join("shim.json"), id)? {
            Record::Whole(record) => record,
            Record::Damaged(why) => return without_shim_record(&folder, id, &why),
            Record::Missing if damage::made_in_another_boot(&folder)? => {
                let why = "the machine was restarted";
                let exit = write_interrupted(&folder, id, None, why, OTHER_BOOT)?;
                return Ok(Verdict::Exited(Box::new(exit)));
            }
            Record::Missing => {
                // `shim.json` comes before the tool, and no later shim gets past the lock and this record.
                let why = "its shim ended before it started the tool";
                write_interrupted(&folder, id, None, why, "never_started")?;
                return Ok(Verdict::NeverStarted {
                    why: why.to_owned(),
                });
            }
        };
        match self.prove_dead(id, &record)? {
            Ok((why, proof)) => {
                let exit = write_interrupted(&folder, id, Some(record), why, proof)?;
                Ok(Verdict::Exited(Box::new(exit)))
            }
            Err(why) => Ok(Verdict::Stuck { why }),
        }
    }

    /// Both supervisors are gone and have written down no end: what ended the attempt, and by which proof nothing of
    /// it is left; or why there is no proof.
    fn prove_dead(
        &self,
        id: AttemptId,
        record: &ShimRecord,
    ) -> io::Result<Result<(&'static str, &'static str), String>> {
        let killed = "both of its supervisors were killed";
        if record.shim.boot_id != process::boot_id()? {
            return Ok(Ok(("the machine was restarted", OTHER_BOOT)));
        }
        if record.instance != *self.instance || !names_this_lock(record, &self.folder(id)) {
            // Whatever runs belongs to the original: this folder's lock is another one, and nobody runs under it.
            let why = "this data folder is a copy, made while the attempt ran elsewhere";
            return Ok(Ok((why, "other_folder")));
        }
        if ended_with_its_container(record)? {
            return Ok(Ok(("the container that it ran in has ended", "container")));
        }
        match record.level {
            Level::Namespace => {
                process::wait_until_gone(&record.guard)?;
                Ok(Ok((killed, "namespace")))
            }
            Level::Cgroup => Ok(self.end_groups(id, record).map(|()| (killed, "cgroup"))),
            Level::Guard => Ok(Err(both_killed(id))),
        }
    }

    fn end_groups(&self, id: AttemptId, record: &ShimRecord) -> Result<(), String> {
        // A record that somebody has changed must not turn the killing on what lives: a spare's groups are named after
        // their shim, a worker's after the worker.
        let spare = Some(spare_group_name(&record.shim)).filter(|_| !process::lives(&record.shim));
        let worker = record.worker.as_deref().filter(|id| self.is_unattended(id));
        let mut names = std::iter::once(group_name(id))
            .chain(spare)
            .chain(worker.map(worker_group_name));
        let folder = self.control.name();
        let ours = |name: String| record.groups.belong_to(folder, &name);
        if record.groups.is_none() || !names.any(ours) {
            return Err(format!(
                "both supervisors of attempt {} were killed, and its record names control groups that are not its own",
                id.attempt
            ));
        }
        match record.groups.end() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "both supervisors of attempt {} were killed, and {} of its processes do not die although they were killed",
                id.attempt,
                record.groups.processes().len()
            )),
            Err(error) => Err(format!(
                "both supervisors of attempt {} were killed, and its control groups can't be seen from here: {error}",
                id.attempt
            )),
        }
    }

    /// Whether no supervisor looks after a worker any more. By its record, as its lock may be in the hands of whoever
    /// clears up after it.
    fn is_unattended(&self, id: &str) -> bool {
        let record = read_json::<WorkerRecord>(&self.workers.join(id).join(RECORD));
        record.is_none_or(|record| !process::lives(&record.shim) && !process::lives(&record.guard))
    }
}

/// Shim and guard were both killed within this boot, and nothing else holds the tree together. The tool itself died
/// with the guard; what it had left behind can be looked for, but finding nothing proves nothing.
fn both_killed(id: AttemptId) -> String {
    let seen = marked(id);
    for pid in &seen {
        tree::send(*pid, nix::sys::signal::Signal::SIGKILL);
    }
    format!(
        "both supervisors of attempt {} were killed, so that nobody saw its processes end ({} were found and killed); \
         it counts as running until the machine is restarted",
        id.attempt,
        seen.len()
    )
}

/// Processes whose environment names this attempt: a help in looking, never a proof.
fn marked(id: AttemptId) -> Vec<u32> {
    let job = format!("ONELANE_JOB_ID={}", id.job);
    let attempt = format!("ONELANE_ATTEMPT={}", id.attempt);
    let names_it = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |wanted: &str| {
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        };
        has(&job) && has(&attempt)
    };
    process::all()
        .into_iter()
        .map(|stat| stat.pid)
        .filter(|pid| names_it(*pid))
        .collect()
}

/// The attempt ran in a container's pid namespace that isn't this server's: what runs in a container ends with it.
fn ended_with_its_container(record: &ShimRecord) -> io::Result<bool> {
    /// The machine's own namespace (`PROC_PID_INIT_INO` of the kernel's `linux/proc_ns.h`).
    const OF_THE_MACHINE: &str = "pid:[4026531836]";
    let theirs = record.shim.pid_namespace.as_str();
    if theirs == OF_THE_MACHINE || theirs == process::pid_namespace()? {
        return Ok(false);
    }
    // Where its processes can be seen, it has not ended.
    Ok(!process::any_in_namespace(theirs))
}

fn unreadable_exit(id: AttemptId, why: &str) -> Verdict {
    let why =
        format!("its record `exit.json` is damaged ({why}), so that how it ended is not known");
    Verdict::Exited(Box::new(lost(id, Vec::new(), why, "exit_record")))
}

/// A tool may have been started, and the record of its supervisors, which would tell, can't be read.
fn without_shim_record(folder: &Path, id: AttemptId, why: &str) -> io::Result<Verdict> {
    if damage::made_in_another_boot(folder)? {
        let restarted = "the machine was restarted";
        let exit = write_interrupted(folder, id, None, restarted, OTHER_BOOT)?;
        return Ok(Verdict::Exited(Box::new(exit)));
    }
    Ok(Verdict::Stuck {
        why: format!(
            "its record `shim.json` is damaged ({why}) and it has no `exit.json`, so that nothing proves its processes \
             gone; it counts as running until the machine is restarted"
        ),
    })
}

fn write_interrupted(
    folder: &Path,
    id: AttemptId,
    shim: Option<ShimRecord>,
    why: &str,
    proof: &str,
) -> io::Result<ExitRecord> {
    let record = interrupted(id, shim, why, proof);
    write_whole(
        &folder.join("exit.json"),
        &serde_json::to_vec_pretty(&record)?,
    )?;
    Ok(record)
}

fn interrupted(id: AttemptId, shim: Option<ShimRecord>, why: &str, proof: &str) -> ExitRecord {
    let level = shim.as_ref().map(|shim| shim.level).unwrap_or_default();
    let command = shim.map(|shim| shim.command).unwrap_or_default();
    let message = why.to_owned();
    ExitRecord {
        level,
        ..damage::unseen(id, command, Outcome::Interrupted { message }, proof)
    }
}
