//! The attempt that a worker has: how it begins, how it reaches the worker, and how it is asked to stop.
//!
//! Its rules are those of any other: its lock is taken (never made), its folder looked at, `shim.json` written, `stop.json`
//! looked for once more; shim and guard hold the lock until `exit.json` is there. A wish to stop is seen by inotify(7), as a
//! signal would not say which attempt it means.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, WatchDescriptor};
use onelane_core::{Limits, StopReason, Timestamp};
use serde_json::{Value, json};

use super::progress::ProgressFile;
use super::{OWN_LOG_BYTES, WorkerShim};
use crate::fail_point;
use crate::local::cgroup::AttemptGroups;
use crate::local::limits::Limiter;
use crate::local::process::{self, now, tick};
use crate::local::shim;
use crate::record::{AttemptMessage, FromWorker, PROTOCOL, ShimRecord, ToGuard};

/// The attempt that the worker has.
pub(super) struct Current {
    pub message: AttemptMessage,
    pub lock: File,
    pub watch: WatchDescriptor,
    pub started_at: Timestamp,
    pub since: Instant,
    pub limiter: Limiter,
    pub cpu_before: f64,
    /// The guard holds the lock, too.
    pub guarded: bool,
    /// The worker has got it.
    pub sent: bool,
    pub stop: Option<Stopping>,
    pub fault: Option<Fault>,
    pub results: Vec<String>,
    pub progress: ProgressFile,
}

pub(super) struct Stopping {
    pub reason: StopReason,
    pub deadline: Instant,
    pub killed: bool,
}

/// The worker has broken the protocol.
pub(super) struct Fault {
    pub sentence: String,
    /// Its end does not say more.
    pub says_all: bool,
    pub deadline: Instant,
    pub told: bool,
}

impl WorkerShim {
    /// Nothing is begun when this can't be done; the server hears why.
    pub(super) fn take_attempt(&mut self, attempt: AttemptMessage) -> io::Result<()> {
        let another = self.current.is_some() || self.leaving.is_some();
        let refused = if another {
            Some(io::Error::other("the worker can't take a job now"))
        } else {
            self.begin(attempt).err()
        };
        let Some(error) = refused else { return Ok(()) };
        if !another {
            self.logs.turn_to(&self.message.folder, OWN_LOG_BYTES)?;
        }
        self.tell(&FromWorker::Refused {
            message: error.to_string(),
            os_error: error.raw_os_error(),
            another,
        });
        Ok(())
    }

    fn begin(&mut self, message: AttemptMessage) -> io::Result<()> {
        let folder = message.place.folder.clone();
        fail_point("worker.before_lock");
        let lock = shim::take_lock(&folder.join("attempt.lock"))?;
        fail_point("worker.after_lock");
        if folder.join("exit.json").exists() || folder.join("stop.json").exists() {
            return Err(io::Error::other("it was stopped before it began"));
        }
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let watch = self.notices.add_watch(&folder, flags)?;
        // Before there is a record: whichever supervisor is killed from here on, the other has the lock. If the guard
        // is gone, its end of the channel says so next.
        let begin = ToGuard::Begin(message.place.clone());
        self.guard.send_with(&begin, &lock).ok();
        if let Err(error) = self.record(&message, &lock) {
            self.guard.send(&ToGuard::Over).ok();
            self.notices.rm_watch(watch).ok();
            return Err(error);
        }
        fail_point("worker.after_record");
        let (own, limits) = (AttemptGroups::default(), of_one_job(&message.limits));
        self.current = Some(Current {
            limiter: Limiter::new(&limits, &own, &folder),
            message,
            lock,
            watch,
            started_at: now(),
            since: tick(),
            cpu_before: 0.0,
            guarded: false,
            sent: false,
            stop: None,
            fault: None,
            results: Vec::new(),
            progress: ProgressFile::default(),
        });
        self.start();
        Ok(())
    }

    fn record(&mut self, message: &AttemptMessage, lock: &File) -> io::Result<()> {
        let folder = &message.place.folder;
        self.logs.turn_to(folder, message.limits.log_bytes())?;
        self.write_shim_record(message, lock)
    }

    fn write_shim_record(&self, message: &AttemptMessage, lock: &File) -> io::Result<()> {
        let lock = lock.metadata()?;
        let record = ShimRecord {
            protocol: PROTOCOL,
            job: message.place.id.job,
            attempt: message.place.id.attempt,
            instance: self.message.instance.clone(),
            shim: self.record.shim.clone(),
            guard: self.record.guard.clone(),
            lock_device: lock.dev(),
            lock_inode: lock.ino(),
            command: message.place.command.clone(),
            worker: Some(self.worker.id.clone()),
            level: self.message.level,
            groups: self.groups.clone(),
        };
        shim::write_shim_record(&record, &message.place.folder)
    }

    pub(super) fn guarded(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.guarded = true;
        let started = FromWorker::Started {
            started_at: current.started_at,
            tool_version: self.version.clone(),
        };
        self.tell(&started);
        fail_point("worker.after_started");
        self.look_for_stop();
        self.give();
    }

    /// The attempt goes to the worker, once both are ready.
    pub(super) fn give(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if !self.ready || !current.guarded || current.sent || current.stop.is_some() {
            return;
        }
        process::forget_peaks(self.record.guard.pid);
        (current.cpu_before, _) = process::used_by_family(self.record.guard.pid);
        current.sent = true;
        current.since = tick();
        let mut run = current.message.run.clone();
        run.insert("type".to_owned(), Value::from("run"));
        self.say(&Value::Object(run));
        fail_point("worker.after_run");
    }

    pub(super) fn look_for_stop(&mut self) {
        while self.notices.read_events().is_ok() {}
        let Some(current) = &self.current else { return };
        if current.stop.is_none()
            && current.guarded
            && let Some((reason, grace_ms)) = shim::wish_in(&current.message.place.folder)
        {
            self.ask_to_stop(reason, grace_ms);
        }
    }

    /// A worker that has not got the job yet can't answer for it: it is loading, or hangs. It goes at once.
    pub(super) fn ask_to_stop(&mut self, reason: StopReason, grace_ms: u64) {
        let Some(current) = &mut self.current else {
            return;
        };
        let patience = if current.sent { grace_ms } else { 0 };
        current.stop = Some(Stopping {
            reason,
            deadline: tick() + Duration::from_millis(patience),
            killed: false,
        });
        if current.sent {
            self.say(&json!({"type": "cancel", "reason": reason, "grace_ms": grace_ms}));
        }
    }
}

/// The limits that are a job's own; memory and processes are the worker's.
fn of_one_job(limits: &Limits) -> Limits {
    Limits {
        memory_bytes: None,
        processes: None,
        ..*limits
    }
}
