//! The machine's own limits, as servers of a few lines.

use std::path::Path;
use std::sync::mpsc;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use rusqlite::Connection;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Waiting submissions that share a commit, at most.
const GROUP: usize = 512;

/// Reads every request and answers `hello`.
pub(crate) async fn hello() -> anyhow::Result<()> {
    let router = Router::new().fallback(async |_body: Bytes| "hello");
    serve(router.layer(DefaultBodyLimit::disable())).await
}

type Submission = (Bytes, oneshot::Sender<i64>);

/// Keeps every request's body in an `SQLite` table (WAL, `synchronous=FULL`, one writer thread whose commits are shared
/// by all that wait) and answers with its number after the commit. No check, no parsing, no index. A GET is answered at
/// once.
pub(crate) async fn probe(folder: &Path) -> anyhow::Result<()> {
    let db = open(&folder.join("probe.db"))?;
    let (sender, inbox) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        if let Err(error) = write_groups(&db, &inbox) {
            eprintln!("the probe's writer has ended: {error}");
        }
    });
    let router = Router::new()
        .fallback(keep)
        .layer(DefaultBodyLimit::disable())
        .with_state(sender);
    serve(router).await
}

async fn keep(
    State(writer): State<mpsc::SyncSender<Submission>>,
    method: Method,
    body: Bytes,
) -> Result<(StatusCode, String), StatusCode> {
    if method == Method::GET {
        return Ok((StatusCode::OK, "hello".to_owned()));
    }
    let gone = |_| StatusCode::SERVICE_UNAVAILABLE;
    let (sender, answer) = oneshot::channel();
    writer
        .try_send((body, sender))
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let id = answer.await.map_err(gone)?;
    Ok((StatusCode::CREATED, format!("{{\"id\":\"{id}\"}}")))
}

/// The probe's database, as [`crate::turnover`] uses it too.
pub(crate) fn open(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path).context("can't open the probe's database")?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE probe (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;",
    )?;
    Ok(db)
}

/// Puts one row in; durable once the transaction around it, if any, is committed.
pub(crate) fn insert(db: &Connection, body: &[u8]) -> anyhow::Result<i64> {
    db.prepare_cached("INSERT INTO probe (body) VALUES (?1)")?
        .execute([body])?;
    Ok(db.last_insert_rowid())
}

fn write_groups(db: &Connection, inbox: &mpsc::Receiver<Submission>) -> anyhow::Result<()> {
    while let Ok(first) = inbox.recv() {
        let group: Vec<_> = std::iter::once(first)
            .chain(inbox.try_iter().take(GROUP - 1))
            .collect();
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut answers = Vec::with_capacity(group.len());
        for (body, answer) in group {
            answers.push((insert(db, &body)?, answer));
        }
        db.prepare_cached("COMMIT")?.execute([])?;
        for (id, answer) in answers {
            // A client that hung up needs none.
            answer.send(id).ok();
        }
    }
    Ok(())
}

async fn serve(router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}
