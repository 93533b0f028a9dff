//! A program that does not want to die, in many ways.
//!
//! `hostile-child BEHAVIOUR FIFO stays|exits|eats`: builds its process tree, then writes one byte to the FIFO, and keeps
//! the FIFO open in every process. Whoever reads the other end sees its hang-up in the moment when the last of them is
//! gone: no guess from process lists, and nothing that Onelane takes part in.
//!
//! `hostile-child mark FOLDER MILLISECONDS plain|escapes|ignores|fails`: a short job that leaves marks of its start and
//! end, and holds a lock, as do its descendants, that no other job may find taken.

#![expect(
    unsafe_code,
    reason = "fork, clone, ptrace and raw descriptors are what this program is made of"
)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setpgid, setsid};

/// Whatever a failed test leaves behind ends by itself after so long.
const LIFE: Duration = Duration::from_mins(2);
/// So much is eaten at most, in pieces.
const FEAST_BYTES: usize = 256 * 1024 * 1024;
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// So much is written at most to each stream, and to the disk.
const FLOOD_BYTES: usize = 4 * 1024 * 1024;

/// What it can do.
pub const BEHAVIOURS: [&str; 23] = [
    "double-fork",
    "ignores-term",
    "blocks-signals",
    "fork-chain",
    "wide-fork",
    "closes-pipes",
    "floods",
    "eats-memory",
    "fills-disk",
    "zombies",
    "orphans-hold-pipes",
    "clears-environment",
    "changes-group",
    "reexec-daemon",
    "stops-itself",
    "spawned",
    "vforked",
    "busy-threads",
    "ptrace-me",
    "reparent-storm",
    "nested-subreaper",
    "nested-namespace",
    "deep-tree",
];

/// Where cargo puts it when it builds the tests of the crate that `binary` is of.
pub fn beside(binary: &str) -> PathBuf {
    let path = Path::new(binary)
        .with_file_name("examples")
        .join("hostile-child");
    assert!(
        path.exists(),
        "{} is missing; cargo build -p onelane --example hostile-child",
        path.display()
    );
    path
}

/// What the main process does once its tree stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Main {
    Stays,
    Exits,
    Eats,
}

struct Stage {
    main: Main,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Stage {
    /// A descendant is where it wants to be.
    fn tell(&self) {
        (&self.writer).write_all(b".").unwrap();
    }

    /// The main process waits for so many of them.
    fn settle(&self, descendants: usize) {
        let mut told = vec![0; descendants];
        (&self.reader).read_exact(&mut told).unwrap();
    }
}

/// Runs what the arguments (without the program's name) say.
pub fn main(arguments: &[String]) -> ExitCode {
    // A forked child that panics must not unwind into its parent's code.
    std::panic::set_hook(Box::new(|what| {
        std::fs::write("/dev/stderr", format!("{what}\n")).ok();
        std::process::abort();
    }));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["linger"] => linger(),
        ["linger", "again", since_s] => reexec(since_s),
        ["mark", folder, milliseconds, kind, ..] => mark(folder, milliseconds, kind),
        ["warm", folder] => warm(Path::new(folder)),
        [behaviour, fifo, main] => misbehave(behaviour, fifo, main),
        _ => panic!("usage: hostile-child BEHAVIOUR FIFO stays|exits|eats"),
    }
}

fn misbehave(behaviour: &str, fifo: &str, main: &str) -> ExitCode {
    let alive = hold(Path::new(fifo));
    let (reader, writer) = std::io::pipe().unwrap();
    let main = match main {
        "stays" => Main::Stays,
        "exits" => Main::Exits,
        "eats" => Main::Eats,
        other => panic!("{other}: stays, exits or eats"),
    };
    let stage = Stage {
        main,
        reader,
        writer,
    };
    perform(behaviour, &stage);
    assert_eq!(
        // SAFETY: one byte of a static string.
        unsafe { libc::write(alive, b"!".as_ptr().cast(), 1) },
        1
    );
    match main {
        Main::Stays => linger(),
        Main::Eats => eat(),
        Main::Exits => {
            std::thread::sleep(Duration::from_millis(100));
            leave(0)
        }
    }
}

/// Opens the FIFO so that every descendant inherits it, also through exec.
fn hold(fifo: &Path) -> i32 {
    let file = OpenOptions::new().write(true).open(fifo).unwrap();
    inheritable(file)
}

fn inheritable(file: File) -> i32 {
    // SAFETY: clears close-on-exec of a descriptor that is ours.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
    file.into_raw_fd()
}

