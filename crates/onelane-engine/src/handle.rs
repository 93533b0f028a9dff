use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onelane_core::{Job, JobId, JobState, StopReason, Timestamp};
use onelane_exec::{JobPaths, fail_point};
use onelane_store::{
    AttemptRecord, Idempotency, JobFilter, NewJob, Particulars, StoreError, Submitted,
};
use onelane_tools::{Tool, ToolDefinition};
use tokio::sync::watch;

use crate::runner::Shared;
use crate::state::Event;

/// How long a cancellation waits for its own commit before it answers with what is there.
const CANCEL_ANSWER: Duration = Duration::from_secs(10);
/// Said of a stuck job until it has been looked at again.
const WHY_STUCK: &str = "its processes can't be proved dead; it keeps what it holds of the machine";
/// What a client reads when a write found no room.
const FULL: &str = "the server's disk is full: nothing was taken in; try again when there is room";
/// What people are shown of an id: one job in four thousand millions has the same.
const SHORT_ID_DIGITS: usize = 8;
/// So many of them are remembered.
const MOST_SHORT_IDS: usize = 10_000;
/// So many of the next ones in line are shown.
const SHOWN: usize = 20;

/// What a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The job has not ended.
    #[error("job {0} has not ended")]
    Alive(JobId),
    /// The key was used before with another request.
    #[error("this Idempotency-Key was used before with a different request (job {0})")]
    KeyReused(JobId),
    /// Nothing more fits on the disk, or it is below its floor; the text says where.
    #[error("{0}")]
    DiskFull(String),
    /// The store's disk takes no writes; the text is for the log.
    #[error("{0}")]
    Unwritable(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The database is damaged; the text is for the log.
    #[error("{0}")]
    Damaged(String),
    /// Something else; the text is for the log.
    #[error("{0}")]
    Broken(String),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::KeyReused(id) => Self::KeyReused(id),
            StoreError::NoSuchJob(id) => Self::NoSuchJob(id),
            StoreError::Alive(id) => Self::Alive(id),
            StoreError::Full => Self::DiskFull(FULL.to_owned()),
            StoreError::Damaged { .. } => Self::Damaged(error.to_string()),
            StoreError::Unwritable(_) => Self::Unwritable(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, EngineError>;

/// How far a running job says it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing.
    pub message: String,
}

/// What is known of a job beyond its row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// How many start before it; only while it waits.
    pub position: Option<u64>,
    /// Why it waits, as one sentence.
    pub why: Option<String>,
    /// How far it is; only while it runs and tells.
    pub progress: Option<Progress>,
}

/// The queue at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// How many wait.
    pub queued: u64,
    /// How many are starting or running.
    pub running: u64,
    /// Whether starts are held back.
    pub paused: bool,
    /// What is starting or running.
    pub running_ids: Vec<JobId>,
    /// The first ones in line.
    pub next_ids: Vec<JobId>,
}

