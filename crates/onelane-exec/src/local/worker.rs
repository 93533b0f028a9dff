//! A warm worker's shim: gives the worker its attempts, and writes down how each ended.
//!
//! An attempt's rules are those of any other: its lock is taken (never made), its folder looked at, `shim.json` written,
//! `stop.json` looked for once more; shim and guard hold the lock until `exit.json` is there. A wish to stop is seen by
//! inotify(7), as a signal would not say which attempt it means. The protocol to the worker is in docs/warm-workers.md.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::signal::Signal;
use onelane_core::{Limits, StopReason, Timestamp};
use serde_json::{Value, json};

use super::cgroup::AttemptGroups;
use super::channel::Channel;
use super::limits::{Breach, Limiter};
use super::logs::Logs;
use super::peer::Peer;
use super::process::{self, now, tick};
use super::shim::{self, Pair};
use super::tree;
use crate::fail_point;
use crate::files::write_whole;
use crate::record::{
    AttemptMessage, FromGuard, FromWorker, GuardReport, Outcome, PROTOCOL, ShimRecord,
    StartMessage, StatusLine, ToGuard, ToWorker, ToolUsage, WorkerMessage, WorkerRecord,
};

/// Where the server reaches the shim, in the worker's folder.
pub(crate) const CONTROL: &str = "control.sock";
/// Who looks after the worker.
pub(crate) const RECORD: &str = "worker.json";
/// How long an idle worker waits for a server.
const ALONE: Duration = Duration::from_secs(30);
/// An idle worker is asked this often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A worker that closes its socket may be about to end: its end says more.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Progress is written so often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// … and its message has so many characters at most.
const PROGRESS_CHARS: usize = 1_000;
/// What is kept of each of the worker's own logs, in bytes: what it says while no job runs.
const OWN_LOG_BYTES: u64 = 1 << 20;

/// Runs a worker to its end.
pub(super) fn run(message: StartMessage, worker: WorkerMessage) -> io::Result<()> {
    let pair = shim::fork_pair(&message)?;
    let record = WorkerRecord {
        protocol: PROTOCOL,
        instance: message.instance.clone(),
        worker: worker.clone(),
        shim: process::describe(std::process::id())?,
        guard: process::describe(pair.guard_pid)?,
        level: message.level,
        groups: pair.groups.clone(),
    };
    write_whole(
        &message.folder.join(RECORD),
        &serde_json::to_vec_pretty(&record)?,
    )?;
    // Made after the fork, so that nobody but the shim has them.
    let control = listen(&message.folder, CONTROL)?;
    let door = UnixListener::bind(&worker.socket)?;
    shim::tell_server(&StatusLine::Listening);
    let mut shim = WorkerShim::new(message, worker, record, pair, (control, door))?;
    let ended = shim.serve();
    fs::remove_file(&shim.worker.socket).ok();
    shim.groups.remove();
    ended
}

/// By way of the folder's descriptor: a socket's path may have no more than 107 bytes (unix(7)).
fn listen(folder: &Path, name: &str) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

struct WorkerShim {
    message: StartMessage,
    worker: WorkerMessage,
    record: WorkerRecord,
    groups: AttemptGroups,
    guard: Channel<ToGuard, FromGuard>,
    signals: nix::sys::signalfd::SignalFd,
    logs: Logs,
    /// Tells of a wish to stop in the running attempt's folder.
    notices: Inotify,
    control: UnixListener,
    /// Where the worker connects, once.
    door: UnixListener,
    server: Option<Channel<FromWorker, ToWorker>>,
    peer: Option<Peer>,
    /// The guard has the word to start it.
    started: bool,
    /// It has said hello.
    ready: bool,
    version: Option<String>,
    current: Option<Current>,
    jobs: u64,
    /// It was told to go: when patience ends.
    leaving: Option<Instant>,
    /// It goes when no attempt runs.
    unwanted: bool,
    /// Since when nothing runs.
    idle_since: Instant,
    /// Since when there is no server.
    alone_since: Instant,
    /// When a ping was sent that has no answer yet.
    pinged: Option<Instant>,
    last_heard: Instant,
}

