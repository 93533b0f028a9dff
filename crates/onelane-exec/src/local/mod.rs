//! This machine: each attempt under its own shim and guard.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use onelane_core::{JobId, StopReason};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::files::{sync_folder, write_durably};
use crate::layout::JobPaths;
use crate::record::{
    ExitRecord, LogCounts, Outcome, PROTOCOL, ProcessRecord, ShimRecord, StartMessage, StatusLine,
    StopRecord, ToolUsage,
};
use crate::{
    AttemptId, ExecError, Executor, Found, Launch, LaunchContent, LaunchFile, Running, Verdict,
};

mod channel;
mod guard;
mod process;
mod progress;
mod shim;
mod tree;

pub use progress::appended;
pub use shim::shim_main;

/// Runs attempts on this machine.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    jobs: Arc<Path>,
    uploads: Arc<Path>,
    instance: Arc<str>,
}

impl LocalExecutor {
    /// For the data folder with this id.
    pub fn new(jobs: &Path, uploads: &Path, instance: &str) -> Self {
        Self {
            jobs: jobs.into(),
            uploads: uploads.into(),
            instance: instance.into(),
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

    async fn spawn(&self, launch: &Launch) -> io::Result<Option<StatusLine>> {
        // The magic link names this very program, also when an upgrade has replaced the file.
        let mut child = Command::new("/proc/self/exe")
            .arg("shim")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let status = self.converse(&mut child, launch).await;
        // Only so that no zombie stays: how the attempt ended is never taken from here.
        tokio::spawn(async move { child.wait().await });
        status
    }

    async fn converse(&self, child: &mut Child, launch: &Launch) -> io::Result<Option<StatusLine>> {
        let mut line = serde_json::to_vec(&self.start_message(launch))?;
        line.push(b'\n');
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&line).await?;
        }
        let Some(stdout) = child.stdout.take() else {
            return Ok(None);
        };
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer).ok())
    }

    fn start_message(&self, launch: &Launch) -> StartMessage {
        StartMessage {
            protocol: PROTOCOL,
            job: launch.id.job,
            attempt: launch.id.attempt,
            folder: self.folder(launch.id),
            instance: self.instance.to_string(),
            command: launch.command.clone(),
            version_command: launch.version_command.clone(),
            env: launch.env.clone(),
            stdin: launch.stdin.clone(),
            workdir: launch.workdir.clone(),
            grace_ms: launch.grace_ms,
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
        if !self.lay_out(&launch).await? {
            return self.recover(launch.id).await;
        }
        let status = self
            .spawn(&launch)
            .await
            .map_err(|error| ExecError::new("start the shim", error))?;
        match status {
            Some(StatusLine::Started {
                started_at,
                tool_version,
            }) => match self.living_shim(launch.id) {
                Some(record) => Ok(Found::Running(Running {
                    shim: record.shim,
                    started_at,
                    tool_version,
                })),
                None => self.recover(launch.id).await,
            },
            Some(StatusLine::Failed { message }) => {
                tracing::warn!(job = %launch.id.job, attempt = launch.id.attempt, message, "a shim could not begin");
                self.watch(launch.id).await.map(Found::Over)
            }
            None => self.watch(launch.id).await.map(Found::Over),
        }
    }

    async fn recover(&self, id: AttemptId) -> Result<Found, ExecError> {
        if !self.folder(id).join("attempt.lock").exists() {
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
            (None, Some(record)) => Ok(Found::Running(running_of(&self.folder(id), record))),
            // Held, but not yet written down: the shim is in its first milliseconds, or belongs to another folder.
            (None, None) => self.wait_for_record(id).await,
        }
    }

    async fn watch(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        if let Some(record) = self.living_shim(id) {
            until_gone(&record.shim)
                .await
                .map_err(|error| ExecError::new("watch the shim", error))?;
        }
        let folder = self.folder(id);
        // The kernel wakes us when the last of the pair lets go.
        let lock = blocking("wait for the attempt's lock", move || wait_lock(&folder)).await?;
        self.conclude(id, lock).await
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
}

impl LocalExecutor {
    /// Decides about an attempt whose lock is in our hands.
    async fn conclude(&self, id: AttemptId, lock: File) -> Result<Verdict, ExecError> {
        let this = self.clone();
        blocking("conclude the attempt", move || this.conclude_now(id, &lock)).await
    }

    fn conclude_now(&self, id: AttemptId, _held: &File) -> io::Result<Verdict> {
        let folder = self.folder(id);
        if let Some(record) = read_json::<ExitRecord>(&folder.join("exit.json")) {
            return Ok(Verdict::Exited(Box::new(record)));
        }
        let Some(record) = read_json::<ShimRecord>(&folder.join("shim.json")) else {
            // `shim.json` comes before the tool, and no later shim gets past the lock and this record.
            let why = "its shim ended before it started the tool";
            write_interrupted(&folder, id, Vec::new(), why, "never_started")?;
            return Ok(Verdict::NeverStarted {
                why: why.to_owned(),
            });
        };
        if record.shim.boot_id != process::boot_id()? {
            let exit = write_interrupted(
                &folder,
                id,
                record.command,
                "the machine was restarted",
                "other_boot",
            )?;
            return Ok(Verdict::Exited(Box::new(exit)));
        }
        Ok(Self::both_killed(id))
    }

    /// Shim and guard were both killed within this boot. The tool itself died with the guard; what it had left behind
    /// can be looked for, but finding nothing proves nothing.
    fn both_killed(id: AttemptId) -> Verdict {
        let seen = marked(id);
        for pid in &seen {
            tree::send(*pid, nix::sys::signal::Signal::SIGKILL);
        }
        Verdict::Stuck {
            why: format!(
                "both supervisors of attempt {} were killed, so that nobody saw its processes end ({} were found and killed); \
                 it counts as running until the machine is restarted",
                id.attempt,
                seen.len()
            ),
        }
    }

    async fn wait_for_record(&self, id: AttemptId) -> Result<Found, ExecError> {
        let folder = self.folder(id);
        let appeared = progress::file_appears(&folder, "shim.json");
        tokio::select! {
            seen = appeared => {
                seen.map_err(|error| ExecError::new("watch the attempt's folder", error))?;
                match self.living_shim(id) {
                    Some(record) => Ok(Found::Running(running_of(&folder, record))),
                    None => Ok(Found::Over(Verdict::Stuck { why: foreign(&folder) })),
                }
            }
            verdict = self.watch(id) => verdict.map(Found::Over),
        }
    }

    fn stop_now(&self, id: AttemptId, reason: StopReason, grace_ms: u64) -> io::Result<()> {
        let folder = self.folder(id);
        if !folder.join("attempt.lock").exists() || folder.join("exit.json").exists() {
            return Ok(());
        }
        if !folder.join("stop.json").exists() {
            let stop = StopRecord {
                reason,
                at: process::now(),
                grace_ms,
            };
            write_durably(
                &folder.join("stop.json"),
                &serde_json::to_vec_pretty(&stop)?,
            )?;
        }
        let Some(record) = self.living_shim(id) else {
            return Ok(());
        };
        signal_verified(&record.shim)
    }
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

fn lay_out(paths: &JobPaths, uploads: &Path, launch: &Launch) -> io::Result<bool> {
    fs::create_dir_all(paths.input())?;
    write_durably(
        &paths.job.join("job.json"),
        &serde_json::to_vec_pretty(&launch.story)?,
    )?;
    for file in &launch.files {
        bring(file, uploads, &paths.input())?;
    }
    forget_uploads(&launch.files, uploads);
    let attempts = paths.job.join("attempts");
    fs::create_dir_all(&attempts)?;
    let folder = paths.attempt(launch.id.attempt);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        other => other?,
    }
    for name in ["work", "output"] {
        fs::create_dir(folder.join(name))?;
    }
    for name in ["progress", "attempt.lock"] {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(folder.join(name))?;
    }
    sync_folder(&folder)?;
    sync_folder(&attempts)?;
    Ok(true)
}

/// Puts an input in place; an earlier attempt may have done so already.
fn bring(file: &LaunchFile, uploads: &Path, input: &Path) -> io::Result<()> {
    let target = input.join(&file.file);
    if target.exists() {
        return Ok(());
    }
    match &file.content {
        LaunchContent::Inline(text) => write_durably(&target, text.as_bytes()),
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

fn open_lock(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.join("attempt.lock"))
}

fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    let lock = open_lock(folder)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn wait_lock(folder: &Path) -> io::Result<File> {
    let lock = open_lock(folder)?;
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

fn running_of(folder: &Path, record: ShimRecord) -> Running {
    // An adopted attempt's own start time comes with `exit.json`; until then the record's time is near enough.
    let written = fs::metadata(folder.join("shim.json"))
        .and_then(|file| file.modified())
        .ok();
    let millis = written
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    let started_at = onelane_core::Timestamp::from_millis(i64::try_from(millis).unwrap_or(0));
    Running {
        shim: record.shim,
        started_at,
        tool_version: None,
    }
}

fn write_interrupted(
    folder: &Path,
    id: AttemptId,
    command: Vec<String>,
    why: &str,
    proof: &str,
) -> io::Result<ExitRecord> {
    let record = ExitRecord {
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
        tool_version: None,
        command,
        logs: LogCounts::default(),
        trouble: None,
    };
    write_durably(
        &folder.join("exit.json"),
        &serde_json::to_vec_pretty(&record)?,
    )?;
    Ok(record)
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
