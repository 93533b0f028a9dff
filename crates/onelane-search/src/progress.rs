//! Progress lines for whoever runs the tool.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::Failure;

const INTERVAL: Duration = Duration::from_millis(200);

/// Appends lines such as `0.42 aligning query 3 of 6`; the fraction never falls.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    file: Option<File>,
    total: u64,
    done: u64,
    /// The furthest query begun; threads finish out of order.
    query: usize,
    queries: usize,
    last: Option<Instant>,
}

impl Progress {
    /// `total` is the work ahead, in cells of the alignment matrices.
    pub(crate) fn open(path: Option<&Path>, total: u64, queries: usize) -> Result<Self, Failure> {
        let append = |path: &Path| {
            let bad =
                |error| Failure::BadInput(format!("cannot append to {}: {error}", path.display()));
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(bad)
        };
        let file = path.map(append).transpose()?;
        Ok(Self(Mutex::new(State {
            file,
            total: total.max(1),
            done: 0,
            query: 0,
            queries,
            last: None,
        })))
    }

    /// Counts `cells` of work on the query with this index.
    pub(crate) fn advance(&self, query: usize, cells: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += cells;
        state.query = state.query.max(query);
        if state.due() {
            // Tracing and writing the hits are the few per cent left.
            let hundredths = (state.done.saturating_mul(95) / state.total).min(95);
            let message = format!(
                "0.{hundredths:02} aligning query {} of {}",
                state.query + 1,
                state.queries
            );
            state.say(&message);
        }
    }

    /// The scores are known; what remains is short.
    pub(crate) fn tracing(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .say("0.95 tracing the hits");
    }

    pub(crate) fn done(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .say("1.00 done");
    }
}

impl State {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures the time between two lines; nothing stored depends on it"
    )]
    fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// One write per line, so that a reader never sees half of one. A full disk must not stop the search for a line
    /// of progress; the results will say so themselves.
    fn say(&mut self, message: &str) {
        let Some(file) = &mut self.file else { return };
        if file.write_all(format!("{message}\n").as_bytes()).is_err() {
            self.file = None;
        }
    }
}
