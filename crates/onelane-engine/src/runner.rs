use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onelane_core::{Capacity, Job, JobId, OnInterrupt, StateWord};
use onelane_exec::{
    AttemptId, DiskFloor, ExecError, Executor, Found, JobPaths, Launch, Outcome, Verdict,
    WorkerSpec, fail_point,
};
use onelane_store::{AttemptRecord, Change, JobInput, Store, StoreError, Transition};
use onelane_tools::{Tool, ToolDefinition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::handle::{Handle, Progress};
use crate::held::Held;
use crate::launch::{make_launch, worker_specs};
use crate::state::{Action, Event, State, step};
use crate::watchers::Watchers;
use crate::{EngineError, Surroundings};

/// After a store or executor that failed: so long until the next try.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// So long after an end an attempt's records are synced, unless more than so many have ended meanwhile.
const LASTING_DELAY: Duration = Duration::from_millis(500);
const LASTING_AT_ONCE: usize = 10;

/// A match may lie across two reads: so much of the earlier one is looked at again.
const CARRIED_BYTES: usize = 256;
/// A tool that floods its standard error is looked at so often and no more.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What an engine is made of.
pub struct Setup {
    /// The durable truth.
    pub store: Arc<dyn Store>,
    /// Where attempts run.
    pub executor: Arc<dyn Executor>,
    /// Clock and dice.
    pub surroundings: Arc<dyn Surroundings>,
    /// What jobs may use.
    pub machine: Capacity,
    /// The tools.
    pub tools: Vec<ToolDefinition>,
    /// The tool behind the starting point's interface; unset, it is the only one.
    pub default_tool: Option<String>,
    /// Where the jobs' folders are.
    pub jobs: PathBuf,
    /// Where large inputs arrive.
    pub uploads: PathBuf,
    /// This boot of the machine, to count interruptions within it.
    pub boot_id: String,
    /// Below this nothing is taken in.
    pub floor: DiskFloor,
}

pub(crate) struct Shared {
    pub store: Arc<dyn Store>,
    pub executor: Arc<dyn Executor>,
    pub surroundings: Arc<dyn Surroundings>,
    pub state: Mutex<State>,
    pub watchers: Watchers,
    pub tools: RwLock<Arc<Tools>>,
    pub jobs: PathBuf,
    pub uploads: PathBuf,
    pub floor: DiskFloor,
    pub held: Held,
    pub pausing: tokio::sync::Mutex<()>,
    /// The input of the job that was read last for its claim, until its launch wants it: it never changes.
    next_input: Mutex<Option<(JobId, JobInput)>>,
    /// Ends of ids that were asked for, and whose they are.
    pub(crate) short_ids: Mutex<HashMap<String, JobId>>,
    boot_id: String,
    progress: Mutex<HashMap<JobId, Progress>>,
    /// Why a job is stuck; found anew after a restart.
    stuck: Mutex<HashMap<JobId, String>>,
    pub stopping: AtomicBool,
    actions: mpsc::UnboundedSender<Action>,
    /// Attempts whose ends are committed, and whose folders are not synced yet.
    ended: mpsc::UnboundedSender<AttemptId>,
}

/// The tools in force: a reload replaces them all at once.
pub(crate) struct Tools {
    pub all: Vec<Arc<Tool>>,
    pub default_tool: Option<String>,
}

impl Tools {
    fn new(tools: Vec<ToolDefinition>, default_tool: Option<String>) -> Self {
        Self {
            all: tools.into_iter().map(Tool::new).map(Arc::new).collect(),
            default_tool,
        }
    }
}

impl Shared {
    /// One step, and its actions on their way, in order.
    pub(crate) fn feed(&self, event: Event) {
        let mut state = self.state.lock();
        for action in step(&mut state, event, self.surroundings.now()) {
            // The receiver lives as long as the engine; after that nobody needs the action.
            self.actions.send(action).ok();
        }
    }

    /// What the executor found goes to the engine; why a job is stuck is kept for whoever asks.
    fn found(&self, id: AttemptId, found: Found) {
        let found = self.judged(id, found);
        match &found {
            Found::Over(Verdict::Stuck { why }) => {
                drop(self.stuck.lock().insert(id.job, why.clone()));
            }
            _ => drop(self.stuck.lock().remove(&id.job)),
        }
        self.feed(Event::Found { id, found });
    }

    /// Why a job is stuck, if it is.
    pub(crate) fn why_stuck(&self, id: JobId) -> Option<String> {
        self.stuck.lock().get(&id).cloned()
    }

    /// A tool that ended well without a file that it must leave has not ended well.
    fn judged(&self, id: AttemptId, mut found: Found) -> Found {
        // Looked up first: the state is not locked while the disk is asked.
        let tool = self.state.lock().tool_of(id.job).cloned();
        if let (Some(tool), Found::Over(Verdict::Exited(record))) = (tool, &mut found)
            && let Outcome::Exit { code } = record.outcome
            && record.trouble.is_none()
            && tool.is_success(code)
        {
            let output = JobPaths::new(&self.jobs, id.job).output(id.attempt);
            let missing = tool
                .required_files()
                .find(|file| !output.join(file).is_file());
            record.trouble = missing.map(|file| {
                format!("the tool ended with exit code {code}, but without its result `{file}`; its stderr may say why")
            });
        }
        found
    }

    /// Takes other tools. Queued jobs keep the definitions that they were accepted with.
    pub(crate) async fn replace_tools(
        &self,
        tools: Vec<ToolDefinition>,
        default_tool: Option<String>,
    ) -> Result<(), EngineError> {
        let tools = Arc::new(Tools::new(tools, default_tool));
        define(self, &tools).await?;
        *self.tools.write() = tools;
        self.executor.renew_workers().await;
        self.keep_workers().await;
        Ok(())
    }

    /// The warm workers of the tools in force.
    fn workers(&self) -> Vec<WorkerSpec> {
        let tools = self.tools.read().clone();
        let machine = self.state.lock().machine();
        worker_specs(tools.all.iter().map(|tool| &***tool), machine)
    }

    async fn keep_workers(&self) {
        let spare = self.state.lock().free();
        self.executor.keep_workers(self.workers(), spare).await;
    }

    pub(crate) fn progress_of(&self, id: JobId) -> Option<Progress> {
        self.progress.lock().get(&id).cloned()
    }

    /// On the writer's thread: quick, and no call into the store.
    fn told(&self, change: Change) {
        match change {
            Change::Submitted(job, entry) => {
                self.feed(Event::Waits(entry));
                self.watchers.tell(job.id);
            }
            Change::Moved(job) => self.watchers.tell(job.id),
            Change::Removed(id) => self.watchers.tell(id),
        }
    }

    pub(crate) fn definition(&self, hash: &str) -> Option<Arc<ToolDefinition>> {
        self.state.lock().definition(hash).cloned()
    }
}

/// A started engine.
pub struct Engine {
    handle: Handle,
}

impl Engine {
    /// Rebuilds the memory from the store, takes up what an earlier server left, and begins.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn start(setup: Setup) -> Result<Self, EngineError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (ended, endings) = mpsc::unbounded_channel();
        let paused = setup.store.setting("paused").await?.as_deref() == Some("yes");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(setup.machine, true)),
            store: setup.store,
            executor: setup.executor,
            surroundings: setup.surroundings,
            watchers: Watchers::default(),
            tools: RwLock::new(Arc::new(Tools::new(setup.tools, setup.default_tool))),
            jobs: setup.jobs,
            uploads: setup.uploads,
            floor: setup.floor,
            held: Held::default(),
            pausing: tokio::sync::Mutex::default(),
            boot_id: setup.boot_id,
            next_input: Mutex::default(),
            short_ids: Mutex::default(),
            progress: Mutex::default(),
            stuck: Mutex::default(),
            stopping: AtomicBool::new(false),
            actions: sender,
            ended,
        });
        // Before the queue is read, so that no submission falls between.
        let sink = shared.clone();
        shared
            .store
            .subscribe(Box::new(move |change| sink.told(change)));
        shared.executor.take_up_workers(shared.workers()).await;
        rebuild(&shared).await?;
        tokio::spawn(perform_all(shared.clone(), receiver));
        tokio::spawn(make_lasting(shared.executor.clone(), endings));
        let warm = shared.clone();
        // What stays always is started beside what waits: a worker's start takes no job's time.
        tokio::spawn(async move {
            loop {
                warm.keep_workers().await;
                warm.executor.until_worker_missing().await;
            }
        });
        if !paused {
            shared.feed(Event::Resume);
        }
        Ok(Self {
            handle: Handle { shared },
        })
    }

    /// The way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// A message of an executor that comes late, or twice: for the simulation.
    #[doc(hidden)]
    pub fn feed(&self, event: Event) {
        self.handle.shared.feed(event);
    }

    /// No new submissions and no new starts from now on, without a durable pause: the server is stopping.
    pub fn stop_taking(&self) {
        self.handle.shared.stopping.store(true, Ordering::Relaxed);
        self.handle.shared.feed(Event::Pause);
    }

    /// Ends what is kept warm and has no job.
    pub async fn end_idle(&self) {
        self.handle.shared.executor.end_idle().await;
    }

    /// Comes back when nothing runs.
    pub async fn until_idle(&self) {
        while let Some(id) = self.handle.queue().running_ids.first() {
            // A watcher is woken by the commit, a moment before the engine has it: look again after a while, too.
            let changed = self.handle.shared.watchers.subscribe(*id);
            until_changed(changed).await;
        }
    }
}

