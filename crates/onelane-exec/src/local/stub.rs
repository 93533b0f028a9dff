//! A process that waits to become an attempt's tool. It is in its control groups and in its session before there is an
//! attempt: to move a process into a group takes the kernel milliseconds, to become another program takes it none.

use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use nix::unistd::{ForkResult, fork, getpid};
use serde::{Deserialize, Serialize};

use super::cgroup::AttemptGroups;
use super::guard::{bare_command, enter, give_way, place, stand_alone};
use super::shim::leave_forked_child;
use crate::record::StartMessage;

/// What it says when it is in its groups.
const READY: &[u8; 1] = b"r";
/// What it says when it has its order, and becomes the tool next.
const BEGUN: u8 = b'b';

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
                    .and_then(|()| enter(&entrances))
                    .and_then(|()| (&theirs).write_all(READY))
                    .and_then(|()| wait(theirs, yields, logs));
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

    /// Has it become the tool; its number, or why the tool could not be started. Nothing when the stub had died before
    /// it had its order: somebody else must be started.
    pub(super) fn become_tool(mut self, message: &StartMessage) -> Option<io::Result<u32>> {
        let mut line = serde_json::to_vec(message).ok()?;
        line.push(b'\n');
        self.orders.write_all(&line).ok()?;
        let mut answer = Vec::new();
        // A socket that is closed without a further word was closed by the tool's beginning.
        self.orders.read_to_end(&mut answer).ok()?;
        let (begun, refusal) = answer.split_first()?;
        match (*begun, refusal) {
            (BEGUN, []) => Some(Ok(self.pid)),
            (BEGUN, refusal) => {
                let refusal = serde_json::from_slice::<Refusal>(refusal);
                Some(Err(refusal.map_or_else(io::Error::from, io::Error::from)))
            }
            _ => None,
        }
    }
}

/// In the stub: until it is told what to become, or the guard is gone.
fn wait(
    orders: UnixStream,
    yields: bool,
    (stdout, stderr): (PipeWriter, PipeWriter),
) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(orders);
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let message: StartMessage = serde_json::from_str(&line)?;
    // Only now: one that waits is nobody that the kernel should take first.
    give_way(yields);
    reader.get_mut().write_all(&[BEGUN])?;
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
