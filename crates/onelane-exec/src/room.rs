use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The default floor is this, …
const FLOOR_BYTES: u64 = 1 << 30;
/// … or one part in so many of the file system, if that is smaller.
const FLOOR_PART: u64 = 50;
/// So much above the floor can't be written in so short a time.
const PLENTY_BYTES: u64 = 1 << 30;
const PLENTY_LASTS: Duration = Duration::from_millis(100);
/// So much must be free for an attempt to begin: its records and the first lines of its logs.
const START_BYTES: u64 = 256 * 1024;

/// Free space under a floor, where nothing more is taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk with `{}` is too full: {} free, and nothing is taken in below {} (`[server] disk_floor`)",
    folder.display(), amount(*free_bytes), amount(*floor_bytes)
)]
pub struct LowDisk {
    /// Where there is too little.
    pub folder: PathBuf,
    /// What is free there for this user.
    pub free_bytes: u64,
    /// What must be free.
    pub floor_bytes: u64,
}

/// The floor under the free space of some folders. Without folders it is never reached.
#[derive(Clone, Debug, Default)]
pub struct DiskFloor {
    folders: Vec<PathBuf>,
    bytes: Option<u64>,
    /// Until when nobody looks again, since there was plenty.
    plenty_until: Arc<Mutex<Option<Instant>>>,
}

impl DiskFloor {
    /// A floor under these folders: so many bytes (0 turns it off), or by default 1 GiB or 2 % of the file system,
    /// whichever is smaller.
    pub fn new(folders: Vec<PathBuf>, bytes: Option<u64>) -> Self {
        Self {
            folders,
            bytes,
            plenty_until: Arc::default(),
        }
    }

    /// Whether each folder has more free than the floor. A folder that can't be asked counts as free: whoever writes
    /// there learns why not.
    ///
    /// # Errors
    /// [`LowDisk`] for the first that has not.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long ago the disk was looked at is nobody else's time"
    )]
    pub fn check(&self) -> Result<(), LowDisk> {
        if self.bytes == Some(0) {
            return Ok(());
        }
        let mut plenty_until = self.plenty_until.lock();
        let now = Instant::now();
        if plenty_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        *plenty_until = None;
        let mut is_plenty = true;
        for folder in &self.folders {
            is_plenty &= self.check_folder(folder)? >= PLENTY_BYTES;
        }
        *plenty_until = is_plenty.then(|| now + PLENTY_LASTS);
        Ok(())
    }

    /// Bytes above the floor.
    fn check_folder(&self, folder: &Path) -> Result<u64, LowDisk> {
        let Ok((free_bytes, total_bytes)) = space(folder) else {
            return Ok(0);
        };
        let floor_bytes = self
            .bytes
            .unwrap_or_else(|| FLOOR_BYTES.min(total_bytes / FLOOR_PART));
        if let Some(above) = free_bytes.checked_sub(floor_bytes) {
            return Ok(above);
        }
        Err(LowDisk {
            folder: folder.to_owned(),
            free_bytes,
            floor_bytes,
        })
    }
}

/// Bytes that are free for this user, and all bytes of the file system (statvfs(3)).
fn space(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((
        found.f_bavail.saturating_mul(found.f_frsize),
        found.f_blocks.saturating_mul(found.f_frsize),
    ))
}

/// Fails as a write would, before an attempt begins that could not even write down its end.
pub(crate) fn enough_to_start(jobs: &Path) -> io::Result<()> {
    let (free, _) = space(jobs)?;
    if free < START_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..=0x3ff => format!("{bytes} bytes"),
        0x400..=0xf_ffff => format!("{} KiB", bytes >> 10),
        0x10_0000..=0x3fff_ffff => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// Why the machine, not the job, is at fault when a call fails like this: it passes, and trying again helps. Nothing for
/// all other errors.
pub(crate) fn machine_fault(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    if error.kind() == io::ErrorKind::StorageFull {
        return Some("the disk is full");
    }
    match Errno::from_io_error(error)? {
        Errno::NOSPC => Some("the disk is full"),
        Errno::DQUOT => Some("the server's user has used up its disk quota"),
        Errno::ROFS => Some("the disk is read-only"),
        Errno::MFILE => Some("the server has too many files open"),
        Errno::NFILE => Some("the machine has too many files open"),
        Errno::NOMEM => Some("the machine is out of memory"),
        Errno::AGAIN => Some("the machine or its limits allow no more processes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_says_where_how_much_is_free_and_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let folders = vec![folder.path().to_owned()];
        let low = DiskFloor::new(folders.clone(), Some(u64::MAX)).check();
        let low = low.unwrap_err();
        assert_eq!(low.floor_bytes, u64::MAX);
        let text = low.to_string();
        assert!(
            text.contains(&folder.path().display().to_string()) && text.contains("disk_floor"),
            "{text}"
        );
        assert_eq!(DiskFloor::new(folders.clone(), Some(0)).check(), Ok(()));
        assert_eq!(DiskFloor::new(folders, Some(1)).check(), Ok(()));
        assert_eq!(DiskFloor::default().check(), Ok(()));
    }

    #[test]
    fn amounts_are_readable() {
        let shown = [5, 2 << 10, 3 << 20, 7 << 30].map(amount);
        assert_eq!(shown, ["5 bytes", "2 KiB", "3 MiB", "7 GiB"]);
    }

    #[test]
    fn only_faults_of_the_machine_are_waited_for() {
        let fault = |errno: rustix::io::Errno| machine_fault(&errno.into());
        assert_eq!(fault(rustix::io::Errno::NOSPC), Some("the disk is full"));
        assert!(fault(rustix::io::Errno::ROFS).is_some());
        assert_eq!(fault(rustix::io::Errno::ACCESS), None);
        assert_eq!(machine_fault(&io::Error::other("no")), None);
    }
}
