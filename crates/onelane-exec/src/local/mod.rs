//! This machine: each attempt under its own shim and guard.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use onelane_core::{Capacity, JobId, StopReason};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::fail_point;
use crate::files::{reserve, sync_folder, way, write_whole};
use crate::layout::JobPaths;
use crate::level::Level;
use crate::record::{
    ExitRecord, LogCounts, OTHER_BOOT, Outcome, PROTOCOL, ProcessRecord, ShimOrder, ShimRecord,
    StartMessage, StatusLine, StopRecord, Subject, ToolUsage, group_name, spare_group_name,
    worker_group_name,
};
use crate::room::enough_to_start;
use crate::{
    AttemptId, ExecError, Executor, Found, Launch, LaunchContent, LaunchFile, Running, Verdict,
    WorkerSpec,
};

pub(crate) mod cgroup;
mod channel;
mod control;
mod damage;
mod guard;
mod limits;
mod logs;
mod namespace;
mod notices;
mod peer;
mod pool;
mod process;
mod progress;
mod shim;
mod spare;
mod stub;
mod tree;
mod warm;
mod worker;

use pool::Pool;
use spare::Spare;

pub use control::Control;
pub(crate) use damage::{Record, lost, read};
pub use progress::appended;
pub use shim::shim_main;

/// A wish to stop may come twice at once, from the cancellation and from the start that it met; both would write the
/// same temporary file.
static STOPPING: Mutex<()> = Mutex::new(());

/// Runs attempts on this machine.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    jobs: Arc<Path>,
    uploads: Arc<Path>,
    workers: Arc<Path>,
    instance: Arc<str>,
    control: Arc<Control>,
    pool: Arc<Pool>,
    spare: Spare,
}

impl LocalExecutor {
    /// For the data folder with this id. Warm workers get a folder beside `uploads`.
    pub fn new(jobs: &Path, uploads: &Path, instance: &str, control: Control) -> Self {
        // What was made for attempts that never came to write it down.
        if let Some(groups) = control.groups() {
            groups.sweep();
        }
        Self {
            jobs: jobs.into(),
            uploads: uploads.into(),
            workers: uploads.with_file_name("workers").into(),
            instance: instance.into(),
            control: Arc::new(control),
            pool: Arc::default(),
            spare: Spare::default(),
        }
    }

    fn paths(&self, job: JobId) -> JobPaths {
        JobPaths::new(&self.jobs, job)
    }

    fn folder(&self, id: AttemptId) -> PathBuf {
        self.paths(id.job).attempt(id.attempt)
    }

    /// The folders and files of an attempt; false when the attempt's folder is there already.
    async fn lay_out(&self, launch: &Launch) -> Result<bool, ExecError> {
        let (paths, uploads, launch) = (
            self.paths(launch.id.job),
            self.uploads.clone(),
            launch.clone(),
        );
        blocking("make the attempt's folder", move || {
            lay_out(&paths, &uploads, &launch)
        })
        .await
    }

    fn spawn(&self, id: AttemptId) -> io::Result<Child> {
        new_shim().inspect_err(|_| {
            // No process was made, so the next try may make the lock anew.
            fs::remove_file(self.folder(id).join("attempt.lock")).ok();
        })
    }

    fn start_message(&self, launch: &Launch) -> StartMessage {
        StartMessage {
            protocol: PROTOCOL,
            subject: Subject::Attempt(launch.id),
            folder: self.folder(launch.id),
            instance: self.instance.to_string(),
            command: launch.command.clone(),
            version_command: launch.version_command.clone(),
            env: launch.env.clone(),
            stdin: launch.stdin.clone(),
            workdir: launch.workdir.clone(),
            grace_ms: launch.grace_ms,
            limits: launch.limits,
            cpu_priority: launch.cpu_priority,
            level: self.control.level(),
            groups: self.control.groups().cloned(),
        }
    }

