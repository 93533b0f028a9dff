//! This machine: each attempt under its own shim and guard.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use onelane_core::{Capacity, JobId, StopReason};

use crate::files::{sync_folder, way};
use crate::layout::JobPaths;
use crate::{AttemptId, ExecError, Executor, Found, Launch, Verdict, WorkerSpec};

pub(crate) mod cgroup;
mod channel;
mod conclude;
mod control;
mod damage;
mod find;
mod folder;
mod guard;
mod limits;
mod lock;
mod logs;
mod namespace;
mod notices;
mod peer;
mod pidfd;
mod pool;
mod process;
mod progress;
mod shim;
mod spare;
mod spawn;
mod start;
mod stop;
mod stub;
mod tree;
mod warm;
mod worker;

use pool::Pool;
use spare::Spare;

pub use control::Control;
pub(crate) use damage::{Record, lost, read};
pub(crate) use lock::try_lock;
pub use progress::appended;
pub use shim::shim_main;

/// Runs attempts on this machine.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    jobs: Arc<Path>,
    uploads: Arc<Path>,
    workers: Arc<Path>,
    instance: Arc<str>,
    control: Arc<Control>,
    pool: Arc<Pool>,
    spare: Spare,
}

impl LocalExecutor {
    /// For the data folder with this id. Warm workers get a folder beside `uploads`.
    pub fn new(jobs: &Path, uploads: &Path, instance: &str, control: Control) -> Self {
        // What was made for attempts that never came to write it down.
        if let Some(groups) = control.groups() {
            groups.sweep();
        }
        Self {
            jobs: jobs.into(),
            uploads: uploads.into(),
            workers: uploads.with_file_name("workers").into(),
            instance: instance.into(),
            control: Arc::new(control),
            pool: Arc::default(),
            spare: Spare::default(),
        }
    }

    fn paths(&self, job: JobId) -> JobPaths {
        JobPaths::new(&self.jobs, job)
    }

    fn folder(&self, id: AttemptId) -> PathBuf {
        self.paths(id.job).attempt(id.attempt)
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn prepare(&self, job: JobId) -> Result<PathBuf, ExecError> {
        let folder = self.paths(job).job;
        blocking("make the job's folder", move || {
            fs::create_dir_all(&folder).map(|()| folder)
        })
        .await
    }

    async fn start(&self, launch: Launch) -> Result<Found, ExecError> {
        self.start_attempt(&launch).await
    }

    async fn recover(&self, id: AttemptId, claimed_in: Option<&str>) -> Result<Found, ExecError> {
        self.find(id, claimed_in).await
    }

    async fn watch(&self, id: AttemptId) -> Result<Verdict, ExecError> {
        self.until_over(id).await
    }

    async fn stop(
        &self,
        id: AttemptId,
        reason: StopReason,
        grace_ms: u64,
    ) -> Result<(), ExecError> {
        let this = self.clone();
        blocking("stop the attempt", move || {
            this.stop_now(id, reason, grace_ms)
        })
        .await
    }

    async fn unkillable(&self, id: AttemptId) -> Result<String, ExecError> {
        let folder = self.folder(id);
        let why = async {
            progress::file_appears(&folder, shim::UNKILLABLE).await?;
            tokio::fs::read_to_string(folder.join(shim::UNKILLABLE)).await
        };
        why.await
            .map_err(|error| ExecError::new("watch the attempt's folder", error))
    }

    async fn progress(&self, id: AttemptId, seen: u64) -> Result<(String, u64), ExecError> {
        let path = self.folder(id).join("progress");
        progress::next_line(&path, seen)
            .await
            .map_err(|error| ExecError::new("read the progress", error))
    }

    async fn remove(&self, job: JobId) -> Result<(), ExecError> {
        let folder = self.paths(job).job;
        blocking(
            "delete the job's folder",
            move || match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        )
        .await
    }

    async fn make_lasting(&self, ids: Vec<AttemptId>) -> Result<(), ExecError> {
        let place = |id: AttemptId| (self.folder(id), self.paths(id.job).job);
        let places: Vec<_> = ids.into_iter().map(place).collect();
        blocking("sync ended attempts' records", move || {
            let mut folders = BTreeSet::new();
            // One that can't be synced keeps none of the others from it.
            let mut first_error = Ok(());
            for (attempt, job) in places {
                match sync_records(&attempt, &job) {
                    Ok(true) => folders.extend(way(&attempt).map(Path::to_owned)),
                    Ok(false) => {}
                    Err(error) => first_error = first_error.and(Err(error)),
                }
            }
            // Those that the attempts share once for all of them.
            for folder in folders {
                match sync_folder(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    synced => first_error = first_error.and(synced),
                }
            }
            first_error
        })
        .await
    }

    async fn take_up_workers(&self, workers: Vec<WorkerSpec>) {
        self.pool.want(workers);
        self.take_up().await;
    }

    async fn keep_workers(&self, workers: Vec<WorkerSpec>, spare: Capacity) {
        self.want_workers(workers, spare).await;
    }

    async fn renew_workers(&self) {
        self.pool.renew();
    }

    async fn until_worker_missing(&self) {
        self.pool.missing.notified().await;
    }

    async fn end_idle(&self) {
        self.pool.end_idle().await;
        self.end_spare().await;
    }
}

/// False where they are gone: deleted since, or the attempt never began.
fn sync_records(attempt: &Path, job: &Path) -> io::Result<bool> {
    for record in [attempt.join("exit.json"), job.join("job.json")] {
        match File::open(record) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ExecError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| ExecError::new(doing, error))
}
