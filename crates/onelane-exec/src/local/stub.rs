//! A process that waits to become an attempt's tool. It is in its control groups and in its session before there is an
//! attempt: to move a process into a group takes the kernel milliseconds, to become another program takes it none.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use nix::unistd::{ForkResult, fork, getpid};
use serde::{Deserialize, Serialize};

use super::cgroup::AttemptGroups;
use super::guard::{bare_command, enter, place, stand_alone};
use super::shim::leave_forked_child;
use crate::record::StartMessage;

/// What it says when it is in its groups.
const READY: &[u8; 1] = b"r";

/// The guard's side.
pub(crate) struct Stub {
    pid: u32,
    orders: UnixStream,
}

/// Why it could not become the tool.
#[derive(Serialize, Deserialize)]
struct Refusal {
    os_error: Option<i32>,
    is_missing: bool,
    is_denied: bool,
    message: String,
}

impl Stub {
    /// Forks it off the guard, which must have a single thread, and waits until it is in its groups.
    ///
    /// # Errors
    /// When there can't be such a process; then none is left that would matter.
    #[expect(
        unsafe_code,
        reason = "the guard is single-threaded, so the child may go on in Rust"
    )]
    pub(super) fn fork(
        groups: &AttemptGroups,
        logs: &(PipeWriter, PipeWriter),
    ) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let entrances = groups.entrances()?;
        let yields = !groups.keeps("cpu");
        let logs = (logs.0.try_clone()?, logs.1.try_clone()?);
        let guard = getpid();
        // SAFETY: no other thread exists in a guard, so no lock can be held by one.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(ours);
                let ended = stand_alone(guard)
                    .and_then(|()| enter(&entrances, yields))
                    .and_then(|()| (&theirs).write_all(READY))
                    .and_then(|()| wait(theirs, entrances, logs));
                leave_forked_child(&ended)
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                ours.read_exact(&mut [0])?;
                Ok(Self {
                    pid: child.as_raw().unsigned_abs(),
                    orders: ours,
                })
            }
        }
    }

    /// Has it become the tool; its number, once it has.
    ///
    /// # Errors
    /// As those of starting the tool.
    pub(super) fn become_tool(mut self, message: &StartMessage) -> io::Result<u32> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.orders.write_all(&line)?;
        let mut answer = Vec::new();
        // A socket that is closed without a word was closed by the tool's beginning.
        self.orders.read_to_end(&mut answer)?;
        if answer.is_empty() {
            return Ok(self.pid);
        }
        Err(serde_json::from_slice::<Refusal>(&answer)?.into())
    }
}

/// In the stub: until it is told what to become, or the guard is gone.
fn wait(
    orders: UnixStream,
    entrances: Vec<File>,
    (stdout, stderr): (PipeWriter, PipeWriter),
) -> io::Result<()> {
    drop(entrances);
    let mut line = String::new();
    let mut reader = BufReader::new(orders);
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let message: StartMessage = serde_json::from_str(&line)?;
    let begun = bare_command(&message, &message.command).and_then(|mut command| {
        place(&message, &mut command)?;
        // Comes back with an error only.
        Err(command.stdout(stdout).stderr(stderr).exec())
    });
    match begun {
        Ok(()) => Ok(()),
        Err(error) => {
            let refusal = serde_json::to_vec(&Refusal::from(&error))?;
            reader.get_mut().write_all(&refusal)
        }
    }
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        Self {
            os_error: error.raw_os_error(),
            is_missing: error.kind() == io::ErrorKind::NotFound,
            is_denied: error.kind() == io::ErrorKind::PermissionDenied,
            message: error.to_string(),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal {
                os_error: Some(number),
                ..
            } => Self::from_raw_os_error(number),
            Refusal {
                is_missing: true,
                message,
                ..
            } => Self::new(io::ErrorKind::NotFound, message),
            Refusal {
                is_denied: true,
                message,
                ..
            } => Self::new(io::ErrorKind::PermissionDenied, message),
            Refusal { message, .. } => Self::other(message),
        }
    }
}
