//! Moving the write-ahead log into the database file, beside the writer and not on its path.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::fault::{Fault, Outcome, abort, broken};
use super::migrations;
use crate::Result;

/// Copies what no reader needs in its old form; waits for nobody.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// 64 MiB of log. Commits that never pause keep the log from starting over, so beyond this the writer pauses itself.
const LONG_LOG_PAGES: i64 = 16_384;

/// The writer's end.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: SyncSender<()>,
    log_is_long: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread; it ends when the `Checkpointer` is dropped.
    pub(super) fn start(path: &Path) -> Result<(Self, JoinHandle<()>)> {
        let db = migrations::connect(path)?;
        // One waiting wake-up is enough: the next round takes all that is there.
        let (wake, woken) = sync_channel(1);
        let log_is_long = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&log_is_long);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&db, &woken, &flag))
            .map_err(|e| broken("can't start the checkpoint thread", &e))?;
        Ok((Self { wake, log_is_long }, thread))
    }

    /// Asks for a checkpoint soon.
    pub(super) fn wake(&self) {
        // Full means that a wake-up waits already; gone means that the store is closing.
        self.wake.try_send(()).ok();
    }

    /// True once after the log was found long.
    pub(super) fn take_log_is_long(&self) -> bool {
        self.log_is_long.swap(false, Ordering::Relaxed)
    }
}

/// The first round is for what an earlier process left: many lives, each too short to ask for a checkpoint, would leave
/// a log without end, and every start has to read all of it.
fn run(db: &Connection, woken: &Receiver<()>, log_is_long: &AtomicBool) {
    loop {
        let log_pages = checkpoint(db);
        log_is_long.store(log_pages > LONG_LOG_PAGES, Ordering::Relaxed);
        if woken.recv().is_err() {
            return;
        }
    }
}

/// Runs one checkpoint and gives the log's length in pages.
pub(super) fn checkpoint(db: &Connection) -> i64 {
    match try_checkpoint(db) {
        Ok(pages) => pages,
        Err(fault) if fault.is_sync() => abort("a checkpoint", &fault),
        Err(fault) => {
            // Nothing is lost: the log only grows until a later one succeeds.
            tracing::warn!(fault = ?fault, "a checkpoint of the store failed; the next commits ask for another");
            0
        }
    }
}

fn try_checkpoint(db: &Connection) -> Outcome<i64> {
    let mut statement = db.prepare_cached(CHECKPOINT)?;
    statement
        .query_row([], |row| row.get("log"))
        .map_err(Fault::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the files of an open database is what a killed process leaves.
    #[test]
    fn what_an_earlier_process_left_in_the_log_is_moved_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let [open, left] = ["open.db", "left.db"].map(|name| folder.path().join(name));
        let db = migrations::open(&open).unwrap();
        let setting = "INSERT INTO setting (key, value) VALUES ('big', ?1)";
        db.execute(setting, ["x".repeat(1 << 20)]).unwrap();
        for end in ["", "-wal"] {
            let name = |path: &Path| format!("{}{end}", path.display());
            std::fs::copy(name(&open), name(&left)).unwrap();
        }
        let length = || std::fs::metadata(&left).unwrap().len();
        assert!(length() < 1 << 20);
        let (checkpointer, thread) = Checkpointer::start(&left).unwrap();
        for _ in 0..1000 {
            if length() > 1 << 20 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(length() > 1 << 20);
        drop(checkpointer);
        thread.join().unwrap();
    }
}
