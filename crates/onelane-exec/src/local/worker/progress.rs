//! The worker's words about its progress, in the attempt's progress file.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::local::process::tick;

/// Progress is written so often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// … and its message has so many characters at most.
const PROGRESS_CHARS: usize = 1_000;

/// Progress, as a tool would write it into its file; so often and no more, however often the worker tells it.
#[derive(Default)]
pub(super) struct ProgressFile {
    /// The newest line that is not written yet.
    pending: Option<String>,
    written: Option<Instant>,
}

impl ProgressFile {
    pub(super) fn note(&mut self, folder: &Path, line: &Value) {
        let Some(fraction) = line.get("fraction").and_then(Value::as_f64) else {
            return;
        };
        let message = line
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let message = message.replace(['\n', '\r'], " ");
        let message: String = message.chars().take(PROGRESS_CHARS).collect();
        self.pending = Some(format!("{fraction} {message}\n"));
        self.write_if_due(folder, tick());
    }

    pub(super) fn next_moment(&self) -> Option<Instant> {
        let written = self.written?;
        self.pending.as_ref().map(|_| written + PROGRESS_EVERY)
    }

    pub(super) fn write_if_due(&mut self, folder: &Path, now: Instant) {
        let is_due = |written| now >= written + PROGRESS_EVERY;
        if self.pending.is_some() && self.written.is_none_or(is_due) {
            self.write(folder);
            self.written = Some(now);
        }
    }

    /// A courtesy: its errors end nothing.
    pub(super) fn write(&mut self, folder: &Path) {
        let Some(line) = self.pending.take() else {
            return;
        };
        let mut options = fs::OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(folder.join("progress"));
        if let Ok(mut file) = file {
            file.write_all(line.as_bytes()).ok();
        }
    }
}
