//! Reading, on a few read-only connections beside the writer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onelane_core::{Job, JobId, OrderKey, StateWord};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params_from_iter};
use tokio::sync::Semaphore;

use super::fault::{Outcome, broken};
use super::rows::{self, InputColumns, job_columns};
use crate::{
    AttemptRecord, Idempotency, JobFilter, JobInput, Particulars, QueueEntry, QueueSink, Result,
    StoreError,
};

/// How many read at once; the rest wait their turn without holding a thread.
const CONNECTIONS: usize = 3;

/// One job by its id.
const JOB_BY_ID: &str = concat!("SELECT ", job_columns!(), " FROM job WHERE id = ?1");

/// What runs or is about to; the words are those of the partial index, or it would not be used.
const JOBS_ALIVE: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM job INDEXED BY job_alive WHERE state IN ('starting', 'running') ORDER BY seq"
);

/// All that waits, in order, off the partial index alone.
const QUEUE: &str = "
    SELECT id, order_key, definition FROM job INDEXED BY job_queued WHERE state = 'queued' ORDER BY order_key";

/// All definitions' hashes.
const DEFINITION_HASHES: &str = "SELECT key, hash FROM tool_definition";

/// What waiting jobs wait for, as far as it has not ended; ids that are not there count as ended.
/// `CROSS` keeps the small table in front: beginning with the queue would look up each of its jobs.
const QUEUE_AFTER: &str = "
    SELECT waiting.id AS id, job_after.after AS after
    FROM job_after
    CROSS JOIN job AS waiting ON waiting.seq = job_after.job
    CROSS JOIN job AS earlier ON earlier.id = job_after.after
    WHERE waiting.state = 'queued' AND earlier.finished_at IS NULL
    ORDER BY waiting.order_key, earlier.seq";

/// A long suffix among ended jobs.
const ENDED_BY_LONG_SUFFIX: &str = "
    SELECT seq, id FROM job INDEXED BY job_by_tail
    WHERE id_tail >= ?1 AND id_tail < ?1 + ?2 AND finished_at IS NOT NULL";

/// The ids of all that has not ended, off the partial indexes; what is alive costs a look at its row, and is little.
const IDS_NOT_ENDED: &str = "
    SELECT seq, id FROM job INDEXED BY job_queued WHERE state = 'queued'
    UNION ALL
    SELECT seq, id FROM job INDEXED BY job_alive WHERE state IN ('starting', 'running')";

/// A short suffix: many rows would have to be sorted, but one of every few thousand matches, so walk from the newest.
const IDS_BY_SHORT_SUFFIX: &str = "
    SELECT id FROM job NOT INDEXED
    WHERE id_tail >= ?1 AND id_tail < ?1 + ?2 ORDER BY seq DESC LIMIT ?3";

/// The number of the next job, or more.
const NEXT_SEQ: &str = "SELECT coalesce(max(seq), 0) + 1 FROM job";

/// So many of the newest jobs are looked at for those that wait, before the whole queue is.
const WALK_ROWS: i64 = 20_000;

/// From this many digits on, an index is better than a walk: one row of 65,536 matches.
const LONG_SUFFIX_DIGITS: usize = 4;

/// A job's parameters and files.
const INPUT_BY_JOB: &str = "
    SELECT params, files, notes FROM job_input WHERE job = (SELECT seq FROM job WHERE id = ?1)";

/// What a job is shown with besides its row: parameters and notes without the files, which may be long.
const SHOWN_INPUT: &str = "
    SELECT params, notes FROM job_input WHERE job = (SELECT seq FROM job WHERE id = ?1)";

/// Its last attempt.
const LAST_ATTEMPT: &str = "
    SELECT * FROM attempt WHERE job = (SELECT seq FROM job WHERE id = ?1) ORDER BY attempt DESC LIMIT 1";

/// A job's attempts, first one first.
const ATTEMPTS_BY_JOB: &str = "
    SELECT * FROM attempt WHERE job = (SELECT seq FROM job WHERE id = ?1) ORDER BY attempt";

/// The job behind a key; no row if it was deleted.
const IDEMPOTENCY_BY_KEY: &str = "
    SELECT idempotency.request_hash, idempotency.job FROM idempotency
    JOIN job ON job.id = idempotency.job
    WHERE idempotency.owner = ?1 AND idempotency.key = ?2";

/// A tool's definition.
const DEFINITION_BY_HASH: &str = "SELECT definition FROM tool_definition WHERE hash = ?1";

/// A setting.
const SETTING_BY_KEY: &str = "SELECT value FROM setting WHERE key = ?1";