async fn until_changed(mut watch: tokio::sync::watch::Receiver<u64>) {
    tokio::select! {
        _ = watch.changed() => {}
        () = tokio::time::sleep(PAUSE_AFTER_ERROR) => {}
    }
}

/// Makes definitions known, before any job can have them.
async fn define(shared: &Shared, tools: &Tools) -> Result<(), EngineError> {
    for tool in &tools.all {
        let json = serde_json::to_string(&***tool)
            .map_err(|error| EngineError::Broken(error.to_string()))?;
        shared.store.define(tool.hash(), &json).await?;
        let definition = Arc::clone(tool.definition());
        shared.state.lock().define(tool.hash(), definition);
    }
    Ok(())
}

async fn rebuild(shared: &Arc<Shared>) -> Result<(), EngineError> {
    let tools = shared.tools.read().clone();
    define(shared, &tools).await?;
    let alive = shared.store.alive().await?;
    for job in &alive {
        know_definition(shared, &job.definition).await?;
    }
    sweep_uploads(shared).await?;
    for job in alive {
        let attempts = shared.store.attempts(job.id).await?;
        let interruptions = count_interruptions(&attempts, &shared.boot_id);
        let mut attempts = attempts.into_iter();
        let record = attempts.find(|record| record.attempt == job.attempt);
        shared.feed(Event::WasAlive {
            job,
            interruptions,
            record: record.map(Box::new),
        });
    }
    // One by one as they are read, so that a long queue is in memory once. What is alive is known before: a job that
    // was submitted and claimed meanwhile does not wait again.
    let waiting = shared.clone();
    let see = Box::new(move |entry| waiting.state.lock().restore(entry));
    shared.store.queue(see).await?;
    let undefined = shared.state.lock().undefined();
    for hash in undefined {
        know_definition(shared, &hash).await?;
    }
    Ok(())
}