/// The attempt that the worker has.
struct Current {
    message: AttemptMessage,
    lock: File,
    watch: WatchDescriptor,
    started_at: Timestamp,
    since: Instant,
    limiter: Limiter,
    cpu_before: f64,
    /// The guard holds the lock, too.
    guarded: bool,
    /// The worker has got it.
    sent: bool,
    stop: Option<Stopping>,
    fault: Option<Fault>,
    results: Vec<String>,
    progress: ProgressFile,
}

struct Stopping {
    reason: StopReason,
    deadline: Instant,
    killed: bool,
}

/// The worker has broken the protocol.
struct Fault {
    sentence: String,
    deadline: Instant,
    told: bool,
}

#[derive(Clone, Copy)]
enum Source {
    Signals,
    Guard,
    Notices,
    Control,
    Door,
    Server,
    Peer,
    Stdout,
    Stderr,
}

impl WorkerShim {
    fn new(
        message: StartMessage,
        worker: WorkerMessage,
        record: WorkerRecord,
        pair: Pair,
        (control, door): (UnixListener, UnixListener),
    ) -> io::Result<Self> {
        Ok(Self {
            logs: Logs::open(&message.folder, OWN_LOG_BYTES, pair.pipes)?,
            notices: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?,
            message,
            worker,
            record,
            groups: pair.groups,
            guard: pair.guard,
            signals: pair.signals,
            control,
            door,
            server: None,
            peer: None,
            started: false,
            ready: false,
            version: None,
            current: None,
            jobs: 0,
            leaving: None,
            unwanted: false,
            idle_since: tick(),
            alone_since: tick(),
            pinged: None,
            last_heard: tick(),
        })
    }

    /// Until the worker is gone, and its last attempt is written down.
    fn serve(&mut self) -> io::Result<()> {
        while self.started || !self.is_leaving() {
            for source in self.wait() {
                match source {
                    Source::Signals => self.take_signals(),
                    Source::Guard => {
                        if let Some(report) = self.hear_guard() {
                            return self.wind_up(report);
                        }
                    }
                    Source::Notices => self.look_for_stop(),
                    Source::Control => self.meet_server(),
                    Source::Door => self.meet_worker(),
                    Source::Server => self.hear_server()?,
                    Source::Peer => self.hear_worker()?,
                    Source::Stdout => self.logs.drain(true, false),
                    Source::Stderr => self.logs.drain(false, true),
                }
            }
            self.keep_time();
        }
        // It goes before it was ever started: the guard sees this end, and nothing is left.
        self.clear_up_alone();
        Ok(())
    }

    const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The worker is started with its first attempt, whose end it then is if it can't be, or when the server says so.
    fn start(&mut self) {
        if !self.started {
            self.started = true;
            // If the guard is gone already, its end of the channel says so next.
            self.guard.send(&ToGuard::Go).ok();
        }
    }

    fn wait(&self) -> Vec<Source> {
        let pipes = self.logs.pipes();
        let all = [
            (Source::Stdout, pipes[0].map(AsFd::as_fd)),
            (Source::Stderr, pipes[1].map(AsFd::as_fd)),
            (Source::Signals, Some(self.signals.as_fd())),
            (Source::Notices, Some(self.notices.as_fd())),
            (Source::Peer, self.peer.as_ref().map(AsFd::as_fd)),
            (Source::Server, self.server.as_ref().map(AsFd::as_fd)),
            (Source::Control, Some(self.control.as_fd())),
            (Source::Door, Some(self.door.as_fd())),
            // Last: what the worker has said before its end is heard first.
            (Source::Guard, Some(self.guard.as_fd())),
        ];
        let sends = self.peer.as_ref().is_some_and(Peer::has_more_to_send);
        let (sources, mut fds): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter_map(|(source, fd)| {
                let mut flags = PollFlags::POLLIN;
                flags.set(PollFlags::POLLOUT, matches!(source, Source::Peer) && sends);
                Some((source, PollFd::new(fd?, flags)))
            })
            .unzip();
        let timeout = self.next_moment().map_or(PollTimeout::NONE, |moment| {
            let left = moment.saturating_duration_since(tick()).as_millis();
            PollTimeout::try_from(left.min(60_000) + 1).unwrap_or(PollTimeout::ZERO)
        });
        poll(&mut fds, timeout).ok();
        let ready = sources.into_iter().zip(fds);
        ready
            .filter(|(_, fd)| fd.any().unwrap_or(false))
            .map(|(source, _)| source)
            .collect()
    }