    /// Our own living shim's record, if there is one: of this data folder, under this very lock, alive.
    fn living_shim(&self, id: AttemptId) -> Option<ShimRecord> {
        let folder = self.folder(id);
        let record = read_json::<ShimRecord>(&folder.join("shim.json"))?;
        let ours = record.instance == *self.instance && names_this_lock(&record, &folder);
        (ours && (process::lives(&record.shim) || process::lives(&record.guard))).then_some(record)
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn prepare(&self, job: JobId) -> Result<PathBuf, ExecError> {
        let folder = self.paths(job).job;
        blocking("make the job's folder", move || {
            fs::create_dir_all(&folder).map(|()| folder)
        })
        .await
    }

    async fn start(&self, launch: Launch) -> Result<Found, ExecError> {
        let key = launch.warm.as_ref().map(|warm| warm.worker.key.as_str());
        let room = self.pool.make_room(launch.spare, key).await;
        room.map_err(|why| {
            // It is tried again, as for all that only the machine lacks.
            ExecError::new(why, io::Error::from_raw_os_error(nix::libc::ENOMEM))
        })?;
        if !self.lay_out(&launch).await? {
            return self.recover(launch.id, None).await;
        }
        if let Some(warm) = &launch.warm {
            return self.start_warm(&launch, warm).await;
        }
        let status = self.begin(&launch).await?;
        let this = self.clone();
        tokio::spawn(async move { this.prepare_spare().await });
        match status {
            Some(StatusLine::Started {
                started_at,
                tool_version,
            }) => match self.living_shim(launch.id) {
                Some(record) => Ok(Found::Running(Running {
                    shim: record.shim,
                    started_at,
                    tool_version,
                    level: record.level,
                })),
                None => self.recover(launch.id, None).await,
            },
            Some(StatusLine::Failed { message, os_error }) => {
                tracing::warn!(job = %launch.id.job, attempt = launch.id.attempt, message, "a shim could not begin");
                if let Some(errno) = os_error
                    && self.has_not_begun(launch.id).await?
                {
                    let error = io::Error::from_raw_os_error(errno);
                    return Err(ExecError::new("begin the attempt", error));
                }
                self.watch(launch.id).await.map(Found::Over)
            }
            Some(StatusLine::Listening) | None => self.watch(launch.id).await.map(Found::Over),
        }
    }

    async fn recover(&self, id: AttemptId, claimed_in: Option<&str>) -> Result<Found, ExecError> {
        if let Some(verdict) = self.ended_by_restart(id, claimed_in).await? {
            return Ok(Found::Over(verdict));
        }
        if !self.folder(id).join("attempt.lock").exists() {
            if let Some(shim) = damage::holders(&self.folder(id)).into_iter().next() {
                return Ok(Found::Running(running_of(
                    &self.folder(id),
                    shim,
                    Level::default(),
                )));
            }
            return Ok(Found::Over(Verdict::NeverStarted {
                why: "its folder was never made".to_owned(),
            }));
        }
        let this = self.clone();
        let lock = blocking("look at the attempt's lock", move || {
            try_lock(&this.folder(id))
        })
        .await?;
        match (lock, self.living_shim(id)) {
            (Some(lock), _) => self.conclude(id, lock).await.map(Found::Over),
            (None, Some(record)) => Ok(Found::Running(running_of(
                &self.folder(id),
                record.shim,
                record.level,
            ))),
            // Held, but not yet written down: the shim is in its first milliseconds, or belongs to another folder.
            (None, None) => self.wait_for_record(id).await,
        }
    }

    async fn watch(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        let folder = self.folder(id);
        let mut worker = None;
        if let Some(record) = self.living_shim(id) {
            let over = async {
                // A warm worker's shim stays when the attempt is over.
                if record.worker.is_some() {
                    tokio::select! {
                        seen = progress::file_appears(&folder, "exit.json") => seen,
                        gone = until_gone(&record.shim) => gone,
                    }
                } else {
                    until_gone(&record.shim).await
                }
            };
            over.await
                .map_err(|error| ExecError::new("watch the shim", error))?;
            worker = record.worker;
        }
        if !folder.join("attempt.lock").exists() {
            return self.watch_deleted(id).await;
        }
        // The kernel wakes us when the last of the pair lets go.
        let lock = blocking("wait for the attempt's lock", move || wait_lock(&folder)).await?;
        let verdict = self.conclude(id, lock).await?;
        Ok(self.settled(worker, id, verdict).await)
    }

    async fn stop(
        &self,
        id: AttemptId,
        reason: StopReason,
        grace_ms: u64,
    ) -> Result<(), ExecError> {
        let this = self.clone();
        blocking("stop the attempt", move || {
            this.stop_now(id, reason, grace_ms)
        })
        .await
    }

    async fn unkillable(&self, id: AttemptId) -> Result<String, ExecError> {
        let folder = self.folder(id);
        let why = async {
            progress::file_appears(&folder, shim::UNKILLABLE).await?;
            tokio::fs::read_to_string(folder.join(shim::UNKILLABLE)).await
        };
        why.await
            .map_err(|error| ExecError::new("watch the attempt's folder", error))
    }

    async fn progress(&self, id: AttemptId, seen: u64) -> Result<(String, u64), ExecError> {
        let path = self.folder(id).join("progress");
        progress::next_line(&path, seen)
            .await
            .map_err(|error| ExecError::new("read the progress", error))
    }

    async fn remove(&self, job: JobId) -> Result<(), ExecError> {
        let folder = self.paths(job).job;
        blocking(
            "delete the job's folder",
            move || match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        )
        .await
    }

    async fn make_lasting(&self, ids: Vec<AttemptId>) -> Result<(), ExecError> {
        let place = |id: AttemptId| (self.folder(id), self.paths(id.job).job);
        let places: Vec<_> = ids.into_iter().map(place).collect();
        blocking("sync ended attempts' records", move || {
            let mut folders = BTreeSet::new();
            for (attempt, job) in places {
                if sync_records(&attempt, &job)? {
                    folders.extend(way(&attempt).map(Path::to_owned));
                }
            }
            // Those that the attempts share once for all of them.
            folders
                .iter()
                .try_for_each(|folder| match sync_folder(folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    synced => synced,
                })
        })
        .await
    }

    async fn take_up_workers(&self, workers: Vec<WorkerSpec>) {
        self.pool.want(workers);
        self.take_up().await;
    }

    async fn keep_workers(&self, workers: Vec<WorkerSpec>, spare: Capacity) {
        self.want_workers(workers, spare).await;
    }

    async fn until_worker_missing(&self) {
        self.pool.missing.notified().await;
    }

    async fn end_idle(&self) {
        self.pool.end_idle().await;
        self.end_spare().await;
    }
}

/// False where they are gone: deleted since, or the attempt never began.
fn sync_records(attempt: &Path, job: &Path) -> io::Result<bool> {
    for record in [attempt.join("exit.json"), job.join("job.json")] {
        match File::open(record) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl LocalExecutor {
    /// Gives the attempt to a shim, to a spare one if there is one, and hears what it says.
    async fn begin(&self, launch: &Launch) -> Result<Option<StatusLine>, ExecError> {
        let failed = |error| ExecError::new("start the shim", error);
        let message = self.start_message(launch);
        if let Some(spare) = self.take_spare(launch).await {
            if let Ok(Some(status)) = hear(spare, &message).await {
                return Ok(Some(status));
            }
            // It was gone before it had the attempt, or went with it. One that was stopped in time says nothing either.
            if self.is_stopped(launch.id) {
                return Ok(None);
            }
            if !self.has_not_begun(launch.id).await? || !self.lay_out(launch).await? {
                return Ok(None);
            }
        }
        let child = self.spawn(launch.id).map_err(failed)?;
        hear(child, &message).await.map_err(failed)
    }

    fn is_stopped(&self, id: AttemptId) -> bool {
        self.folder(id).join("stop.json").exists()
    }

    /// Whether a shim that has failed left nothing behind; then the lock goes, so that the attempt can be tried again.
    async fn has_not_begun(&self, id: AttemptId) -> Result<bool, ExecError> {
        let folder = self.folder(id);
        blocking("look at an attempt that did not begin", move || {
            let _held = wait_lock(&folder)?;
            let has_record = ["shim.json", "exit.json"]
                .iter()
                .any(|name| folder.join(name).exists());
            if !has_record {
                fs::remove_file(folder.join("attempt.lock"))?;
            }
            Ok(!has_record)
        })
        .await
    }

    /// What became of an attempt that was claimed in another boot, unless somebody holds its lock all the same. A power
    /// cut may have left anything of its folder, so that nothing but a whole `exit.json` counts.
    async fn ended_by_restart(
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
    async fn conclude(&self, id: AttemptId, lock: File) -> Result<Verdict, ExecError> {
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

    /// A living supervisor whose `shim.json` can't be read.
    fn unrecorded_shim(&self, id: AttemptId) -> Option<ProcessRecord> {
        let folder = self.folder(id);
        match damage::read::<ShimRecord>(&folder.join("shim.json"), id) {
            Ok(Record::Damaged(_)) => damage::holders(&folder).into_iter().next(),
            _ => None,
        }
    }

    /// The folder was deleted under the attempt. Its supervisors keep the lock open all the same: when they are gone it
    /// is over, and nobody knows how.
    async fn watch_deleted(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        let folder = self.folder(id);
        while let Some(holder) = damage::holders(&folder).first() {
            until_gone(holder)
                .await
                .map_err(|error| ExecError::new("watch the shim", error))?;
        }
        Ok(Verdict::folder_deleted(id, "supervisors_gone"))
    }

    async fn wait_for_record(&self, id: AttemptId) -> Result<Found, ExecError> {
        let folder = self.folder(id);
        let appeared = progress::file_appears(&folder, "shim.json");
        tokio::select! {
            seen = appeared => {
                seen.map_err(|error| ExecError::new("watch the attempt's folder", error))?;
                match self.living_shim(id) {
                    Some(record) => Ok(Found::Running(running_of(&folder, record.shim, record.level))),
                    None => match self.unrecorded_shim(id) {
                        Some(shim) => Ok(Found::Running(running_of(&folder, shim, Level::default()))),
                        None => Ok(Found::Over(Verdict::Stuck { why: foreign(&folder) })),
                    },
                }
            }
            verdict = self.watch(id) => verdict.map(Found::Over),
        }
    }

    fn stop_now(&self, id: AttemptId, reason: StopReason, grace_ms: u64) -> io::Result<()> {
        let folder = self.folder(id);
        if !folder.join("attempt.lock").exists() {
            // Deleted under it: without `stop.json` its shim takes the signal for the machine's end, and ends the tree.
            return damage::holders(&folder)
                .iter()
                .try_for_each(signal_verified);
        }
        if folder.join("exit.json").exists() {
            return Ok(());
        }
        let one_at_a_time = STOPPING.lock();
        // A damaged one says nothing to the shim.
        if read_json::<StopRecord>(&folder.join("stop.json")).is_none() {
            let stop = StopRecord {
                reason,
                at: process::now(),
                grace_ms,
            };
            // The store has it durably.
            write_whole(
                &folder.join("stop.json"),
                &serde_json::to_vec_pretty(&stop)?,
            )?;
        }
        drop(one_at_a_time);
        fail_point("exec.after_stop_record");
        if let Some(record) = self.living_shim(id) {
            // A worker's shim watches the folder: by the time of a signal it may have another attempt.
            return match record.worker {
                Some(_) => Ok(()),
                None => signal_verified(&record.shim),
            };
        }
        if self.unrecorded_shim(id).is_some() {
            return damage::holders(&folder)
                .iter()
                .try_for_each(signal_verified);
        }
        Ok(())
    }
}

fn new_shim() -> io::Result<Child> {
    // The magic link names this very program, also when an upgrade has replaced the file.
    Command::new("/proc/self/exe")
        .arg("shim")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

async fn say(child: &mut Child, order: &ShimOrder) -> io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    match &mut child.stdin {
        Some(stdin) => stdin.write_all(&line).await,
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Starts a shim with this message, and gives its answer.
async fn spawn_shim(message: &StartMessage) -> io::Result<Option<StatusLine>> {
    hear(new_shim()?, message).await
}

async fn hear(mut child: Child, message: &StartMessage) -> io::Result<Option<StatusLine>> {
    fail_point("exec.after_spawn");
    let status = converse(&mut child, message).await;
    // Only so that no zombie stays: how the attempt ended is never taken from here.
    tokio::spawn(async move { child.wait().await });
    status
}

async fn converse(child: &mut Child, message: &StartMessage) -> io::Result<Option<StatusLine>> {
    say(child, &ShimOrder::Start(Box::new(message.clone()))).await?;
    drop(child.stdin.take());
    let Some(stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut answer = String::new();
    BufReader::new(stdout).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer).ok())
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

fn foreign(folder: &Path) -> String {
    format!(
        "`{}` is locked by a process of another data folder; it is never signalled from here",
        folder.display()
    )
}

/// Opens the process first and verifies it then: a number that was given away in between is not signalled.
fn signal_verified(shim: &ProcessRecord) -> io::Result<()> {
    let Some(pidfd) = open_verified(shim)? else {
        return Ok(());
    };
    match pidfd_send_signal(&pidfd, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(Into::into),
    }
}

fn open_verified(shim: &ProcessRecord) -> io::Result<Option<rustix::fd::OwnedFd>> {
    let Some(pid) = i32::try_from(shim.pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => Ok(process::lives(shim).then_some(pidfd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a process has ended, without being its parent.
async fn until_gone(shim: &ProcessRecord) -> io::Result<()> {
    let Some(pidfd) = open_verified(shim)? else {
        return Ok(());
    };
    let pidfd = progress::when_readable(pidfd)?;
    pidfd.readable().await.map(drop)
}

/// Room for each of an attempt's records, in bytes: reserved before it begins, so that a disk that fills up later can
/// neither lose its end nor keep it from being stopped.
const RECORDS: [(&str, u64); 3] = [
    ("exit.json", shim::EXIT_BYTES),
    ("shim.json", 4096),
    ("stop.json", 4096),
];

fn lay_out(paths: &JobPaths, uploads: &Path, launch: &Launch) -> io::Result<bool> {
    let folder = paths.attempt(launch.id.attempt);
    let lock = folder.join("attempt.lock");
    if lock.exists() {
        // It has begun before, by the word of its folder, which counts more than that of an older store.
        return Ok(false);
    }
    let Some((shard, jobs)) = paths
        .job
        .parent()
        .and_then(|shard| Some((shard, shard.parent()?)))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    enough_to_start(jobs)?;
    // Without a lock nothing of this boot has begun: what is there is what an earlier try left when the disk was full, or
    // what a power cut left when it took claim and lock. Its records and results are no part of what starts now.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for folder in [&paths.input(), &folder.join("work"), &folder.join("output")] {
        fs::create_dir_all(folder)?;
    }
    let moves = |file: &LaunchFile| matches!(file.content, LaunchContent::Upload(_));
    if launch.files.iter().any(moves) {
        // Whole only with all folders above it: before anything is moved here. All else that a power cut can take is
        // in the store, or was never a result: records are synced after the end (`make_lasting`).
        for folder in [&paths.job, shard, jobs] {
            sync_folder(folder)?;
        }
    }
    write_whole(
        &paths.job.join("job.json"),
        &serde_json::to_vec_pretty(&launch.story)?,
    )?;
    for file in &launch.files {
        bring(file, uploads, &paths.input())?;
    }
    fail_point("exec.after_inputs");
    forget_uploads(&launch.files, uploads);
    // Two of them repeat the command.
    let command: usize = launch.command.iter().map(|word| 2 * word.len() + 16).sum();
    for (name, bytes) in RECORDS {
        reserve(&folder.join(name), bytes + command as u64)?;
    }
    fail_point("exec.after_attempt_folder");
    File::create(folder.join("progress"))?;
    make_lock(&lock).inspect_err(|_| {
        // Nothing has begun: the next try may make it anew.
        fs::remove_file(&lock).ok();
    })?;
    fail_point("exec.after_lock");
    Ok(true)
}

/// The lock's text is the boot in which it was made: proof of death once that is over, should `shim.json` be damaged.
fn make_lock(path: &Path) -> io::Result<()> {
    let mut lock = File::create_new(path)?;
    writeln!(lock, "{}", process::boot_id()?)
}

/// Puts an input in place. An earlier attempt may have moved it there already; what the store holds is written anew, as
/// a power cut may have torn it.
fn bring(file: &LaunchFile, uploads: &Path, input: &Path) -> io::Result<()> {
    let target = input.join(&file.file);
    match &file.content {
        LaunchContent::Inline(text) => write_whole(&target, text.as_bytes()),
        LaunchContent::Upload(_) if target.exists() => Ok(()),
        LaunchContent::Upload(relative) => {
            fs::rename(uploads.join(relative), &target)?;
            sync_folder(input)
        }
    }
}

/// All inputs are in place: what is left of their uploads (the originals) goes. The next server sweeps what this misses.
fn forget_uploads(files: &[LaunchFile], uploads: &Path) {
    for file in files {
        if let LaunchContent::Upload(relative) = &file.content
            && let Some(folder) = relative
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::remove_dir_all(uploads.join(folder)).ok();
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

pub(crate) fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    try_lock_file(&folder.join("attempt.lock"))
}

fn try_lock_file(path: &Path) -> io::Result<Option<File>> {
    let lock = open_lock(path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn wait_lock(folder: &Path) -> io::Result<File> {
    wait_lock_file(&folder.join("attempt.lock"))
}

fn wait_lock_file(path: &Path) -> io::Result<File> {
    let lock = open_lock(path)?;
    loop {
        match flock(&lock, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| lock).map_err(Into::into),
        }
    }
}

fn names_this_lock(record: &ShimRecord, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let here = fs::metadata(folder.join("attempt.lock"));
    here.is_ok_and(|lock| lock.dev() == record.lock_device && lock.ino() == record.lock_inode)
}

fn running_of(folder: &Path, shim: ProcessRecord, level: Level) -> Running {
    // An adopted attempt's own start time comes with `exit.json`; until then the record's time is near enough.
    let written = fs::metadata(folder.join("shim.json"))
        .and_then(|file| file.modified())
        .ok();
    let millis = written
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    let started_at = onelane_core::Timestamp::from_millis(i64::try_from(millis).unwrap_or(0));
    Running {
        shim,
        started_at,
        tool_version: None,
        level,
    }
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
    ExitRecord {
        protocol: PROTOCOL,
        job: id.job,
        attempt: id.attempt,
        outcome: Outcome::Interrupted {
            message: why.to_owned(),
        },
        stopped: None,
        started_at: None,
        finished_at: process::now(),
        usage: ToolUsage::default(),
        leftovers_killed: 0,
        proof: proof.to_owned(),
        level,
        tool_version: None,
        command: shim.map(|shim| shim.command).unwrap_or_default(),
        logs: LogCounts::default(),
        trouble: None,
    }
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

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ExecError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| ExecError::new(doing, error))
}