/// A queued job keeps the definition that it was accepted with, also when the tools file has changed since.
async fn know_definition(shared: &Shared, hash: &str) -> Result<(), EngineError> {
    if shared.definition(hash).is_some() {
        return Ok(());
    }
    let json = shared.store.definition(hash).await?.unwrap_or_default();
    let tool: ToolDefinition = serde_json::from_str(&json).map_err(|error| {
        EngineError::Broken(format!(
            "definition {hash} in the store can't be read: {error}"
        ))
    })?;
    shared.state.lock().define(hash, Arc::new(tool));
    Ok(())
}

/// Uploads are named after the job that they are for: those of no waiting job are left from a submission that was
/// never committed.
async fn sweep_uploads(shared: &Shared) -> Result<(), EngineError> {
    let Ok(entries) = std::fs::read_dir(&shared.uploads) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().parse::<JobId>().ok();
        let job = match id {
            Some(id) => shared.store.job(id).await?,
            None => None,
        };
        if job.is_none_or(|job| job.state.is_final()) {
            let path = entry.path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            if let Err(error) = removed {
                tracing::warn!(%error, path = %path.display(), "an abandoned upload could not be removed");
            }
        }
    }
    Ok(())
}

/// What was cut off in this boot. An attempt belongs to the boot that it was claimed in, whether or not its shim got
/// far enough to be known.
fn count_interruptions(attempts: &[AttemptRecord], boot_id: &str) -> u32 {
    let in_this_boot = |record: &&AttemptRecord| {
        let cut_off = matches!(
            record.outcome.as_deref(),
            Some("interrupted" | "never_started")
        );
        cut_off && record.boot_id.as_deref() == Some(boot_id)
    };
    u32::try_from(attempts.iter().filter(in_this_boot).count()).unwrap_or(u32::MAX)
}