    /// When to look again although nothing has happened.
    fn next_moment(&self) -> Option<Instant> {
        let current = self.current.as_ref();
        let stop = current.and_then(|current| current.stop.as_ref());
        let fault = current.and_then(|current| current.fault.as_ref());
        let moments = [
            current.and_then(|current| current.progress.next_moment()),
            stop.filter(|stop| !stop.killed).map(|stop| stop.deadline),
            fault
                .filter(|fault| !fault.told)
                .map(|fault| fault.deadline),
            // One that is being stopped has reached its limit: there is nothing more to look at.
            current
                .filter(|current| current.stop.is_none() && current.fault.is_none())
                .and_then(|current| current.limiter.next_check(current.since)),
            self.leaving,
            self.alone()
                .then(|| self.idle_since.max(self.alone_since) + ALONE),
            self.pings().then(|| {
                self.pinged
                    .map_or(self.last_heard + PING_EVERY, |at| at + self.grace())
            }),
        ];
        moments.into_iter().flatten().min()
    }

    const fn alone(&self) -> bool {
        self.current.is_none() && self.server.is_none() && self.leaving.is_none()
    }

    const fn pings(&self) -> bool {
        self.ready && self.current.is_none() && self.leaving.is_none()
    }

    const fn grace(&self) -> Duration {
        Duration::from_millis(self.message.grace_ms)
    }

    /// What is due.
    fn keep_time(&mut self) {
        let now = tick();
        self.keep_limits();
        if let Some(current) = &mut self.current {
            current
                .progress
                .write_if_due(&current.message.place.folder, now);
        }
        let grace = self.grace();
        if let Some(current) = &mut self.current {
            if let Some(stop) = &mut current.stop
                && !stop.killed
                && now >= stop.deadline
            {
                stop.killed = true;
                let (reason, grace_ms) = (stop.reason, 0);
                // If the guard is gone, its end of the channel says so next.
                self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
            }
            if let Some(fault) = &mut current.fault
                && !fault.told
                && now >= fault.deadline
            {
                fault.told = true;
                let (reason, grace_ms) = (StopReason::Shutdown, self.message.grace_ms);
                self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
            }
        }
        if self.leaving.is_some_and(|deadline| now >= deadline) {
            self.end_tree();
        }
        if self.alone() && now >= self.idle_since.max(self.alone_since) + ALONE {
            self.leave();
        }
        if self.pings() {
            match self.pinged {
                Some(at) if now >= at + grace => self.end_tree(),
                None if now >= self.last_heard + PING_EVERY => {
                    self.pinged = Some(now);
                    self.say(&json!({"type": "ping", "id": 1}));
                }
                _ => {}
            }
        }
    }

    /// A worker that does not go, or does not answer. Its end comes from the guard.
    fn end_tree(&mut self) {
        self.leaving = Some(tick() + Duration::from_hours(1));
        let (reason, grace_ms) = (StopReason::Shutdown, 0);
        self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
    }

    fn keep_limits(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.stop.is_some() || current.fault.is_some() {
            return;
        }
        let reason = match current.limiter.check(current.since) {
            Some(Breach::Time) => StopReason::Time,
            Some(Breach::Output) => StopReason::Output,
            _ => return,
        };
        let grace_ms = current.message.grace_ms;
        self.ask_to_stop(reason, grace_ms);
    }

    fn say(&mut self, message: &Value) {
        if let Some(peer) = &mut self.peer {
            peer.send(message);
        }
    }

    fn tell(&mut self, message: &FromWorker) {
        // A server that is gone is seen when it is listened to.
        if let Some(server) = &mut self.server {
            server.send(message).ok();
        }
    }