/// The read-only connections.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let idle = (0..CONNECTIONS)
            .map(|_| connect(path).map_err(|e| broken("can't open for reading", &e)))
            .collect::<Result<_>>()?;
        Ok(Self {
            idle: Mutex::new(idle),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn run<T, F>(self: Arc<Self>, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let turns = Arc::clone(&self.turns);
        let turn = turns
            .acquire_owned()
            .await
            .map_err(|e| broken("can't read", &e))?;
        let task = tokio::task::spawn_blocking(move || {
            let answer = self.answer(query);
            // The connection is back before the turn is: a turn always finds one.
            drop(turn);
            answer
        });
        task.await.map_err(|e| broken("a query ended early", &e))?
    }

    fn answer<T>(&self, query: impl FnOnce(&Connection) -> Outcome<T>) -> Result<T> {
        let borrowed = Borrowed::from(self);
        Ok(query(borrowed.connection()?)?)
    }
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// A connection that goes back however its query ends.
struct Borrowed<'r> {
    readers: &'r Readers,
    db: Option<Connection>,
}

impl<'r> Borrowed<'r> {
    fn from(readers: &'r Readers) -> Self {
        let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let db = idle.pop();
        Self { readers, db }
    }

    fn connection(&self) -> Result<&Connection> {
        let none = || StoreError::Broken("no connection is free for reading".into());
        self.db.as_ref().ok_or_else(none)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut idle = self
            .readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.db.take());
    }
}

pub(super) fn job(db: &Connection, id: JobId) -> Outcome<Option<Job>> {
    let mut statement = db.prepare_cached(JOB_BY_ID)?;
    Ok(statement.query_row([id.as_bytes()], rows::job).optional()?)
}

pub(super) fn alive(db: &Connection) -> Outcome<Vec<Job>> {
    let mut statement = db.prepare_cached(JOBS_ALIVE)?;
    let jobs = statement.query_map([], rows::job)?;
    Ok(jobs.collect::<rusqlite::Result<_>>()?)
}

/// The job behind an owner's key. An error if the key belongs to another request; nothing if its job was deleted.
pub(super) fn replay(
    db: &Connection,
    owner: &str,
    idempotency: &Idempotency,
) -> Outcome<Option<Job>> {
    let mut statement = db.prepare_cached(IDEMPOTENCY_BY_KEY)?;
    let found = statement
        .query_row([owner, &idempotency.key], |row| {
            Ok((row.get::<_, String>("request_hash")?, rows::id(row, "job")?))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((hash, id)) if hash == idempotency.request_hash => job(db, id),
        Some((_, id)) => Err(StoreError::KeyReused(id).into()),
    }
}

pub(super) fn jobs(db: &Connection, filter: &JobFilter) -> Outcome<Vec<Job>> {
    let query = ListQuery::of(filter);
    if query.source != Source::Queue {
        return list(db, query.finish(filter.limit));
    }
    // One moment for both.
    let moment = db.unchecked_transaction()?;
    let newest = match filter.before_seq {
        Some(seq) => seq,
        None => moment
            .prepare_cached(NEXT_SEQ)?
            .query_row([], |row| row.get(0))?,
    };
    // What waits is mostly new. Where it isn't, the whole queue is looked through, off its index.
    let floor = newest - WALK_ROWS;
    let walked = list(&moment, query.clone().from(floor).finish(filter.limit))?;
    if floor <= 0 || walked.len() >= filter.limit {
        return Ok(walked);
    }
    list(&moment, query.finish_in_queue(filter.limit))
}

fn list(db: &Connection, (sql, values): (String, Vec<Value>)) -> Outcome<Vec<Job>> {
    let mut statement = db.prepare_cached(&sql)?;
    let jobs = statement.query_map(params_from_iter(values), rows::job)?;
    Ok(jobs.collect::<rusqlite::Result<_>>()?)
}

/// A list's conditions while they are put together.
///
/// At most one of them may choose an index, and only where it hands out rows in the list's own order; a unary plus
/// keeps `SQLite` from any other, which would sort all matches of a long history to show one page.
#[derive(Clone, Default)]
struct ListQuery {
    conditions: Vec<String>,
    values: Vec<Value>,
    has_index: bool,
    source: Source,
}

/// What a list is read off.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    /// The table, or an index that a condition chose.
    #[default]
    Chosen,
    /// The index of what is starting or running.
    Alive,
    /// The index of ended jobs by their state.
    Ended,
    /// What waits: a walk along the table, from the newest.
    Queue,
}

impl Source {
    const fn sql(self) -> &'static str {
        match self {
            Self::Chosen => "job",
            Self::Alive => "job INDEXED BY job_alive",
            Self::Ended => "job INDEXED BY job_by_end",
            Self::Queue => "job NOT INDEXED",
        }
    }
}

