//! The guard: the tool's parent. Single-threaded, a subreaper, and the one who sees `ECHILD`.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpid, getppid, setsid};
use onelane_core::{CpuPriority, StopReason, Timestamp};

use super::cgroup::AttemptGroups;
use super::channel::Channel;
use super::limits::{Breach, Limiter};
use super::process::{now, oom_kills, tick};
use super::shim::{self, child_signals};
use super::stub::Stub;
use super::tree::{self, Reaped};
use crate::fail_point;
use crate::record::{FromGuard, GuardReport, Outcome, Place, StartMessage, ToGuard, ToolUsage};

/// The shim's side of this is [`super::shim`].
pub(crate) type GuardChannel = Channel<FromGuard, ToGuard>;

/// How long a version command may take.
const VERSION_TIME: Duration = Duration::from_secs(10);
/// How much of its answer is read, in bytes.
const VERSION_BYTES: u64 = 4096;

struct Guard {
    message: StartMessage,
    /// The attempt that runs; for a warm worker there may be none.
    place: Option<Place>,
    /// The attempt's lock, held by shim and guard alike, where it came after the fork: a warm worker's or a spare
    /// guard's. Otherwise the fork has it.
    lock: Option<File>,
    /// The process that waits to become the tool.
    stub: Option<Stub>,
    groups: AttemptGroups,
    shim: GuardChannel,
    signals: SignalFd,
    limiter: Limiter,
    stop: Option<Stop>,
    shim_is_gone: bool,
}

/// The tool is being stopped.
struct Stop {
    /// The word for it, where there is one.
    reason: Option<StopReason>,
    /// The sentence for it, where there is no word.
    sentence: Option<String>,
    /// When politeness ends.
    deadline: Instant,
}

/// A tool that runs.
struct Tool {
    pid: u32,
    started_at: Timestamp,
    since: Instant,
    /// The machine's count of processes killed for want of memory, before this one was there.
    oom_kills_before: u64,
}

/// Runs the tool to its end. Called in the forked child; never comes back to the shim's code.
pub(crate) fn run(
    message: StartMessage,
    groups: AttemptGroups,
    shim: GuardChannel,
    logs: (PipeWriter, PipeWriter),
) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let signals = child_signals()?;
    let mut guard = Guard::new(message, groups, shim, signals);
    if !guard.wait_for_go() {
        return guard.write_unless_there(nothing_started(), "never_started");
    }
    guard.run(logs)
}

/// As [`run`], for an attempt that comes later, with a process that waits to become its tool.
pub(crate) fn run_spare(
    groups: AttemptGroups,
    mut shim: GuardChannel,
    logs: (PipeWriter, PipeWriter),
) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let signals = child_signals()?;
    // Without one the tool is started as any other.
    let stub = Stub::fork(&groups, &logs).ok();
    let Some((message, rest)) = wait_for_attempt(&mut shim) else {
        tree::end_tree(&signals, &groups, |_| ());
        groups.remove();
        return Ok(());
    };
    let lock = shim.take_file();
    let mut guard = Guard::new(message, groups, shim, signals);
    guard.lock = lock;
    guard.stub = stub;
    let has_go = guard.obey(rest);
    if !has_go && !guard.wait_for_go() {
        guard.end_tree();
        guard.groups.remove();
        return guard.write_unless_there(nothing_started(), "never_started");
    }
    guard.run(logs)
}

/// The attempt, and what else has come with it; nothing when the shim is gone.
fn wait_for_attempt(shim: &mut GuardChannel) -> Option<(StartMessage, Vec<ToGuard>)> {
    loop {
        let arrived = shim.receive();
        let mut messages = arrived.messages.into_iter();
        while let Some(message) = messages.next() {
            if let ToGuard::Take(message) = message {
                return Some((*message, messages.collect()));
            }
        }
        if arrived.closed {
            return None;
        }
    }
}

impl Guard {
    fn new(
        message: StartMessage,
        groups: AttemptGroups,
        shim: GuardChannel,
        signals: SignalFd,
    ) -> Self {
        Self {
            limiter: Limiter::new(&message.limits, &groups, &message.folder),
            place: message.place(),
            lock: None,
            stub: None,
            message,
            groups,
            shim,
            signals,
            stop: None,
            shim_is_gone: false,
        }
    }

    fn run(mut self, logs: (PipeWriter, PipeWriter)) -> io::Result<()> {
        fail_point("guard.after_go");
        let tool_version = self.ask_version();
        let mut report = match self.start_tool(logs) {
            Ok(tool) => self.watch(&tool, tool_version.as_ref()),
            Err(error) => not_started(&self.message.command, &error),
        };
        report.tool_version = tool_version;
        self.hand_over(report)
    }

