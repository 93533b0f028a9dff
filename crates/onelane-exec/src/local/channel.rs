//! Lines of JSON over a socket between a shim and its guard, and between a warm worker's shim and the server.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

/// One end: sends `S`, receives `R`.
pub(crate) struct Channel<S, R> {
    socket: UnixStream,
    pending: Vec<u8>,
    /// How much of that is known to hold no end of a line.
    seen: usize,
    files: VecDeque<File>,
    types: PhantomData<(S, R)>,
}

/// What arrived.
pub(crate) struct Arrived<R> {
    pub messages: Vec<R>,
    /// The other side is gone.
    pub closed: bool,
}

impl<S: Serialize, R: DeserializeOwned> Channel<S, R> {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            pending: Vec::new(),
            seen: 0,
            files: VecDeque::new(),
            types: PhantomData,
        }
    }

    /// An error means that the other side is gone, which the reading side learns as well.
    pub(crate) fn send(&mut self, message: &S) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    /// Sends an open file along: the receiver has the same open file description, and with it the same lock
    /// (unix(7), `SCM_RIGHTS`).
    pub(crate) fn send_with(&mut self, message: &S, file: &File) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let descriptors = [file.as_raw_fd()];
        let along = [ControlMessage::ScmRights(&descriptors)];
        let part = [IoSlice::new(&line)];
        let socket = self.socket.as_raw_fd();
        let sent = sendmsg::<()>(socket, &part, &along, MsgFlags::MSG_NOSIGNAL, None)?;
        // The file went with the first byte; the rest follows as usual.
        self.socket.write_all(&line[sent..])
    }

    /// Reads once; call when there is something, or to wait for it.
    pub(crate) fn receive(&mut self) -> Arrived<R> {
        let mut buffer = [0_u8; 16 * 1024];
        let (count, files) = loop {
            match self.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.unwrap_or_default(),
            }
        };
        self.pending.extend_from_slice(&buffer[..count]);
        self.files.extend(files);
        Arrived {
            messages: self.whole_lines(),
            closed: count == 0,
        }
    }

    /// The open file that was sent along with a message that has arrived. It comes with the message's first byte, which
    /// may be long before its last.
    pub(crate) fn take_file(&mut self) -> Option<File> {
        self.files.pop_front()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<File>)> {
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(buffer)];
        let socket = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(socket, &mut parts, Some(&mut space), flags)?;
        let mut files = Vec::new();
        for along in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = along {
                files.extend(descriptors.into_iter().map(own));
            }
        }
        Ok((got.bytes, files))
    }

    fn whole_lines(&mut self) -> Vec<R> {
        let mut messages = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.pending[self.seen..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let end = self.seen + length;
            messages.extend(serde_json::from_slice(&self.pending[begin..end]).ok());
            begin = end + 1;
            self.seen = begin;
        }
        self.pending.drain(..begin);
        self.seen = self.pending.len();
        messages
    }
}

/// A descriptor that has just arrived.
#[expect(
    unsafe_code,
    reason = "what the kernel hands over is a bare number; nobody else knows it yet"
)]
fn own(descriptor: RawFd) -> File {
    // SAFETY: recvmsg has just made it for this process, and gives it to nobody else.
    unsafe { File::from_raw_fd(descriptor) }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_with_its_message_however_long_that_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut sender: Channel<String, ()> = Channel::new(ours);
        let mut receiver: Channel<(), String> = Channel::new(theirs);
        let long = "x".repeat(100_000);
        let file = tempfile::tempfile().unwrap();
        let sending = std::thread::spawn({
            let long = long.clone();
            move || {
                sender.send(&"first".to_owned()).unwrap();
                sender.send_with(&long, &file).unwrap();
            }
        });
        let mut messages = Vec::new();
        loop {
            let arrived = receiver.receive();
            messages.extend(arrived.messages);
            if arrived.closed {
                break;
            }
        }
        sending.join().unwrap();
        assert_eq!(messages, ["first".to_owned(), long]);
        assert!(receiver.take_file().is_some() && receiver.take_file().is_none());
    }
}
