//! The hostile matrix: each way of not wanting to die × each way of being stopped × each level of process control.
//!
//! Afterwards nothing is left of the tree. That is seen by the hang-up of a FIFO that every process of the tree holds
//! open, and by a look for processes that run the tree's own copy of the program; Onelane has a part in neither.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::torture::{pause, processes_of};
use crate::{LONG, TestServer, is_final};

/// How a tree is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// A cancellation.
    Cancel,
    /// The time limit.
    Time,
    /// The memory limit.
    Memory,
    /// kill -9 of the server, another one, a cancellation.
    Server,
    /// kill -9 of the shim.
    Shim,
    /// kill -9 of the guard.
    Guard,
    /// kill -9 of both at once.
    Both,
    /// The main process ends by itself and leaves the others.
    ByItself,
}

/// All of them.
pub const STOPS: [Stop; 8] = [
    Stop::Cancel,
    Stop::Time,
    Stop::Memory,
    Stop::Server,
    Stop::Shim,
    Stop::Guard,
    Stop::Both,
    Stop::ByItself,
];

impl Stop {
    /// Its name in tables and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Server => "server",
            Self::Shim => "shim",
            Self::Guard => "guard",
            Self::Both => "both",
            Self::ByItself => "itself",
        }
    }

    const fn limits(self) -> &'static str {
        match self {
            Self::Time => "limits = { time = \"2s\" }",
            Self::Memory => "limits = { memory = \"64M\" }",
            _ => "",
        }
    }

    const fn main_process(self) -> &'static str {
        match self {
            Self::Memory => "eats",
            Self::ByItself => "exits",
            _ => "stays",
        }
    }
}

/// What is run.
pub struct Matrix {
    /// The server.
    pub binary: PathBuf,
    /// The hostile child.
    pub child: PathBuf,
    /// Where everything is put.
    pub folder: PathBuf,
    /// One of `cgroup`, `namespace` and `guard`.
    pub level: String,
    /// The trees, all at once.
    pub behaviours: Vec<&'static str>,
    /// The stops, one after the other.
    pub stops: Vec<Stop>,
    /// So many times.
    pub runs: u32,
    /// The server's user, if it is another one.
    pub user: Option<u32>,
}

/// What came of one behaviour under one stop.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Runs.
    pub runs: u32,
    /// Runs after which a process was left.
    pub left: u32,
    /// Runs that ended as `stuck`.
    pub stuck: u32,
    /// Broken promises, one sentence each.
    pub violations: Vec<String>,
}

/// Cells by behaviour and stop.
pub type Table = BTreeMap<(&'static str, Stop), Cell>;

/// Runs the matrix of one level; nothing when the server refuses this level on this machine.
pub async fn run(matrix: &Matrix) -> Option<Table> {
    let mut table = Table::new();
    for stop in &matrix.stops {
        let mut row = Row::begin(matrix, *stop)?;
        for _ in 0..matrix.runs {
            row.once(&mut table).await;
        }
    }
    Some(table)
}

/// The table as text: for each cell the number of runs with a process left.
pub fn show(matrix: &Matrix, table: &Table) -> String {
    let mut text = format!("{:<20}", matrix.level);
    for stop in &matrix.stops {
        write!(text, "{:>9}", stop.name()).unwrap();
    }
    for behaviour in &matrix.behaviours {
        write!(text, "\n{behaviour:<20}").unwrap();
        for stop in &matrix.stops {
            let cell = &table[&(*behaviour, *stop)];
            let stuck = if cell.stuck > 0 { "stuck " } else { "" };
            let said = format!("{stuck}{}/{}", cell.left, cell.runs);
            write!(text, "{said:>9}").unwrap();
        }
    }
    text
}

/// One stop: a server of its own.
struct Row<'a> {
    matrix: &'a Matrix,
    stop: Stop,
    folder: PathBuf,
    server: TestServer,
    trees: u32,
}

/// One hostile process tree.
struct Tree {
    behaviour: &'static str,
    program: PathBuf,
    alive: File,
    job: String,
}

