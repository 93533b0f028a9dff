//! A warm worker whose jobs do nothing (docs/warm-workers.md).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// Until it is told to go.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut socket = UnixStream::connect(std::env::var("ONELANE_WORKER_SOCKET")?)?;
    socket.write_all(b"{\"type\": \"hello\", \"protocol\": 1}\n")?;
    let lines = BufReader::new(socket.try_clone()?).lines();
    for line in lines {
        let message: Value = serde_json::from_str(&line?)?;
        match message["type"].as_str() {
            Some("run") => socket.write_all(b"{\"type\": \"done\"}\n")?,
            Some("ping") => socket.write_all(b"{\"type\": \"pong\"}\n")?,
            Some("bye") => break,
            _ => {}
        }
    }
    Ok(())
}