fn perform(behaviour: &str, stage: &Stage) {
    match behaviour {
        "double-fork" => daemon(stage, linger_quietly),
        "ignores-term" => ignores_term(stage),
        "blocks-signals" => blocks_signals(stage),
        "fork-chain" => chains(stage, 1, 4),
        "wide-fork" => wide_fork(stage),
        "closes-pipes" => closes_pipes(stage),
        "floods" => child(stage, flood),
        "eats-memory" => child(stage, || eat()),
        "fills-disk" => child(stage, fill_disk),
        "zombies" => zombies(stage),
        "orphans-hold-pipes" => orphans_hold_pipes(stage),
        "clears-environment" => daemon(stage, || again(&["linger"])),
        "changes-group" => changes_group(stage),
        "reexec-daemon" => daemon(stage, || {
            again(&["linger", "again", &seconds().to_string()]);
        }),
        "stops-itself" => stops_itself(stage),
        "spawned" => spawned(),
        "vforked" => child(stage, vforked),
        "busy-threads" => child(stage, busy_threads),
        "ptrace-me" => ptrace_me(stage),
        "reparent-storm" => chains(stage, 6, 12),
        "nested-subreaper" => nested_subreaper(stage),
        "nested-namespace" => nested_namespace(stage),
        "deep-tree" => deep_tree(stage, 20),
        other => panic!("there is no behaviour `{other}`"),
    }
}

/// Ends a process without running what its parent has registered.
fn leave(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

fn linger() -> ! {
    let until = Instant::now() + LIFE;
    while is_wanted(until) {
        std::thread::sleep(Duration::from_secs(1));
    }
    leave(0)
}

/// Until its time is over, or whoever looks on has removed this program's file: also a chain, which nobody could catch,
/// ends then.
fn is_wanted(until: Instant) -> bool {
    Instant::now() < until && own_path().exists()
}

const fn linger_quietly() {}

/// Forks; the child does its work and then lingers.
fn forked(work: impl FnOnce()) -> Pid {
    // SAFETY: this program forks before it makes any thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            work();
            linger()
        }
    }
}

fn child(stage: &Stage, work: impl FnOnce()) {
    forked(|| {
        stage.tell();
        work();
    });
    stage.settle(1);
}

/// The old way: fork, a session of its own, fork again; nobody above knows it any more.
fn daemon(stage: &Stage, work: impl FnOnce()) {
    let middle = forked(|| {
        setsid().unwrap();
        forked(|| {
            stage.tell();
            work();
        });
        leave(0)
    });
    waitpid(middle, None).unwrap();
    stage.settle(1);
}

fn ignores_term(stage: &Stage) {
    for one in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
    ] {
        // SAFETY: no handler runs.
        unsafe { signal(one, SigHandler::SigIgn) }.unwrap();
    }
    child(stage, linger_quietly);
}

fn blocks_signals(stage: &Stage) {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).unwrap();
    daemon(stage, linger_quietly);
}

/// Each link forks the next and ends: no process list is ever right.
fn chains(stage: &Stage, count: usize, milliseconds: u64) {
    for _ in 0..count {
        forked(|| {
            setsid().unwrap();
            stage.tell();
            let until = Instant::now() + LIFE;
            while is_wanted(until) {
                std::thread::sleep(Duration::from_millis(milliseconds));
                // SAFETY: no thread has been made.
                if unsafe { fork() }.is_ok_and(|side| matches!(side, ForkResult::Parent { .. })) {
                    leave(0)
                }
            }
        });
    }
    stage.settle(count);
}

fn wide_fork(stage: &Stage) {
    for n in 0..48 {
        forked(|| {
            if n % 2 == 0 {
                setsid().unwrap();
            }
            stage.tell();
        });
    }
    stage.settle(48);
}

fn close_streams() {
    for stream in 0..3 {
        // SAFETY: nothing of this program uses them any more.
        unsafe { libc::close(stream) };
    }
}

fn closes_pipes(stage: &Stage) {
    child(stage, close_streams);
    close_streams();
}

fn flood() {
    let line = [b'x'; 4096];
    for _ in 0..FLOOD_BYTES / line.len() {
        for stream in [1, 2] {
            // SAFETY: a buffer of ours; what isn't written doesn't matter.
            unsafe { libc::write(stream, line.as_ptr().cast(), line.len()) };
        }
    }
}

