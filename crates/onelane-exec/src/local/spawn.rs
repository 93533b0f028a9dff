//! Spawns shims, and speaks with them.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::fail_point;
use crate::record::{ShimOrder, StartMessage, StatusLine};

pub(super) fn new_shim() -> io::Result<Child> {
    // The magic link names this very program, also when an upgrade has replaced the file.
    Command::new("/proc/self/exe")
        .arg("shim")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

pub(super) async fn say(child: &mut Child, order: &ShimOrder) -> io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    match &mut child.stdin {
        Some(stdin) => stdin.write_all(&line).await,
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Starts a shim with this message, and gives its answer.
pub(super) async fn spawn_shim(message: &StartMessage) -> io::Result<Option<StatusLine>> {
    hear(new_shim()?, message).await
}

pub(super) async fn hear(
    mut child: Child,
    message: &StartMessage,
) -> io::Result<Option<StatusLine>> {
    fail_point("exec.after_spawn");
    let status = converse(&mut child, message).await;
    // Only so that no zombie stays: how the attempt ended is never taken from here.
    tokio::spawn(async move { child.wait().await });
    status
}

async fn converse(child: &mut Child, message: &StartMessage) -> io::Result<Option<StatusLine>> {
    say(child, &ShimOrder::Start(Box::new(message.clone()))).await?;
    drop(child.stdin.take());
    let Some(stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut answer = String::new();
    BufReader::new(stdout).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer).ok())
}