impl<'a> Row<'a> {
    fn begin(matrix: &'a Matrix, stop: Stop) -> Option<Self> {
        let folder = matrix
            .folder
            .join(format!("{}-{}", matrix.level, stop.name()));
        std::fs::create_dir(&folder).unwrap();
        if matrix.user.is_some() {
            std::os::unix::fs::chown(&folder, matrix.user, matrix.user).unwrap();
        }
        let tools = format!(
            r#"
[machine]
cpus = 100000
[tools.hostile]
command = ["sh", "-c", "exec \"$0\" \"$@\"", "{{child}}", "{{behaviour}}", "{{fifo}}", "{}"]
needs = {{ cpus = 1 }}
on_interrupt = "fail"
grace = "300ms"
cpu_priority = "normal"
{}
params.child = {{ type = "text" }}
params.behaviour = {{ type = "text" }}
params.fifo = {{ type = "text" }}
"#,
            stop.main_process(),
            stop.limits(),
        );
        let binary = matrix.binary.to_str().unwrap();
        let mut server = TestServer::in_folder(binary, Some(&tools), &folder);
        server.user = matrix.user;
        server.env = vec![
            ("ONELANE_PROCESS_CONTROL".into(), matrix.level.clone()),
            ("RUST_LOG".into(), "error".into()),
        ];
        let lines = server.launch();
        server.listens(lines).then_some(Self {
            matrix,
            stop,
            folder,
            server,
            trees: 0,
        })
    }

    /// All behaviours at once, to their ends.
    async fn once(&mut self, table: &mut Table) {
        let mut trees = Vec::new();
        for behaviour in &self.matrix.behaviours {
            trees.push(self.plant(behaviour).await);
        }
        for tree in &trees {
            self.until_ready(tree).await;
        }
        self.stop_all(&trees).await;
        for tree in trees {
            let job = self.until_over(&tree).await;
            let cell = table.entry((tree.behaviour, self.stop)).or_default();
            self.judge(cell, &tree, &job);
            tree.clean_up();
        }
    }

