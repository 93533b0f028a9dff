//! For tests only: a real server as a child process, that can be killed and started again on the same data.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a fixture fails by panicking"
)]

pub mod fail_points;
pub mod hostile;
pub mod hostile_child;
pub mod torture;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Nothing in a test takes longer.
pub const LONG: Duration = Duration::from_mins(1);

/// A server process, its data folder, and a client.
pub struct TestServer {
    binary: PathBuf,
    folder: PathBuf,
    /// Removes the folder at the end.
    temporary: Option<tempfile::TempDir>,
    with_tools_file: bool,
    flags: Vec<String>,
    child: Option<Child>,
    address: String,
    /// The server runs as this user, from the next start on.
    pub user: Option<u32>,
    /// Environment of the server, from the next start on.
    pub env: Vec<(String, String)>,
    /// The client.
    pub http: reqwest::Client,
}

impl TestServer {
    /// Starts a server with this tools file, or with the built-in tool.
    pub fn start(binary: &str, tools_file: Option<&str>) -> Self {
        Self::start_with(binary, tools_file, &[])
    }

    /// Starts a server with these flags of `serve`, now and whenever it is started again.
    pub fn start_with(binary: &str, tools_file: Option<&str>, flags: &[&str]) -> Self {
        Self::begin(binary, tools_file, flags, |_| ())
    }

    /// Starts a server as an ordinary user, by its number; only root may.
    pub fn start_as(binary: &str, tools_file: Option<&str>, user: u32) -> Self {
        Self::begin(binary, tools_file, &[], |server| {
            let folder = server.folder.clone();
            std::os::unix::fs::chown(&folder, Some(user), Some(user)).unwrap();
            // The build folder may be closed to others.
            server.binary = folder.join("onelane");
            std::fs::copy(binary, &server.binary).unwrap();
            server.user = Some(user);
        })
    }

    /// Starts a server after `prepare` was given the folder that will hold the data folder `data` and the tools file.
    pub fn start_on(binary: &str, tools_file: Option<&str>, prepare: impl FnOnce(&Path)) -> Self {
        Self::begin(binary, tools_file, &[], |server| prepare(&server.folder))
    }

