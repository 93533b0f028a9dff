//! Ending whole process trees by the subreaper's walk: kill what is seen, reap, look again, until `ECHILD`.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cgroup::AttemptGroups;
use super::process::{self, tick};

/// A killed process that is still there after this long is said to be unkillable.
const UNKILLABLE_TIME: Duration = Duration::from_secs(10);
/// From then on it is looked at so often: a disk that does not answer may take hours.
const UNKILLABLE_PAUSE_MS: u16 = 500;

/// How many of the newest processes are looked at for those that are never there for long.
const NEWEST: u32 = 48;
/// So many looks at everyone come before a chase: what dies when it is killed needs none.
const PATIENT_ROUNDS: u32 = 2;
/// How long they are chased between two looks at everyone.
const CHASE_TIME: Duration = Duration::from_millis(20);

/// What reaping found.
pub(crate) enum Reaped {
    /// Children are left.
    Some(Vec<(u32, WaitStatus)>),
    /// `ECHILD`: no child is left, and so (for a subreaper) no descendant.
    All(Vec<(u32, WaitStatus)>),
}

/// Reaps whatever has ended, without waiting.
pub(crate) fn reap() -> Reaped {
    let mut ended = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Reaped::Some(ended),
            Ok(status) => ended.extend(
                status
                    .pid()
                    .map(|pid| (pid.as_raw().unsigned_abs(), status)),
            ),
            Err(Errno::EINTR) => {}
            Err(_) => return Reaped::All(ended),
        }
    }
}

/// Sends a signal to every living descendant of this process and to all of its groups; gives back their numbers.
pub(crate) fn signal_all(groups: &AttemptGroups, signal: Signal) -> BTreeSet<u32> {
    let mut family = groups.processes();
    family.extend(process::descendants(std::process::id()));
    for pid in &family {
        send(*pid, signal);
    }
    family
}

/// Errors mean that the process is gone already, which is what was wanted.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Ok(raw) = i32::try_from(pid) {
        kill(Pid::from_raw(raw), signal).ok();
    }
}

/// What a tree's end came to.
pub(crate) struct Ended {
    /// The reaped children.
    pub reaped: Vec<(u32, WaitStatus)>,
    /// How many different processes were killed.
    pub killed: u32,
}

/// Kills every descendant of this process, which must be a subreaper, and every member of the attempt's groups, and
/// comes back when `ECHILD` proves that none is left and the groups are empty.
///
/// Never gives up: a process that can't die (state D) keeps the attempt, and with it the machine's slot, blocked.
/// `complain` is called once when that takes unusually long, with the number of processes that are left.
pub(crate) fn end_tree(
    child_signals: &SignalFd,
    groups: &AttemptGroups,
    mut complain: impl FnMut(u32),
) -> Ended {
    let mut reaped = Vec::new();
    // Most tools leave nothing behind: then nobody has to be looked for.
    match reap() {
        Reaped::All(last) if groups.is_empty() => {
            return Ended {
                reaped: last,
                killed: 0,
            };
        }
        Reaped::All(mut some) | Reaped::Some(mut some) => reaped.append(&mut some),
    }
    let mut killed = BTreeSet::new();
    let patience = tick() + UNKILLABLE_TIME;
    let mut pause_ms = 10;
    for round in 0_u32.. {
        let seen = signal_all(groups, Signal::SIGKILL);
        // After the walk, which counts them: this catches what they have forked meanwhile.
        groups.kill();
        // What was killed before and is still there can't die, or takes its time: looking harder does not help.
        let is_old = !seen.is_empty() && seen.is_subset(&killed);
        let left = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        killed.extend(seen);
        match reap() {
            Reaped::All(mut last) => {
                reaped.append(&mut last);
                if groups.is_empty() {
                    break;
                }
            }
            Reaped::Some(mut some) => reaped.append(&mut some),
        }
        if pause_ms < UNKILLABLE_PAUSE_MS && left > 0 && tick() >= patience {
            complain(left);
            pause_ms = UNKILLABLE_PAUSE_MS;
        }
        if round >= PATIENT_ROUNDS && !is_old {
            killed.extend(chase());
        }
        // A killed grandchild comes to us only when its own parent is gone: look again at each death, and now and
        // then without one, as deaths of others' children are not told.
        wait_for_child(child_signals, pause_ms);
    }
    let killed = u32::try_from(killed.len()).unwrap_or(u32::MAX);
    Ended { reaped, killed }
}

/// Kills children that are younger than the list of all processes: where each link of a chain forks the next and ends,
/// a list is out of date when it has been read. Orphans are our children, and a child's number is its own until it is
/// reaped by us, so that nobody else can be hit.
fn chase() -> BTreeSet<u32> {
    let until = tick() + CHASE_TIME;
    let mut killed = BTreeSet::new();
    while tick() < until {
        let children = process::newest_children(std::process::id(), NEWEST);
        if children.is_empty() && !killed.is_empty() {
            break;
        }
        for pid in children {
            send(pid, Signal::SIGKILL);
            killed.insert(pid);
        }
    }
    killed
}

/// Waits for a death, at most so many milliseconds, and clears the notice.
pub(crate) fn wait_for_child(child_signals: &SignalFd, at_most_ms: u16) {
    let mut fds = [PollFd::new(child_signals.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(at_most_ms)).ok();
    while let Ok(Some(_)) = child_signals.read_signal() {}
}
