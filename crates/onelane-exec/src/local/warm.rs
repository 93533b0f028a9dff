//! Attempts in warm workers, from the server's side.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onelane_core::{Capacity, Limits};
use serde_json::{Map, Value};

use super::lock::{try_lock_file, wait_lock_file};
use super::pool::{Answer, Doing, Met, Worker};
use super::spawn::spawn_shim;
use super::worker::RECORD;
use super::{LocalExecutor, blocking, read_json};
use crate::layout::random_hex;
use crate::record::{
    AttemptMessage, PROTOCOL, Place, StartMessage, StatusLine, Subject, ToWorker, WorkerMessage,
    WorkerRecord, worker_group_name,
};
use crate::{AttemptId, ExecError, Found, Launch, Running, WarmLaunch, WorkerSpec};

/// The longest path of a socket, in bytes (unix(7), `sun_path`, and its end).
const SOCKET_PATH_BYTES: usize = 107;
/// A worker may be gone just when it is needed; not so often.
const TRIES: u32 = 5;
/// How much of a worker's last words goes into the server's log, in bytes.
const LAST_WORDS: usize = 2_000;

impl LocalExecutor {
    /// Gives an attempt, whose folder is there, to an idle worker or a new one.
    pub(super) async fn start_warm(
        &self,
        launch: &Launch,
        warm: &WarmLaunch,
    ) -> Result<Found, ExecError> {
        let message = match self.attempt_message(launch, warm).await {
            Ok(message) => message,
            Err(error) => {
                // So that the next try makes the attempt anew.
                self.has_not_begun(launch.id).await?;
                return Err(error);
            }
        };
        for _ in 0..TRIES {
            let worker = self.worker_for(launch.id, &warm.worker).await?;
            let run = ToWorker::Run(Box::new(message.clone()));
            match worker.run(run).await {
                Some(Answer::Started {
                    started_at,
                    tool_version,
                }) => {
                    let Some(record) = self.living_shim(launch.id) else {
                        return self.find(launch.id, None).await;
                    };
                    return Ok(Found::Running(Running {
                        shim: record.shim,
                        started_at,
                        tool_version,
                        level: record.level,
                    }));
                }
                Some(Answer::Refused {
                    message,
                    os_error,
                    another: false,
                }) => {
                    tracing::warn!(job = %launch.id.job, message, "a worker's shim could not begin an attempt");
                    if let Some(errno) = os_error
                        && self.has_not_begun(launch.id).await?
                    {
                        let error = io::Error::from_raw_os_error(errno);
                        return Err(ExecError::new("begin the attempt", error));
                    }
                    return self.until_over(launch.id).await.map(Found::Over);
                }
                // It was about to go, or has just crashed: the attempt is as it was, or over.
                Some(Answer::Refused { .. }) | None => {
                    if self.is_stopped(launch.id) || !self.has_not_begun(launch.id).await? {
                        return self.until_over(launch.id).await.map(Found::Over);
                    }
                    if !self.lay_out(launch).await? {
                        return self.find(launch.id, None).await;
                    }
                }
            }
        }
        self.has_not_begun(launch.id).await?;
        let message = format!("{TRIES} workers were gone before they had the job");
        Err(ExecError::new(
            "give the job to a worker",
            io::Error::other(message),
        ))
    }

    /// An idle worker, or a new one, which has this attempt from now on.
    async fn worker_for(&self, id: AttemptId, spec: &WorkerSpec) -> Result<Arc<Worker>, ExecError> {
        let _one_at_a_time = self.pool.starting.lock().await;
        if let Some(worker) = self.pool.take(&spec.key, id) {
            return Ok(worker);
        }
        match self.start_worker(spec, Doing::Busy(id)).await {
            Ok(worker) => Ok(worker),
            Err(error) => {
                // So that the next try makes the attempt anew.
                self.has_not_begun(id).await?;
                Err(ExecError::new("start a worker", error))
            }
        }
    }

    async fn attempt_message(
        &self,
        launch: &Launch,
        warm: &WarmLaunch,
    ) -> Result<AttemptMessage, ExecError> {
        let (run, names) = (warm.run.clone(), warm.json_params.clone());
        let run = blocking("read the job's JSON", move || with_json(run, &names)).await?;
        Ok(AttemptMessage {
            place: Place {
                id: launch.id,
                folder: self.folder(launch.id),
                command: launch.command.clone(),
                level: self.control.level(),
            },
            limits: launch.limits,
            grace_ms: launch.grace_ms,
            run,
        })
    }

