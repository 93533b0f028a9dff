//! What is due although nothing has happened: limits, the ends of patience, pings, and when to look again.

use std::time::{Duration, Instant};

use onelane_core::StopReason;
use serde_json::json;

use super::WorkerShim;
use crate::local::limits::Breach;
use crate::local::process::tick;
use crate::record::ToGuard;

/// How long an idle worker waits for a server.
const ALONE: Duration = Duration::from_secs(30);
/// An idle worker is asked this often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);

impl WorkerShim {
    /// When to look again although nothing has happened.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        let current = self.current.as_ref();
        let stop = current.and_then(|current| current.stop.as_ref());
        let fault = current.and_then(|current| current.fault.as_ref());
        let moments = [
            current.and_then(|current| current.progress.next_moment()),
            stop.filter(|stop| !stop.killed).map(|stop| stop.deadline),
            fault
                .filter(|fault| !fault.told)
                .map(|fault| fault.deadline),
            // One that is being stopped has reached its limit: there is nothing more to look at.
            current
                .filter(|current| current.stop.is_none() && current.fault.is_none())
                .and_then(|current| current.limiter.next_check(current.since)),
            self.leaving,
            self.alone()
                .then(|| self.idle_since.max(self.alone_since) + ALONE),
            self.pings().then(|| {
                self.pinged
                    .map_or(self.last_heard + PING_EVERY, |at| at + self.grace())
            }),
        ];
        moments.into_iter().flatten().min()
    }

    /// What is due.
    pub(super) fn keep_time(&mut self) {
        let now = tick();
        self.keep_limits();
        if let Some(current) = &mut self.current {
            current
                .progress
                .write_if_due(&current.message.place.folder, now);
        }
        let grace = self.grace();
        if let Some(current) = &mut self.current {
            if let Some(stop) = &mut current.stop
                && !stop.killed
                && now >= stop.deadline
            {
                stop.killed = true;
                let (reason, grace_ms) = (stop.reason, 0);
                // If the guard is gone, its end of the channel says so next.
                self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
            }
            if let Some(fault) = &mut current.fault
                && !fault.told
                && now >= fault.deadline
            {
                fault.told = true;
                let (reason, grace_ms) = (StopReason::Shutdown, self.message.grace_ms);
                self.guard.send(&ToGuard::Stop { reason, grace_ms }).ok();
            }
        }
        if self.leaving.is_some_and(|deadline| now >= deadline) {
            self.end_tree();
        }
        if self.alone() && now >= self.idle_since.max(self.alone_since) + ALONE {
            self.leave();
        }
        if self.pings() {
            match self.pinged {
                Some(at) if now >= at + grace => self.end_tree(),
                None if now >= self.last_heard + PING_EVERY => {
                    self.pinged = Some(now);
                    self.say(&json!({"type": "ping", "id": 1}));
                }
                _ => {}
            }
        }
    }

    fn keep_limits(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.stop.is_some() || current.fault.is_some() {
            return;
        }
        let reason = match current.limiter.check(current.since) {
            Some(Breach::Time) => StopReason::Time,
            Some(Breach::Output) => StopReason::Output,
            _ => return,
        };
        let grace_ms = current.message.grace_ms;
        self.ask_to_stop(reason, grace_ms);
    }

    const fn alone(&self) -> bool {
        self.current.is_none() && self.server.is_none() && self.leaving.is_none()
    }

    const fn pings(&self) -> bool {
        self.ready && self.current.is_none() && self.leaving.is_none()
    }
}