/// The engine as the server sees it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.shared.surroundings.now()
    }

    /// Whether new jobs are taken in: [`EngineError::Stopping`] once the server is on its way down.
    pub fn check_taking(&self) -> Result<()> {
        let stopping = self.shared.stopping.load(Ordering::Relaxed);
        if stopping {
            return Err(EngineError::Stopping);
        }
        Ok(())
    }

    /// A new job's id.
    pub fn new_id(&self) -> JobId {
        JobId::new(self.now(), self.shared.surroundings.random())
    }

    /// Takes a checked submission in; it is on disk when this returns.
    pub async fn submit(&self, new: NewJob) -> Result<Submitted> {
        self.check_taking()?;
        self.check_room()?;
        fail_point("submit.before_commit");
        let submitted = self.shared.store.submit(new).await?;
        fail_point("submit.after_commit");
        Ok(submitted)
    }

    /// Whether there is enough free disk to take something in.
    pub fn check_room(&self) -> Result<()> {
        let checked = self.shared.floor.check();
        checked.map_err(|low| EngineError::DiskFull(low.to_string()))
    }

    /// For a write that found no room.
    pub fn disk_full() -> EngineError {
        EngineError::DiskFull(FULL.to_owned())
    }

    /// The earlier job of this key, if the key is known.
    pub async fn replay(&self, owner: &str, key: &Idempotency) -> Result<Option<Job>> {
        Ok(self.shared.store.replay(owner, key).await?)
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.shared.store.job(id).await?)
    }

    /// One job, and what it is shown with besides its place.
    pub async fn shown(&self, id: JobId) -> Result<Option<(Job, Particulars)>> {
        Ok(self.shared.store.shown(id).await?)
    }

    /// A page of jobs, newest first.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>> {
        Ok(self.shared.store.jobs(filter).await?)
    }

    /// Ids that end with this text. A long one that was found to be one job's is remembered: whoever asks by a short id
    /// asks again and again, and the store has to look through all that waits.
    pub async fn ids_by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>> {
        if let Some(id) = self.shared.short_ids.lock().get(suffix) {
            return Ok(vec![*id]);
        }
        let found = self.shared.store.ids_by_suffix(suffix, limit).await?;
        if let [only] = found.as_slice()
            && suffix.len() >= SHORT_ID_DIGITS
        {
            let mut known = self.shared.short_ids.lock();
            if known.len() == MOST_SHORT_IDS {
                known.clear();
            }
            known.insert(suffix.to_owned(), *only);
        }
        Ok(found)
    }

    /// What these jobs are shown with besides their rows and places, in their order.
    pub async fn particulars(&self, ids: Vec<JobId>) -> Result<Vec<Particulars>> {
        Ok(self.shared.store.particulars(ids).await?)
    }

    /// A job's attempts, first one first.
    pub async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>> {
        Ok(self.shared.store.attempts(id).await?)
    }

    /// Asks a job to stop; the wish is on disk, or the job has ended, when this returns.
    pub async fn cancel(&self, id: JobId) -> Result<Job> {
        let mut news = self.watch(id);
        let deadline = tokio::time::Instant::now() + CANCEL_ANSWER;
        loop {
            let job = self.known(id).await?;
            if job.state.is_final() || job.stop_reason == Some(StopReason::Cancel) {
                return Ok(job);
            }
            let order_key = job.order_key;
            self.shared.feed(Event::Cancel { id, order_key });
            if tokio::time::timeout_at(deadline, news.changed())
                .await
                .is_err()
            {
                return Ok(job);
            }
        }
    }

    /// Deletes an ended job and its files.
    pub async fn remove(&self, id: JobId) -> Result<()> {
        self.shared.store.remove(id).await?;
        fail_point("remove.after_commit");
        self.shared
            .executor
            .remove(id)
            .await
            .map_err(|error| EngineError::Broken(error.to_string()))
    }

    /// Waits for a job's end, at most so long, and gives it as it is then.
    pub async fn wait(&self, id: JobId, at_most: Duration) -> Result<Job> {
        let mut news = self.watch(id);
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            let job = self.known(id).await?;
            if job.state.is_final()
                || tokio::time::timeout_at(deadline, news.changed())
                    .await
                    .is_err()
            {
                return Ok(job);
            }
        }
    }

    /// A counter that grows with each piece of news of a job: its state, place or progress.
    pub fn watch(&self, id: JobId) -> watch::Receiver<u64> {
        self.shared.watchers.subscribe(id)
    }

    /// Position, reason and progress.
    pub fn place(&self, job: &Job) -> Place {
        let mut place = self.place_by_state(job);
        if !job.state.is_final()
            && let Some(why) = self.shared.held.why(job.id)
        {
            place.why = Some(why);
        }
        place
    }

    fn place_by_state(&self, job: &Job) -> Place {
        match job.state {
            JobState::Queued { .. } => {
                let state = self.shared.state.lock();
                Place {
                    position: Some(state.position(job.order_key) as u64),
                    why: Some(match self.check_taking() {
                        Ok(()) => state.why(job.order_key),
                        Err(_) => "the server is stopping; the next one starts it".to_owned(),
                    }),
                    progress: None,
                }
            }
            JobState::Running { stuck: true, .. } => Place {
                why: Some(
                    self.shared
                        .why_stuck(job.id)
                        .unwrap_or_else(|| WHY_STUCK.to_owned()),
                ),
                ..Place::default()
            },
            JobState::Running { .. } => Place {
                progress: self.shared.progress_of(job.id),
                ..Place::default()
            },
            _ => Place::default(),
        }
    }

    /// The queue at a glance.
    pub fn queue(&self) -> QueueView {
        let state = self.shared.state.lock();
        QueueView {
            queued: state.queued() as u64,
            running: state.running() as u64,
            paused: state.paused(),
            running_ids: state.running_ids(),
            next_ids: state.next_ids(SHOWN),
        }
    }

    /// Queued and running jobs.
    pub fn backlog(&self) -> u64 {
        let state = self.shared.state.lock();
        (state.queued() + state.running()) as u64
    }

    /// Holds back new starts; survives a restart.
    pub async fn pause(&self) -> Result<()> {
        self.set_paused("yes", Event::Pause).await
    }

    /// Lets jobs start again.
    pub async fn resume(&self) -> Result<()> {
        self.set_paused("no", Event::Resume).await
    }

    /// In one piece, also when the caller goes away, and one after another: else the disk could say `paused` and the
    /// engine not.
    async fn set_paused(&self, setting: &'static str, event: Event) -> Result<()> {
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            let _one_at_a_time = shared.pausing.lock().await;
            shared.store.set_setting("paused", setting).await?;
            shared.feed(event);
            shared.watchers.tell_all();
            Ok(())
        });
        task.await
            .map_err(|error| EngineError::Broken(error.to_string()))?
    }

    /// Makes a job's folder before its start, for those who are told its path.
    pub async fn prepare_folder(&self, id: JobId) -> Result<PathBuf> {
        self.shared
            .executor
            .prepare(id)
            .await
            .map_err(|error| EngineError::Broken(error.to_string()))
    }

    /// Where a job's files are.
    pub fn paths(&self, id: JobId) -> JobPaths {
        JobPaths::new(&self.shared.jobs, id)
    }

    /// Where large inputs arrive.
    pub fn uploads(&self) -> &Path {
        &self.shared.uploads
    }

    /// All tools, in the order of their declaration.
    pub fn tools(&self) -> Vec<Arc<Tool>> {
        self.shared.tools.read().all.clone()
    }

    /// One tool.
    pub fn tool(&self, name: &str) -> Option<Arc<Tool>> {
        let tools = self.shared.tools.read();
        tools.all.iter().find(|tool| tool.name == name).cloned()
    }

    /// The tool behind the starting point's interface.
    pub fn default_tool(&self) -> Option<Arc<Tool>> {
        let tools = self.shared.tools.read().clone();
        match &tools.default_tool {
            Some(name) => self.tool(name),
            None => tools.all.first().filter(|_| tools.all.len() == 1).cloned(),
        }
    }

    /// Takes other tools, all at once. Jobs keep the definitions that they were accepted with.
    pub async fn replace_tools(
        &self,
        tools: Vec<ToolDefinition>,
        default_tool: Option<String>,
    ) -> Result<()> {
        self.shared.replace_tools(tools, default_tool).await
    }

    /// The definition that a job was accepted with.
    pub async fn definition(&self, job: &Job) -> Result<Option<ToolDefinition>> {
        let json = self.shared.store.definition(&job.definition).await?;
        // One of another release that can't be read any more is as good as none: it only tells how to show results.
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
    }

    async fn known(&self, id: JobId) -> Result<Job> {
        self.job(id).await?.ok_or(EngineError::NoSuchJob(id))
    }
}
