//! The store in one `SQLite` file.
//!
//! One thread writes and commits in groups (`writer`); a few read-only connections read (`reader`); a third kind
//! moves the log into the file, off the writer's path (`checkpoint`). No other code here touches a connection.

mod checkpoint;
mod fault;
mod maintenance;
mod migrations;
mod reader;
mod rows;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use onelane_core::{Job, JobId};

pub use self::maintenance::{Inspection, copy, files};
use self::reader::Readers;
use self::rows::InputColumns;
use self::writer::{Desk, How, Writer};
use crate::{
    AttemptRecord, ChangeSink, Idempotency, JobFilter, JobInput, NewJob, Particulars, QueueSink,
    Result, Store, Submitted, Transition,
};

/// A [`Store`] in one `SQLite` file (with its `-wal` and `-shm` beside it).
///
/// Dropping it waits until all that was accepted is written.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the file, or makes it in a folder that exists, and brings its schema up to date.
    ///
    /// Only one process may have it open: the server's lock sees to that.
    ///
    /// # Errors
    /// [`crate::StoreError::Unusable`] for a newer schema or a file that is not Onelane's, [`crate::StoreError::Damaged`]
    /// for a damaged one; all are left as they are.
    pub fn open(path: &Path) -> Result<Self> {
        let db = migrations::open(path)?;
        let readers = Arc::new(Readers::open(path)?);
        let writer = Writer::start(db, path)?;
        Ok(Self { writer, readers })
    }

    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> fault::Outcome<T> + Send + 'static,
    {
        Arc::clone(&self.readers).run(query).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn subscribe(&self, sink: ChangeSink) {
        self.writer.subscribe(sink);
    }

    async fn submit(&self, job: NewJob) -> Result<Submitted> {
        // Here and not on the writer's thread, which all submissions share.
        let input = InputColumns::of(&job.input)?;
        let how = How {
            bytes: input.bytes(),
            durable: true,
            refuses_first: true,
        };
        let work = move |desk: &mut Desk<'_>| desk.submit(job, &input);
        self.writer.call_as(how, work).await
    }

    async fn replay(&self, owner: &str, idempotency: &Idempotency) -> Result<Option<Job>> {
        let (owner, idempotency) = (owner.to_owned(), idempotency.clone());
        self.read(move |db| reader::replay(db, &owner, &idempotency))
            .await
    }

    async fn transition(&self, transition: Transition) -> Result<Job> {
        let how = How {
            bytes: 0,
            durable: transition.durable,
            refuses_first: transition.record.is_none(),
        };
        let work = move |desk: &mut Desk<'_>| desk.transition(&transition);
        self.writer.call_as(how, work).await
    }

    async fn remove(&self, id: JobId) -> Result<()> {
        self.writer.call(0, move |desk| desk.remove(id)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.read(move |db| reader::job(db, id)).await
    }

    async fn shown(&self, id: JobId) -> Result<Option<(Job, Particulars)>> {
        self.read(move |db| {
            // One moment for both.
            let moment = db.unchecked_transaction()?;
            let job = reader::job(&moment, id)?;
            let with = |job| Ok((job, reader::particulars(&moment, id)?));
            job.map(with).transpose()
        })
        .await
    }

    async fn to_start(&self, id: JobId) -> Result<Option<(Job, Vec<AttemptRecord>, JobInput)>> {
        self.read(move |db| {
            let moment = db.unchecked_transaction()?;
            let job = reader::job(&moment, id)?;
            let with = |job| {
                let attempts = reader::attempts(&moment, id)?;
                let input = reader::input(&moment, id)?.unwrap_or_default();
                Ok((job, attempts, input))
            };
            job.map(with).transpose()
        })
        .await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>> {
        self.read(move |db| reader::jobs(db, &filter)).await
    }

    async fn ids_by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>> {
        let suffix = suffix.to_ascii_lowercase();
        self.read(move |db| reader::ids_by_suffix(db, &suffix, limit))
            .await
    }

    async fn input(&self, id: JobId) -> Result<Option<JobInput>> {
        self.read(move |db| reader::input(db, id)).await
    }

    async fn particulars(&self, ids: Vec<JobId>) -> Result<Vec<Particulars>> {
        self.read(move |db| ids.iter().map(|id| reader::particulars(db, *id)).collect())
            .await
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>> {
        self.read(move |db| reader::attempts(db, id)).await
    }

    async fn queue(&self, see: QueueSink) -> Result<()> {
        self.read(move |db| reader::queue(db, see)).await
    }

    async fn alive(&self) -> Result<Vec<Job>> {
        self.read(reader::alive).await
    }

    async fn define(&self, hash: &str, definition: &str) -> Result<()> {
        let (hash, definition) = (hash.to_owned(), definition.to_owned());
        self.writer
            .call(definition.len(), move |desk| {
                desk.define(&hash, &definition)
            })
            .await
    }

    async fn definition(&self, hash: &str) -> Result<Option<String>> {
        let hash = hash.to_owned();
        self.read(move |db| reader::definition(db, &hash)).await
    }

    async fn setting(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.read(move |db| reader::setting(db, &key)).await
    }

    async fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.writer
            .call(value.len(), move |desk| desk.set_setting(&key, &value))
            .await
    }
}
