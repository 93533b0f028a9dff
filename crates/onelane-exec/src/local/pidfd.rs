//! Other processes by their pidfds, verified before they are signalled or waited for.

use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{process, progress};
use crate::record::ProcessRecord;

/// Opens the process first and verifies it then: a number that was given away in between is not signalled.
pub(super) fn signal_verified(shim: &ProcessRecord) -> io::Result<()> {
    let Some(pidfd) = open_verified(shim)? else {
        return Ok(());
    };
    match pidfd_send_signal(&pidfd, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// Waits until a process has ended, without being its parent.
pub(super) async fn until_gone(shim: &ProcessRecord) -> io::Result<()> {
    let Some(pidfd) = open_verified(shim)? else {
        return Ok(());
    };
    let pidfd = progress::when_readable(pidfd)?;
    pidfd.readable().await.map(drop)
}

fn open_verified(shim: &ProcessRecord) -> io::Result<Option<rustix::fd::OwnedFd>> {
    let Some(pid) = i32::try_from(shim.pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => Ok(process::lives(shim).then_some(pidfd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
