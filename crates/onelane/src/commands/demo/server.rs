//! The demonstration's own server: started, killed, started again, put away.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use crate::client::Client;

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server in a process of its own.
pub(super) struct DemoServer {
    child: Child,
    folder: PathBuf,
    address: String,
    stays: bool,
}

impl DemoServer {
    /// Starts one on this address (port 0: a free one), with its data below the folder.
    pub(super) async fn start(folder: &Path, listen: &str) -> anyhow::Result<Self> {
        let seen = fs::metadata(log_path(folder)).map_or(0, |log| log.len());
        let child = spawn(folder, listen)?;
        let mut server = Self {
            child,
            folder: folder.to_owned(),
            address: listen.to_owned(),
            stays: false,
        };
        let address = timeout(START_WITHIN, server.announced(seen)).await;
        server.address = address.unwrap_or_else(|_| {
            Err(anyhow::anyhow!(
                "the server did not start in time:\n{}",
                server.said(seen)
            ))
        })?;
        Ok(server)
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client of it.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&format!("http://{}", self.address))?)
    }

    /// Ends it without a warning (SIGKILL), as a crash or the kernel's out-of-memory killer would.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("failed to kill the server")?;
        self.child.wait().context("failed to wait for the server")?;
        Ok(())
    }

    /// Starts it again on the same data and the same port.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<()> {
        let listen = self.address.clone();
        *self = Self::start(&self.folder, &listen).await?;
        Ok(())
    }

    /// The supervisor of a job's first attempt, as its folder has it.
    pub(super) fn shim_of(&self, id: &str) -> Option<Shim> {
        let shard = id.get(id.len().checked_sub(2)?..)?;
        let path = self
            .folder
            .join("data/jobs")
            .join(shard)
            .join(id)
            .join("attempts/1/shim.json");
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Lets it live on when this value goes.
    pub(super) fn leave_up(mut self) {
        self.stays = true;
    }

    /// Ends what runs, then the server. A job outlives its server by design, so the jobs come first, even if that
    /// takes starting a server once more.
    pub(super) async fn put_away(mut self) {
        if !self.is_alive() && self.start_again().await.is_err() {
            return;
        }
        if let Ok(client) = self.client() {
            // Whatever fails here, the server is ended all the same.
            drop(timeout(STOP_WITHIN, end_jobs(&client)).await);
        }
        self.stop().await;
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn stop(&mut self) {
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_err() {
            return;
        }
        let ended = async {
            while self.is_alive() {
                sleep(LOOK_EVERY).await;
            }
        };
        // Out of time: dropping it kills it.
        drop(timeout(STOP_WITHIN, ended).await);
    }

    /// Waits for the line that names the address. The server writes to a file and not to a pipe, because with
    /// `--keep` it outlives its reader.
    async fn announced(&mut self, seen: u64) -> anyhow::Result<String> {
        loop {
            let alive = self.is_alive();
            if let Some(address) = announced_in(&self.said(seen)) {
                return Ok(address);
            }
            anyhow::ensure!(alive, "the server ended at once:\n{}", self.said(seen));
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the server has written since its log had this length.
    fn said(&self, seen: u64) -> String {
        let bytes = fs::read(log_path(&self.folder)).unwrap_or_default();
        let from = usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        if !self.stays && self.is_alive() {
            drop(self.kill());
        }
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn spawn(folder: &Path, listen: &str) -> anyhow::Result<Child> {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_path(folder))
        .context("failed to open the server's log")?;
    let mut command =
        Command::new(std::env::current_exe().context("failed to find this program's file")?);
    command
        .args(["serve", "--listen", listen, "--data"])
        .arg(folder.join("data"));
    // A tools file of the user's, in the current folder or named by the environment, is none of the demonstration's.
    command
        .current_dir(folder)
        .env_remove("ONELANE_CONFIG")
        .env_remove("ONELANE_DATA")
        .env_remove("ONELANE_LISTEN");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // Its own group: Ctrl-C is for the demonstration, which then puts the server away in good order.
    command
        .process_group(0)
        .spawn()
        .context("failed to start the server")
}

/// The address in a whole line `… listening on http://ADDRESS`.
fn announced_in(text: &str) -> Option<String> {
    let whole = &text[..=text.rfind('\n')?];
    let line = whole
        .lines()
        .find_map(|line| line.split_once("listening on http://"))?;
    line.1.split_whitespace().next().map(str::to_owned)
}

async fn end_jobs(client: &Client) -> anyhow::Result<()> {
    client.queue_order("pause").await?;
    loop {
        let queue = client.queue().await?;
        if queue.running == 0 {
            return Ok(());
        }
        for job in queue
            .jobs
            .iter()
            .filter(|job| matches!(job.state.as_str(), "starting" | "running"))
        {
            client.cancel(&job.id).await?;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A supervisor's process, told apart from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Shim {
    /// Its number.
    pub(super) pid: u32,
    start_time: u64,
}

impl Shim {
    /// Whether this very process lives (`/proc/<pid>/stat`, fields 3 and 22; proc(5)).
    pub(super) fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The program's name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
        fields.first().is_some_and(|state| *state != "Z")
            && fields.get(19).and_then(|start| start.parse().ok()) == Some(self.start_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_a_whole_line_only() {
        assert_eq!(
            announced_in("onelane listening on http://127.0.0.1:4"),
            None
        );
        assert_eq!(
            announced_in("x\nonelane listening on http://127.0.0.1:4711\ndata in /x\n").as_deref(),
            Some("127.0.0.1:4711")
        );
    }

    #[test]
    fn a_process_is_known_by_its_number_and_start() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let start_time = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(19)
            .unwrap()
            .parse()
            .unwrap();
        let this = Shim {
            pid: std::process::id(),
            start_time,
        };
        assert!(this.is_alive());
        assert!(
            !Shim {
                start_time: start_time + 1,
                ..this
            }
            .is_alive()
        );
    }
}
