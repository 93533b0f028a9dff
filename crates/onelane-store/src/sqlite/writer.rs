//! Writing: one thread, one connection, commands in groups that share a transaction and its sync.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use onelane_core::{Job, JobId, JobState, OrderKey, StateWord, StopReason};
use rusqlite::{Connection, OptionalExtension, named_params, params};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::{Checkpointer, checkpoint};
use super::fault::{Fault, Outcome, abort, broken};
use super::reader;
use super::rows::{InputColumns, StateColumns, id_tail};
use crate::{
    AttemptRecord, Change, ChangeSink, NewJob, QueueEntry, Result, StoreError, Submitted,
    Transition,
};

/// A group holds at most so many commands, so that the first of them does not wait for long.
const GROUP_COMMANDS: usize = 512;
/// … and is closed once it has so many bytes.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// How many commands wait before their callers do.
const INBOX: usize = 1024;
/// After about so many pages in the log a checkpoint is asked for.
const CHECKPOINT_PAGES: usize = 1000;

const SYNCED: &str = "PRAGMA synchronous = FULL";
const UNSYNCED: &str = "PRAGMA synchronous = NORMAL";
const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const SAVEPOINT: &str = "SAVEPOINT command";
const RELEASE: &str = "RELEASE command";
const ROLLBACK_TO: &str = "ROLLBACK TO command";

/// The last numbers given; of `changed_seq` the last that may have been.
const MARKS: &str = "
    SELECT max(coalesce((SELECT max(seq) FROM job), 0),
               coalesce((SELECT value FROM high_water WHERE name = 'seq'), 0)),
           coalesce((SELECT value FROM high_water WHERE name = 'changed_seq'), 0)";

/// So many numbers of changes are taken at once: an index of them all would cost each change a page, and a start that
/// leaves some out costs nothing.
const CHANGES_TAKEN: i64 = 1 << 20;

/// A new job.
const JOB_INSERT: &str = "
    INSERT INTO job (seq, id, id_tail, owner, tool, definition, name, priority, order_key, state, ready_at, digest,
                     created_at, changed_seq)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'queued', ?10, ?11, ?10, ?12)";

/// What jobs call a definition.
const DEFINITION_KEY: &str = "SELECT key FROM tool_definition WHERE hash = ?1";

/// The compare-and-set; what a state does not have becomes null.
const JOB_MOVE: &str = "
    UPDATE job SET attempt = :attempt, state = :state, ready_at = :ready_at, claimed_at = :claimed_at,
                   started_at = :started_at, stuck = :stuck, finished_at = :finished_at,
                   failure_kind = :failure_kind, failure_code = :failure_code, failure_message = :failure_message,
                   stop_reason = :stop_reason, changed_seq = :changed_seq
    WHERE id = :id AND attempt = :from_attempt AND state = :from_state";

/// A job with its input, attempts, tags and waits, which the references take along.
const JOB_DELETE: &str = "DELETE FROM job WHERE id = ?1";

