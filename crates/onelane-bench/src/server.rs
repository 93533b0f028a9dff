//! Servers to measure, each a process of its own with fresh data.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Common;
use crate::brood::Brood;
use crate::load::{Connection, Shot};
use crate::trace;

/// A server starts or ends within this time.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running server. Dropping it stops it and removes its data.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) address: String,
    child: Option<Child>,
    command: Command,
    /// Ends before the folder goes.
    brood: Option<Brood>,
    folder: TempDir,
}

impl Served {
    /// `onelane serve` with these tools.
    pub(crate) fn onelane(common: &Common, tools: &str) -> anyhow::Result<Self> {
        let command = Command::new(common.onelane()?);
        Self::serve(command, folder(common)?, tools)
    }

    /// The same, with the system calls that [`trace::steps`] reads written to a file. strace is the grandchild, so that
    /// signals reach the server.
    pub(crate) fn traced(common: &Common, tools: &str, file: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-ttt", "-T", "-y", "-s", "200"]);
        command.args(["-e", trace::CALLS, "-o"]).arg(file);
        command.arg(common.onelane()?);
        Self::serve(command, folder(common)?, tools)
    }

    fn serve(mut command: Command, folder: TempDir, tools: &str) -> anyhow::Result<Self> {
        let config = folder.path().join("onelane.toml");
        std::fs::write(&config, tools)?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(folder.path().join("data"));
        command.arg("--config").arg(config);
        command.env("RUST_LOG", "warn");
        Self::start("Onelane", command, folder)
    }

    /// This program's own bare servers.
    pub(crate) fn hello(common: &Common) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("hello");
        Self::start("hello", command, folder(common)?)
    }

    pub(crate) fn probe(common: &Common) -> anyhow::Result<Self> {
        let folder = folder(common)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("probe").arg(folder.path());
        Self::start("probe", command, folder)
    }

    /// Another program's server, that says where it listens. What it starts ends with it.
    pub(crate) fn program(
        common: &Common,
        name: &str,
        mut command: Command,
    ) -> anyhow::Result<Self> {
        let folder = folder(common)?;
        let brood = Brood::of(folder.path());
        brood.add(&mut command);
        // Where what it leaves in temporary files goes with its folder.
        command.env("TMPDIR", folder.path());
        let mut served = Self::start(name, command, folder)?;
        served.brood = Some(brood);
        Ok(served)
    }

    fn start(name: &str, mut command: Command, folder: TempDir) -> anyhow::Result<Self> {
        command.current_dir(folder.path()).stdout(Stdio::piped());
        let mut served = Self {
            name: name.to_owned(),
            address: String::new(),
            child: None,
            command,
            brood: None,
            folder,
        };
        served.launch()?;
        Ok(served)
    }

    /// Starts the process and waits until it says where it listens.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        let mut child = self.command.spawn().context("can't start a server")?;
        let stdout = child.stdout.take().context("a server without output")?;
        self.child = Some(child);
        let (said, hears) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            said.send(lines.next()).ok();
            // What else it prints must not fill the pipe.
            lines.for_each(drop);
        });
        match hears.recv_timeout(PATIENCE) {
            Ok(Some(Ok(line))) if line.contains("http://") => {
                line.rsplit("http://")
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut self.address);
                Ok(())
            }
            other => bail!("{} does not start: {other:?}", self.name),
        }
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("no running server")?.id())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).ok();
        }
        let since = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().ok();
        child.wait().ok();
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::new(&self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A folder for a server's data, on the disk to be measured; dropping it removes it.
pub(crate) fn folder(common: &Common) -> anyhow::Result<TempDir> {
    std::fs::create_dir_all(&common.out)?;
    let out = std::path::absolute(&common.out)?;
    tempfile::tempdir_in(out).context("can't make a folder for a server's data")
}

/// Holds back the starts of jobs, or goes on.
pub(crate) async fn pause(connection: &mut Connection, on: bool) -> anyhow::Result<()> {
    let word = if on { "pause" } else { "resume" };
    let shot = Shot::post(&format!("/api/v1/queue/{word}"), "", "");
    connection.must(&shot).await?;
    Ok(())
}

/// Submits to a tool; gives the id.
pub(crate) async fn submit(
    connection: &mut Connection,
    tool: &str,
    params: &Value,
    query: &str,
) -> anyhow::Result<String> {
    let path = format!("/api/v1/tools/{tool}/jobs{query}");
    let shot = Shot::post(&path, "application/json", params.to_string());
    let job = connection.json(&shot).await?;
    Ok(job["id"]
        .as_str()
        .context("a job without an id")?
        .to_owned())
}

/// Waits until a job is in a state for which `reached` holds.
pub(crate) async fn until(
    connection: &mut Connection,
    id: &str,
    reached: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let shot = Shot::get(format!("/api/v1/jobs/{id}"));
    loop {
        let job = connection.json(&shot).await?;
        if reached(job["state"].as_str().unwrap_or_default()) {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            bail!("a job does not get on: {job}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A sequence of so many residues, as one FASTA record; the same each time.
pub(crate) fn fasta(residues: usize) -> String {
    const AMINO_ACIDS: &[u8; 20] = b"ACDEFGHIKLMNPQRSTVWY";
    let mut text = String::from(">query\n");
    let mut number = 1_u32;
    for place in 0..residues {
        if place > 0 && place % 60 == 0 {
            text.push('\n');
        }
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push(char::from(AMINO_ACIDS[(number >> 16) as usize % 20]));
    }
    text.push('\n');
    text
}

/// Tools of a measured server: one that does nothing, and the hogs.
/// A hog outlives a server that is stopped, as any job does, but not its time limit.
pub(crate) fn tools() -> anyhow::Result<String> {
    let own = std::env::current_exe()?;
    let own = json!(own.to_str().context("this program's path is not UTF-8")?);
    Ok(format!(
        r#"
[tools.noop]
title = "Nothing, with a sequence"
command = ["true"]
[tools.noop.params.query]
type = "fasta"
alphabet = "protein"

[tools.nothing]
title = "Nothing at all"
command = ["true"]

[tools.warm]
title = "Nothing, in a process that stays"
worker = [{own}, "warm"]

[tools.cpu]
title = "Every core"
command = [{own}, "hog", "cpu"]
limits = {{ time = "10m" }}

[tools.memory_disk]
title = "Memory bandwidth and disk writes"
command = [{own}, "hog", "memory-disk"]
limits = {{ time = "10m" }}
"#
    ))
}

/// Where a server's bench data is kept.
pub(crate) fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_of(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
