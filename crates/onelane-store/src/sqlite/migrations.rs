//! Opening the file: is it ours, is its schema known, bring it up to date.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::fault::{Outcome, broken, damaged};
use crate::{Result, StoreError};

/// `OneL`: tells an Onelane database from others (`file` shows it too).
pub(super) const APPLICATION_ID: i32 = 0x4f6e_654c;

/// The schema's steps; a database with `user_version` n has had the first n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001.sql"),
    include_str!("../../migrations/0002.sql"),
    include_str!("../../migrations/0003.sql"),
    include_str!("../../migrations/0004.sql"),
];

/// Files up to this size are looked through before a start goes on, which takes a tenth of a second at most.
const CHECKED_BYTES: u64 = 4 << 20;

/// Only has an effect on an empty file, hence before anything else.
const CREATE: &str = "
    PRAGMA page_size = 4096;
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;";

/// For each connection that can write. Checkpoints have their own thread, so that none falls into a commit.
const CONFIGURE: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;";

/// Opens or makes the file; the connection that comes back is the writer's.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let is_new = !path.exists();
    let db = connect(path)?;
    check_ours(&db, path)?;
    check_pages(&db, path)?;
    migrate(&db, path)?;
    if is_new {
        sync_folder(path)?;
    }
    Ok(db)
}

/// A connection that can write, as the writer and the checkpointer have one each.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|e| broken("can't open", &e))?;
    let patience = Duration::from_secs(10);
    // Only a foreign program, such as the `sqlite3` shell, can hold the lock; give it time to finish.
    db.busy_timeout(patience)
        .map_err(|e| broken("can't open", &e))?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

fn check_ours(db: &Connection, path: &Path) -> Result<()> {
    match is_ours_or_empty(db) {
        Ok(true) => Ok(()),
        Ok(false) => Err(foreign(path)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => damaged(
            path,
            "it is no database: its header is damaged, or it never was one",
        ),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, error),
        _ => broken("can't read the database", error),
    }
}

/// Looks through the file's pages, where that takes no time: damage is better found now than in the middle of a job.
fn check_pages(db: &Connection, path: &Path) -> Result<()> {
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_BYTES);
    if !is_small {
        return Ok(());
    }
    let said: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| unreadable(path, &error))?;
    if said == "ok" {
        Ok(())
    } else {
        Err(damaged(path, said))
    }
}

/// Refuses what a reader can't read: another program's file, or a newer schema.
pub(super) fn check_known(db: &Connection, path: &Path) -> Result<()> {
    check_ours(db, path)?;
    let version = pragma(db, "user_version").map_err(|e| broken("can't read the schema", &e))?;
    let known = usize::try_from(version).is_ok_and(|version| version <= MIGRATIONS.len());
    if known {
        Ok(())
    } else {
        Err(newer(path, version))
    }
}

fn is_ours_or_empty(db: &Connection) -> rusqlite::Result<bool> {
    if pragma(db, "application_id")? == APPLICATION_ID {
        return Ok(true);
    }
    // Empty is what a crash between making the file and its first migration leaves.
    db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

fn foreign(path: &Path) -> StoreError {
    StoreError::Unusable {
        path: path.to_owned(),
        why: "it is not an Onelane database; move it away or choose another data folder".into(),
    }
}

fn migrate(db: &Connection, path: &Path) -> Result<()> {
    let version = pragma(db, "user_version").map_err(|e| broken("can't read the schema", &e))?;
    let done = usize::try_from(version).unwrap_or(0);
    let Some(missing) = MIGRATIONS.get(done..) else {
        return Err(newer(path, version));
    };
    prepare(db, done, missing).map_err(|fault| match StoreError::from(fault) {
        StoreError::Full => StoreError::Full,
        error => broken("can't bring the schema up to date", &error),
    })
}

fn newer(path: &Path, version: i32) -> StoreError {
    let known = MIGRATIONS.len();
    StoreError::Unusable {
        path: path.to_owned(),
        why: format!(
            "its schema is version {version} and this Onelane knows up to {known}; run the newer Onelane that wrote \
             it, or restore the copy from before the upgrade"
        ),
    }
}

fn prepare(db: &Connection, done: usize, missing: &[&str]) -> Outcome<()> {
    if done == 0 {
        db.execute_batch(CREATE)?;
    }
    // A copy that was made by VACUUM has lost it.
    db.execute_batch("PRAGMA journal_mode = WAL")?;
    db.execute_batch(CONFIGURE)?;
    for (version, step) in (done + 1..).zip(missing) {
        // All or nothing, so that a crash leaves the version that is there.
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i32> {
    db.pragma_query_value(None, name, |row| row.get(0))
}

/// A new file's name is durable only when its folder is synced.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| broken("can't sync the data folder", &e))
}
