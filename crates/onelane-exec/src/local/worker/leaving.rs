//! How a worker goes: asked to, or made to; and who clears up after it.

use std::fs;
use std::time::Duration;

use onelane_core::StopReason;
use serde_json::json;

use super::WorkerShim;
use crate::local::process::tick;
use crate::record::ToGuard;

impl WorkerShim {
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn leave_if_done(&mut self) {
        if self.unwanted && self.current.is_none() && self.leaving.is_none() {
            self.leave();
        }
    }

    /// Politely: a word, and the end of the socket.
    pub(super) fn leave(&mut self) {
        self.say(&json!({"type": "bye"}));
        self.leaving = Some(tick() + self.grace());
        match self.peer.take() {
            Some(mut peer) => peer.close(),
            // It is loading, and hears nothing.
            None => self.end_tree(),
        }
    }

    /// A worker that does not go, or does not answer. Its end comes from the guard.
    pub(super) fn end_tree(&mut self) {
        self.leaving = Some(tick() + Duration::from_hours(1));
        let (reason, grace_ms) = (StopReason::Shutdown, 0);
        self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
    }

    /// Without a server nobody else clears up.
    pub(super) fn clear_up_alone(&self) {
        if self.server.is_none() {
            fs::remove_dir_all(&self.message.folder).ok();
        }
    }
}
