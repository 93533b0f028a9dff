//! The effects of `onelane-exec`'s `LocalExecutor`, one at a time.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use onelane_core::{JobId, StopReason};
use onelane_exec::{AttemptId, ExecError, Executor, Found, Launch, Verdict};

use super::attempt::{Attempt, Phase};
use super::world::{Fate, Shared, When, World, key, turn};

pub(crate) struct ModelExecutor {
    pub(crate) world: Shared,
}

type Result<T> = std::result::Result<T, ExecError>;

/// A machine that has run out of something.
fn machine_fault(doing: &str) -> ExecError {
    ExecError {
        doing: doing.to_owned(),
        source: io::Error::from_raw_os_error(28),
    }
}

impl ModelExecutor {
    async fn turn(&self, what: &'static str, id: AttemptId, when: When, may_fail: bool) -> Fate {
        turn(&self.world, what, Some(id), when, may_fail).await
    }

    /// An effect on the disk: refused by a full one, or when the schedule says so.
    async fn write<T>(
        &self,
        what: &'static str,
        id: AttemptId,
        effect: impl FnOnce(&mut World) -> T + Send,
    ) -> Result<T> {
        let fate = self.turn(what, id, When::Always, true).await;
        let mut world = self.world.lock();
        if fate == Fate::Fails || world.disk_full {
            return Err(machine_fault(what));
        }
        Ok(effect(&mut world))
    }

    fn hear(&self, id: AttemptId, found: Found) -> Found {
        if !matches!(found, Found::Over(Verdict::NeverStarted { .. })) {
            self.world.lock().heard.push((id, found.clone()));
        }
        found
    }

    /// A start that failed before any process existed leaves no folder, so that it can be tried again.
    fn forget(&self, id: AttemptId) {
        let mut world = self.world.lock();
        world.ledger.hindered.insert(key(id));
        world.attempts.remove(&key(id));
    }

    async fn begin(&self, id: AttemptId) -> Result<()> {
        self.write("make the lock", id, |world| {
            let attempt = world.attempts.get_mut(&key(id));
            if let Some(attempt) = attempt {
                attempt.has_lock = true;
            }
        })
        .await?;
        self.write("spawn the shim", id, |world| {
            if let Some(attempt) = world.attempts.get_mut(&key(id)) {
                attempt.phase = Phase::Spawned;
                attempt.shim = true;
            }
            world.ledger.hindered.remove(&key(id));
        })
        .await
    }

    fn living(&self, id: AttemptId) -> Option<Found> {
        let world = self.world.lock();
        let attempt = world.attempts.get(&key(id))?;
        let started_at = attempt.started_at.unwrap_or_else(|| world.time());
        let boot = attempt.record.filter(|_| attempt.is_supervised())?;
        Some(Found::Running(World::running(id, boot, started_at)))
    }

    /// Takes the lock once it is free, then looks under it.
    async fn conclude(&self, id: AttemptId) -> Result<Verdict> {
        self.turn("take the lock", id, When::Free(id), false).await;
        if let Some(attempt) = self.world.lock().attempts.get_mut(&key(id)) {
            attempt.held_by_server = true;
        }
        self.conclude_held(id).await
    }

    async fn conclude_held(&self, id: AttemptId) -> Result<Verdict> {
        let fate = self
            .turn("look under the lock", id, When::Always, true)
            .await;
        let mut world = self.world.lock();
        if fate == Fate::Fails {
            if let Some(attempt) = world.attempts.get_mut(&key(id)) {
                attempt.held_by_server = false;
            }
            return Err(machine_fault("look under the lock"));
        }
        world.conclude(id).map_err(machine_fault)
    }

    /// Looks at an attempt that was claimed in another boot, unless its lock is held all the same.
    async fn look_back(&self, id: AttemptId) -> Result<Option<Found>> {
        let what = "look at an attempt of another boot";
        let fate = self.turn(what, id, When::Always, true).await;
        let mut world = self.world.lock();
        if fate == Fate::Fails {
            return Err(machine_fault(what));
        }
        if world.attempts.get(&key(id)).is_some_and(Attempt::is_locked) {
            return Ok(None);
        }
        let verdict = world.end_by_restart(id).map_err(machine_fault)?;
        Ok(Some(Found::Over(verdict)))
    }

