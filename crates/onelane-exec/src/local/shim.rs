//! The shim: holds the attempt's lock, drains the logs, and writes down how it ended.
//!
//! Order of steps: take the lock (never make it) → look under it → fork the guard (a spare shim has one, and hands it
//! the lock) → write `shim.json` → look for a stop
//! once more → let the guard start the tool. The server writes `stop.json` before it looks for `shim.json`, the shim
//! writes `shim.json` before it looks for `stop.json`: one of them always sees the other.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, fork, setsid};
use onelane_core::{CpuPriority, Limits};
use rustix::fs::{FlockOperation, flock};

use super::cgroup::AttemptGroups;
use super::channel::Channel;
use super::guard::GuardChannel;
use super::logs::Logs;
use super::{guard, namespace, process, tree, worker};
use crate::fail_point;
use crate::files::{reserve, sync_tree, sync_way, write_whole};
use crate::level::Level;
use crate::record::{
    ExitRecord, FromGuard, GuardReport, LogCounts, Outcome, PROTOCOL, Place, ShimOrder, ShimRecord,
    SpareMessage, StartMessage, StatusLine, StopRecord, Subject, ToGuard, ToolUsage,
    spare_group_name,
};

/// The file that says that processes don't die.
pub(crate) const UNKILLABLE: &str = "unkillable";
/// Room kept for `exit.json`, in bytes.
pub(crate) const EXIT_BYTES: u64 = 16 * 1024;
/// A start message is small: parameters are files by now.
const MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// Runs a shim: reads its start message from standard input, and comes back when the attempt is over.
///
/// `trial` is a word instead, for the server's own checks of this machine: `--wait` waits for the end of standard
/// input, `--namespace` makes a pid namespace and says by its exit code whether that works.
pub fn shim_main(trial: Option<&str>) -> ExitCode {
    match trial {
        Some("--wait") => {
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            return ExitCode::SUCCESS;
        }
        Some("--namespace") => return ExitCode::from(u8::from(namespace::try_out().is_err())),
        _ => {}
    }
    match become_shim() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell_server(&StatusLine::Failed {
                message: error.to_string(),
                os_error: error.raw_os_error(),
            });
            ExitCode::FAILURE
        }
    }
}

fn become_shim() -> io::Result<()> {
    close_inherited()?;
    let order = read_order()?;
    // A session of its own: no terminal's interrupt and no logout reaches it.
    setsid().ok();
    std::env::set_current_dir("/")?;
    prctl::set_child_subreaper(true)?;
    block_signals()?;
    let (message, pair) = match order {
        Some(ShimOrder::Start(message)) => (*message, None),
        Some(ShimOrder::Spare(spare)) => {
            let pair = fork_spare(&spare)?;
            match read_order()? {
                Some(ShimOrder::Start(message)) => (*message, Some(pair)),
                // The server has ended.
                _ => return send_away(pair),
            }
        }
        None => return Ok(()),
    };
    check(&message)?;
    fail_point("shim.before_lock");
    let lock = take_lock(&message.folder.join(message.subject.lock()))?;
    fail_point("shim.after_lock");
    if message.folder.join("exit.json").exists() || message.folder.join("stop.json").exists() {
        return Ok(());
    }
    match message.subject.clone() {
        Subject::Attempt(_) => run_attempt(message, &lock, pair),
        Subject::Worker(worker) => worker::run(message, worker),
    }
}

/// The server's next order; nothing when it has ended.
fn read_order() -> io::Result<Option<ShimOrder>> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .take(MESSAGE_BYTES)
        .read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

fn check(message: &StartMessage) -> io::Result<()> {
    // The server has made the folder and its lock.
    let lock = message.folder.join(message.subject.lock());
    if message.protocol == PROTOCOL && lock.is_file() {
        Ok(())
    } else {
        Err(io::Error::other(
            "the start message is of another protocol version, or names no attempt",
        ))
    }
}

/// Whoever started the server may have left files open. A pipe that a shim held would keep its reader waiting for as
/// long as the job runs.
#[expect(unsafe_code, reason = "closing what others opened has no safe wrapper")]
fn close_inherited() -> io::Result<()> {
    use nix::libc;
    // The system call itself: the C library has a name for it only since 2.34, and older ones are to be served too.
    // SAFETY: a shim begins here; it has opened nothing above standard error yet.
    if unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    // A kernel before 5.9. The list is whole before anything is closed, its own folder's descriptor among it.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // SAFETY: as above; closing the list's own, which is closed by now, does nothing.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

fn block_signals() -> io::Result<()> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGPIPE,
    ] {
        set.add(signal);
    }
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?)
}