    async fn plant(&mut self, behaviour: &'static str) -> Tree {
        self.trees += 1;
        let own = self.folder.join(format!("tree-{}", self.trees));
        std::fs::create_dir(&own).unwrap();
        // Its own copy: the file that its processes run names them.
        let program = own.join("hostile-child");
        if std::fs::hard_link(&self.matrix.child, &program).is_err() {
            std::fs::copy(&self.matrix.child, &program).unwrap();
        }
        let fifo = own.join("alive");
        mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
        std::fs::set_permissions(&fifo, Permissions::from_mode(0o666)).unwrap();
        let mut options = OpenOptions::new();
        let alive = options
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&fifo)
            .unwrap();
        let params = json!({
            "child": program.to_str().unwrap(),
            "behaviour": behaviour,
            "fifo": fifo.to_str().unwrap(),
        });
        let job = self.server.submit("hostile", &params).await;
        Tree {
            behaviour,
            program,
            alive,
            job,
        }
    }

    /// Until the tree stands, or has gone already.
    async fn until_ready(&self, tree: &Tree) {
        let since = Instant::now();
        while !tree.has_told() && !tree.is_gone() {
            assert!(
                since.elapsed() < LONG,
                "{} does not begin: {}",
                tree.behaviour,
                self.job(tree).await
            );
            pause(5).await;
        }
    }

    async fn job(&self, tree: &Tree) -> Value {
        self.server.get(&format!("/api/v1/jobs/{}", tree.job)).await
    }

    async fn stop_all(&mut self, trees: &[Tree]) {
        match self.stop {
            Stop::Time | Stop::Memory | Stop::ByItself => {}
            Stop::Cancel => self.cancel_all(trees).await,
            Stop::Server => {
                self.server.kill();
                self.server.restart();
                self.cancel_all(trees).await;
            }
            Stop::Shim => self.strike(trees, &[Signal::SIGKILL], true, false).await,
            Stop::Guard => self.strike(trees, &[Signal::SIGKILL], false, true).await,
            // Stopped first, so that neither sees the other die.
            Stop::Both => {
                let signals = [Signal::SIGSTOP, Signal::SIGKILL];
                self.strike(trees, &signals, true, true).await;
            }
        }
    }

    async fn cancel_all(&self, trees: &[Tree]) {
        for tree in trees {
            let path = format!("/api/v1/jobs/{}/cancel", tree.job);
            let (status, job) = self.server.post(&path, &json!({})).await;
            assert_eq!(status, 200, "{job}");
        }
    }

    async fn strike(&self, trees: &[Tree], signals: &[Signal], shim: bool, guard: bool) {
        for tree in trees {
            // A job that ended by itself has no supervisors any more.
            if is_final(&self.job(tree).await) {
                continue;
            }
            let record = self.server.read_json(&tree.job, "attempts/1/shim.json");
            let pids = [(shim, &record["pid"]), (guard, &record["guard"]["pid"])];
            for signal in signals {
                for (_, pid) in pids.iter().filter(|(wanted, _)| *wanted) {
                    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
                    kill(Pid::from_raw(pid), *signal).ok();
                }
            }
        }
    }

    async fn until_over(&self, tree: &Tree) -> Value {
        let since = Instant::now();
        loop {
            let job = self.job(tree).await;
            // Only where nobody is left to see its end; otherwise a machine that is slow says so, and gets on.
            let is_stuck = job["stuck"] == true && self.stop == Stop::Both;
            if is_final(&job) || is_stuck || since.elapsed() > 2 * LONG {
                return job;
            }
            pause(5).await;
        }
    }

    fn judge(&self, cell: &mut Cell, tree: &Tree, job: &Value) {
        cell.runs += 1;
        let left = processes_of(&tree.program);
        let what = format!(
            "{} {} {}",
            self.matrix.level,
            tree.behaviour,
            self.stop.name()
        );
        let level = self.matrix.level.as_str();
        if job["process_control"] != level {
            cell.violations
                .push(format!("{what}: another level: {job}"));
        }
        if job["stuck"] == true {
            cell.stuck += 1;
            if self.stop != Stop::Both || self.matrix.level != "guard" {
                cell.violations.push(format!("{what}: stuck: {job}"));
            }
            return;
        }
        if !left.is_empty() || !tree.is_gone() {
            cell.left += 1;
            cell.violations
                .push(format!("{what}: {left:?} left: {job}"));
        }
        if !is_final(job) {
            cell.violations
                .push(format!("{what}: it does not end: {job}"));
        } else if !self.ended_rightly(tree, job) {
            cell.violations
                .push(format!("{what}: it has no reason to end so: {job}"));
        }
    }

    fn ended_rightly(&self, tree: &Tree, job: &Value) -> bool {
        let kind = job["failure"]["kind"].as_str();
        let state = job["state"].as_str().unwrap_or_default();
        if tree.behaviour == "orphans-hold-pipes" {
            // Its main process ends at once, by a signal or by itself, whatever else is done.
            return true;
        }
        match self.stop {
            Stop::Cancel | Stop::Server => state == "cancelled",
            Stop::Time => kind == Some("timed_out"),
            Stop::Memory => kind == Some("out_of_memory"),
            Stop::Shim | Stop::Guard | Stop::Both => kind == Some("interrupted"),
            Stop::ByItself => state == "succeeded",
        }
    }
}

impl Tree {
    /// The main process says that all are there.
    fn has_told(&self) -> bool {
        let mut byte = [0];
        (&self.alive).read(&mut byte).is_ok_and(|count| count == 1)
    }

    /// True when no process has the FIFO open any more, after some had.
    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.alive.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap();
        fds[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// So that a failed cell leaves nothing to the next.
    fn clean_up(&self) {
        // Chains of forks end by themselves at this.
        std::fs::remove_file(&self.program).unwrap();
        for _ in 0..1000 {
            let left = processes_of(&self.program);
            if left.is_empty() {
                break;
            }
            for pid in left {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        std::fs::remove_dir_all(parent(&self.program)).unwrap();
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap()
}
