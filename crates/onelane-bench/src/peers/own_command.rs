//! Queues without HTTP: their users submit and ask by the queue's own command, and so does the load.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tempfile::TempDir;

use super::{Way, debian, environment};
use crate::Common;
use crate::brood::Brood;
use crate::load::{Call, Errand};
use crate::server;

/// A daemon listens within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon of such a queue, with a folder of its own. Dropping it ends it and all its jobs.
pub(super) struct Daemon {
    /// The command and the options that all its uses share.
    submit: Vec<String>,
    ask: Vec<String>,
    settings: Vec<(&'static str, String)>,
    child: Option<Child>,
    /// Before the folder: what runs in it ends first.
    _brood: Brood,
    folder: TempDir,
}

impl Daemon {
    pub(super) fn start(common: &Common, way: Way) -> anyhow::Result<Self> {
        let folder = server::folder(common)?;
        let brood = Brood::of(folder.path());
        if way == Way::Pueue {
            return Self::pueue(folder, brood);
        }
        Self::task_spooler(folder, brood)
    }

    /// Its first command makes a server that goes into the background.
    fn task_spooler(folder: TempDir, brood: Brood) -> anyhow::Result<Self> {
        let tsp = debian("tsp").context("tsp is gone")?;
        let tsp = tsp.display().to_string();
        // Relative to the folder that all commands run in: a socket's path is short.
        let settings = vec![
            brood.setting(),
            ("TS_SOCKET", "socket".to_owned()),
            ("TMPDIR", folder.path().display().to_string()),
        ];
        let mut first = Command::new(&tsp);
        first.args(["-S", "1"]).current_dir(folder.path());
        first.envs(settings.iter().map(|(name, value)| (name, value)));
        // The server keeps what it gets.
        first.stdin(Stdio::null()).stdout(Stdio::null());
        let status = first.status().context("can't start task-spooler")?;
        ensure!(status.success(), "task-spooler does not start: {status}");
        Ok(Self {
            submit: vec![tsp.clone()],
            ask: vec![tsp, "-s".to_owned()],
            settings,
            child: None,
            _brood: brood,
            folder,
        })
    }

    fn pueue(folder: TempDir, brood: Brood) -> anyhow::Result<Self> {
        let programs = environment().join("bin");
        let place = folder.path().display();
        let configuration = format!(
            "shared:\n  pueue_directory: {place}\n  runtime_directory: {place}\n  unix_socket_path: socket\n"
        );
        std::fs::write(folder.path().join("pueue.yml"), configuration)?;
        let settings = vec![
            brood.setting(),
            ("PUEUE_CONFIG_PATH", "pueue.yml".to_owned()),
        ];
        let mut daemon = Command::new(programs.join("pueued"));
        daemon.current_dir(folder.path());
        daemon.envs(settings.iter().map(|(name, value)| (name, value)));
        daemon
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = daemon.spawn().context("can't start pueued")?;
        let pueue = programs.join("pueue").display().to_string();
        let words = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            std::iter::once(pueue.clone()).chain(words).collect()
        };
        let started = Self {
            submit: words(&["add", "--print-task-id", "--escape", "--"]),
            ask: words(&["status", "--json"]),
            settings,
            child: Some(child),
            _brood: brood,
            folder,
        };
        started.until_it_listens()?;
        Ok(started)
    }

    fn until_it_listens(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        let socket = self.folder.path().join("socket");
        while !socket.exists() {
            ensure!(since.elapsed() < PATIENCE, "pueued does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn errand(&self, words: Vec<String>) -> Call {
        Call::Errand(Errand {
            words,
            settings: self.settings.clone(),
            folder: self.folder.path().to_owned(),
        })
    }

    /// Submits a job that runs this command.
    pub(super) fn job(&self, words: &[&str]) -> Call {
        let mut all = self.submit.clone();
        all.extend(words.iter().map(|word| (*word).to_owned()));
        self.errand(all)
    }

    /// task-spooler is asked about the job, pueue about them all: it knows no other question.
    pub(super) fn question(&self, answer: &Bytes) -> anyhow::Result<Call> {
        let mut words = self.ask.clone();
        if self.child.is_none() {
            let id = std::str::from_utf8(answer)?.trim();
            words.push(id.parse::<u64>().context("no number of a job")?.to_string());
        }
        Ok(self.errand(words))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
