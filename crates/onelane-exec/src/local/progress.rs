//! Waiting for what appears in an attempt's folder, by inotify(7): wake-ups instead of polling, also after adoption.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::Path;

use tokio::io::{Interest, unix::AsyncFd};

use super::notices::Notices;

/// A tool that floods its progress file is read in parts of so many bytes; only the newest line counts.
const PART: u64 = 64 * 1024;

/// Registers a descriptor that its owner keeps open for as long as the registration lives.
#[expect(
    unsafe_code,
    reason = "tokio asks the caller to promise that the descriptor stays open"
)]
pub(crate) fn when_readable<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `T` owns its descriptor and is moved into the registration, which drops it last.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }.map_err(Into::into)
}

/// The newest whole line after `seen` bytes, and the count of bytes up to its end. Waits until there is one.
pub(crate) async fn next_line(path: &Path, seen: u64) -> io::Result<(String, u64)> {
    // Registered before the file is read, so that nothing falls between.
    let mut notices = Notices::of_writes(path)?;
    let mut seen = seen;
    loop {
        let part = read_from(path, seen)?;
        if let Some(end) = part.iter().rposition(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(&part[..end]);
            let line = text.lines().last().unwrap_or_default().to_owned();
            return Ok((line, seen + end as u64 + 1));
        }
        if part.len() as u64 == PART {
            // No line is that long: skip it.
            seen += PART;
            continue;
        }
        notices.next().await?;
    }
}

/// What was appended to a file after its first `seen` bytes, or the end of that, and the new count. Waits until there is
/// some.
///
/// # Errors
/// When the file can't be read or watched.
pub async fn appended(path: &Path, seen: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut notices = Notices::of_writes(path)?;
    let mut seen = seen;
    loop {
        let size = std::fs::metadata(path)?.len();
        // A log that was cut short goes on from where it ends now.
        seen = seen.min(size);
        if size > seen {
            let from = seen.max(size.saturating_sub(PART));
            let part = read_from(path, from)?;
            let end = from + part.len() as u64;
            return Ok((part, end));
        }
        notices.next().await?;
    }
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut part = Vec::new();
    file.take(PART).read_to_end(&mut part)?;
    Ok(part)
}

/// Waits until a file of this name is in the folder.
pub(crate) async fn file_appears(folder: &Path, name: &str) -> io::Result<()> {
    let mut notices = Notices::of_names(folder)?;
    while !folder.join(name).exists() {
        notices.next().await?;
    }
    Ok(())
}
