//! The socket to a warm worker's own process: lines of JSON, and never a wait for it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;

/// A line has so many bytes at most, both ways.
pub(crate) const LINE_BYTES: usize = 16 << 20;

/// So much is read before something else gets its turn, in bytes.
const AT_ONCE: usize = 1 << 20;

/// A connected worker.
pub(crate) struct Peer {
    socket: UnixStream,
    inbox: Vec<u8>,
    /// How much of the inbox is known to hold no end of a line.
    seen: usize,
    outbox: Vec<u8>,
}

/// What a look at the socket brought.
pub(crate) struct Heard {
    pub lines: Vec<Value>,
    /// Why nothing more can come: a sentence that goes on from "the worker".
    pub fault: Option<String>,
    /// The fault is no more than that: the worker has closed its socket, or is gone.
    pub closed: bool,
}

impl Peer {
    /// # Errors
    /// When it is somebody else's process.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        let theirs = getsockopt(&socket, PeerCredentials)?.uid();
        if theirs != nix::unistd::getuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbox: Vec::new(),
            seen: 0,
            outbox: Vec::new(),
        })
    }

    /// Sends what can be sent now; the rest goes when the socket has room.
    pub(crate) fn send(&mut self, message: &Value) {
        self.outbox.extend(message.to_string().into_bytes());
        self.outbox.push(b'\n');
        self.flush();
    }

    pub(crate) const fn has_more_to_send(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// If the worker is gone, the reading side says so.
    pub(crate) fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(count) if count > 0 => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
    }

    /// No more will be said.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.socket.shutdown(std::net::Shutdown::Write).ok();
    }

    /// Reads what is there, or a part of it: a worker that floods its socket must not keep its shim from all else.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut heard = Heard {
            lines: Vec::new(),
            fault: None,
            closed: false,
        };
        let mut part = [0_u8; 16 * 1024];
        let mut left = AT_ONCE;
        while heard.fault.is_none() && left > 0 {
            match self.socket.read(&mut part) {
                Ok(0) => {
                    heard.fault = Some("closed its socket".to_owned());
                    heard.closed = true;
                }
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.inbox.extend_from_slice(&part[..count]);
                    self.take_lines(&mut heard);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    heard.fault = Some(format!("can't be heard any more: {error}"));
                    heard.closed = true;
                }
            }
        }
        heard
    }

    fn take_lines(&mut self, heard: &mut Heard) {
        let mut begin = 0;
        while let Some(length) = self.inbox[self.seen.max(begin)..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let end = self.seen.max(begin) + length;
            if let Ok(value @ Value::Object(_)) = serde_json::from_slice(&self.inbox[begin..end]) {
                heard.lines.push(value);
            } else {
                let line = String::from_utf8_lossy(&self.inbox[begin..end]);
                let start: String = line.chars().take(80).collect();
                heard.fault = Some(format!("sent a line that is no JSON object: `{start}`"));
            }
            begin = end + 1;
        }
        self.inbox.drain(..begin);
        self.seen = self.inbox.len();
        if self.inbox.len() > LINE_BYTES {
            heard.fault = Some("sent a line of more than 16 MiB".to_owned());
        }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_however_they_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let mut lines = Vec::new();
        for part in ["{\"a\"", ":1}\n{\"b\":", "2}\n{}\n", "{"] {
            theirs.write_all(part.as_bytes()).unwrap();
            lines.extend(peer.hear().lines);
        }
        assert_eq!(
            serde_json::to_string(&lines).unwrap(),
            r#"[{"a":1},{"b":2},{}]"#
        );
        drop(theirs);
        assert_eq!(peer.hear().fault.as_deref(), Some("closed its socket"));
    }

    #[test]
    fn what_is_no_object_is_told_with_its_beginning() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        theirs.write_all(b"Traceback (most recent\n").unwrap();
        let fault = peer.hear().fault.unwrap();
        assert!(fault.contains("`Traceback (most recent`"), "{fault}");
    }
}