    /// False when the shim went away before anything was started.
    fn wait_for_go(&mut self) -> bool {
        loop {
            let arrived = self.shim.receive();
            let go = self.obey(arrived.messages);
            if go || arrived.closed {
                return go;
            }
        }
    }

    fn start_tool(&mut self, (stdout, stderr): (PipeWriter, PipeWriter)) -> io::Result<Tool> {
        let oom_kills_before = oom_kills();
        let stub = self.stub.take();
        let begun = stub.and_then(|stub| stub.become_tool(&self.message));
        let pid = if let Some(begun) = begun {
            begun?
        } else {
            let mut command = self.tool_command(&self.message.command)?;
            place(&self.message, &mut command)?;
            // The guard reaps everything itself; `Child` neither waits nor kills when it is dropped.
            command.stdout(stdout).stderr(stderr).spawn()?.id()
        };
        fail_point("guard.after_spawn");
        Ok(Tool {
            pid,
            started_at: now(),
            since: tick(),
            oom_kills_before,
        })
    }

    fn tool_command(&self, line: &[String]) -> io::Result<Command> {
        let mut command = bare_command(&self.message, line)?;
        // First its own session, which the weight belongs to.
        die_with_guard(&mut command);
        enter_on_start(&mut command, &self.groups, self.message.cpu_priority)?;
        Ok(command)
    }

    /// The first line that the version command prints, on either stream.
    fn ask_version(&mut self) -> Option<String> {
        let line = self.message.version_command.clone()?;
        let (reader, writer) = io::pipe().ok()?;
        let both = writer.try_clone().ok()?;
        let spawned = self
            .tool_command(&line)
            .and_then(|mut command| command.stdout(writer).stderr(both).spawn());
        let answer = spawned.ok().map(|_| read_for_a_while(reader));
        self.end_tree();
        answer?
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(str::to_owned)
    }

    fn watch(&mut self, tool: &Tool, version: Option<&String>) -> GuardReport {
        let started = FromGuard::Started {
            started_at: tool.started_at,
            tool_version: version.cloned(),
        };
        // If the shim is gone, the next poll says so.
        self.shim.send(&started).ok();
        let ended = loop {
            match tree::reap() {
                Reaped::Some(ended) | Reaped::All(ended) if has(&ended, tool.pid) => break ended,
                // Without the main process in the list it can't be all: it is our child until it is reaped.
                _ => {}
            }
            if self.must_kill_now() {
                break self.end_tree().reaped;
            }
            self.wait(tool);
            self.keep_limits(tool);
        };
        fail_point("guard.after_end");
        let finished_at = now();
        let wall_s = tool.since.elapsed().as_secs_f64();
        // The tool's own end ends the attempt: whatever it left behind goes too, and nobody waits for a pipe.
        let leftovers_killed = self.end_tree().killed;
        fail_point("guard.after_tree");
        let outcome = self.outcome(&ended, tool.pid);
        let stopped = match &self.stop {
            Some(stop) => stop.reason,
            None => self
                .ran_out_of_memory(tool, &outcome)
                .then_some(StopReason::Memory),
        };
        GuardReport {
            outcome,
            stopped,
            started_at: Some(tool.started_at),
            finished_at,
            usage: usage(wall_s),
            leftovers_killed,
            tool_version: None,
        }
    }

    fn outcome(&self, ended: &[(u32, WaitStatus)], main: u32) -> Outcome {
        if self.shim_is_gone && self.stop.is_none() {
            return Outcome::Interrupted {
                message: "the attempt's shim was killed".to_owned(),
            };
        }
        if let Some(message) = self.stop.as_ref().and_then(|stop| stop.sentence.clone()) {
            return Outcome::Limit { message };
        }
        match ended.iter().find(|(pid, _)| *pid == main) {
            Some((_, WaitStatus::Exited(_, code))) => Outcome::Exit { code: *code },
            Some((_, WaitStatus::Signaled(_, signal, _))) => Outcome::Signal {
                signal: *signal as i32,
            },
            _ => Outcome::Interrupted {
                message: "the tool's end was not seen".to_owned(),
            },
        }
    }

