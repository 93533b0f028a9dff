//! A warm worker's shim: gives the worker its attempts, and writes down how each ended.
//!
//! Here is what it holds, and whom it listens to until the worker is gone. What it does then is in the files beside.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::signal::Signal;
use onelane_core::StopReason;
use serde_json::Value;

use super::cgroup::AttemptGroups;
use super::channel::Channel;
use super::logs::Logs;
use super::peer::Peer;
use super::process::{self, tick};
use super::shim::{self, Pair};
use super::tree;
use crate::files::write_whole;
use crate::record::{
    FromGuard, FromWorker, GuardReport, PROTOCOL, StartMessage, StatusLine, ToGuard, ToWorker,
    WorkerMessage, WorkerRecord,
};

mod attempt;
mod due;
mod ending;
mod leaving;
mod progress;
mod words;

use attempt::Current;

/// Where the server reaches the shim, in the worker's folder.
pub(crate) const CONTROL: &str = "control.sock";
/// Who looks after the worker.
pub(crate) const RECORD: &str = "worker.json";
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

    const fn grace(&self) -> Duration {
        Duration::from_millis(self.message.grace_ms)
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
}
