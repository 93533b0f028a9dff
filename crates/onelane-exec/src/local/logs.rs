//! The tool's two streams, drained into files. Draining never waits for a disk that is full or a reader that is slow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{FallocateFlags, fallocate};

use crate::record::{LogCounts, LogCut};

/// Holes are made in whole blocks of the file system.
const BLOCK: u64 = 4096;
/// What is read at once, in bytes.
const PART: usize = 16 * 1024;
/// The largest pipe of an ordinary user, in such parts (pipe(7), `pipe-max-size`), and one more.
const ROUNDS: usize = (1 << 20) / PART + 1;
/// A log that is too long is cut each time it has grown by so much.
const STEP_AT_MOST: u64 = 1 << 20;

/// Both logs of an attempt.
pub(crate) struct Logs {
    stdout: Stream,
    stderr: Stream,
}

/// One log. While the tool runs, the file's offsets are those of the logical stream; what the limit leaves out is a
/// hole in the file, which takes no room. At the end the hole gives way to a line that says so.
struct Stream {
    pipe: Option<PipeReader>,
    file: File,
    path: PathBuf,
    /// Bytes that the tool wrote.
    bytes: u64,
    /// Bytes that the file has, holes included.
    written: u64,
    dropped: u64,
    /// The head ends here.
    head: u64,
    /// The tail is so long at least.
    tail: u64,
    /// The hole ends here; at `head` while there is none.
    hole_end: u64,
}

impl Logs {
    /// Logs in this folder, of which so many bytes each are kept.
    pub(crate) fn open(
        folder: &Path,
        limit: u64,
        (stdout, stderr): (PipeReader, PipeReader),
    ) -> io::Result<Self> {
        let stream = |name: &str, pipe| Stream::open(folder.join(name), Some(pipe), limit);
        Ok(Self {
            stdout: stream("stdout.log", stdout)?,
            stderr: stream("stderr.log", stderr)?,
        })
    }

    /// From now on what comes out of the same pipes goes into this folder.
    pub(crate) fn turn_to(&mut self, folder: &Path, limit: u64) -> io::Result<()> {
        let stdout = Stream::open(folder.join("stdout.log"), None, limit)?;
        let stderr = Stream::open(folder.join("stderr.log"), None, limit)?;
        for (stream, next) in [(&mut self.stdout, stdout), (&mut self.stderr, stderr)] {
            let pipe = stream.pipe.take();
            *stream = Stream { pipe, ..next };
        }
        Ok(())
    }

    /// Adds a text to standard output or standard error, after what is in its pipe.
    pub(crate) fn add(&mut self, to_stderr: bool, text: &[u8]) {
        let stream = if to_stderr {
            &mut self.stderr
        } else {
            &mut self.stdout
        };
        stream.drain_all();
        stream.keep(text);
    }

    /// What to wait for.
    pub(crate) const fn pipes(&self) -> [Option<&PipeReader>; 2] {
        [self.stdout.pipe.as_ref(), self.stderr.pipe.as_ref()]
    }

    pub(crate) fn drain(&mut self, stdout: bool, stderr: bool) {
        if stdout {
            self.stdout.drain_once();
        }
        if stderr {
            self.stderr.drain_once();
        }
    }

    /// What is still in the pipes, and then the logs' last form. Nobody waits for an end of file: everything that
    /// could write is dead, or (a warm worker) has said that it is done.
    pub(crate) fn finish(&mut self) -> LogCounts {
        let [stdout_cut, stderr_cut] = [&mut self.stdout, &mut self.stderr].map(|stream| {
            stream.drain_all();
            stream.close_hole()
        });
        LogCounts {
            stdout_bytes: self.stdout.bytes,
            stderr_bytes: self.stderr.bytes,
            dropped_bytes: self.stdout.dropped + self.stderr.dropped,
            stdout_cut,
            stderr_cut,
        }
    }
}

impl Stream {
    fn open(path: PathBuf, pipe: Option<PipeReader>, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        let head = limit / 2 / BLOCK * BLOCK;
        Ok(Self {
            pipe,
            written: file.metadata()?.len(),
            file,
            path,
            bytes: 0,
            dropped: 0,
            head,
            tail: limit - head,
            hole_end: head,
        })
    }

    /// Reads once and writes it down. Dropping beats blocking: a full disk must not stop the tool by a full pipe.
    fn drain_once(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0_u8; PART];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => self.keep(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.pipe = None,
        }
    }

    /// What is in the pipe now.
    fn drain_all(&mut self) {
        // A worker's thread may go on writing: no pipe holds more than this.
        let mut rounds = 0;
        while rounds < ROUNDS && self.has_more() {
            self.drain_once();
            rounds += 1;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(count) if count > 0 => {
                    self.written += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.dropped += rest.len() as u64;
                    break;
                }
            }
        }
        self.make_hole();
    }

    fn make_hole(&mut self) {
        let end = self.written.saturating_sub(self.tail) / BLOCK * BLOCK;
        let step = ((self.head + self.tail) / 8).clamp(BLOCK, STEP_AT_MOST);
        if end < self.hole_end + step {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.file, flags, self.hole_end, end - self.hole_end).is_ok() {
            self.hole_end = end;
        } else if self.file.set_len(self.hole_end).is_ok() {
            // A file system without holes: the log begins its tail anew.
            self.dropped += self.written - self.hole_end;
            self.written = self.hole_end;
        }
    }

    /// Puts a line in the hole's place.
    fn close_hole(&mut self) -> Option<LogCut> {
        let cut = LogCut {
            at: self.head,
            bytes: self.hole_end - self.head,
        };
        if cut.bytes == 0 {
            return None;
        }
        let temporary = self.path.with_extension("log.tmp");
        let closed = self
            .write_closed(&temporary, &cut)
            .and_then(|()| fs::rename(&temporary, &self.path));
        if closed.is_err() {
            // For example on a full disk: the hole stays, and reads as zeros.
            fs::remove_file(&temporary).ok();
        }
        Some(cut)
    }

    fn write_closed(&mut self, temporary: &PathBuf, cut: &LogCut) -> io::Result<()> {
        let mut to = File::create(temporary)?;
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut (&self.file).take(self.head), &mut to)?;
        writeln!(
            to,
            "\n[onelane: {} bytes are left out here, as the log was longer than its limit]",
            cut.bytes
        )?;
        self.file.seek(SeekFrom::Start(self.hole_end))?;
        io::copy(&mut &self.file, &mut to).map(drop)
    }

    fn has_more(&self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}