    fn begin(
        binary: &str,
        tools_file: Option<&str>,
        flags: &[&str],
        prepare: impl FnOnce(&mut Self),
    ) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut server = Self::in_folder(binary, tools_file, temporary.path());
        server.temporary = Some(temporary);
        server.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        prepare(&mut server);
        server.restart();
        server
    }

    /// A server that is not started yet, in a folder that stays.
    pub fn in_folder(binary: &str, tools_file: Option<&str>, folder: &Path) -> Self {
        if let Some(text) = tools_file {
            std::fs::write(folder.join("onelane.toml"), text).unwrap();
        }
        Self {
            binary: binary.into(),
            folder: folder.to_owned(),
            temporary: None,
            with_tools_file: tools_file.is_some(),
            child: None,
            address: "127.0.0.1:0".to_owned(),
            flags: Vec::new(),
            user: None,
            env: Vec::new(),
            http: reqwest::Client::new(),
        }
    }

    /// Starts the server again, at the same address.
    pub fn restart(&mut self) {
        let lines = self.launch();
        assert!(self.listens(lines), "the server says where it listens");
    }

    /// Starts the process, and does not wait until it listens: give what it prints to [`TestServer::listens`].
    pub fn launch(&mut self) -> std::io::Lines<BufReader<ChildStdout>> {
        assert!(self.child.is_none(), "the server is still there");
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--listen", &self.address, "--data"])
            .arg(self.data())
            .args(&self.flags);
        if self.with_tools_file {
            command
                .arg("--config")
                .arg(self.folder().join("onelane.toml"));
        }
        command
            .current_dir(self.folder())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.child = Some(child);
        lines
    }

    /// Waits until the server says where it listens; false when it has died before.
    pub fn listens(&mut self, mut lines: std::io::Lines<BufReader<ChildStdout>>) -> bool {
        let (said, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            said.send(lines.next()).ok();
            // Whatever else it prints must not fill the pipe.
            lines.for_each(drop);
        });
        let first = hears.recv_timeout(LONG).expect("the server starts or dies");
        let Some(Ok(first)) = first else {
            return false;
        };
        self.address = first.rsplit("http://").next().unwrap().into();
        // Connections to the killed server must not be tried again.
        self.http = reqwest::Client::new();
        true
    }

    /// How the server's process has ended, if it has: by itself, or by a fail point. It can be started again then.
    pub fn has_died(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().unwrap();
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and its end; gives the time that it took.
    pub fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().expect("a running server");
        let since = Instant::now();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
        since.elapsed()
    }

    /// Runs another program from the next start on: an upgrade.
    pub fn upgrade(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// SIGTERM, without waiting for the end.
    pub fn ask_to_stop(&self) {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).unwrap();
    }

    /// Waits for the end of a server that was asked to stop.
    pub fn wait_stopped(&mut self) {
        assert!(
            self.child
                .take()
                .expect("a server")
                .wait()
                .unwrap()
                .success()
        );
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A whole URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder around the data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A job's folder.
    pub fn job_folder(&self, id: &str) -> PathBuf {
        self.data().join("jobs").join(&id[34..]).join(id)
    }

    /// GET, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let response = self
            .http
            .get(self.url(path))
            .timeout(LONG)
            .send()
            .await
            .unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("GET {path}: {text}"))
    }

    /// POST of a JSON body, as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self
            .http
            .post(self.url(path))
            .json(body)
            .timeout(LONG)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// Submits parameters to a tool; gives the new job's id.
    pub async fn submit(&self, tool: &str, params: &Value) -> String {
        let (status, job) = self
            .post(&format!("/api/v1/tools/{tool}/jobs"), params)
            .await;
        assert_eq!(status, 201, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    /// The job at its end.
    pub async fn wait(&self, id: &str) -> Value {
        let since = Instant::now();
        loop {
            let job = self.get(&format!("/api/v1/jobs/{id}?wait=30")).await;
            if is_final(&job) {
                return job;
            }
            assert!(since.elapsed() < LONG * 3, "{job}");
        }
    }

    /// The job once it is in this state.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let since = Instant::now();
        loop {
            let job = self.get(&format!("/api/v1/jobs/{id}")).await;
            if job["state"] == state {
                return job;
            }
            assert!(
                since.elapsed() < LONG && !is_final(&job),
                "waiting for {state}: {job}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A JSON file of a job's folder.
    pub fn read_json(&self, id: &str, path: &str) -> Value {
        let path = self.job_folder(id).join(path);
        serde_json::from_slice(
            &std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        )
        .unwrap()
    }
}

/// A small file system of its own in memory, mounted on a folder; only root can make one.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many bytes. Nothing (and a loud line) where mounting is not allowed.
    pub fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={bytes}");
        let disk = Self {
            folder: folder.to_owned(),
        };
        if disk.run(&["-t", "tmpfs", "-o", &options, "tmpfs"]) {
            return Some(disk);
        }
        std::mem::forget(disk);
        eprintln!("SKIPPED: no small file system can be mounted here (that needs root)");
        None
    }

    /// `mount -o remount,…`; false while a file is open for writing.
    pub fn remount(&self, option: &str) -> bool {
        self.run(&["-o", &format!("remount,{option}")])
    }

    fn run(&self, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(&self.folder);
        mount.stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    }

    /// Fills all that is free but about so many bytes, with one file; gives its path.
    pub fn fill_but(&self, bytes: u64) -> PathBuf {
        let path = self.folder.join("ballast");
        let free = self.free();
        let file = std::fs::File::create(&path).unwrap();
        let ballast = free.saturating_sub(bytes);
        nix::fcntl::posix_fallocate(&file, 0, ballast.cast_signed()).unwrap();
        path
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let found = nix::sys::statvfs::statvfs(&self.folder).unwrap();
        found.blocks_available() * found.fragment_size()
    }
}

impl Drop for SmallDisk {
    /// Detached, since what a failed test left running may still be in it.
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(&self.folder)
            .status()
            .ok();
    }
}

/// True for the three ends.
pub fn is_final(job: &Value) -> bool {
    matches!(
        job["state"].as_str(),
        Some("succeeded" | "failed" | "cancelled")
    )
}

/// Processes that have this text in their environment: what is left of a job.
pub fn processes_with(marker: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == marker.as_bytes())
    })
    .collect()
}

impl Drop for TestServer {
    /// Ends the server (politely, so that it leaves no control groups behind), then whatever shims a failed test has left, by the numbers that they wrote down.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).ok();
            let since = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().ok();
            child.wait().ok();
        }
        for shim in left_shims(&self.data().join("jobs")) {
            kill(Pid::from_raw(shim), Signal::SIGTERM).ok();
        }
    }
}

/// The folders of all attempts of all jobs.
pub(crate) fn attempt_folders(jobs: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect::<Vec<_>>()
    };
    let jobs = below(jobs).into_iter().flat_map(|shard| below(&shard));
    jobs.flat_map(|job| below(&job.join("attempts"))).collect()
}

fn left_shims(jobs: &Path) -> Vec<i32> {
    let attempts = attempt_folders(jobs).into_iter();
    let alive = attempts.filter(|attempt| !attempt.join("exit.json").exists());
    let records = alive.filter_map(|attempt| std::fs::read(attempt.join("shim.json")).ok());
    let pids =
        records.filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok()?["pid"].as_i64());
    pids.filter_map(|pid| i32::try_from(pid).ok()).collect()
}