fn eat() -> ! {
    let mut feast = Vec::new();
    for _ in 0..FEAST_BYTES / PIECE_BYTES {
        feast.push(vec![1_u8; PIECE_BYTES]);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::hint::black_box(&feast);
    linger()
}

fn fill_disk() {
    let mut file = File::create("full").unwrap();
    for _ in 0..FLOOD_BYTES / 4096 {
        if file.write_all(&[0; 4096]).is_err() {
            break;
        }
    }
    std::mem::forget(file);
}

fn zombies(stage: &Stage) {
    for _ in 0..8 {
        forked(|| leave(0));
    }
    child(stage, || {
        for _ in 0..8 {
            forked(|| leave(0));
        }
    });
}

/// The main process is gone at once; its grandchildren keep its streams open.
fn orphans_hold_pipes(stage: &Stage) {
    daemon(stage, linger_quietly);
    if stage.main == Main::Stays {
        // The only behaviour whose main process does not stay. The one who tells is a third process.
        let main = getpid();
        forked(|| {
            std::thread::sleep(Duration::from_millis(100));
            kill(main, Signal::SIGKILL).unwrap();
        });
    }
}

/// Runs this program anew, without any environment.
fn again(arguments: &[&str]) {
    prctl::set_name(c"innocent").ok();
    let failed = Command::new(own_path()).args(arguments).env_clear().exec();
    panic!("{failed}");
}

/// The link would name the file by the magic path; the real one is what others look for.
fn own_path() -> PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap()
}

fn seconds() -> u64 {
    monotonic_ns() / 1_000_000_000
}

/// A daemon that is a new program every few moments.
fn reexec(since_s: &str) -> ! {
    std::thread::sleep(Duration::from_millis(30));
    if seconds() < since_s.parse::<u64>().unwrap() + LIFE.as_secs() {
        again(&["linger", "again", since_s]);
    }
    leave(0)
}

fn changes_group(stage: &Stage) {
    for _ in 0..4 {
        let own = forked(|| {
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            stage.tell();
        });
        stage.settle(1);
        // Its sibling joins the group of that one.
        forked(|| {
            setpgid(Pid::from_raw(0), own).unwrap();
            stage.tell();
        });
        stage.settle(1);
    }
}

fn stops_itself(stage: &Stage) {
    child(stage, || kill(getpid(), Signal::SIGSTOP).unwrap());
    if stage.main == Main::Stays {
        let main = getpid();
        forked(|| {
            std::thread::sleep(Duration::from_millis(50));
            // With the main process gone the parent is a supervisor, who is no part of this tree.
            if getppid() == main {
                kill(main, Signal::SIGSTOP).unwrap();
            }
        });
    }
}

/// By `posix_spawn`, in groups of their own.
#[expect(
    clippy::zombie_processes,
    reason = "nobody waits for them: that is the point"
)]
fn spawned() {
    for _ in 0..4 {
        let mut command = Command::new(own_path());
        command.arg("linger").process_group(0).stdin(Stdio::null());
        command.spawn().unwrap();
    }
}

extern "C" fn waits(_: *mut libc::c_void) -> i32 {
    // SAFETY: waits for a signal.
    unsafe { libc::pause() }
}

/// A parent that the kernel holds until its child, who shares its memory, has gone.
fn vforked() {
    let mut stack = vec![0_u8; 64 * 1024];
    let flags = libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, and only waits; it grows down from an aligned end.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len() - 64);
        let top = top.sub(top as usize % 16);
        libc::clone(waits, top.cast(), flags, std::ptr::null_mut());
    }
}

fn busy_threads() {
    for _ in 0..2 {
        std::thread::spawn(|| {
            let until = Instant::now() + LIFE;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        });
    }
}

/// A child that is traced by its parent, and held by it.
fn ptrace_me(stage: &Stage) {
    child(stage, || {
        // SAFETY: asks to be traced by the parent.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        kill(getpid(), Signal::SIGSTOP).unwrap();
    });
}

/// Orphans go to this one instead of to the guard.
fn nested_subreaper(stage: &Stage) {
    forked(|| {
        prctl::set_child_subreaper(true).unwrap();
        setsid().unwrap();
        forked(|| {
            forked(|| stage.tell());
            forked(|| stage.tell());
            leave(0)
        });
    });
    stage.settle(2);
}

/// A process namespace inside whatever there is; where that is not allowed, a plain daemon.
fn nested_namespace(stage: &Stage) {
    forked(|| {
        // SAFETY: changes this process only.
        unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) };
        forked(|| {
            forked(|| stage.tell());
        });
    });
    stage.settle(1);
}

