//! Finds an attempt that was started, by this server or an earlier one, and waits for its end.

use std::fs;
use std::path::Path;

use super::damage::{self, Record};
use super::lock::{names_this_lock, try_lock, wait_lock};
use super::pidfd::until_gone;
use super::{LocalExecutor, blocking, process, progress, read_json};
use crate::level::Level;
use crate::record::{ProcessRecord, ShimRecord};
use crate::{AttemptId, ExecError, Found, Running, Verdict};

impl LocalExecutor {
    /// What became of an attempt: takes its lock, then looks under it.
    pub(super) async fn find(
        &self,
        id: AttemptId,
        claimed_in: Option<&str>,
    ) -> Result<Found, ExecError> {
        if let Some(verdict) = self.ended_by_restart(id, claimed_in).await? {
            return Ok(Found::Over(verdict));
        }
        if !self.folder(id).join("attempt.lock").exists() {
            if let Some(shim) = damage::holders(&self.folder(id)).into_iter().next() {
                return Ok(Found::Running(running_of(
                    &self.folder(id),
                    shim,
                    Level::default(),
                )));
            }
            return Ok(Found::Over(Verdict::NeverStarted {
                why: "its folder was never made".to_owned(),
            }));
        }
        let this = self.clone();
        let lock = blocking("look at the attempt's lock", move || {
            try_lock(&this.folder(id))
        })
        .await?;
        match (lock, self.living_shim(id)) {
            (Some(lock), _) => self.conclude(id, lock).await.map(Found::Over),
            (None, Some(record)) => Ok(Found::Running(running_of(
                &self.folder(id),
                record.shim,
                record.level,
            ))),
            // Held, but not yet written down: the shim is in its first milliseconds, or belongs to another folder.
            (None, None) => self.wait_for_record(id).await,
        }
    }

    /// Waits for an attempt's end, and says what it was.
    pub(super) async fn until_over(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        let folder = self.folder(id);
        let mut worker = None;
        if let Some(record) = self.living_shim(id) {
            let over = async {
                // A warm worker's shim stays when the attempt is over.
                if record.worker.is_some() {
                    tokio::select! {
                        seen = progress::file_appears(&folder, "exit.json") => seen,
                        gone = until_gone(&record.shim) => gone,
                    }
                } else {
                    until_gone(&record.shim).await
                }
            };
            over.await
                .map_err(|error| ExecError::new("watch the shim", error))?;
            worker = record.worker;
        }
        if !folder.join("attempt.lock").exists() {
            return self.watch_deleted(id).await;
        }
        // The kernel wakes us when the last of the pair lets go.
        let lock = blocking("wait for the attempt's lock", move || wait_lock(&folder)).await?;
        let verdict = self.conclude(id, lock).await?;
        Ok(self.settled(worker, id, verdict).await)
    }

    async fn wait_for_record(&self, id: AttemptId) -> Result<Found, ExecError> {
        let folder = self.folder(id);
        let appeared = progress::file_appears(&folder, "shim.json");
        tokio::select! {
            seen = appeared => {
                seen.map_err(|error| ExecError::new("watch the attempt's folder", error))?;
                match self.living_shim(id) {
                    Some(record) => Ok(Found::Running(running_of(&folder, record.shim, record.level))),
                    None => match self.unrecorded_shim(id) {
                        Some(shim) => Ok(Found::Running(running_of(&folder, shim, Level::default()))),
                        None => Ok(Found::Over(Verdict::Stuck { why: foreign(&folder) })),
                    },
                }
            }
            verdict = self.until_over(id) => verdict.map(Found::Over),
        }
    }

    /// The folder was deleted under the attempt. Its supervisors keep the lock open all the same: when they are gone it
    /// is over, and nobody knows how.
    async fn watch_deleted(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        let folder = self.folder(id);
        while let Some(holder) = damage::holders(&folder).first() {
            until_gone(holder)
                .await
                .map_err(|error| ExecError::new("watch the shim", error))?;
        }
        Ok(Verdict::folder_deleted(id, "supervisors_gone"))
    }

    /// The verdict about a warm attempt, once the worker's own word about its end has come in.
    async fn settled(&self, worker: Option<String>, id: AttemptId, verdict: Verdict) -> Verdict {
        if let Some(worker) = worker {
            self.pool.settle(&worker, id).await;
        }
        verdict
    }

    /// Our own living shim's record, if there is one: of this data folder, under this very lock, alive.
    pub(super) fn living_shim(&self, id: AttemptId) -> Option<ShimRecord> {
        let folder = self.folder(id);
        let record = read_json::<ShimRecord>(&folder.join("shim.json"))?;
        let ours = record.instance == *self.instance && names_this_lock(&record, &folder);
        (ours && (process::lives(&record.shim) || process::lives(&record.guard))).then_some(record)
    }

    /// A living supervisor whose `shim.json` can't be read.
    pub(super) fn unrecorded_shim(&self, id: AttemptId) -> Option<ProcessRecord> {
        let folder = self.folder(id);
        match damage::read::<ShimRecord>(&folder.join("shim.json"), id) {
            Ok(Record::Damaged(_)) => damage::holders(&folder).into_iter().next(),
            _ => None,
        }
    }
}

fn running_of(folder: &Path, shim: ProcessRecord, level: Level) -> Running {
    // An adopted attempt's own start time comes with `exit.json`; until then the record's time is near enough.
    let written = fs::metadata(folder.join("shim.json"))
        .and_then(|file| file.modified())
        .ok();
    let millis = written
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    let started_at = onelane_core::Timestamp::from_millis(i64::try_from(millis).unwrap_or(0));
    Running {
        shim,
        started_at,
        tool_version: None,
        level,
    }
}

fn foreign(folder: &Path) -> String {
    format!(
        "`{}` is locked by a process of another data folder; it is never signalled from here",
        folder.display()
    )
}
