//! The file itself: reopened, foreign, newer, guarded.

use std::path::{Path, PathBuf};

use onelane_core::{JobId, JobState, Priority, StateWord, Timestamp};
use onelane_store::sqlite::SqliteStore;
use onelane_store::{
    AttemptRecord, JobFilter, JobInput, NewJob, Store, StoreError, Transition, Usage,
};
use rusqlite::Connection;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("onelane.db");
    (folder, path)
}

fn new(n: u8) -> NewJob {
    NewJob {
        id: JobId::new(NOW, [n; 10]),
        owner: "ada".into(),
        tool: "blastp".into(),
        definition: "h".into(),
        name: None,
        tags: vec!["a".into()],
        priority: Priority::default(),
        after: Vec::new(),
        digest: "d".into(),
        input: JobInput::default(),
        idempotency: None,
        created_at: NOW,
    }
}

fn cancel(n: u8) -> Transition {
    Transition {
        id: new(n).id,
        from: (0, StateWord::Queued),
        attempt: 0,
        to: JobState::Cancelled {
            started_at: None,
            finished_at: NOW,
        },
        stop_reason: None,
        record: None,
        durable: true,
    }
}

async fn with_one_job(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).unwrap();
    store.define("h", "{}").await.unwrap();
    store.submit(new(1)).await.unwrap();
    store
}

fn pragma(path: &Path, name: &str) -> String {
    let db = Connection::open(path).unwrap();
    db.query_row(
        &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
        [],
        |row| row.get(0),
    )
    .unwrap()
}

#[tokio::test]
async fn what_was_written_survives_closing_and_opening() {
    let (_folder, path) = folder();
    let store = with_one_job(&path).await;
    let before = store.job(new(1).id).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.job(new(1).id).await.unwrap(), before);
    let second = store.submit(new(2)).await.unwrap().job;
    let first = before.unwrap();
    assert_eq!(second.seq, 2);
    assert!(second.changed_seq > first.changed_seq);
}

/// A copy of the files of a store that is still open is what kill -9 leaves: a log that nobody has moved into the file.
#[tokio::test]
async fn what_was_answered_survives_a_store_that_was_never_closed() {
    let (_folder, path) = folder();
    let store = with_one_job(&path).await;
    let (_other, copy) = self::folder();
    for end in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        std::fs::copy(file(&path), file(&copy)).unwrap();
    }
    let revived = SqliteStore::open(&copy).unwrap();
    let id = new(1).id;
    assert_eq!(revived.job(id).await.unwrap(), store.job(id).await.unwrap());
    let (seen, waiting) = std::sync::mpsc::channel();
    let see = move |entry| drop(seen.send(entry));
    revived.queue(Box::new(see)).await.unwrap();
    assert_eq!(waiting.try_iter().count(), 1);
}

#[tokio::test]
async fn numbers_of_deleted_jobs_are_not_given_again_after_opening() {
    let (_folder, path) = folder();
    let store = with_one_job(&path).await;
    store.transition(cancel(1)).await.unwrap();
    store.remove(new(1).id).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let next = store.submit(new(2)).await.unwrap().job;
    assert_eq!(next.seq, 2);
    // A submission, a cancellation and a removal came before.
    assert!(next.changed_seq > 3);
}

#[tokio::test]
async fn the_file_is_made_as_designed() {
    let (_folder, path) = folder();
    drop(with_one_job(&path).await);
    assert_eq!(pragma(&path, "journal_mode"), "wal");
    assert_eq!(pragma(&path, "auto_vacuum"), "2");
    assert_eq!(pragma(&path, "page_size"), "4096");
    assert_eq!(pragma(&path, "user_version"), "4");
    assert_eq!(pragma(&path, "application_id"), 0x4f6e_654c.to_string());
}