    async fn look(&self, id: AttemptId) -> Result<Found> {
        self.turn("look at the attempt", id, When::Always, false)
            .await;
        let (is_there, is_locked) = {
            let mut world = self.world.lock();
            let attempt = world.attempts.get_mut(&key(id)).filter(|a| a.has_lock);
            let is_locked = attempt.as_ref().is_some_and(|a| a.is_locked());
            let is_there = attempt.is_some();
            if let Some(attempt) = attempt.filter(|_| !is_locked) {
                attempt.held_by_server = true;
            }
            (is_there, is_locked)
        };
        if !is_there {
            return Ok(Found::Over(Verdict::NeverStarted {
                why: "its folder was never made".into(),
            }));
        }
        if !is_locked {
            return self.conclude_held(id).await.map(Found::Over);
        }
        self.turn("find the shim", id, When::RecordedOrFree(id), false)
            .await;
        match self.living(id) {
            Some(found) => Ok(found),
            None => self.conclude(id).await.map(Found::Over),
        }
    }
}

#[async_trait]
impl Executor for ModelExecutor {
    async fn prepare(&self, job: JobId) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/jobs/{job}")))
    }

    async fn start(&self, launch: Launch) -> Result<Found> {
        let id = launch.id;
        let is_new = self
            .write("make the attempt's folder", id, |world| {
                // Without a lock it is laid out anew, and what a power cut has left there goes.
                let is_new = world.attempts.get(&key(id)).is_none_or(|a| !a.has_lock);
                if is_new {
                    let attempt = Attempt::new(world.boot);
                    world.attempts.insert(key(id), attempt);
                }
                is_new
            })
            .await
            .inspect_err(|_| {
                let mut world = self.world.lock();
                if !world.attempts.contains_key(&key(id)) {
                    world.ledger.hindered.insert(key(id));
                }
            })?;
        if !is_new {
            return self.look(id).await.map(|found| self.hear(id, found));
        }
        self.begin(id).await.inspect_err(|_| self.forget(id))?;
        self.turn("hear from the shim", id, When::Told(id), false)
            .await;
        let could_not_begin = {
            let world = self.world.lock();
            let attempt = world.attempts.get(&key(id));
            attempt.is_some_and(|a| a.could_not_begin && a.exit.is_none())
        };
        if could_not_begin {
            self.forget(id);
            return Err(machine_fault("begin the attempt"));
        }
        let found = match self.living(id) {
            Some(found) => Ok(found),
            None => self.conclude(id).await.map(Found::Over),
        };
        found.map(|found| self.hear(id, found))
    }

    async fn recover(&self, id: AttemptId, claimed_in: Option<&str>) -> Result<Found> {
        let boot = self.world.lock().boot_id();
        if claimed_in.is_some_and(|claimed_in| claimed_in != boot)
            && let Some(found) = self.look_back(id).await?
        {
            return Ok(self.hear(id, found));
        }
        self.look(id).await.map(|found| self.hear(id, found))
    }

    async fn watch(&self, id: AttemptId) -> Result<Verdict> {
        let verdict = self.conclude(id).await?;
        self.hear(id, Found::Over(verdict.clone()));
        Ok(verdict)
    }

    async fn stop(&self, id: AttemptId, reason: StopReason, _grace_ms: u64) -> Result<()> {
        self.write("write stop.json", id, |world| {
            let attempt = world.attempts.get_mut(&key(id));
            if let Some(attempt) = attempt.filter(|a| a.has_lock && a.exit.is_none()) {
                attempt.stop.get_or_insert(reason);
            }
        })
        .await?;
        self.turn("signal the shim", id, When::Always, false).await;
        if let Some(attempt) = self.world.lock().attempts.get_mut(&key(id))
            && attempt.record.is_some()
        {
            attempt.signal();
        }
        Ok(())
    }

    async fn unkillable(&self, _id: AttemptId) -> Result<String> {
        std::future::pending().await
    }

    async fn progress(&self, _id: AttemptId, _seen: u64) -> Result<(String, u64)> {
        std::future::pending().await
    }

    async fn remove(&self, job: JobId) -> Result<()> {
        let id = AttemptId { job, attempt: 0 };
        self.write("delete the files", id, |world| world.delete_files(job))
            .await
    }
}