/// Deaths of children, as a descriptor.
pub(crate) fn child_signals() -> io::Result<SignalFd> {
    signals(&[Signal::SIGCHLD])
}

fn signals(wanted: &[Signal]) -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in wanted {
        set.add(*signal);
    }
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Opens the lock without making it, and takes it: whoever holds it decides about the attempt.
pub(super) fn take_lock(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().read(true).write(true).open(path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("somebody else holds its lock"))?;
    Ok(lock)
}

fn run_attempt(message: StartMessage, lock: &File, spare: Option<Pair>) -> io::Result<()> {
    let Some(place) = message.place() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    reserve(&message.folder.join("exit.json"), EXIT_BYTES)?;
    let pair = match spare {
        Some(mut pair) => {
            // It was forked before there was a lock: it gets the same one, and not another on the same file. If it is
            // gone, its end of the channel says so next.
            let take = ToGuard::Take(Box::new(message.clone()));
            pair.guard.send_with(&take, lock).ok();
            pair
        }
        None => fork_pair(&message)?,
    };
    let logs = Logs::open(&message.folder, message.limits.log_bytes(), pair.pipes)?;
    write_shim_record(
        &ShimRecord {
            protocol: PROTOCOL,
            job: place.id.job,
            attempt: place.id.attempt,
            instance: message.instance.clone(),
            shim: process::describe(std::process::id())?,
            guard: process::describe(pair.guard_pid)?,
            lock_device: lock.metadata()?.dev(),
            lock_inode: lock.metadata()?.ino(),
            command: message.command.clone(),
            worker: None,
            level: message.level,
            groups: pair.groups.clone(),
        },
        &message.folder,
    )?;
    fail_point("shim.after_record");
    Shim {
        message,
        place,
        groups: pair.groups,
        guard: pair.guard,
        signals: pair.signals,
        logs,
        told_server: false,
    }
    .run()
}

/// Nothing has come for a spare pair. Whoever waits for this process finds nothing left of it.
fn send_away(pair: Pair) -> io::Result<()> {
    drop(pair.guard);
    let guard = nix::unistd::Pid::from_raw(pair.guard_pid.cast_signed());
    nix::sys::wait::waitpid(guard, None)?;
    Ok(())
}

/// What a shim has of its guard.
pub(super) struct Pair {
    pub groups: AttemptGroups,
    pub guard: Channel<ToGuard, FromGuard>,
    pub guard_pid: u32,
    pub signals: SignalFd,
    /// Where the tool's standard output and standard error arrive.
    pub pipes: (io::PipeReader, io::PipeReader),
}

/// Makes the groups, and the guard, who waits for a word before it starts anything. Comes back in the shim only.
pub(super) fn fork_pair(message: &StartMessage) -> io::Result<Pair> {
    let groups = make_groups(message)?;
    fork_with(message.level, groups, |groups, channel, logs| {
        guard::run(message.clone(), groups, channel, logs)
    })
}

/// As [`fork_pair`], for an attempt that is not known yet; its tool's process is there, too, and waits.
fn fork_spare(spare: &SpareMessage) -> io::Result<Pair> {
    if spare.protocol != PROTOCOL {
        return Err(io::Error::other("the order is of another protocol version"));
    }
    let name = spare_group_name(&process::describe(std::process::id())?);
    let groups = spare.groups.as_ref().map_or_else(
        || Ok(AttemptGroups::default()),
        |groups| groups.make(&name, CpuPriority::Idle, &Limits::default()),
    )?;
    fork_with(spare.level, groups, guard::run_spare)
}

fn fork_with(
    level: Level,
    groups: AttemptGroups,
    run: impl FnOnce(AttemptGroups, GuardChannel, (PipeWriter, PipeWriter)) -> io::Result<()>,
) -> io::Result<Pair> {
    let (ours, guards) = UnixStream::pair()?;
    let (stdout, stderr) = (io::pipe()?, io::pipe()?);
    let signals = signals(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ])?;
    let guard_pid = match fork_guard(level)? {
        ForkResult::Child => {
            drop((ours, stdout.0, stderr.0, signals));
            let logs = (stdout.1, stderr.1);
            leave_forked_child(&run(groups, Channel::new(guards), logs))
        }
        ForkResult::Parent { child } => child.as_raw().unsigned_abs(),
    };
    fail_point("shim.after_fork");
    Ok(Pair {
        groups,
        guard: Channel::new(ours),
        guard_pid,
        signals,
        pipes: (stdout.0, stderr.0),
    })
}