    /// Starts a worker, which does this from its beginning.
    async fn start_worker(&self, spec: &WorkerSpec, doing: Doing) -> io::Result<Arc<Worker>> {
        let id = random_hex()?.split_off(16);
        let folder = self.workers.join(&id);
        make_folder(&self.workers, &folder)?;
        let started = self.spawn_worker(&id, &folder, spec, doing).await;
        if started.is_err() {
            self.clear_up_if_free(folder).await;
        }
        started
    }

    async fn spawn_worker(
        &self,
        id: &str,
        folder: &Path,
        spec: &WorkerSpec,
        doing: Doing,
    ) -> io::Result<Arc<Worker>> {
        let message = self.worker_message(id, folder, spec);
        match spawn_shim(&message).await? {
            Some(StatusLine::Listening) => {}
            Some(StatusLine::Failed { message, os_error }) => {
                return Err(os_error
                    .map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error));
            }
            _ => {
                return Err(io::Error::other(
                    "the worker's shim ended before it was ready",
                ));
            }
        }
        tracing::info!(tool = spec.tool, worker = id, "a worker is started");
        self.meet(Met {
            id: id.to_owned(),
            key: spec.key.clone(),
            folder: folder.to_owned(),
            takes: spec.takes,
            grace: Duration::from_millis(spec.grace_ms),
            doing,
        })
        .await
    }

    fn worker_message(&self, id: &str, folder: &Path, spec: &WorkerSpec) -> StartMessage {
        let socket = socket_path(folder, id);
        let mut env = spec.env.clone();
        for (name, value) in [
            ("ONELANE_WORKER_SOCKET", socket.display().to_string()),
            ("ONELANE_WORKER_PROTOCOL", "1".to_owned()),
            ("ONELANE_WORKER_ID", id.to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        StartMessage {
            protocol: PROTOCOL,
            subject: Subject::Worker(WorkerMessage {
                id: id.to_owned(),
                key: spec.key.clone(),
                takes: spec.takes,
                socket,
                grace_ms: spec.grace_ms,
                max_jobs: spec.max_jobs,
            }),
            folder: folder.to_owned(),
            instance: self.instance.to_string(),
            command: spec.command.clone(),
            version_command: spec.version_command.clone(),
            env,
            stdin: None,
            workdir: spec.workdir.clone(),
            grace_ms: spec.grace_ms,
            // Time and output are each job's own, and so is the log.
            limits: Limits {
                memory_bytes: spec.limits.memory_bytes,
                processes: spec.limits.processes,
                ..Limits::default()
            },
            cpu_priority: spec.cpu_priority,
            level: self.control.level(),
            groups: self.control.groups().cloned(),
        }
    }

    async fn meet(&self, met: Met) -> io::Result<Arc<Worker>> {
        let this = self.clone();
        let gone = move |worker: Arc<Worker>, last| this.worker_gone(&worker, last);
        self.pool.connect(met, gone).await
    }

    /// Clears up after a worker, and starts it again if it is to stay always.
    fn worker_gone(self, worker: &Worker, last: Doing) {
        if last != Doing::Leaving {
            let said = last_words(&worker.folder);
            tracing::warn!(worker = worker.id, said, "a worker has ended by itself");
        }
        let (this, folder) = (self.clone(), worker.folder.clone());
        tokio::spawn(async move {
            // The guard holds the lock for a moment longer than the shim.
            let cleared = blocking("clear up after a worker", move || {
                let lock = wait_lock_file(&folder.join("worker.lock"))?;
                this.clear_up(&folder, &lock);
                Ok(())
            });
            if let Err(error) = cleared.await {
                tracing::warn!(%error, "a worker's folder stays until the next start");
            }
        });
        if let Some(pause) = self.pool.pause_before_another(worker) {
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                // Whoever knows what else runs decides whether there is room.
                self.pool.missing.notify_one();
            });
        }
    }

    /// Starts a worker that stays always, if none is there.
    pub(super) async fn start_always(&self, spec: &WorkerSpec) {
        let _one_at_a_time = self.pool.starting.lock().await;
        if self.pool.has(&spec.key) {
            return;
        }
        let idle = Doing::Idle(super::process::tick());
        match self.start_worker(spec, idle).await {
            Ok(worker) => worker.warm_up(),
            Err(error) => {
                tracing::error!(%error, tool = spec.tool, "a worker could not be started; its next job tries again");
            }
        }
    }

    /// As [`Self::clear_up`], unless somebody still looks after the worker.
    async fn clear_up_if_free(&self, folder: PathBuf) {
        let this = self.clone();
        let cleared = blocking("clear up after a worker", move || {
            if let Some(lock) = try_lock_file(&folder.join("worker.lock"))? {
                this.clear_up(&folder, &lock);
            }
            Ok(())
        });
        if let Err(error) = cleared.await {
            tracing::debug!(%error, "a worker's folder stays until the next start");
        }
    }

    /// Removes the folder of a worker that nobody looks after any more, and what is left of its processes.
    fn clear_up(&self, folder: &Path, _held: &File) {
        if let Some(record) = read_json::<WorkerRecord>(&folder.join(RECORD)) {
            let name = worker_group_name(&record.worker.id);
            if record.instance == *self.instance
                && !record.groups.is_none()
                && record.groups.belong_to(self.control.name(), &name)
                && let Err(error) = record.groups.end()
            {
                tracing::warn!(%error, worker = record.worker.id, "a worker's control groups can't be seen");
            }
            fs::remove_file(&record.worker.socket).ok();
        }
        fs::remove_dir_all(folder).ok();
    }

    /// Connects to what an earlier server left.
    pub(super) async fn take_up(&self) {
        let entries = fs::read_dir(&*self.workers).into_iter().flatten().flatten();
        for entry in entries {
            let folder = entry.path();
            let record = read_json::<WorkerRecord>(&folder.join(RECORD));
            let met = record
                .filter(|record| record.instance == *self.instance)
                .map(|record| Met {
                    id: record.worker.id,
                    key: record.worker.key,
                    folder: folder.clone(),
                    takes: record.worker.takes,
                    grace: Duration::from_millis(record.worker.grace_ms),
                    doing: Doing::Idle(super::process::tick()),
                });
            let taken = match met {
                Some(met) => self.meet(met).await.is_ok(),
                None => false,
            };
            if !taken {
                self.clear_up_if_free(folder).await;
            }
        }
    }

    /// Starts what stays always, as far as there is room for it.
    pub(super) async fn want_workers(&self, workers: Vec<WorkerSpec>, spare: Capacity) {
        let mut left = spare;
        for takes in self.pool.held() {
            left = left.minus(&Capacity { cpus: 0, ..takes });
        }
        for spec in self.pool.want(workers) {
            let takes = Capacity {
                cpus: 0,
                ..spec.takes
            };
            if left.fits(&takes) {
                left = left.minus(&takes);
                self.start_always(&spec).await;
            } else {
                tracing::info!(
                    tool = spec.tool,
                    "no room now for a worker; its next job starts it"
                );
            }
        }
    }
}

fn make_folder(workers: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(workers)?;
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).create(folder)?;
    fs::create_dir(folder.join("work"))?;
    // Nothing of this outlives the machine, so nothing is synced.
    File::create_new(folder.join("worker.lock")).map(drop)
}

/// In the worker's folder, unless its path is too long for a socket.
fn socket_path(folder: &Path, id: &str) -> PathBuf {
    let path = folder.join("worker.sock");
    if path.as_os_str().len() <= SOCKET_PATH_BYTES {
        return path;
    }
    std::env::temp_dir().join(format!("onelane-{id}.sock"))
}

/// The content of JSON files in place of their paths.
fn with_json(mut run: Map<String, Value>, names: &[String]) -> io::Result<Map<String, Value>> {
    let Some(Value::Object(params)) = run.get_mut("params") else {
        return Ok(run);
    };
    for name in names {
        if let Some(value) = params.get_mut(name)
            && let Some(path) = value.as_str()
        {
            *value = serde_json::from_slice(&fs::read(path)?)?;
        }
    }
    Ok(run)
}

fn last_words(folder: &Path) -> String {
    let text = fs::read(folder.join("stderr.log")).unwrap_or_default();
    let tail = &text[text.len().saturating_sub(LAST_WORDS)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}