impl ListQuery {
    fn of(filter: &JobFilter) -> Self {
        let mut query = Self::default();
        query.ids(&filter.ids);
        query.texts("name", &filter.names);
        query.tags(&filter.tags);
        // What is alive is little, and what waits is mostly new; of ended jobs a tool's or an owner's are fewer, mostly.
        let living = [StateWord::Queued, StateWord::Starting, StateWord::Running];
        let states_first = matches!(filter.states.as_slice(), [state] if living.contains(state));
        if states_first {
            query.states(&filter.states);
        }
        query.texts("owner", &filter.owners);
        query.texts("tool", &filter.tools);
        if !states_first {
            query.states(&filter.states);
        }
        if let Some(seq) = filter.before_seq {
            query.conditions.push("job.seq < ?".into());
            query.values.push(seq.into());
        }
        query
    }

    fn ids(&mut self, ids: &[JobId]) {
        if ids.is_empty() {
            return;
        }
        self.conditions
            .push(format!("job.id IN ({})", marks(ids.len())));
        self.values
            .extend(ids.iter().map(|id| Value::Blob(id.as_bytes().to_vec())));
        self.has_index = true;
    }

    fn texts(&mut self, column: &str, texts: &[impl AsRef<str>]) {
        if texts.is_empty() {
            return;
        }
        let plus = if self.has_index || texts.len() > 1 {
            "+"
        } else {
            ""
        };
        self.has_index |= texts.len() == 1;
        self.conditions
            .push(format!("{plus}job.{column} IN ({})", marks(texts.len())));
        self.values
            .extend(texts.iter().map(|text| Value::Text(text.as_ref().into())));
    }

    /// Ended jobs have an index by their state, what is alive is little, and for what waits see [`jobs`].
    fn states(&mut self, states: &[StateWord]) {
        let [state] = states else {
            let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
            return self.texts("state", &words);
        };
        let word = state.as_str();
        if self.has_index {
            return self.conditions.push(format!("+job.state = '{word}'"));
        }
        self.conditions.push(format!("job.state = '{word}'"));
        match state {
            StateWord::Queued => {
                self.source = Source::Queue;
                self.has_index = true;
            }
            StateWord::Starting | StateWord::Running => {
                self.source = Source::Alive;
                self.has_index = true;
                self.conditions
                    .push("job.state IN ('starting', 'running')".into());
            }
            _ => {
                self.source = Source::Ended;
                self.conditions.push("job.finished_at IS NOT NULL".into());
            }
        }
    }

    fn from(mut self, seq: i64) -> Self {
        self.conditions.push("job.seq >= ?".into());
        self.values.push(seq.into());
        self
    }

    fn tags(&mut self, tags: &[String]) {
        if tags.is_empty() {
            return;
        }
        self.conditions.push(format!(
            "EXISTS (SELECT 1 FROM job_tag WHERE job_tag.job = job.seq AND job_tag.tag IN ({}))",
            marks(tags.len())
        ));
        self.values.extend(tags.iter().cloned().map(Value::Text));
    }

    fn finish(self, limit: usize) -> (String, Vec<Value>) {
        let source = self.source.sql();
        self.rows(job_columns!(), source, limit)
    }

    /// The same off the queue's index. All of it is looked through, so that only the page's own rows are read.
    fn finish_in_queue(self, limit: usize) -> (String, Vec<Value>) {
        let (inner, values) = self.rows("job.seq", "job INDEXED BY job_queued", limit);
        let sql = format!(
            "SELECT {} FROM job WHERE job.seq IN ({inner}) ORDER BY job.seq DESC",
            job_columns!()
        );
        (sql, values)
    }

    fn rows(mut self, columns: &str, source: &str, limit: usize) -> (String, Vec<Value>) {
        self.values
            .push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let conditions = if self.conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.conditions.join(" AND "))
        };
        let sql =
            format!("SELECT {columns} FROM {source} {conditions} ORDER BY job.seq DESC LIMIT ?");
        (sql, self.values)
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

pub(super) fn ids_by_suffix(db: &Connection, suffix: &str, limit: usize) -> Outcome<Vec<JobId>> {
    let Some((first, width)) = rows::tail_range(suffix) else {
        return Ok(Vec::new());
    };
    if suffix.len() < LONG_SUFFIX_DIGITS {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = db.prepare_cached(IDS_BY_SHORT_SUFFIX)?;
        let ids = statement.query_map([first, width, limit], |row| rows::id(row, "id"))?;
        return Ok(ids.collect::<rusqlite::Result<_>>()?);
    }
    // One moment for both: a job that ends in between would be in neither.
    let moment = db.unchecked_transaction()?;
    let mut found = Vec::new();
    let mut statement = moment.prepare_cached(ENDED_BY_LONG_SUFFIX)?;
    let mut ended = statement.query([first, width])?;
    while let Some(row) = ended.next()? {
        found.push((row.get::<_, i64>(0)?, JobId::from_bytes(row.get(1)?)));
    }
    let mut statement = moment.prepare_cached(IDS_NOT_ENDED)?;
    let mut not_ended = statement.query([])?;
    while let Some(row) = not_ended.next()? {
        let id = JobId::from_bytes(row.get(1)?);
        if (first..first + width).contains(&rows::id_tail(id)) {
            found.push((row.get(0)?, id));
        }
    }
    // The column holds eight digits; the rest of a longer suffix is compared here.
    found.retain(|(_, id)| id.to_string().ends_with(suffix));
    found.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    Ok(found.into_iter().take(limit).map(|(_, id)| id).collect())
}