    fn take_signals(&mut self) {
        let mut down = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            down |= signal.ssi_signo == Signal::SIGTERM as u32;
        }
        self.look_for_stop();
        let wished = self
            .current
            .as_ref()
            .is_some_and(|current| current.stop.is_some());
        if down && !wished {
            // The machine goes down: what has a wish to stop of its own is ended by that.
            let (reason, grace_ms) = (StopReason::Shutdown, self.message.grace_ms);
            self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
        }
    }

    /// The guard's finding, when the worker is gone.
    fn hear_guard(&mut self) -> Option<GuardReport> {
        let arrived = self.guard.receive();
        for message in arrived.messages {
            match message {
                FromGuard::Started { tool_version, .. } => self.version = tool_version,
                FromGuard::Began => self.guarded(),
                FromGuard::Unkillable { count } => {
                    if let Some(current) = &self.current {
                        shim::write_unkillable(&current.message.place.folder, count);
                    }
                }
                FromGuard::Ended(report) => return Some(report),
            }
        }
        arrived.closed.then(|| {
            // Its children are ours now.
            let folder = self
                .current
                .as_ref()
                .map(|current| current.message.place.folder.clone());
            let ended = tree::end_tree(&self.signals, &self.groups, |count| {
                if let Some(folder) = &folder {
                    shim::write_unkillable(folder, count);
                }
            });
            GuardReport {
                leftovers_killed: ended.killed,
                ..GuardReport::interrupted("the worker's guard was killed".to_owned())
            }
        })
    }

    fn meet_server(&mut self) {
        let Ok((socket, _)) = self.control.accept() else {
            return;
        };
        // The newest one counts: an earlier one is gone, or will be.
        self.server = Some(Channel::new(socket));
        let running = self
            .current
            .as_ref()
            .map(|current| current.message.place.id);
        self.tell(&FromWorker::State { running });
    }

    fn hear_server(&mut self) -> io::Result<()> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let arrived = server.receive();
        if arrived.closed {
            self.server = None;
            self.alone_since = tick();
        }
        for message in arrived.messages {
            match message {
                ToWorker::Run(attempt) => self.take_attempt(*attempt)?,
                ToWorker::Warm => self.start(),
                ToWorker::End => {
                    self.unwanted = true;
                    self.leave_if_done();
                }
            }
        }
        Ok(())
    }

    fn meet_worker(&mut self) {
        let Ok((socket, _)) = self.door.accept() else {
            return;
        };
        // A second one, or a stranger, is hung up on.
        if self.peer.is_none() {
            self.peer = Peer::new(socket).ok();
        }
    }

    /// Nothing is begun when this can't be done; the server hears why.
    fn take_attempt(&mut self, attempt: AttemptMessage) -> io::Result<()> {
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

    fn guarded(&mut self) {
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
    fn give(&mut self) {
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

    fn look_for_stop(&mut self) {
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
    fn ask_to_stop(&mut self, reason: StopReason, grace_ms: u64) {
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

    fn hear_worker(&mut self) -> io::Result<()> {
        let Some(peer) = &mut self.peer else {
            return Ok(());
        };
        peer.flush();
        let heard = peer.hear();
        self.last_heard = tick();
        for line in heard.lines {
            self.obey(&line)?;
        }
        if let Some(fault) = heard.fault {
            self.peer = None;
            self.blame(format!("the worker {fault}"));
        }
        Ok(())
    }

    /// Its end may come next and say more; if it doesn't, it is made to.
    fn blame(&mut self, sentence: String) {
        match &mut self.current {
            Some(current) => {
                current.fault = Some(Fault {
                    sentence,
                    deadline: tick() + LAST_WORD,
                    told: false,
                });
            }
            None if self.leaving.is_none() => self.leaving = Some(tick() + LAST_WORD),
            None => {}
        }
    }

    fn obey(&mut self, line: &Value) -> io::Result<()> {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default();
        if kind == "hello" {
            self.greet(line);
            return Ok(());
        }
        if kind == "pong" {
            self.pinged = None;
            return Ok(());
        }
        // Late words about a job that is over are nobody's.
        let Some(current) = self.current.as_mut().filter(|current| current.sent) else {
            return Ok(());
        };
        match kind {
            "progress" => current.progress.note(&current.message.place.folder, line),
            "log" => {
                let added = text("text").unwrap_or_default().as_bytes();
                self.logs.add(text("stream") == Some("stderr"), added);
            }
            "result" => current.results.extend(text("file").map(str::to_owned)),
            "done" => return self.done(line.get("result")),
            "fail" => {
                let message = text("message").unwrap_or("the worker gave no reason");
                return self.finish(failed(message));
            }
            "cancelled" => {
                let message = "the worker says that it was cancelled, which nobody had asked for";
                return self.finish(failed(message));
            }
            _ => {}
        }
        Ok(())
    }

    fn greet(&mut self, line: &Value) {
        let protocol = line.get("protocol").and_then(Value::as_u64);
        if protocol != Some(1) {
            self.blame(
                "the worker speaks no version of the protocol that is known here (1)".to_owned(),
            );
            return;
        }
        self.ready = true;
        let version = line.get("version").and_then(Value::as_str);
        self.version = self.version.take().or_else(|| version.map(str::to_owned));
        self.give();
    }

    fn done(&mut self, result: Option<&Value>) -> io::Result<()> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let output = current.message.place.folder.join("output");
        let is_there = |file: &String| is_inside(file) && output.join(file).is_file();
        let missing = current.results.iter().find(|file| !is_there(file));
        if let Some(file) = missing {
            let message = format!(
                "the worker names a result `{file}` that is not in the job's output folder"
            );
            return self.finish(failed(&message));
        }
        if let Some(result) = result.filter(|result| !result.is_null()) {
            let written = serde_json::to_vec_pretty(result)
                .map_err(io::Error::from)
                .and_then(|text| fs::write(output.join("result.json"), text));
            if let Err(error) = written {
                return self.finish(failed(&format!(
                    "`result.json` could not be written: {error}"
                )));
            }
        }
        self.finish(Outcome::Exit { code: 0 })
    }

    /// The worker has ended the job, and lives on.
    fn finish(&mut self, outcome: Outcome) -> io::Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        fail_point("worker.after_done");
        let (cpu, peak) = process::used_by_family(self.record.guard.pid);
        let report = GuardReport {
            outcome,
            stopped: current.stop.as_ref().map(|stop| stop.reason),
            started_at: Some(current.started_at),
            finished_at: now(),
            usage: ToolUsage {
                wall_s: current.since.elapsed().as_secs_f64(),
                cpu_s: (cpu - current.cpu_before).max(0.0),
                memory_peak_bytes: peak,
            },
            leftovers_killed: 0,
            tool_version: self.version.clone(),
        };
        self.write_down(&mut current, report, "worker")?;
        // A kill that is on its way would meet the next job.
        let killed = current.stop.is_some_and(|stop| stop.killed) || current.fault.is_some();
        self.jobs += 1;
        self.idle_since = tick();
        self.unwanted |= killed || self.worker.max_jobs.is_some_and(|most| self.jobs >= most);
        self.tell(&FromWorker::Over {
            leaving: self.unwanted,
        });
        fail_point("worker.before_release");
        // Only now may somebody else look at the attempt.
        drop(current.lock);
        self.guard.send(&ToGuard::Over).ok();
        self.leave_if_done();
        Ok(())
    }

    fn write_down(
        &mut self,
        current: &mut Current,
        report: GuardReport,
        proof: &str,
    ) -> io::Result<()> {
        current.progress.write(&current.message.place.folder);
        let counts = self.logs.finish();
        self.notices.rm_watch(current.watch).ok();
        shim::write_exit(&current.message.place, report, counts, proof)?;
        let own = self.message.folder.join("stderr.log");
        if fs::metadata(&own).is_ok_and(|log| log.len() > OWN_LOG_BYTES) {
            fs::remove_file(own).ok();
        }
        self.logs.turn_to(&self.message.folder, OWN_LOG_BYTES)
    }

    fn leave_if_done(&mut self) {
        if self.unwanted && self.current.is_none() && self.leaving.is_none() {
            self.leave();
        }
    }

    /// Politely: a word, and the end of the socket.
    fn leave(&mut self) {
        self.say(&json!({"type": "bye"}));
        self.leaving = Some(tick() + self.grace());
        match self.peer.take() {
            Some(mut peer) => peer.close(),
            // It is loading, and hears nothing.
            None => self.end_tree(),
        }
    }

    /// The worker is gone with its whole tree.
    fn wind_up(&mut self, report: GuardReport) -> io::Result<()> {
        fail_point("worker.after_report");
        if let Some(mut current) = self.current.take() {
            let report = self.last_report(&current, report);
            self.write_down(&mut current, report, "echild")?;
            self.tell(&FromWorker::Over { leaving: true });
        }
        self.clear_up_alone();
        Ok(())
    }

    /// Without a server nobody else clears up.
    fn clear_up_alone(&self) {
        if self.server.is_none() {
            fs::remove_dir_all(&self.message.folder).ok();
        }
    }

    /// What the worker's end means for the job that it had.
    fn last_report(&self, current: &Current, mut report: GuardReport) -> GuardReport {
        report.usage.wall_s = current.since.elapsed().as_secs_f64();
        report.usage.cpu_s = (report.usage.cpu_s - current.cpu_before).max(0.0);
        report.started_at = Some(current.started_at);
        report.tool_version.clone_from(&self.version);
        if let Some(stop) = &current.stop {
            report.stopped = Some(stop.reason);
            return report;
        }
        if let Some(fault) = current.fault.as_ref().filter(|fault| fault.told) {
            report.outcome = failed(&fault.sentence);
            report.stopped = None;
            return report;
        }
        if report.stopped.is_some() {
            return report;
        }
        if self.ready && !current.sent {
            let why = "its worker ended just before it had the job";
            report.outcome = Outcome::Interrupted {
                message: why.to_owned(),
            };
            return report;
        }
        report.outcome = match report.outcome {
            ended @ (Outcome::Exit { .. } | Outcome::Signal { .. }) if !current.sent => {
                Outcome::StartFailed {
                    message: format!(
                        "its worker {} before it was ready; its stderr may say why",
                        words_for(&ended)
                    ),
                }
            }
            Outcome::Exit { code: 0 } => {
                failed("its worker ended with exit code 0 while the job ran")
            }
            other => other,
        };
        report
    }
}

fn words_for(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit { code } => format!("ended with exit code {code}"),
        Outcome::Signal { signal } => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
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

fn failed(message: &str) -> Outcome {
    Outcome::Failed {
        message: message.chars().take(2_000).collect(),
    }
}

fn is_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Progress, as a tool would write it into its file; so often and no more, however often the worker tells it.
#[derive(Default)]
struct ProgressFile {
    /// The newest line that is not written yet.
    pending: Option<String>,
    written: Option<Instant>,
}

impl ProgressFile {
    fn note(&mut self, folder: &Path, line: &Value) {
        let Some(fraction) = line.get("fraction").and_then(Value::as_f64) else {
            return;
        };
        let message = line
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let message = message.replace(['\n', '\r'], " ");
        let message: String = message.chars().take(PROGRESS_CHARS).collect();
        self.pending = Some(format!("{fraction} {message}\n"));
        self.write_if_due(folder, tick());
    }

    fn next_moment(&self) -> Option<Instant> {
        let written = self.written?;
        self.pending.as_ref().map(|_| written + PROGRESS_EVERY)
    }

    fn write_if_due(&mut self, folder: &Path, now: Instant) {
        let is_due = |written| now >= written + PROGRESS_EVERY;
        if self.pending.is_some() && self.written.is_none_or(is_due) {
            self.write(folder);
            self.written = Some(now);
        }
    }

    /// A courtesy: its errors end nothing.
    fn write(&mut self, folder: &Path) {
        let Some(line) = self.pending.take() else {
            return;
        };
        let mut options = fs::OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(folder.join("progress"));
        if let Ok(mut file) = file {
            file.write_all(line.as_bytes()).ok();
        }
    }
}
