//! Lines of JSON over a socket between shim and guard.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use serde::{Serialize, de::DeserializeOwned};

/// One end: sends `S`, receives `R`.
pub(crate) struct Channel<S, R> {
    socket: UnixStream,
    pending: Vec<u8>,
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
            types: PhantomData,
        }
    }

    /// An error means that the other side is gone, which the reading side learns as well.
    pub(crate) fn send(&mut self, message: &S) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    /// Reads once; call when there is something, or to wait for it.
    pub(crate) fn receive(&mut self) -> Arrived<R> {
        let mut buffer = [0_u8; 4096];
        let count = loop {
            match self.socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.unwrap_or(0),
            }
        };
        self.pending.extend_from_slice(&buffer[..count]);
        Arrived {
            messages: self.whole_lines(),
            closed: count == 0,
        }
    }

    fn whole_lines(&mut self) -> Vec<R> {
        let mut messages = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            messages.extend(serde_json::from_slice(&line).ok());
        }
        messages
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
