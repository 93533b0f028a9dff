//! A store that keeps what was committed, and nothing else.

use std::collections::BTreeMap;

use async_trait::async_trait;
use onelane_core::{Job, JobId, JobState, OrderKey, StateWord};
use onelane_exec::AttemptId;
use onelane_store::{
    AttemptRecord, Change, ChangeSink, Idempotency, JobFilter, JobInput, NewJob, Particulars,
    QueueEntry, QueueSink, Result, Store, StoreError, Submitted, Transition,
};
use parking_lot::Mutex;

use super::dice::Dice;
use super::ledger::Seen;
use super::world::{CLIENT, Fate, Row, Shared, When, World, turn};

pub(crate) struct ModelStore {
    pub(crate) world: Shared,
    pub(crate) sink: Mutex<Option<ChangeSink>>,
}

fn broken() -> StoreError {
    StoreError::Broken("the schedule says so".into())
}

impl ModelStore {
    /// A commit: refused, or done, told to the sink, and answered at once or later.
    async fn commit<T: Send>(
        &self,
        what: &'static str,
        about: Option<AttemptId>,
        effect: impl FnOnce(&mut World) -> Result<(T, Option<Change>)> + Send,
    ) -> Result<T> {
        let fate = turn(&self.world, what, about, When::Always, true).await;
        let (value, change) = {
            let mut world = self.world.lock();
            if fate == Fate::Fails || world.disk_full {
                return Err(StoreError::Full);
            }
            effect(&mut world)?
        };
        if let (Some(sink), Some(change)) = (self.sink.lock().as_ref(), change) {
            sink(change);
        }
        if fate == Fate::Late {
            turn(
                &self.world,
                "an answer of the store",
                about,
                When::Always,
                false,
            )
            .await;
        }
        Ok(value)
    }

    async fn read<T>(
        &self,
        what: &'static str,
        about: Option<AttemptId>,
        look: impl FnOnce(&World) -> T + Send,
    ) -> Result<T> {
        if turn(&self.world, what, about, When::Always, true).await == Fate::Fails {
            return Err(broken());
        }
        Ok(look(&self.world.lock()))
    }
}

/// A job without any of its attempts.
const fn about(job: JobId) -> AttemptId {
    AttemptId { job, attempt: 0 }
}

impl World {
    fn submit(&mut self, new: NewJob) -> (Submitted, Option<Change>) {
        self.last_seq += 1;
        let ended = |id: &JobId| self.rows.get(id).is_none_or(|row| row.job.state.is_final());
        let after: Vec<JobId> = new.after.into_iter().filter(|id| !ended(id)).collect();
        let job = Job {
            id: new.id,
            seq: self.last_seq,
            owner: new.owner,
            tool: new.tool,
            definition: new.definition,
            name: None,
            tags: Vec::new(),
            priority: new.priority,
            order_key: OrderKey::new(new.priority, self.last_seq),
            state: JobState::submitted(new.created_at),
            attempt: 0,
            stop_reason: None,
            digest: String::new(),
            result_of: None,
            created_at: new.created_at,
            changed_seq: 0,
        };
        let row = Row {
            job: job.clone(),
            after: after.clone(),
            records: BTreeMap::new(),
        };
        self.rows.insert(job.id, row);
        self.soft.clear();
        self.ledger.seen.insert(job.id, Seen::of(&job));
        let entry = QueueEntry {
            id: job.id,
            order_key: job.order_key,
            definition: job.definition.as_str().into(),
            after,
        };
        self.ledger.waits(&entry);
        let tool = job.tool.clone();
        self.note(|_| format!("job {} of {tool} is submitted", job.seq));
        let change = Change::Submitted(job.clone(), entry);
        let replayed = false;
        (Submitted { job, replayed }, Some(change))
    }

    fn transition(&mut self, wish: Transition) -> Result<(Job, Option<Change>)> {
        let Some(row) = self.rows.get(&wish.id) else {
            self.accuse("a transition of a job that is not there");
            return Err(StoreError::NoSuchJob(wish.id));
        };
        let before = row.clone();
        self.check_transition(&before, &wish);
        let Some(row) = self.rows.get_mut(&wish.id) else {
            return Err(StoreError::NoSuchJob(wish.id));
        };
        if wish.from != (row.job.attempt, row.job.state.word()) {
            return Err(StoreError::Moved(wish.id));
        }
        row.job.state = wish.to;
        row.job.attempt = wish.attempt;
        row.job.stop_reason = wish.stop_reason;
        if row.job.state.word() != StateWord::Queued {
            row.after.clear();
        }
        if let Some(record) = wish.record {
            row.records.insert(record.attempt, record);
        }
        let job = row.job.clone();
        if wish.durable {
            self.soft.clear();
        } else {
            self.soft.push((job.id, before));
        }
        self.ledger.seen.insert(job.id, Seen::of(&job));
        self.note(|_| {
            let stop = job.stop_reason.map_or("", |_| ", to be stopped");
            let synced = if wish.durable { "" } else { ", unsynced" };
            format!(
                "job {} attempt {} is {}{stop}{synced}",
                job.seq,
                job.attempt,
                job.state.word()
            )
        });
        Ok((job.clone(), Some(Change::Moved(job))))
    }