    /// The kernel has killed for want of memory, and the tool came to a bad end by it.
    fn ran_out_of_memory(&self, tool: &Tool, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Exit { code: 0 } => false,
            _ if self.groups.keeps("memory") => self.groups.oom_kills() > 0,
            // Without a group of its own only the machine's count is known: believed where it fits the signal.
            Outcome::Signal { signal } => {
                *signal == Signal::SIGKILL as i32 && oom_kills() > tool.oom_kills_before
            }
            _ => false,
        }
    }

    fn must_kill_now(&self) -> bool {
        self.shim_is_gone
            || self
                .stop
                .as_ref()
                .is_some_and(|stop| tick() >= stop.deadline)
    }

    /// Kills the whole tree; tells the shim when something does not die.
    fn end_tree(&mut self) -> tree::Ended {
        let shim = &mut self.shim;
        tree::end_tree(&self.signals, &self.groups, |count| {
            // If the shim is gone, there is nobody to tell.
            shim.send(&FromGuard::Unkillable { count }).ok();
        })
    }

    /// Ends a tool that goes beyond what it may use.
    fn keep_limits(&mut self, tool: &Tool) {
        if self.stop.is_some() {
            return;
        }
        match self.limiter.check(tool.since) {
            None => {}
            Some(Breach::Time) => self.begin_stop(Some(StopReason::Time), self.message.grace_ms),
            Some(Breach::Output) => {
                self.begin_stop(Some(StopReason::Output), self.message.grace_ms);
            }
            // What grows this fast gets no time to grow more.
            Some(Breach::Memory) => self.begin_stop(Some(StopReason::Memory), 0),
            Some(Breach::Processes(sentence)) => {
                self.begin_stop(None, 0);
                if let Some(stop) = &mut self.stop {
                    stop.sentence = Some(sentence);
                }
            }
        }
    }

    /// Waits for a death, a word from the shim, the end of the grace time, or the next look at the limits.
    fn wait(&mut self, tool: &Tool) {
        let next = match &self.stop {
            Some(stop) => Some(stop.deadline),
            None => self.limiter.next_check(tool.since),
        };
        let left = next.map(|next| next.saturating_duration_since(tick()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_millis().min(60_000) + 1).unwrap_or(PollTimeout::ZERO)
        });
        let mut fds = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shim.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, timeout).ok();
        let shim_has_word = fds[1].any().unwrap_or(false);
        while let Ok(Some(_)) = self.signals.read_signal() {}
        if shim_has_word {
            self.listen();
        }
    }

    fn listen(&mut self) {
        let arrived = self.shim.receive();
        self.shim_is_gone |= arrived.closed;
        self.obey(arrived.messages);
    }

    /// True when the word to go is among them.
    fn obey(&mut self, messages: Vec<ToGuard>) -> bool {
        let mut has_go = false;
        for message in messages {
            match message {
                ToGuard::Go => has_go = true,
                ToGuard::Take(_) => {}
                ToGuard::Stop { reason, grace_ms } => self.begin_stop(Some(reason), grace_ms),
                ToGuard::Begin(place) => {
                    self.lock = self.shim.take_file();
                    self.place = Some(place);
                    // If the shim is gone, the next look says so.
                    self.shim.send(&FromGuard::Began).ok();
                }
                ToGuard::Over => {
                    self.place = None;
                    self.lock = None;
                }
            }
        }
        has_go
    }

    fn begin_stop(&mut self, reason: Option<StopReason>, grace_ms: u64) {
        if self.stop.is_none() {
            let deadline = tick() + Duration::from_millis(grace_ms);
            self.stop = Some(Stop {
                reason,
                sentence: None,
                deadline,
            });
            tree::signal_all(&self.groups, Signal::SIGTERM);
        }
    }

    /// Gives the finding to the shim, who writes it down; if the shim dies first, the guard does.
    fn hand_over(mut self, report: GuardReport) -> io::Result<()> {
        let ended = FromGuard::Ended(report.clone());
        if !self.shim_is_gone && self.shim.send(&ended).is_ok() {
            while !self.shim.receive().closed {}
        }
        self.write_unless_there(report, "echild")
    }

    /// The lock is ours as well: with the shim gone nobody else writes, and without this record a `shim.json` that is
    /// there would tell of an attempt whose end nobody has seen.
    fn write_unless_there(&self, report: GuardReport, proof: &str) -> io::Result<()> {
        let Some(place) = &self.place else {
            self.groups.remove();
            return Ok(());
        };
        if place.folder.join("exit.json").exists() {
            return Ok(());
        }
        self.groups.remove();
        shim::write_exit(place, report, crate::record::LogCounts::default(), proof)
    }
}

/// A command with the tool's folder and environment.
pub(super) fn bare_command(message: &StartMessage, line: &[String]) -> io::Result<Command> {
    let (program, arguments) = line.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(message.folder.join("work"))
        .stdin(Stdio::null());
    shim::hide_settings(&mut command);
    command.envs(&message.env);
    Ok(command)
}

fn nothing_started() -> GuardReport {
    GuardReport::interrupted("the attempt's shim was killed before its tool started".to_owned())
}

fn has(ended: &[(u32, WaitStatus)], pid: u32) -> bool {
    ended.iter().any(|(other, _)| *other == pid)
}