pub(super) fn input(db: &Connection, id: JobId) -> Outcome<Option<JobInput>> {
    let mut statement = db.prepare_cached(INPUT_BY_JOB)?;
    let columns = statement
        .query_row([id.as_bytes()], |row| {
            Ok(InputColumns {
                params: row.get("params")?,
                files: row.get("files")?,
                notes: row.get("notes")?,
            })
        })
        .optional()?;
    columns.map(InputColumns::into_input).transpose()
}

pub(super) fn particulars(db: &Connection, id: JobId) -> Outcome<Particulars> {
    let mut statement = db.prepare_cached(SHOWN_INPUT)?;
    let input = statement
        .query_row([id.as_bytes()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let Some((params, notes)) = input else {
        return Ok(Particulars::default());
    };
    let mut statement = db.prepare_cached(LAST_ATTEMPT)?;
    let last_attempt = statement
        .query_row([id.as_bytes()], |row| rows::attempt(id, row))
        .optional()?;
    Ok(Particulars {
        params: serde_json::from_str(&params)?,
        notes: serde_json::from_str(&notes)?,
        last_attempt,
    })
}

pub(super) fn attempts(db: &Connection, id: JobId) -> Outcome<Vec<AttemptRecord>> {
    let mut statement = db.prepare_cached(ATTEMPTS_BY_JOB)?;
    let attempts = statement.query_map([id.as_bytes()], |row| rows::attempt(id, row))?;
    Ok(attempts.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn queue(db: &Connection, mut see: QueueSink) -> Outcome<()> {
    // All queries of one moment.
    let moment = db.unchecked_transaction()?;
    let hashes = definition_hashes(&moment)?;
    let mut waits = queue_after(&moment)?.into_iter().peekable();
    let mut statement = moment.prepare_cached(QUEUE)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = JobId::from_bytes(row.get(0)?);
        let mut after = Vec::new();
        // Both are in the queue's order.
        while let Some((_, other)) = waits.next_if(|(waiting, _)| *waiting == id) {
            after.push(other);
        }
        let definition: i64 = row.get(2)?;
        // Each has one: the table's reference says so.
        if let Some(hash) = hashes.get(&definition) {
            see(QueueEntry {
                id,
                order_key: OrderKey::from_i64(row.get(1)?),
                definition: Arc::clone(hash),
                after,
            });
        }
    }
    Ok(())
}

fn definition_hashes(db: &Connection) -> Outcome<HashMap<i64, Arc<str>>> {
    let mut statement = db.prepare_cached(DEFINITION_HASHES)?;
    let pairs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(pairs.collect::<rusqlite::Result<_>>()?)
}

fn queue_after(db: &Connection) -> Outcome<Vec<(JobId, JobId)>> {
    let mut statement = db.prepare_cached(QUEUE_AFTER)?;
    let pairs = statement.query_map([], |row| {
        Ok((rows::id(row, "id")?, rows::id(row, "after")?))
    })?;
    Ok(pairs.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn definition(db: &Connection, hash: &str) -> Outcome<Option<String>> {
    text(db, DEFINITION_BY_HASH, hash)
}

pub(super) fn setting(db: &Connection, key: &str) -> Outcome<Option<String>> {
    text(db, SETTING_BY_KEY, key)
}

fn text(db: &Connection, sql: &str, key: &str) -> Outcome<Option<String>> {
    let mut statement = db.prepare_cached(sql)?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tool's or an owner's history may be long; what is alive, and the newest of what waits, is not.
    #[test]
    fn living_states_choose_the_index_before_tools_and_owners_do() {
        let query = |state: StateWord| {
            let filter = JobFilter {
                states: vec![state],
                tools: vec!["blastp".to_owned()],
                owners: vec!["a".to_owned()],
                limit: 10,
                ..JobFilter::default()
            };
            let (sql, values) = ListQuery::of(&filter).finish(10);
            assert_eq!(values.len(), 3);
            sql
        };
        for (state, expected) in [
            (StateWord::Running, "FROM job INDEXED BY job_alive"),
            (StateWord::Queued, "FROM job NOT INDEXED"),
            (StateWord::Failed, "FROM job WHERE job.owner IN"),
        ] {
            let sql = query(state);
            assert!(sql.contains(expected), "{sql}");
        }
    }
}