fn make_groups(message: &StartMessage) -> io::Result<AttemptGroups> {
    message.groups.as_ref().map_or_else(
        || Ok(AttemptGroups::default()),
        |groups| groups.make(&message.group_name(), message.cpu_priority, &message.limits),
    )
}

#[expect(
    unsafe_code,
    reason = "the shim is single-threaded here, so the child may go on in Rust"
)]
fn fork_guard(level: Level) -> io::Result<ForkResult> {
    if level == Level::Namespace {
        return namespace::fork_into();
    }
    // SAFETY: no other thread exists in a shim, so no lock can be held by one.
    Ok(unsafe { fork() }?)
}

/// The forked child must not run the rest of `main`.
#[expect(
    clippy::disallowed_methods,
    reason = "the guard is a fork: returning would run the shim's own code twice"
)]
pub(crate) fn leave_forked_child(ended: &io::Result<()>) -> ! {
    std::process::exit(i32::from(ended.is_err()))
}

pub(super) fn write_shim_record(record: &ShimRecord, folder: &Path) -> io::Result<()> {
    // In another boot all that it would prove is proved by that.
    write_whole(
        &folder.join("shim.json"),
        &serde_json::to_vec_pretty(record)?,
    )
}

struct Shim {
    message: StartMessage,
    place: Place,
    groups: AttemptGroups,
    guard: Channel<ToGuard, FromGuard>,
    signals: SignalFd,
    logs: Logs,
    told_server: bool,
}

impl Shim {
    fn run(mut self) -> io::Result<()> {
        // A stop that came before `shim.json` was there could not be signalled.
        if self.message.folder.join("stop.json").exists() {
            let report = self.stopped_in_time();
            // Closing the channel sends the guard away.
            self.groups.remove();
            return write_exit(&self.place, report, self.logs.finish(), "never_started");
        }
        // If the guard is gone already, its end of the channel says so next.
        self.guard.send(&ToGuard::Go).ok();
        fail_point("shim.after_go");
        let report = self.watch();
        fail_point("shim.after_report");
        let report = report.unwrap_or_else(|| self.guard_was_killed());
        let counts = self.logs.finish();
        self.groups.remove();
        write_exit(&self.place, report, counts, "echild")
    }

    /// Until the guard reports the end; nothing when the guard itself is gone.
    fn watch(&mut self) -> Option<GuardReport> {
        loop {
            let ready = self.wait();
            self.logs.drain(ready.stdout, ready.stderr);
            if ready.signals {
                self.take_signals();
            }
            if ready.guard {
                let arrived = self.guard.receive();
                for message in arrived.messages {
                    match message {
                        FromGuard::Started {
                            started_at,
                            tool_version,
                        } => {
                            self.tell(&StatusLine::Started {
                                started_at,
                                tool_version,
                            });
                        }
                        FromGuard::Unkillable { count } => {
                            write_unkillable(&self.message.folder, count);
                        }
                        FromGuard::Began => {}
                        FromGuard::Ended(report) => return Some(report),
                    }
                }
                if arrived.closed {
                    return None;
                }
            }
        }
    }