/// The fourth step rewrites the table's rules in place: each is still there, and none is a list any more.
#[tokio::test]
async fn the_tables_rules_are_the_same_in_other_words() {
    let (_folder, path) = folder();
    drop(with_one_job(&path).await);
    let db = Connection::open(&path).unwrap();
    let sql: String = db
        .query_row(
            "SELECT sql FROM sqlite_schema WHERE name = 'job'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(!sql.contains(" IN ("), "{sql}");
    let sound: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

/// What waits behind more jobs than a walk looks at is found off the queue's index.
#[tokio::test]
async fn a_long_history_hides_nothing_that_waits() {
    let (_folder, path) = folder();
    drop(with_one_job(&path).await);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "WITH RECURSIVE number (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM number WHERE n < 25000)
         INSERT INTO job (seq, id, id_tail, owner, tool, definition, priority, order_key, state, finished_at, digest,
                          created_at, changed_seq)
         SELECT n, unhex(printf('%032x', n)), 0, owner, tool, definition, priority, n, 'cancelled', 1, digest, 1, n
         FROM job, number WHERE seq = 1",
    )
    .unwrap();
    drop(db);
    let store = SqliteStore::open(&path).unwrap();
    let queued = |tools: &[&str]| JobFilter {
        states: vec![StateWord::Queued],
        tools: tools.iter().map(ToString::to_string).collect(),
        limit: 10,
        ..JobFilter::default()
    };
    let first = store.job(new(1).id).await.unwrap().unwrap();
    for filter in [
        queued(&[]),
        queued(&[&first.tool]),
        queued(&[&first.tool, "x"]),
    ] {
        assert_eq!(
            store.jobs(filter).await.unwrap(),
            std::slice::from_ref(&first)
        );
    }
    let tagged = JobFilter {
        tags: vec!["no such".into()],
        ..queued(&[])
    };
    assert_eq!(store.jobs(tagged).await.unwrap(), []);
    let newest = store.submit(new(2)).await.unwrap().job;
    assert_eq!(store.jobs(queued(&[])).await.unwrap(), [newest, first]);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    drop(with_one_job(&path).await);
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(&error, StoreError::Unusable { why, .. } if why.contains("version 99")));
    assert_eq!(pragma(&path, "user_version"), "99");
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE diary (day TEXT)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    let text = "Dear diary, ".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn an_empty_file_is_a_new_database() {
    let (_folder, path) = folder();
    std::fs::write(&path, "").unwrap();
    SqliteStore::open(&path).unwrap();
    assert_eq!(pragma(&path, "auto_vacuum"), "2");
}

#[tokio::test]
async fn the_tables_refuse_what_no_state_can_be() {
    let (_folder, path) = folder();
    drop(with_one_job(&path).await);
    let db = Connection::open(&path).unwrap();
    let refused = [
        "state = 'canceled'",
        "stop_reason = 'boredom'",
        "finished_at = 1",
        "state = 'succeeded', ready_at = NULL, started_at = 1",
        "state = 'running', ready_at = NULL",
        "state = 'cancelled', finished_at = 1",
        "state = 'failed', ready_at = NULL, finished_at = 1",
        "state = 'failed', ready_at = NULL, finished_at = 1, failure_message = '', failure_kind = 'bad_luck'",
        "failure_kind = 'timed_out', failure_message = ''",
        "state = 'failed', ready_at = NULL, finished_at = 1, failure_kind = 'exit', failure_message = ''",
        "state = 'failed', ready_at = NULL, finished_at = 1, failure_kind = 'timed_out', failure_code = 1, failure_message = ''",
        "stuck = 1",
        "stuck = 2",
        "priority = 101",
        "id = x'00'",
        "attempt = 'one'",
    ];
    for change in refused {
        let outcome = db.execute(&format!("UPDATE job SET {change}"), []);
        assert!(outcome.is_err(), "{change}");
    }
    let fine = "UPDATE job SET state = 'cancelled', ready_at = NULL, finished_at = 1, stop_reason = 'cancel'";
    assert_eq!(db.execute(fine, []).unwrap(), 1);
}

/// `NaN` is null to `SQLite`, so the attempt's `CHECK` refuses the row after the job's row was written.
fn with_a_bad_attempt(n: u8) -> Transition {
    let usage = Usage {
        wall_s: f64::NAN,
        cpu_s: 1.0,
        memory_peak_bytes: 1,
    };
    let record = AttemptRecord {
        job: new(n).id,
        attempt: 1,
        claimed_at: NOW,
        boot_id: None,
        started_at: None,
        finished_at: None,
        shim: None,
        tool_version: None,
        outcome: None,
        exit_code: None,
        usage: Some(usage),
        process_control: None,
    };
    Transition {
        record: Some(record),
        ..cancel(n)
    }
}

#[tokio::test]
async fn one_bad_row_fails_alone() {
    let (_folder, path) = folder();
    let store = with_one_job(&path).await;
    // Polled together on one thread, they wait together while the first of them commits.
    let (second, bad, third, unknown, fourth) = tokio::join!(
        store.submit(new(2)),
        store.transition(with_a_bad_attempt(1)),
        store.submit(new(3)),
        store.submit(NewJob {
            definition: "nowhere".into(),
            ..new(9)
        }),
        store.submit(new(4)),
    );
    assert!(matches!(bad, Err(StoreError::Broken(_))));
    assert!(matches!(unknown, Err(StoreError::Broken(_))));
    let seqs = [second, third, fourth].map(|answer| answer.unwrap().job.seq);
    assert_eq!(seqs, [2, 3, 4]);
    let first = store.job(new(1).id).await.unwrap().unwrap();
    assert_eq!(first.state.word(), StateWord::Queued);
}

#[tokio::test]
async fn the_log_moves_into_the_file_while_the_store_is_open() {
    let (_folder, path) = folder();
    let store = with_one_job(&path).await;
    let before = std::fs::metadata(&path).unwrap().len();
    let big = "x".repeat(4 << 20);
    for key in ["a", "b", "c"] {
        store.set_setting(key, &big).await.unwrap();
    }
    // Closing waits for the checkpoint's thread too.
    drop(store);
    assert!(std::fs::metadata(&path).unwrap().len() > before + (12 << 20));
}