fn deep_tree(stage: &Stage, depth: u32) {
    forked(|| {
        if depth == 0 {
            stage.tell();
        } else {
            nest(stage, depth);
        }
    });
    stage.settle(1);
}

fn nest(stage: &Stage, depth: u32) {
    forked(|| {
        setsid().unwrap();
        if depth == 0 {
            stage.tell();
        } else {
            nest(stage, depth - 1);
        }
    });
}

/// The clock that is never set and the same for all processes.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn open_in(folder: &Path, name: &str) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o666);
    options.open(folder.join(name)).unwrap()
}

fn leave_mark(folder: &Path, what: &str, job: &str, attempt: &str) {
    let (pid, at) = (std::process::id(), monotonic_ns());
    let line = format!("{what} {job} {attempt} {pid} {at}\n");
    open_in(folder, "marks").write_all(line.as_bytes()).unwrap();
}

/// Takes the lock that a running job holds; false when another one has it.
fn is_alone(lock: i32) -> bool {
    // SAFETY: locks a descriptor of ours.
    unsafe { libc::flock(lock, libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// A warm worker (docs/warm-workers.md) whose jobs do as `mark` does, but for "fails", which ends the worker, and
/// "escapes", which is "plain": what a worker leaves behind is its own.
fn warm(folder: &Path) -> ExitCode {
    let socket = std::env::var("ONELANE_WORKER_SOCKET").unwrap();
    let mut socket = UnixStream::connect(socket).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap());
    let mut say = |kind: &str| writeln!(socket, r#"{{"type": "{kind}", "protocol": 1}}"#).is_ok();
    say("hello");
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return ExitCode::SUCCESS;
        }
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        match message["type"].as_str() {
            Some("run") => {
                let is_cancelled = warm_job(folder, &message, &mut lines);
                say(if is_cancelled { "cancelled" } else { "done" });
            }
            Some("ping") => drop(say("pong")),
            Some("bye") => return ExitCode::SUCCESS,
            _ => {}
        }
    }
}

/// True when it was cancelled.
fn warm_job(folder: &Path, message: &serde_json::Value, lines: &mut BufReader<UnixStream>) -> bool {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (job, attempt) = (text(&message["job"]), message["attempt"].to_string());
    let params = &message["params"];
    // Let go with the job, unless the worker is killed before.
    let lock = open_in(folder, "one.lock");
    let alone = is_alone(lock.as_raw_fd());
    leave_mark(
        folder,
        if alone { "start" } else { "clash" },
        &job,
        &attempt,
    );
    let kind = text(&params["kind"]);
    let time = Duration::from_millis(params["ms"].as_u64().unwrap());
    if kind == "ignores" {
        std::thread::sleep(time);
    } else {
        // A timeout of zero would be none.
        let time = time.max(Duration::from_millis(1));
        lines.get_ref().set_read_timeout(Some(time)).unwrap();
        let told = lines.read_line(&mut String::new()).is_ok();
        lines.get_ref().set_read_timeout(None).unwrap();
        if told {
            return true;
        }
    }
    let output = text(&message["output"]);
    std::fs::write(Path::new(&output).join("done.txt"), "done\n").unwrap();
    leave_mark(folder, "end", &job, &attempt);
    if kind == "fails" {
        leave(3);
    }
    false
}

fn mark(folder: &str, milliseconds: &str, kind: &str) -> ExitCode {
    let folder = Path::new(folder);
    // Descendants inherit the lock: it is taken for as long as any process of this tree lives.
    let alone = is_alone(inheritable(open_in(folder, "one.lock")));
    let job = std::env::var("ONELANE_JOB_ID").unwrap();
    let attempt = std::env::var("ONELANE_ATTEMPT").unwrap();
    let leave_mark = |what: &str| leave_mark(folder, what, &job, &attempt);
    leave_mark(if alone { "start" } else { "clash" });
    if kind == "escapes" {
        forked(|| {
            setsid().unwrap();
            forked(linger_quietly);
            leave(0)
        });
    }
    if kind == "ignores" {
        // SAFETY: no handler runs.
        unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }.unwrap();
    }
    std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap()));
    let output = std::env::var("ONELANE_OUTPUT").unwrap();
    std::fs::write(Path::new(&output).join("done.txt"), "done\n").unwrap();
    leave_mark("end");
    ExitCode::from(if kind == "fails" { 3 } else { 0 })
}