async fn perform_all(shared: Arc<Shared>, mut actions: mpsc::UnboundedReceiver<Action>) {
    while let Some(action) = actions.recv().await {
        if matches!(action, Action::QueueMoved) {
            shared.watchers.tell_all();
        } else {
            tokio::spawn(perform(shared.clone(), action));
        }
    }
}

async fn perform(shared: Arc<Shared>, action: Action) {
    match action {
        Action::Load(id) => load(&shared, id).await,
        Action::Commit(transition) => commit(&shared, *transition).await,
        Action::Launch(job) => launch(&shared, *job).await,
        Action::Recover(job, attempt) => recover(&shared, AttemptId { job, attempt }, None).await,
        Action::Watch(job, attempt) => watch(&shared, AttemptId { job, attempt }).await,
        Action::Stop(job, attempt, reason) => {
            let id = AttemptId { job, attempt };
            let grace_ms = grace_ms(&shared, job).await;
            while let Err(error) = shared.executor.stop(id, reason, grace_ms).await {
                tracing::error!(%error, %job, attempt, "an attempt could not be stopped; trying again");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
        Action::QueueMoved => {}
    }
}

async fn load(shared: &Shared, id: JobId) {
    loop {
        match shared.store.to_start(id).await {
            Ok(Some((job, attempts, input))) => {
                *shared.next_input.lock() = Some((id, input));
                let interruptions = count_interruptions(&attempts, &shared.boot_id);
                return shared.feed(Event::Loaded { job, interruptions });
            }
            Ok(None) => return shared.feed(Event::Gone(id)),
            Err(error) => {
                tracing::error!(%error, job = %id, "a job could not be read for its claim; trying again");
            }
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

async fn commit(shared: &Shared, mut transition: Transition) {
    let id = transition.id;
    if let Some(record) = &mut transition.record {
        record.boot_id.get_or_insert_with(|| shared.boot_id.clone());
    }
    transition.durable = must_last(shared, &transition);
    let (before, after) = fail_points(&transition);
    fail_point(before);
    loop {
        match shared.store.transition(transition.clone()).await {
            Ok(job) => {
                fail_point(after);
                go_on(shared, id);
                if job.state.is_final() && job.attempt > 0 {
                    let attempt = job.attempt;
                    // The receiver lives as long as the engine.
                    shared.ended.send(AttemptId { job: id, attempt }).ok();
                }
                return shared.feed(Event::Committed(job));
            }
            Err(StoreError::NoSuchJob(_)) => return shared.feed(Event::Gone(id)),
            Err(StoreError::Moved(_)) => {
                tracing::error!(job = %id, "a job was moved by somebody else");
                match shared.store.job(id).await {
                    Ok(Some(job)) => return shared.feed(Event::Committed(job)),
                    Ok(None) => return shared.feed(Event::Gone(id)),
                    Err(error) => {
                        tracing::error!(%error, job = %id, "a moved job could not be read");
                    }
                }
            }
            Err(error) => hold(shared, id, &error.to_string()),
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

/// A little later, since nobody waits for it. Of many short jobs the kernel's own write-back takes care: a sync of each
/// one's records would hold up the next one's folder, and the store has all that decides anything.
async fn make_lasting(executor: Arc<dyn Executor>, mut ended: mpsc::UnboundedReceiver<AttemptId>) {
    while let Some(first) = ended.recv().await {
        tokio::time::sleep(LASTING_DELAY).await;
        let mut ids = vec![first];
        while let Ok(next) = ended.try_recv() {
            ids.push(next);
        }
        if ids.len() > LASTING_AT_ONCE {
            continue;
        }
        if let Err(error) = executor.make_lasting(ids).await {
            tracing::warn!(%error, "ended attempts' records are not synced: {error}");
        }
    }
}

/// What another boot finds out by itself needs no sync of its own: that an attempt was claimed, or that it ran. After a
/// power cut it is over either way, and the job is queued as before, or is interrupted. Unless its tool must not run
/// twice: then the claim counts.
fn must_last(shared: &Shared, transition: &Transition) -> bool {
    let word = transition.to.word();
    if !matches!(word, StateWord::Starting | StateWord::Running) || transition.stop_reason.is_some()
    {
        return true;
    }
    let state = shared.state.lock();
    let tool = state.tool_of(transition.id);
    word == StateWord::Starting && tool.is_none_or(|tool| tool.on_interrupt == OnInterrupt::Fail)
}

/// The fail points around a commit.
fn fail_points(transition: &Transition) -> (&'static str, &'static str) {
    match transition.to.word() {
        StateWord::Starting => ("claim.before_commit", "claim.after_commit"),
        StateWord::Running if transition.stop_reason.is_some() => {
            ("cancel.before_commit", "cancel.after_commit")
        }
        StateWord::Running => ("start.before_commit", "start.after_commit"),
        StateWord::Queued => ("requeue.before_commit", "requeue.after_commit"),
        _ => ("end.before_commit", "end.after_commit"),
    }
}

async fn launch(shared: &Shared, job: Job) {
    let id = AttemptId {
        job: job.id,
        attempt: job.attempt,
    };
    match make_launch(shared, &job).await {
        Err(error) => {
            let why = error.to_string();
            tracing::error!(job = %job.id, why, "an attempt could not be prepared");
            shared.found(id, Found::Over(Verdict::NeverStarted { why }));
        }
        Ok(launch) => start(shared, id, launch).await,
    }
}

/// Starts an attempt. What only the machine lacks is waited for, so that a full disk costs no job.
async fn start(shared: &Shared, id: AttemptId, launch: Launch) {
    let mut news = shared.watchers.subscribe(id.job);
    loop {
        let error = match shared.executor.start(launch.clone()).await {
            Ok(found) => {
                go_on(shared, id.job);
                return shared.found(id, found);
            }
            Err(error) => error,
        };
        let Some(why) = error.machine_fault() else {
            tracing::error!(%error, job = %id.job, "an attempt could not be started");
            go_on(shared, id.job);
            return recover(shared, id, Some(error)).await;
        };
        let why = format!("{why}: it starts by itself once that has passed ({error})");
        hold(shared, id.job, &why);
        if wishes_to_stop(shared, id.job).await {
            go_on(shared, id.job);
            return recover(shared, id, Some(error)).await;
        }
        news.mark_unchanged();
        // A cancellation wakes it early; nothing tells when a disk has room again.
        tokio::time::timeout(PAUSE_AFTER_ERROR, news.changed())
            .await
            .ok();
    }
}

async fn wishes_to_stop(shared: &Shared, id: JobId) -> bool {
    let job = shared.store.job(id).await;
    matches!(job, Ok(Some(job)) if job.stop_reason.is_some())
}

/// The machine holds a job up: people see why, and the log says so once.
fn hold(shared: &Shared, id: JobId, why: &str) {
    if shared.held.hold(id, why) {
        tracing::error!(job = %id, why, "a job is held up, and is tried again: {why}");
        shared.watchers.tell(id);
    }
}

fn go_on(shared: &Shared, id: JobId) {
    if shared.held.release(id) {
        tracing::info!(job = %id, "a job that was held up goes on");
        shared.watchers.tell(id);
    }
}

/// Asks the executor what there is. After a failed start its error is the reason that a person wants to read.
async fn recover(shared: &Shared, id: AttemptId, cause: Option<ExecError>) {
    let boot = claimed_in(shared, id).await;
    loop {
        match shared.executor.recover(id, boot.as_deref()).await {
            Ok(Found::Over(Verdict::NeverStarted { .. })) if had_started(shared, id).await => {
                go_on(shared, id.job);
                return shared.found(id, Found::Over(Verdict::folder_deleted(id, "none_found")));
            }
            Ok(Found::Over(Verdict::NeverStarted { why })) => {
                go_on(shared, id.job);
                let why = cause.map_or(why, |error| error.to_string());
                return shared.found(id, Found::Over(Verdict::NeverStarted { why }));
            }
            Ok(found) => {
                go_on(shared, id.job);
                return shared.found(id, found);
            }
            Err(error) => hold(shared, id.job, &error.to_string()),
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

/// The boot that the attempt was claimed in.
async fn claimed_in(shared: &Shared, id: AttemptId) -> Option<String> {
    loop {
        match shared.store.attempts(id.job).await {
            Ok(records) => {
                let mut records = records.into_iter();
                return records.find(|record| record.attempt == id.attempt)?.boot_id;
            }
            Err(error) => hold(shared, id.job, &error.to_string()),
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

/// The grace time of a job's tool.
async fn grace_ms(shared: &Shared, id: JobId) -> u64 {
    let job = shared.store.job(id).await.ok().flatten();
    let tool = job.and_then(|job| shared.definition(&job.definition));
    tool.map_or(onelane_tools::DEFAULT_GRACE_MS, |tool| tool.grace_ms())
}

/// The store knows that the tool ran, so a folder that says nothing was deleted, or is a copy of an older one.
async fn had_started(shared: &Shared, id: AttemptId) -> bool {
    let job = shared.store.job(id.job).await;
    matches!(job, Ok(Some(job)) if job.attempt == id.attempt && job.state.word() == StateWord::Running)
}

async fn watch(shared: &Shared, id: AttemptId) {
    let verdict = tokio::select! {
        verdict = until_over(shared, id) => verdict,
        () = follow_progress(shared, id) => return,
        () = tell_unkillable(shared, id) => return,
    };
    shared.progress.lock().remove(&id.job);
    shared.found(id, Found::Over(verdict));
}

async fn until_over(shared: &Shared, id: AttemptId) -> Verdict {
    loop {
        match shared.executor.watch(id).await {
            Ok(verdict) => {
                go_on(shared, id.job);
                return verdict;
            }
            Err(error) => hold(shared, id.job, &error.to_string()),
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

/// Never comes back: a job whose processes don't die is stuck until they have.
async fn tell_unkillable(shared: &Shared, id: AttemptId) {
    match shared.executor.unkillable(id).await {
        Ok(why) => {
            tracing::error!(job = %id.job, attempt = id.attempt, why, "an attempt can't be ended");
            shared.found(id, Found::Over(Verdict::Stuck { why }));
        }
        Err(error) => {
            tracing::debug!(%error, job = %id.job, "the attempt's folder can't be watched any more");
        }
    }
    std::future::pending::<()>().await;
}

/// Never comes back: progress is a courtesy, and its errors end nothing.
async fn follow_progress(shared: &Shared, id: AttemptId) {
    tokio::join!(follow_progress_file(shared, id), follow_stderr(shared, id));
    std::future::pending::<()>().await;
}

async fn follow_progress_file(shared: &Shared, id: AttemptId) {
    let mut seen = 0;
    loop {
        match shared.executor.progress(id, seen).await {
            Ok((line, now_seen)) => {
                seen = now_seen;
                if let Some(progress) = parse_progress(&line) {
                    shared.progress.lock().insert(id.job, progress);
                    shared.watchers.tell(id.job);
                }
            }
            Err(error) => {
                tracing::debug!(%error, job = %id.job, "the progress can't be read any more");
                return;
            }
        }
    }
}

/// Reads progress off the tool's standard error, where it has a pattern for that.
async fn follow_stderr(shared: &Shared, id: AttemptId) {
    let tool = shared.state.lock().tool_of(id.job).cloned();
    let pattern = tool.and_then(|tool| tool.progress.as_ref()?.reader().ok());
    let Some(pattern) = pattern else { return };
    let path = JobPaths::new(&shared.jobs, id.job).stderr(id.attempt);
    let (mut seen, mut text) = (0, Vec::new());
    loop {
        match onelane_exec::appended(&path, seen).await {
            Ok((part, now_seen)) => {
                seen = now_seen;
                text.extend(part);
                if let Some(fraction) = pattern.last_fraction(&text) {
                    let message = String::new();
                    let progress = Progress { fraction, message };
                    shared.progress.lock().insert(id.job, progress);
                    shared.watchers.tell(id.job);
                }
                text.drain(..text.len().saturating_sub(CARRIED_BYTES));
            }
            Err(error) => {
                tracing::debug!(%error, job = %id.job, "the progress can't be read any more");
                return;
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// `0.42 aligning`: a fraction from 0 to 1, and words.
fn parse_progress(line: &str) -> Option<Progress> {
    let (number, message) = line.split_once(' ').unwrap_or((line, ""));
    let fraction: f64 = number
        .parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))?;
    Some(Progress {
        fraction,
        message: message.trim().chars().take(200).collect(),
    })
}

/// A store that can't be read for a while holds a job up; that is no fault of the job's.
pub(crate) async fn read_input(shared: &Shared, id: JobId) -> JobInput {
    if let Some((_, input)) = shared.next_input.lock().take_if(|(job, _)| *job == id) {
        return input;
    }
    loop {
        match shared.store.input(id).await {
            Ok(input) => {
                go_on(shared, id);
                return input.unwrap_or_default();
            }
            Err(error) => hold(shared, id, &error.to_string()),
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}