    /// A power cut undoes the last of what was not synced, and nothing before it.
    pub(crate) fn undo(&mut self, dice: &mut Dice) {
        let left = dice.below(self.soft.len() + 1);
        for (id, before) in self.soft.split_off(left).into_iter().rev() {
            if let Some(now) = self.rows.insert(id, before) {
                self.note(|_| {
                    let word = now.job.state.word();
                    format!("job {} was never {word}", now.job.seq)
                });
                self.forget_claim(&now.job);
            }
        }
        self.soft.clear();
        self.check_undone();
    }

    fn queue(&self) -> Vec<QueueEntry> {
        let queued = self
            .rows
            .values()
            .filter(|row| row.job.state.word() == StateWord::Queued);
        let mut queue: Vec<QueueEntry> = queued
            .map(|row| QueueEntry {
                id: row.job.id,
                order_key: row.job.order_key,
                definition: row.job.definition.as_str().into(),
                after: self.not_ended(&row.after),
            })
            .collect();
        queue.sort_by_key(|entry| entry.order_key);
        queue
    }

    fn not_ended(&self, ids: &[JobId]) -> Vec<JobId> {
        let alive = |id: &&JobId| self.rows.get(id).is_some_and(|r| !r.job.state.is_final());
        ids.iter().filter(alive).copied().collect()
    }
}

#[async_trait]
impl Store for ModelStore {
    fn subscribe(&self, sink: ChangeSink) {
        *self.sink.lock() = Some(sink);
    }

    async fn submit(&self, job: NewJob) -> Result<Submitted> {
        self.commit("commit a submission", Some(about(job.id)), |world| {
            Ok(world.submit(job))
        })
        .await
    }

    async fn replay(&self, _owner: &str, _key: &Idempotency) -> Result<Option<Job>> {
        Ok(None)
    }

    async fn transition(&self, transition: Transition) -> Result<Job> {
        let job = self
            .commit("commit a transition", Some(about(transition.id)), |world| {
                world.transition(transition)
            })
            .await?;
        self.world.lock().ledger.told(&job);
        Ok(job)
    }

    async fn remove(&self, id: JobId) -> Result<()> {
        self.commit("commit a deletion", Some(about(id)), |world| {
            match world.rows.get(&id).map(|row| row.job.state.is_final()) {
                None => Err(StoreError::NoSuchJob(id)),
                Some(false) => Err(StoreError::Alive(id)),
                Some(true) => {
                    world.rows.remove(&id);
                    world.soft.clear();
                    world.ledger.seen.remove(&id);
                    world.ledger.deleted.insert(id);
                    Ok(((), Some(Change::Removed(id))))
                }
            }
        })
        .await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        if CLIENT.try_with(|_| ()).is_err() {
            self.world.lock().check_admission(id);
        }
        self.read("read a job", Some(about(id)), |world| {
            world.rows.get(&id).map(|row| row.job.clone())
        })
        .await
    }

    async fn shown(&self, id: JobId) -> Result<Option<(Job, Particulars)>> {
        let job = self.job(id).await?;
        Ok(job.map(|job| (job, Particulars::default())))
    }

    async fn to_start(&self, id: JobId) -> Result<Option<(Job, Vec<AttemptRecord>, JobInput)>> {
        self.world.lock().check_admission(id);
        self.read("read a job to start", Some(about(id)), |world| {
            let row = world.rows.get(&id)?;
            let attempts = row.records.values().cloned().collect();
            Some((row.job.clone(), attempts, JobInput::default()))
        })
        .await
    }

    async fn jobs(&self, _filter: JobFilter) -> Result<Vec<Job>> {
        Ok(Vec::new())
    }

    async fn ids_by_suffix(&self, _suffix: &str, _limit: usize) -> Result<Vec<JobId>> {
        Ok(Vec::new())
    }

    async fn input(&self, id: JobId) -> Result<Option<JobInput>> {
        self.read("read an input", Some(about(id)), |_| {
            Some(JobInput::default())
        })
        .await
    }

    async fn particulars(&self, ids: Vec<JobId>) -> Result<Vec<Particulars>> {
        Ok(ids.iter().map(|_| Particulars::default()).collect())
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>> {
        let world = self.world.lock();
        let records = world.rows.get(&id).map(|row| row.records.values().cloned());
        Ok(records.into_iter().flatten().collect())
    }

    async fn queue(&self, see: QueueSink) -> Result<()> {
        // Not while the world is locked: the engine locks its own memory.
        let queue = self.world.lock().queue();
        queue.into_iter().for_each(see);
        Ok(())
    }

    async fn alive(&self) -> Result<Vec<Job>> {
        self.read("read what is alive", None, |world| {
            let rows = world.rows.values().map(|row| &row.job);
            rows.filter(|job| matches!(job.state.word(), StateWord::Starting | StateWord::Running))
                .cloned()
                .collect()
        })
        .await
    }

    async fn define(&self, hash: &str, definition: &str) -> Result<()> {
        let mut world = self.world.lock();
        world.definitions.insert(hash.into(), definition.into());
        world.soft.clear();
        Ok(())
    }

    async fn definition(&self, hash: &str) -> Result<Option<String>> {
        Ok(self.world.lock().definitions.get(hash).cloned())
    }

    async fn setting(&self, key: &str) -> Result<Option<String>> {
        Ok(self.world.lock().settings.get(key).cloned())
    }

    async fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.commit("commit a setting", None, |world| {
            world.settings.insert(key.into(), value.into());
            world.soft.clear();
            world.ledger.paused = false;
            Ok(((), None))
        })
        .await
    }
}
