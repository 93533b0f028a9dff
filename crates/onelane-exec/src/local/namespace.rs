//! A pid namespace of the attempt's own, whose first process is the guard. When the guard ends, however it ends, the
//! kernel kills everything in the namespace before the guard itself counts as ended (`pid_namespaces(7)`): a dead guard
//! is the proof.

use std::fs;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::unistd::{ForkResult, Pid, getgid, getuid};

/// Forks; the child is the first process of a new pid namespace, with a `/proc` of its own.
///
/// The caller must have a single thread.
#[expect(
    unsafe_code,
    reason = "fork into new namespaces has no safe wrapper; the caller is single-threaded"
)]
pub(crate) fn fork_into() -> io::Result<ForkResult> {
    let (user, group) = (getuid(), getgid());
    let mut flags = nix::libc::CLONE_NEWPID | nix::libc::CLONE_NEWNS | nix::libc::SIGCHLD;
    if !user.is_root() {
        // Whoever makes a user namespace may make the others in it.
        flags |= nix::libc::CLONE_NEWUSER;
    }
    let flags = nix::libc::c_ulong::from(flags.cast_unsigned());
    // SAFETY: without a stack this is a fork(2); no other thread exists that could hold a lock.
    let pid = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_clone,
            flags,
            0_usize,
            0_usize,
            0_usize,
            0_usize,
        )
    };
    match i32::try_from(pid) {
        Ok(0) => {
            let settled = settle(user.as_raw(), group.as_raw());
            if settled.is_err() {
                // The parent's code must not run twice.
                super::shim::leave_forked_child(&settled);
            }
            Ok(ForkResult::Child)
        }
        Ok(child) if child > 0 => Ok(ForkResult::Parent {
            child: Pid::from_raw(child),
        }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps the user's number, and mounts a `/proc` that shows this namespace.
fn settle(user: u32, group: u32) -> io::Result<()> {
    if user != 0 {
        // Needed before the group's number may be kept (`user_namespaces(7)`).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    let nothing: Option<&str> = None;
    // What is mounted outside later arrives here too, and nothing goes the other way.
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        nothing,
    )?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing)?;
    Ok(())
}

/// Shows by doing that it works for this user: makes a namespace, looks into it, and ends. Needs a process of its own.
pub(crate) fn try_out() -> io::Result<()> {
    match fork_into() {
        Ok(ForkResult::Child) => {
            let first = std::process::id() == 1 && super::process::all().len() == 1;
            super::shim::leave_forked_child(&if first {
                Ok(())
            } else {
                Err(io::ErrorKind::Other.into())
            })
        }
        Ok(ForkResult::Parent { child }) => match nix::sys::wait::waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(io::Error::other(
                "a process in a new pid namespace could not see it",
            )),
        },
        Err(error) => Err(error),
    }
}