    fn wait(&self) -> Ready {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.guard.as_fd(), PollFlags::POLLIN),
        ];
        let pipes = self.logs.pipes();
        fds.extend(
            pipes
                .iter()
                .flatten()
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
        );
        poll(&mut fds, PollTimeout::NONE).ok();
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = |is_there: bool| is_there && ready.next().unwrap_or(false);
        Ready {
            signals: next(true),
            guard: next(true),
            stdout: next(pipes[0].is_some()),
            stderr: next(pipes[1].is_some()),
        }
    }

    fn take_signals(&mut self) {
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            stop |= signal.ssi_signo == Signal::SIGTERM as u32;
        }
        if stop {
            let (reason, grace_ms) = self.wish();
            // If the guard is gone, its end of the channel says so next.
            self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
        }
    }

    /// A signal without `stop.json` comes from the machine going down.
    fn wish(&self) -> (onelane_core::StopReason, u64) {
        let shutdown = (onelane_core::StopReason::Shutdown, self.message.grace_ms);
        wish_in(&self.message.folder).unwrap_or(shutdown)
    }

    fn tell(&mut self, status: &StatusLine) {
        if !self.told_server {
            tell_server(status);
            self.told_server = true;
        }
    }

    fn stopped_in_time(&self) -> GuardReport {
        GuardReport::stopped_in_time(self.wish().0)
    }

    /// The guard's children are the shim's now: end them all, and write down what is known.
    fn guard_was_killed(&self) -> GuardReport {
        let complain = |count| write_unkillable(&self.message.folder, count);
        let ended = tree::end_tree(&self.signals, &self.groups, complain);
        GuardReport {
            leftovers_killed: ended.killed,
            ..GuardReport::interrupted("the attempt's guard was killed".to_owned())
        }
    }
}

/// What `stop.json` says, if it says anything.
pub(super) fn wish_in(folder: &Path) -> Option<(onelane_core::StopReason, u64)> {
    let text = std::fs::read(folder.join("stop.json")).ok()?;
    let stop: StopRecord = serde_json::from_slice(&text).ok()?;
    Some((stop.reason, stop.grace_ms))
}

/// Tells the server, if one is there, why the attempt does not end.
pub(super) fn write_unkillable(folder: &Path, count: u32) {
    let text = format!(
        "{count} processes do not die although they were killed; a disk or a device may not answer"
    );
    // Moved into place, so that nobody reads half of it. Nothing depends on it.
    let temporary = folder.join("unkillable.tmp");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, folder.join(UNKILLABLE)))
        .ok();
}

impl GuardReport {
    /// The wish to stop was there before the tool.
    pub(super) fn stopped_in_time(reason: onelane_core::StopReason) -> Self {
        Self {
            stopped: Some(reason),
            ..Self::interrupted("it was stopped before its tool started".to_owned())
        }
    }

    /// Nobody has seen how the tool ended.
    pub(super) fn interrupted(message: String) -> Self {
        Self {
            outcome: Outcome::Interrupted { message },
            stopped: None,
            started_at: None,
            finished_at: process::now(),
            usage: ToolUsage::default(),
            leftovers_killed: 0,
            tool_version: None,
        }
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "four descriptors, each ready or not"
)]
struct Ready {
    signals: bool,
    guard: bool,
    stdout: bool,
    stderr: bool,
}

/// One line for the server, if it is still there to read it.
pub(super) fn tell_server(status: &StatusLine) {
    let Ok(line) = serde_json::to_string(status) else {
        return;
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Takes the server's own settings out of a tool's environment.
pub(crate) fn hide_settings(command: &mut Command) {
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ONELANE_"))
    {
        command.env_remove(name);
    }
}

/// Syncs what a success stands on, then writes `exit.json`.
pub(crate) fn write_exit(
    place: &Place,
    report: GuardReport,
    logs: LogCounts,
    proof: &str,
) -> io::Result<()> {
    let synced = sync_results(&place.folder);
    fail_point("shim.before_exit_record");
    let record = ExitRecord {
        protocol: PROTOCOL,
        job: place.id.job,
        attempt: place.id.attempt,
        outcome: report.outcome,
        stopped: report.stopped,
        started_at: report.started_at,
        finished_at: report.finished_at,
        usage: report.usage,
        leftovers_killed: report.leftovers_killed,
        proof: proof.to_owned(),
        level: place.level,
        tool_version: report.tool_version,
        command: place.command.clone(),
        logs,
        trouble: synced
            .err()
            .map(|error| format!("the results could not be synced: {error}")),
    };
    // Not synced here: the end is durable when the store has it. Whoever commits it syncs this afterwards.
    write_whole(
        &place.folder.join("exit.json"),
        &serde_json::to_vec_pretty(&record)?,
    )
}

/// Syncs results, and every name on the way to them; all at once, so that a journal is written once and not for each.
fn sync_results(attempt: &Path) -> io::Result<()> {
    let output = attempt.join("output");
    if std::fs::read_dir(&output)?.next().is_none() {
        return Ok(());
    }
    sync_tree(&output)?;
    sync_way(attempt)
}
