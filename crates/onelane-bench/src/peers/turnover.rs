//! How long one no-op job after another takes a peer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::fs::{FileType, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::{Peer, Running, Way};
use crate::Common;
use crate::load::Connection;

/// A peer gets a job done within this time.
const PATIENCE: Duration = Duration::from_mins(2);
/// Run before, to warm up.
const FIRST: usize = 3;

/// Runs so many jobs of `true`, one by one; milliseconds each.
pub(crate) async fn one_by_one(common: &Common, peer: &Peer, jobs: usize) -> anyhow::Result<f64> {
    let running = peer.start(common, true)?;
    let measured = if peer.way == Way::StartingPoint {
        sent_one_by_one(&running, jobs).await
    } else {
        queued(&running, jobs).await
    };
    measured.with_context(|| {
        let said = std::fs::read_to_string(running.folder().join("worker.log"));
        format!("{} does not get on {}", peer.name, said.unwrap_or_default())
    })
}

/// Behind a job that waits until all are queued; the last one tells its beginning. So as many ends and next beginnings
/// are counted as there are jobs, and one more.
async fn queued(running: &Running, jobs: usize) -> anyhow::Result<f64> {
    let mut connection = Connection::new(running.address());
    let (go, over) = (running.folder().join("go"), running.folder().join("over"));
    make_pipe(&go)?;
    make_pipe(&over)?;
    // For writing too: nobody who writes there already is no end of the file.
    let mut over_is_told = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&over)?;
    for _ in 0..FIRST {
        connection.call(&running.job(&["true"])).await?;
    }
    let wait = format!("read _ < '{}'", go.display());
    let tell = format!("echo > '{}'", over.display());
    connection.call(&running.job(&["sh", "-c", &wait])).await?;
    for _ in 0..jobs {
        connection.call(&running.job(&["true"])).await?;
    }
    connection.call(&running.job(&["sh", "-c", &tell])).await?;
    let mut go = once_read(&go).await?;
    let begun = Instant::now();
    go.write_all(b"\n").await?;
    drop(go);
    let heard = tokio::time::timeout(PATIENCE, over_is_told.read_u8()).await;
    heard.context("the last job does not come")??;
    Ok(crate::turnover::each(begun, jobs + 1))
}

/// The starting point's server takes no request while a job runs: each is sent when the one before has been answered,
/// and a last question is answered when the last job is over.
async fn sent_one_by_one(running: &Running, jobs: usize) -> anyhow::Result<f64> {
    let mut connection = Connection::new(running.address());
    let job = running.job(&["true"]);
    for _ in 0..FIRST {
        connection.call(&job).await?;
    }
    let begun = Instant::now();
    let mut answer = bytes::Bytes::new();
    for _ in 0..jobs {
        answer = connection.call(&job).await?;
    }
    let backlog = connection.call(&running.question(&answer)?).await?;
    let measured = crate::turnover::each(begun, jobs);
    ensure!(
        backlog.starts_with(b"[\"Currently 0 "),
        "jobs are left: {backlog:?}"
    );
    Ok(measured)
}

/// A pipe with a name.
fn make_pipe(path: &Path) -> anyhow::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0)
        .with_context(|| format!("can't make {}", path.display()))
}

/// Opens a pipe as soon as somebody reads it.
async fn once_read(path: &Path) -> anyhow::Result<pipe::Sender> {
    let since = Instant::now();
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Ok(sender) => return Ok(sender),
            Err(error) if since.elapsed() > PATIENCE => {
                return Err(error).context("no job begins");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
