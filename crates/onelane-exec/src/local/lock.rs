//! The lock of an attempt or of a worker, from the server's side: whoever holds it decides.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::process;
use crate::record::ShimRecord;

/// The lock's text is the boot in which it was made: proof of death once that is over, should `shim.json` be damaged.
pub(super) fn make_lock(path: &Path) -> io::Result<()> {
    let mut lock = File::create_new(path)?;
    writeln!(lock, "{}", process::boot_id()?)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

pub(crate) fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    try_lock_file(&folder.join("attempt.lock"))
}

pub(super) fn try_lock_file(path: &Path) -> io::Result<Option<File>> {
    let lock = open_lock(path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn wait_lock(folder: &Path) -> io::Result<File> {
    wait_lock_file(&folder.join("attempt.lock"))
}

pub(super) fn wait_lock_file(path: &Path) -> io::Result<File> {
    let lock = open_lock(path)?;
    loop {
        match flock(&lock, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| lock).map_err(Into::into),
        }
    }
}

pub(super) fn names_this_lock(record: &ShimRecord, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let here = fs::metadata(folder.join("attempt.lock"));
    here.is_ok_and(|lock| lock.dev() == record.lock_device && lock.ino() == record.lock_inode)
}