/// Standard input and folder, where the tool asks for others than usual.
pub(super) fn place(message: &StartMessage, command: &mut Command) -> io::Result<()> {
    let named = |path: &std::path::Path, error: io::Error| {
        io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
    };
    if let Some(path) = &message.stdin {
        let file = std::fs::File::open(path).map_err(|error| named(path, error))?;
        command.stdin(file);
    }
    if let Some(path) = &message.workdir {
        // Said here: otherwise it would look as if the program were missing.
        std::fs::read_dir(path).map_err(|error| named(path, error))?;
        command.current_dir(path);
    }
    Ok(())
}

/// The tool's own session, and its death with the guard's: nothing of a tool may live without a supervisor.
#[expect(
    unsafe_code,
    reason = "pre_exec: the closure makes system calls only, which are safe between fork and exec"
)]
fn die_with_guard(command: &mut Command) {
    let guard: Pid = getpid();
    // SAFETY: setsid, sigprocmask, prctl and getppid are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || stand_alone(guard));
    }
}

/// In the process that is, or becomes, the tool. Makes system calls only.
pub(super) fn stand_alone(guard: Pid) -> io::Result<()> {
    setsid()?;
    // The shim and the guard block what they read from descriptors; a tool begins with nothing blocked.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The guard may have died before the line above took effect.
    if getppid() == guard {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// Puts the tool into its groups, and behind the server when processor time or memory is short.
#[expect(
    unsafe_code,
    reason = "pre_exec: the closure makes system calls only, which are safe between fork and exec"
)]
fn enter_on_start(
    command: &mut Command,
    groups: &AttemptGroups,
    priority: CpuPriority,
) -> io::Result<()> {
    let entrances: Vec<File> = groups.entrances()?;
    let yields = priority.is_idle() && !groups.keeps("cpu");
    // SAFETY: open, write, close and setpriority are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            enter(&entrances)?;
            give_way(yields);
            Ok(())
        });
    }
    Ok(())
}

/// In the process that is, or becomes, the tool. Makes system calls only.
pub(super) fn enter(entrances: &[File]) -> io::Result<()> {
    for entrance in entrances {
        rustix::io::write(entrance, b"0")?;
    }
    Ok(())
}

/// In the process that is, or becomes, the tool. Makes system calls only.
pub(super) fn give_way(yields: bool) {
    // When memory runs out, the kernel takes the tool and not the server.
    put(c"/proc/self/oom_score_adj", b"1000");
    if yields {
        // The tool has a session of its own, and so, where the kernel groups by session, a weight of its own.
        put(c"/proc/self/autogroup", b"19");
        rustix::process::setpriority_process(None, 19).ok();
    }
}

/// A courtesy: where the kernel doesn't have it, the tool runs all the same.
fn put(path: &std::ffi::CStr, value: &[u8]) {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        rustix::io::write(&file, value).ok();
    }
}

fn read_for_a_while(mut reader: PipeReader) -> String {
    let deadline = tick() + VERSION_TIME;
    let mut answer = Vec::new();
    while (answer.len() as u64) < VERSION_BYTES && readable_before(&reader, deadline) {
        let mut part = [0_u8; 1024];
        match reader.read(&mut part) {
            Ok(count) if count > 0 => answer.extend_from_slice(&part[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn readable_before(reader: &PipeReader, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(tick()).as_millis();
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    poll(
        &mut fds,
        PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
    )
    .is_ok_and(|ready| ready > 0)
}

/// What all reaped descendants used (getrusage(2), `RUSAGE_CHILDREN`).
fn usage(wall_s: f64) -> ToolUsage {
    let Ok(children) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return ToolUsage {
            wall_s,
            ..ToolUsage::default()
        };
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of processor time stay far below 2^52"
    )]
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    ToolUsage {
        wall_s,
        cpu_s: seconds(children.user_time()) + seconds(children.system_time()),
        memory_peak_bytes: u64::try_from(children.max_rss()).unwrap_or(0) * 1024,
    }
}

fn not_started(command: &[String], error: &io::Error) -> GuardReport {
    let program = command.first().map_or("", String::as_str);
    let is_there = program.contains('/') && std::path::Path::new(program).exists();
    let why = match error.kind() {
        // It names what could not be opened.
        _ if error.raw_os_error().is_none() => error.to_string(),
        io::ErrorKind::NotFound if is_there => {
            "it is there, and something that it needs is not: the interpreter in its first line (`#!`), or its loader"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            "it was not found; is it installed and on the server's PATH?".to_owned()
        }
        io::ErrorKind::PermissionDenied => "it is not executable for the server's user".to_owned(),
        _ => error.to_string(),
    };
    GuardReport {
        outcome: Outcome::StartFailed {
            message: format!("`{program}` could not be started: {why}"),
        },
        stopped: None,
        started_at: None,
        finished_at: now(),
        usage: ToolUsage::default(),
        leftovers_killed: 0,
        tool_version: None,
    }
}