/// Keeps numbers from being given again: of deleted jobs, and of changes.
const HIGH_WATER_SET: &str = "
    INSERT INTO high_water (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// A label.
const TAG_INSERT: &str = "INSERT INTO job_tag (job, tag) VALUES (?1, ?2)";

/// A job to wait for.
const AFTER_INSERT: &str = "INSERT OR IGNORE INTO job_after (job, after) VALUES (?1, ?2)";

/// Whether an earlier job still has to end; one that is not there has.
const HAS_NOT_ENDED: &str =
    "SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND finished_at IS NULL)";

/// A job that leaves the queue has nothing to wait for any more, should it come back too.
const AFTER_CLEAR: &str = "DELETE FROM job_after WHERE job = ?1";

/// Parameters and files, written once.
const INPUT_INSERT: &str =
    "INSERT INTO job_input (job, params, files, notes) VALUES (?1, ?2, ?3, ?4)";

/// A key; replaces only one whose job was deleted.
const IDEMPOTENCY_SET: &str = "
    INSERT OR REPLACE INTO idempotency (owner, key, request_hash, job) VALUES (?1, ?2, ?3, ?4)";

/// An attempt, whole each time.
const ATTEMPT_SET: &str = "
    INSERT OR REPLACE INTO attempt (job, attempt, claimed_at, started_at, finished_at, pid, start_time, boot_id,
                                    pid_namespace, tool_version, outcome, exit_code, wall_s, cpu_s, memory_peak_bytes,
                                    process_control, claimed_boot_id)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

/// A definition; a known hash is left alone.
const DEFINITION_INSERT: &str =
    "INSERT INTO tool_definition (hash, definition) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING";

/// A setting.
const SETTING_SET: &str = "
    INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

type Sink = Arc<Mutex<Option<ChangeSink>>>;
type Inbox = mpsc::Receiver<Box<dyn Command>>;

/// The handle on the writer's thread. Dropping it waits until the inbox is empty and the file is closed.
pub(super) struct Writer {
    inbox: Option<mpsc::Sender<Box<dyn Command>>>,
    sink: Sink,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(db: Connection, path: &Path) -> Result<Self> {
        let (checkpointer, checkpoint_thread) = Checkpointer::start(path)?;
        let sink = Sink::default();
        let (sender, inbox) = mpsc::channel(INBOX);
        let scribe = Scribe {
            marks: Marks::read(&db)?,
            db,
            sink: Arc::clone(&sink),
            checkpointer,
            pages_since_checkpoint: 0,
            definitions: HashMap::new(),
            syncs: true,
            is_full: false,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || scribe.run(inbox))
            .map_err(|e| broken("can't start the writer", &e))?;
        Ok(Self {
            inbox: Some(sender),
            sink,
            threads: vec![thread, checkpoint_thread],
        })
    }

    pub(super) fn subscribe(&self, sink: ChangeSink) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Has the writer do `work` in its next group; comes back when that is on disk. `bytes` is about what it writes.
    pub(super) async fn call<T, W>(&self, bytes: usize, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Desk<'_>) -> Outcome<(T, Option<Change>)> + Send + 'static,
    {
        let durable = true;
        let how = How {
            bytes,
            durable,
            refuses_first: false,
        };
        self.call_as(how, work).await
    }

    /// As [`Self::call`], for more special work.
    pub(super) async fn call_as<T, W>(&self, how: How, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Desk<'_>) -> Outcome<(T, Option<Change>)> + Send + 'static,
    {
        let gone = || StoreError::Broken("the writer has ended".into());
        let (reply, answer) = oneshot::channel();
        let call = Call {
            how,
            work: Some(work),
            done: None,
            reply,
        };
        let inbox = self.inbox.as_ref().ok_or_else(gone)?;
        inbox.send(Box::new(call)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inbox = None;
        let here = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The sink may hold the last handle, and then this is the writer's own thread.
            if thread.thread().id() != here && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

/// What the writer has to know of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// About what it writes.
    pub(super) bytes: usize,
    /// Whether it comes back when it is on disk; otherwise when it is written, and is on disk with the next group that has
    /// something durable.
    pub(super) durable: bool,
    /// It says no before it writes anything ([`Desk::writes`]), so that it needs no savepoint to be taken back to. What
    /// fails later, which only a fault of the store can, takes its group along.
    pub(super) refuses_first: bool,
}

/// Something to write, and somebody who waits for it.
trait Command: Send {
    fn how(&self) -> How;
    /// Does the work inside the group's transaction.
    fn apply(&mut self, desk: &mut Desk<'_>) -> Outcome<Option<Change>>;
    /// Tells the caller, after the commit or its failure.
    fn answer(self: Box<Self>, verdict: Result<()>);
}

struct Call<T, W> {
    how: How,
    work: Option<W>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, W> Command for Call<T, W>
where
    T: Send,
    W: FnOnce(&mut Desk<'_>) -> Outcome<(T, Option<Change>)> + Send,
{
    fn how(&self) -> How {
        self.how
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Outcome<Option<Change>> {
        let Some(work) = self.work.take() else {
            return Ok(None);
        };
        let (done, change) = work(desk)?;
        self.done = Some(done);
        Ok(change)
    }

    fn answer(self: Box<Self>, verdict: Result<()>) {
        let lost = || StoreError::Broken("the command was not carried out".into());
        let Self { done, reply, .. } = *self;
        let answer = verdict.and_then(|()| done.ok_or_else(lost));
        // Nobody waits any more: the caller's request was dropped, and its work stands.
        drop(reply.send(answer));
    }
}

/// What became of one command before the commit.
type Applied = Result<Option<Change>>;

/// What the writer's thread owns.
struct Scribe {
    db: Connection,
    marks: Marks,
    sink: Sink,
    checkpointer: Checkpointer,
    pages_since_checkpoint: usize,
    /// Keys of the definitions that jobs came with.
    definitions: HashMap<String, i64>,
    /// Commits are synced at the moment.
    syncs: bool,
    /// The last group found no room.
    is_full: bool,
}

impl Scribe {
    fn run(mut self, mut inbox: Inbox) {
        while let Some(first) = inbox.blocking_recv() {
            let group = gather(first, &mut inbox);
            self.note_pages(&group);
            self.carry_out(group);
            self.care_for_log();
        }
    }

    fn carry_out(&mut self, mut group: Vec<Box<dyn Command>>) {
        let before = self.marks;
        match self.write(&mut group) {
            Ok(applied) => {
                self.is_full = false;
                self.tell(group, applied);
            }
            Err(fault) => {
                self.marks = before;
                self.definitions.clear();
                self.give_up(group, &fault);
            }
        }
    }

    /// The whole group in one transaction; an error means that nothing of it is there.
    fn write(&mut self, group: &mut [Box<dyn Command>]) -> Outcome<Vec<Applied>> {
        self.set_syncs(group.iter().any(|command| command.how().durable))?;
        execute(&self.db, BEGIN)?;
        let applied = group
            .iter_mut()
            .map(|command| self.apply(command.as_mut()))
            .collect::<Outcome<_>>()?;
        self.commit()?;
        Ok(applied)
    }

    /// In WAL mode a commit is synced with FULL and not with NORMAL; the log is one file, so that a sync takes along all
    /// commits before it (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
    fn set_syncs(&mut self, wanted: bool) -> Outcome<()> {
        if self.syncs != wanted {
            self.db
                .execute_batch(if wanted { SYNCED } else { UNSYNCED })?;
            self.syncs = wanted;
        }
        Ok(())
    }

    /// One command, in its own savepoint unless it needs none, so that a bad row fails alone.
    fn apply(&mut self, command: &mut dyn Command) -> Outcome<Applied> {
        let has_savepoint = !command.how().refuses_first;
        if has_savepoint {
            execute(&self.db, SAVEPOINT)?;
        }
        let mut desk = Desk {
            db: &self.db,
            marks: self.marks,
            definitions: &mut self.definitions,
            writes: false,
        };
        let (outcome, marks) = (command.apply(&mut desk), desk.marks);
        let is_torn = !has_savepoint && desk.writes;
        let applied = match outcome {
            Ok(change) => {
                self.marks = marks;
                Ok(change)
            }
            // `SQLite` may have rolled all of it back by itself.
            Err(fault) if is_torn || fault.ends_group() || self.db.is_autocommit() => {
                return Err(fault);
            }
            Err(fault) => {
                if has_savepoint {
                    execute(&self.db, ROLLBACK_TO)?;
                }
                Err(fault.into())
            }
        };
        if has_savepoint {
            execute(&self.db, RELEASE)?;
        }
        Ok(applied)
    }

    fn commit(&self) -> Outcome<()> {
        match execute(&self.db, COMMIT) {
            Err(fault) if fault.is_sync() => abort("a commit", &fault),
            outcome => outcome,
        }
    }

    /// First the sink, in commit order, then the callers: whoever has an answer finds the change known everywhere.
    fn tell(&self, group: Vec<Box<dyn Command>>, applied: Vec<Applied>) {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut verdicts = Vec::with_capacity(group.len());
        for applied in applied {
            verdicts.push(applied.map(|change| {
                if let (Some(sink), Some(change)) = (sink.as_ref(), change) {
                    sink(change);
                }
            }));
        }
        drop(sink);
        for (command, verdict) in group.into_iter().zip(verdicts) {
            command.answer(verdict);
        }
    }

    fn give_up(&mut self, group: Vec<Box<dyn Command>>, fault: &Fault) {
        if fault.is_sync() {
            abort("a write", fault);
        }
        // A full disk is tried again and again: once in a row says it.
        if !(fault.is_full() && std::mem::replace(&mut self.is_full, fault.is_full())) {
            tracing::error!(fault = ?fault, commands = group.len(), "nothing of a group of commands could be written");
        }
        // SQLite may have rolled back by itself.
        if !self.db.is_autocommit()
            && let Err(second) = execute(&self.db, ROLLBACK)
        {
            tracing::error!(fault = ?second, "the group could not be rolled back");
        }
        for command in group {
            command.answer(Err(fault.for_all()));
        }
    }

    /// A rough count: each group touches the hot pages once, each command a few of its own.
    fn note_pages(&mut self, group: &[Box<dyn Command>]) {
        let bytes: usize = group.iter().map(|command| command.how().bytes).sum();
        self.pages_since_checkpoint += 8 + 2 * group.len() + bytes / 4096;
    }

    fn care_for_log(&mut self) {
        if self.checkpointer.take_log_is_long() {
            // Between two commits nothing is added, so this one reaches the log's end and it can start over.
            checkpoint(&self.db);
        }
        if self.pages_since_checkpoint >= CHECKPOINT_PAGES {
            self.pages_since_checkpoint = 0;
            self.checkpointer.wake();
        }
    }
}

/// All that waits at this moment, up to the caps.
fn gather(first: Box<dyn Command>, inbox: &mut Inbox) -> Vec<Box<dyn Command>> {
    let mut bytes = first.how().bytes;
    let mut group = vec![first];
    while group.len() < GROUP_COMMANDS && bytes < GROUP_BYTES {
        let Ok(next) = inbox.try_recv() else { break };
        bytes += next.how().bytes;
        group.push(next);
    }
    group
}

fn execute(db: &Connection, sql: &str) -> Outcome<()> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// The last numbers given. A copy is kept while a command may still fail.
#[derive(Clone, Copy, Debug)]
struct Marks {
    seq: i64,
    changed_seq: i64,
    /// Up to here the numbers of changes are taken.
    changes_taken: i64,
}

impl Marks {
    fn read(db: &Connection) -> Outcome<Self> {
        Ok(db.query_row(MARKS, [], |row| {
            Ok(Self {
                seq: row.get(0)?,
                changed_seq: row.get(1)?,
                changes_taken: row.get(1)?,
            })
        })?)
    }
}

/// Where one command works: the open transaction and the next numbers.
pub(super) struct Desk<'t> {
    db: &'t Connection,
    marks: Marks,
    definitions: &'t mut HashMap<String, i64>,
    /// Set by a command that refuses first, before its first write.
    writes: bool,
}

impl Desk<'_> {
    pub(super) fn submit(
        &mut self,
        new: NewJob,
        input: &InputColumns,
    ) -> Outcome<(Submitted, Option<Change>)> {
        if let Some(key) = &new.idempotency
            && let Some(job) = reader::replay(self.db, &new.owner, key)?
        {
            let replayed = true;
            return Ok((Submitted { job, replayed }, None));
        }
        let definition = self.definition_key(&new.definition)?;
        let after = self.not_ended(&new.after)?;
        self.writes = true;
        self.marks.seq += 1;
        self.set_key(&new)?;
        let job = self.job_of(new)?;
        self.insert_job(&job, definition)?;
        self.insert_parts(&job, &after, input)?;
        let entry = QueueEntry {
            id: job.id,
            order_key: job.order_key,
            definition: job.definition.as_str().into(),
            after,
        };
        let change = Change::Submitted(job.clone(), entry);
        let replayed = false;
        Ok((Submitted { job, replayed }, Some(change)))
    }

    fn job_of(&mut self, new: NewJob) -> Outcome<Job> {
        let seq = self.marks.seq;
        Ok(Job {
            id: new.id,
            seq,
            owner: new.owner,
            tool: new.tool,
            definition: new.definition,
            name: new.name,
            tags: new.tags,
            priority: new.priority,
            order_key: OrderKey::new(new.priority, seq),
            state: JobState::submitted(new.created_at),
            attempt: 0,
            stop_reason: None,
            digest: new.digest,
            result_of: None,
            created_at: new.created_at,
            changed_seq: self.next_change()?,
        })
    }

    fn next_change(&mut self) -> Outcome<i64> {
        self.marks.changed_seq += 1;
        if self.marks.changed_seq > self.marks.changes_taken {
            self.marks.changes_taken = self.marks.changed_seq + CHANGES_TAKEN;
            self.set_high_water("changed_seq", self.marks.changes_taken)?;
        }
        Ok(self.marks.changed_seq)
    }

    fn set_high_water(&self, name: &str, value: i64) -> Outcome<()> {
        let mut statement = self.db.prepare_cached(HIGH_WATER_SET)?;
        statement.execute(params![name, value])?;
        Ok(())
    }

    fn not_ended(&self, ids: &[JobId]) -> Outcome<Vec<JobId>> {
        let mut statement = self.db.prepare_cached(HAS_NOT_ENDED)?;
        let mut waiting_for = Vec::new();
        for id in ids {
            if statement.query_row([id.as_bytes()], |row| row.get(0))? {
                waiting_for.push(*id);
            }
        }
        Ok(waiting_for)
    }

    fn set_key(&self, new: &NewJob) -> Outcome<()> {
        if let Some(key) = &new.idempotency {
            self.db.prepare_cached(IDEMPOTENCY_SET)?.execute(params![
                new.owner,
                key.key,
                key.request_hash,
                new.id.as_bytes()
            ])?;
        }
        Ok(())
    }

    fn definition_key(&mut self, hash: &str) -> Outcome<i64> {
        if let Some(key) = self.definitions.get(hash) {
            return Ok(*key);
        }
        let mut statement = self.db.prepare_cached(DEFINITION_KEY)?;
        let found = statement.query_row([hash], |row| row.get(0)).optional()?;
        let unknown = || StoreError::Broken(format!("there is no definition {hash}"));
        let key = found.ok_or_else(unknown)?;
        self.definitions.insert(hash.to_owned(), key);
        Ok(key)
    }

    fn insert_job(&self, job: &Job, definition: i64) -> Outcome<()> {
        self.db.prepare_cached(JOB_INSERT)?.execute(params![
            job.seq,
            job.id.as_bytes(),
            id_tail(job.id),
            job.owner,
            job.tool,
            definition,
            job.name,
            i32::from(job.priority),
            job.order_key.as_i64(),
            job.created_at.as_millis(),
            job.digest,
            job.changed_seq,
        ])?;
        Ok(())
    }

    fn insert_parts(&self, job: &Job, after: &[JobId], input: &InputColumns) -> Outcome<()> {
        self.db.prepare_cached(INPUT_INSERT)?.execute(params![
            job.seq,
            input.params,
            input.files,
            input.notes
        ])?;
        for tag in &job.tags {
            self.db
                .prepare_cached(TAG_INSERT)?
                .execute(params![job.seq, tag])?;
        }
        for id in after {
            self.db
                .prepare_cached(AFTER_INSERT)?
                .execute(params![job.seq, id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn transition(&mut self, to: &Transition) -> Outcome<(Job, Option<Change>)> {
        if let Some(record) = &to.record
            && record.job != to.id
        {
            let why = format!("an attempt of job {} came with job {}", record.job, to.id);
            return Err(StoreError::Broken(why).into());
        }
        if self.compare_and_set(to)? == 0 {
            return Err(self.why_not_moved(to.id)?.into());
        }
        self.writes = true;
        let job = reader::job(self.db, to.id)?.ok_or(StoreError::NoSuchJob(to.id))?;
        if to.from.1 == StateWord::Queued {
            self.db.prepare_cached(AFTER_CLEAR)?.execute([job.seq])?;
        }
        if let Some(record) = &to.record {
            self.set_attempt(&job, record)?;
        }
        Ok((job.clone(), Some(Change::Moved(job))))
    }

    fn compare_and_set(&mut self, to: &Transition) -> Outcome<usize> {
        let columns = StateColumns::of(&to.to);
        let (from_attempt, from_state) = to.from;
        let changed_seq = self.next_change()?;
        Ok(self.db.prepare_cached(JOB_MOVE)?.execute(named_params! {
            ":id": to.id.as_bytes(),
            ":from_attempt": from_attempt,
            ":from_state": from_state.as_str(),
            ":attempt": to.attempt,
            ":state": columns.word,
            ":ready_at": columns.ready_at,
            ":claimed_at": columns.claimed_at,
            ":started_at": columns.started_at,
            ":stuck": columns.stuck,
            ":finished_at": columns.finished_at,
            ":failure_kind": columns.failure_kind,
            ":failure_code": columns.failure_code,
            ":failure_message": columns.failure_message,
            ":stop_reason": to.stop_reason.map(StopReason::as_str),
            ":changed_seq": changed_seq,
        })?)
    }

    fn why_not_moved(&self, id: JobId) -> Outcome<StoreError> {
        let job = reader::job(self.db, id)?;
        Ok(job.map_or(StoreError::NoSuchJob(id), |_| StoreError::Moved(id)))
    }

    fn set_attempt(&self, job: &Job, record: &AttemptRecord) -> Outcome<()> {
        let shim = record.shim.as_ref();
        let usage = record.usage.as_ref();
        self.db.prepare_cached(ATTEMPT_SET)?.execute(params![
            job.seq,
            record.attempt,
            record.claimed_at.as_millis(),
            record.started_at.map(onelane_core::Timestamp::as_millis),
            record.finished_at.map(onelane_core::Timestamp::as_millis),
            shim.map(|shim| shim.pid),
            shim.map(|shim| shim.start_time),
            shim.map(|shim| &shim.boot_id),
            shim.map(|shim| &shim.pid_namespace),
            record.tool_version,
            record.outcome,
            record.exit_code,
            usage.map(|usage| usage.wall_s),
            usage.map(|usage| usage.cpu_s),
            usage.map(|usage| usage.memory_peak_bytes),
            record.process_control,
            record.boot_id,
        ])?;
        Ok(())
    }

    pub(super) fn remove(&mut self, id: JobId) -> Outcome<((), Option<Change>)> {
        let job = reader::job(self.db, id)?.ok_or(StoreError::NoSuchJob(id))?;
        if !job.state.is_final() {
            return Err(StoreError::Alive(id).into());
        }
        self.db
            .prepare_cached(JOB_DELETE)?
            .execute([id.as_bytes()])?;
        self.set_high_water("seq", self.marks.seq)?;
        Ok(((), Some(Change::Removed(id))))
    }

    pub(super) fn define(&self, hash: &str, definition: &str) -> Outcome<((), Option<Change>)> {
        self.db
            .prepare_cached(DEFINITION_INSERT)?
            .execute([hash, definition])?;
        Ok(((), None))
    }

    pub(super) fn set_setting(&self, key: &str, value: &str) -> Outcome<((), Option<Change>)> {
        self.db.prepare_cached(SETTING_SET)?.execute([key, value])?;
        Ok(((), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::migrations;

    fn set(
        key: &'static str,
        bytes: usize,
    ) -> impl FnOnce(&mut Desk<'_>) -> Outcome<((), Option<Change>)> {
        move |desk| desk.set_setting(key, &"x".repeat(bytes))
    }

    /// A limit on pages stands in for the disk: `SQLite` answers both with the same code.
    #[tokio::test]
    async fn a_full_disk_fails_the_whole_group_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onelane.db");
        let db = migrations::open(&path).unwrap();
        let limit = "PRAGMA max_page_count = 100";
        db.query_row(limit, [], |_| Ok(())).unwrap();
        let writer = Writer::start(db, &path).unwrap();
        let full = writer.call(0, set("big", 1 << 20)).await;
        assert!(matches!(full, Err(StoreError::Full)));
        writer.call(0, set("small", 10)).await.unwrap();
        drop(writer);
        let db = migrations::open(&path).unwrap();
        assert_eq!(reader::setting(&db, "big").unwrap(), None);
        assert_eq!(
            reader::setting(&db, "small").unwrap().unwrap(),
            "xxxxxxxxxx"
        );
    }

    /// A connection that may only query stands in for a disk that became read-only: `SQLite` answers both with one code.
    #[tokio::test]
    async fn a_disk_that_takes_no_writes_is_told_and_the_writer_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onelane.db");
        let writer = Writer::start(migrations::open(&path).unwrap(), &path).unwrap();
        let only_query = |desk: &mut Desk<'_>| {
            desk.db.pragma_update(None, "query_only", true)?;
            Ok(((), None))
        };
        writer.call(0, only_query).await.unwrap();
        for _ in 0..2 {
            let refused = writer.call(0, set("one", 1)).await;
            assert!(matches!(refused, Err(StoreError::Unwritable(_))));
        }
    }

    /// With the thread not started yet, all that waits is one group.
    #[test]
    fn what_waits_becomes_one_group_and_a_bad_row_in_it_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onelane.db");
        let db = migrations::open(&path).unwrap();
        let (checkpointer, _thread) = Checkpointer::start(&path).unwrap();
        let marks = Marks::read(&db).unwrap();
        let mut scribe = Scribe {
            db,
            marks,
            sink: Sink::default(),
            checkpointer,
            pages_since_checkpoint: 0,
            definitions: HashMap::new(),
            syncs: true,
            is_full: false,
        };
        let bad = |desk: &mut Desk<'_>| {
            desk.set_setting("two", "written, then taken back")?;
            desk.marks.seq += 1;
            execute(
                desk.db,
                "INSERT INTO high_water (name, value) VALUES ('bad word', 1)",
            )?;
            Ok(((), None))
        };
        let (one, mut first) = waiting(set("one", 1));
        let (two, mut second) = waiting(bad);
        let (three, mut third) = waiting(set("three", 1));
        scribe.carry_out(vec![one, two, three]);
        assert!(first.try_recv().unwrap().is_ok());
        assert!(matches!(
            second.try_recv().unwrap(),
            Err(StoreError::Broken(_))
        ));
        assert!(third.try_recv().unwrap().is_ok());
        assert_eq!(scribe.marks.seq, 0);
        assert_eq!(reader::setting(&scribe.db, "two").unwrap(), None);
        assert!(reader::setting(&scribe.db, "three").unwrap().is_some());
    }

    #[test]
    fn a_group_is_bounded_by_commands_and_by_bytes() {
        let (sender, mut inbox) = mpsc::channel(INBOX);
        for _ in 0..600 {
            assert!(sender.try_send(waiting(set("k", 1)).0).is_ok());
        }
        assert_eq!(
            gather(waiting(set("k", 1)).0, &mut inbox).len(),
            GROUP_COMMANDS
        );
        let mut big = call(set("k", 1)).0;
        big.how.bytes = GROUP_BYTES;
        assert_eq!(gather(Box::new(big), &mut inbox).len(), 1);
    }

    type Answer = oneshot::Receiver<Result<()>>;

    fn call<W>(work: W) -> (Call<(), W>, Answer) {
        let (reply, answer) = oneshot::channel();
        let work = Some(work);
        (
            Call {
                how: How {
                    bytes: 0,
                    durable: true,
                    refuses_first: false,
                },
                work,
                done: None,
                reply,
            },
            answer,
        )
    }

    fn waiting<W>(work: W) -> (Box<dyn Command>, Answer)
    where
        W: FnOnce(&mut Desk<'_>) -> Outcome<((), Option<Change>)> + Send + 'static,
    {
        let (call, answer) = call(work);
        (Box::new(call), answer)
    }
}
