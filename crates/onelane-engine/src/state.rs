use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use onelane_core::{
    AttemptNo, Capacity, Job, JobEvent, JobId, JobState, OrderKey, OrderStatistic, StateWord,
    StopReason, Timestamp,
};
use onelane_exec::{AttemptId, Found, OTHER_BOOT, Running, Verdict};
use onelane_store::{AttemptRecord, QueueEntry, ShimProcess, Transition, Usage};
use onelane_tools::ToolDefinition;

use crate::decide::{Decision, decide};

/// What happens to the engine.
#[derive(Clone, Debug)]
pub enum Event {
    /// A job waits, new or from an earlier server.
    Waits(QueueEntry),
    /// A job of an earlier server was starting or running.
    WasAlive {
        /// The job.
        job: Job,
        /// Its interrupted attempts in this boot.
        interruptions: u32,
        /// What the store knows of its attempt.
        record: Option<Box<AttemptRecord>>,
    },
    /// A claimed job was read from the store.
    Loaded {
        /// The job, still queued.
        job: Job,
        /// Its interrupted attempts in this boot.
        interruptions: u32,
    },
    /// A claimed job could not be read: it is gone.
    Gone(JobId),
    /// A transition is on disk.
    Committed(Job),
    /// The executor found an attempt running, or over.
    Found {
        /// Which attempt: a word about an earlier one comes too late.
        id: AttemptId,
        /// What was found.
        found: Found,
    },
    /// Somebody wants the job to stop.
    Cancel {
        /// The job.
        id: JobId,
        /// Its place in the queue, should it be there. All else of it may have changed since it was read.
        order_key: OrderKey,
    },
    /// No new starts from now on.
    Pause,
    /// Starts again.
    Resume,
}

/// What the engine wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Read this job, to claim it.
    Load(JobId),
    /// Put this on disk, then say `Committed`.
    Commit(Box<Transition>),
    /// Start the job's attempt, then say what was `Found`.
    Launch(Box<Job>),
    /// Look at an attempt of an earlier server, then say what was `Found`.
    Recover(JobId, AttemptNo),
    /// Say `Found` when the attempt is over; tell its progress meanwhile.
    Watch(JobId, AttemptNo),
    /// Stop the attempt.
    Stop(JobId, AttemptNo, StopReason),
    /// Positions changed.
    QueueMoved,
}

/// A job that left the queue and is not over.
#[derive(Debug)]
struct Alive {
    /// As last committed; missing while it is read for its claim.
    job: Option<Job>,
    takes: Capacity,
    interruptions: u32,
    record: Option<AttemptRecord>,
    /// One commit at a time: what comes meanwhile waits here.
    committing: bool,
    inbox: VecDeque<Event>,
    launched: bool,
}

/// A queued job in memory: there may be millions, so what few of them have lies elsewhere.
#[derive(Debug)]
struct Waiting {
    id: JobId,
    definition: DefinitionNumber,
}

type DefinitionNumber = u32;

/// The definitions of tools under their hashes, and under short numbers that hold as long as this memory.
#[derive(Debug, Default)]
struct Definitions {
    numbers: HashMap<Arc<str>, DefinitionNumber>,
    /// By number, with the hash; nothing where only the hash is known.
    tools: Vec<(Arc<str>, Option<Arc<ToolDefinition>>)>,
    /// What was asked for last, as it was given: in a million queued jobs few definitions follow upon another.
    last: Option<(Arc<str>, DefinitionNumber)>,
}

impl Definitions {
    fn number(&mut self, hash: &str) -> DefinitionNumber {
        if let Some(number) = self.numbers.get(hash) {
            return *number;
        }
        let number = DefinitionNumber::try_from(self.tools.len()).unwrap_or(DefinitionNumber::MAX);
        let hash: Arc<str> = hash.into();
        self.numbers.insert(hash.clone(), number);
        self.tools.push((hash, None));
        number
    }

    fn number_of(&mut self, hash: &Arc<str>) -> DefinitionNumber {
        match &self.last {
            Some((last, number)) if Arc::ptr_eq(last, hash) => *number,
            _ => {
                let number = self.number(hash);
                self.last = Some((hash.clone(), number));
                number
            }
        }
    }

    fn define(&mut self, hash: &str, tool: Arc<ToolDefinition>) {
        let number = self.number(hash);
        if let Some((_, place)) = self.tools.get_mut(number as usize) {
            *place = Some(tool);
        }
    }

    fn get(&self, hash: &str) -> Option<&Arc<ToolDefinition>> {
        self.numbered(*self.numbers.get(hash)?)
    }

    fn numbered(&self, number: DefinitionNumber) -> Option<&Arc<ToolDefinition>> {
        self.tools.get(number as usize)?.1.as_ref()
    }
}

/// The engine's memory.
#[derive(Debug)]
pub struct State {
    machine: Capacity,
    paused: bool,
    definitions: Definitions,
    queue: OrderStatistic<Waiting>,
    /// What a queued job waits for beside its turn; not there for most.
    after: HashMap<OrderKey, Vec<JobId>>,
    alive: HashMap<JobId, Alive>,
    /// Jobs that others wait for by `after`.
    awaited: HashMap<JobId, Vec<OrderKey>>,
}

impl State {
    /// An empty engine for a machine.
    pub fn new(machine: Capacity, paused: bool) -> Self {
        Self {
            machine,
            paused,
            definitions: Definitions::default(),
            queue: OrderStatistic::default(),
            after: HashMap::new(),
            alive: HashMap::new(),
            awaited: HashMap::new(),
        }
    }

    /// Makes a tool's definition known by its hash, before any job that has it.
    pub fn define(&mut self, hash: &str, tool: Arc<ToolDefinition>) {
        self.definitions.define(hash, tool);
    }

    /// Hashes of definitions that queued jobs have and that are not known yet.
    pub fn undefined(&self) -> Vec<Arc<str>> {
        let undefined = self.definitions.tools.iter();
        let undefined = undefined.filter(|(_, tool)| tool.is_none());
        undefined.map(|(hash, _)| hash.clone()).collect()
    }

    /// A job of an earlier server waits: as [`Event::Waits`], without a look at who is next. The queue must be paused.
    pub fn restore(&mut self, entry: QueueEntry) {
        enqueue(self, entry);
    }

    /// A definition by its hash.
    pub fn definition(&self, hash: &str) -> Option<&Arc<ToolDefinition>> {
        self.definitions.get(hash)
    }

    /// The tool of a job that is starting or running.
    pub fn tool_of(&self, id: JobId) -> Option<&Arc<ToolDefinition>> {
        let job = self.alive.get(&id)?.job.as_ref()?;
        self.definition(&job.definition)
    }

    /// How many wait.
    pub const fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many are starting or running.
    pub fn running(&self) -> usize {
        self.alive
            .values()
            .filter(|alive| alive.counts_as_running())
            .count()
    }

    /// Whether starts are held back.
    pub const fn paused(&self) -> bool {
        self.paused
    }

    /// The machine that jobs may use.
    pub const fn machine(&self) -> Capacity {
        self.machine
    }

    /// How many start before a job at this place.
    pub fn position(&self, key: OrderKey) -> usize {
        self.queue.rank(key)
    }

    /// The ids of what is starting or running.
    pub fn running_ids(&self) -> Vec<JobId> {
        self.alive
            .iter()
            .filter(|(_, alive)| alive.counts_as_running())
            .map(|(id, _)| *id)
            .collect()
    }

    /// The first ones in line.
    pub fn next_ids(&self, count: usize) -> Vec<JobId> {
        self.queue
            .iter()
            .take(count)
            .map(|(_, waiting)| waiting.id)
            .collect()
    }

    /// One sentence: why the job at this place waits.
    pub fn why(&self, key: OrderKey) -> String {
        if self.paused {
            return "the queue is paused".to_owned();
        }
        if self.queue.get(key).is_none() {
            return "it starts now".to_owned();
        }
        if let Some(first) = self.after.get(&key).and_then(|after| after.first()) {
            return format!("it starts after job {first} has ended");
        }
        match (self.position(key), self.running_ids().first()) {
            (0, Some(running)) => format!("it is next; job {running} is running"),
            (0, None) => "it starts now".to_owned(),
            (1, _) => "1 job starts before it".to_owned(),
            (n, _) => format!("{n} jobs start before it"),
        }
    }

    /// What is left of the machine beside all that is starting or running.
    pub fn free(&self) -> Capacity {
        self.alive
            .values()
            .fold(self.machine, |left, alive| left.minus(&alive.takes))
    }

    fn takes(&self, tool: Option<&Arc<ToolDefinition>>) -> Capacity {
        tool.map_or(self.machine, |tool| tool.needs.of(self.machine))
    }

    /// The first in line that waits for nothing but its turn.
    fn first_ready(&self) -> Option<(OrderKey, &Waiting)> {
        let mut line = self.queue.iter();
        line.find(|(key, _)| !self.after.contains_key(key))
    }

    fn take_from_queue(&mut self, key: OrderKey) -> Option<Waiting> {
        self.after.remove(&key);
        self.queue.remove(key)
    }

    /// Nobody is looked for when nothing fits: of a line that waits for others the first ready one may be far away. Every
    /// job takes a processor at least.
    fn is_full(&self) -> bool {
        !self.alive.is_empty() && self.free().cpus == 0
    }

    /// Where nothing else holds the machine, a job that was admitted when the machine was larger starts all the same.
    fn fits(&self, takes: &Capacity) -> bool {
        self.alive.is_empty() || self.free().fits(takes)
    }
}

impl Alive {
    fn new(job: Option<Job>, takes: Capacity) -> Self {
        Self {
            job,
            takes,
            interruptions: 0,
            record: None,
            committing: false,
            inbox: VecDeque::new(),
            launched: false,
        }
    }

    /// Somebody wants it to stop, and nothing has come of it yet.
    fn is_cancelled(&self) -> bool {
        let is_wish = |event: &Event| matches!(event, Event::Cancel { .. });
        self.inbox.iter().any(is_wish)
    }

    fn counts_as_running(&self) -> bool {
        self.takes.cpus > 0
    }
}

const NOTHING: Capacity = Capacity {
    cpus: 0,
    memory_bytes: 0,
    gpus: 0,
};

/// What follows from an event. Pure but for the memory it is given.
pub fn step(state: &mut State, event: Event, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    take(state, event, now, &mut actions);
    admit(state, &mut actions);
    actions
}

fn take(state: &mut State, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
    match event {
        Event::Waits(entry) => enqueue(state, entry),
        Event::Pause => state.paused = true,
        Event::Resume => state.paused = false,
        Event::Gone(id) => ended(state, id),
        Event::WasAlive {
            job,
            interruptions,
            record,
        } => {
            let (id, attempt) = (job.id, job.attempt);
            adopt(state, job, interruptions, record.map(|record| *record));
            actions.push(Action::Recover(id, attempt));
        }
        Event::Loaded { job, interruptions } => claim(state, job, interruptions, now, actions),
        Event::Committed(job) => committed(state, job, now, actions),
        Event::Cancel { id, order_key } => cancel(state, id, order_key, actions),
        Event::Found { id, found } => {
            if let Some(event) = later_if_committing(state, id.job, Event::Found { id, found }) {
                found_attempt(state, event, now, actions);
            }
        }
    }
}

/// Starts whoever is first in line and fits. Nobody passes the first one that does not fit; jobs that wait for others
/// are stepped over.
fn admit(state: &mut State, actions: &mut Vec<Action>) {
    while !state.paused && !state.is_full() {
        let Some((key, waiting)) = state.first_ready() else {
            return;
        };
        let takes = state.takes(state.definitions.numbered(waiting.definition));
        if !state.fits(&takes) {
            return;
        }
        if let Some(waiting) = state.take_from_queue(key) {
            state.alive.insert(waiting.id, Alive::new(None, takes));
            actions.extend([Action::Load(waiting.id), Action::QueueMoved]);
        }
    }
}

fn enqueue(state: &mut State, entry: QueueEntry) {
    if state.alive.contains_key(&entry.id) {
        return;
    }
    for other in &entry.after {
        state
            .awaited
            .entry(*other)
            .or_default()
            .push(entry.order_key);
    }
    if !entry.after.is_empty() {
        state.after.insert(entry.order_key, entry.after);
    }
    let waiting = Waiting {
        id: entry.id,
        definition: state.definitions.number_of(&entry.definition),
    };
    state.queue.insert(entry.order_key, waiting);
}

fn adopt(state: &mut State, job: Job, interruptions: u32, record: Option<AttemptRecord>) {
    let id = job.id;
    let takes = state.takes(state.definition(&job.definition));
    let alive = Alive {
        interruptions,
        record,
        launched: true,
        ..Alive::new(Some(job), takes)
    };
    state.alive.insert(id, alive);
}

fn claim(
    state: &mut State,
    job: Job,
    interruptions: u32,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let Some(alive) = state.alive.get_mut(&job.id) else {
        return;
    };
    if job.state.word() != StateWord::Queued {
        // Ended between its turn and its claim.
        ended(state, job.id);
        return;
    }
    if alive.is_cancelled() {
        let job = Job {
            stop_reason: Some(StopReason::Cancel),
            ..job
        };
        commit(alive, &job, &JobEvent::Cancel, job.attempt, now, actions);
        alive.job = Some(job);
    } else {
        alive.interruptions = interruptions;
        alive.record = Some(new_record(&job, job.attempt + 1, now));
        commit(alive, &job, &JobEvent::Claim, job.attempt + 1, now, actions);
        alive.job = Some(job);
    }
}

fn new_record(job: &Job, attempt: AttemptNo, now: Timestamp) -> AttemptRecord {
    AttemptRecord {
        boot_id: None,
        job: job.id,
        attempt,
        claimed_at: now,
        started_at: None,
        finished_at: None,
        shim: None,
        tool_version: None,
        outcome: None,
        exit_code: None,
        usage: None,
        process_control: None,
    }
}

/// Makes the transition of an event; an event that does not fit the state is a message that came too late.
fn commit(
    alive: &mut Alive,
    job: &Job,
    event: &JobEvent,
    attempt: AttemptNo,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let Ok(to) = job.state.apply(event, now) else {
        return;
    };
    // A wish to stop belongs to the attempt: one that is queued again begins without it.
    let stop_reason = if to.word() == StateWord::Queued {
        None
    } else {
        job.stop_reason
    };
    alive.committing = true;
    actions.push(Action::Commit(Box::new(Transition {
        id: job.id,
        from: (job.attempt, job.state.word()),
        attempt,
        to,
        stop_reason,
        record: alive.record.clone(),
        durable: true,
    })));
}

fn committed(state: &mut State, job: Job, now: Timestamp, actions: &mut Vec<Action>) {
    let id = job.id;
    let Some(alive) = state.alive.get_mut(&id) else {
        return;
    };
    alive.committing = false;
    let wishes_to_stop = job.stop_reason.filter(|_| alive.launched);
    let attempt = job.attempt;
    alive.job = Some(job.clone());
    match job.state {
        JobState::Queued { .. } => return requeue(state, &job, actions),
        JobState::Starting { .. } if !alive.launched => return launch(state, job, now, actions),
        JobState::Starting { .. } | JobState::Running { .. } => {
            actions.extend(wishes_to_stop.map(|reason| Action::Stop(id, attempt, reason)));
        }
        JobState::Succeeded { .. } | JobState::Failed { .. } | JobState::Cancelled { .. } => {
            ended(state, id);
        }
    }
    next_from_inbox(state, id, now, actions);
}

fn launch(state: &mut State, job: Job, now: Timestamp, actions: &mut Vec<Action>) {
    let id = job.id;
    let Some(alive) = state.alive.get_mut(&id) else {
        return;
    };
    if alive.is_cancelled() {
        // Claimed, but nothing was started for it: it can end at once.
        let ending = onelane_core::Ending::Cancelled;
        let end = JobEvent::End {
            ending,
            started_at: None,
            finished_at: now,
        };
        let job = Job {
            stop_reason: Some(StopReason::Cancel),
            ..job
        };
        let attempt = job.attempt;
        commit(alive, &job, &end, attempt, now, actions);
    } else {
        alive.launched = true;
        actions.push(Action::Launch(Box::new(job)));
    }
}

/// Of what came meanwhile only a wish to stop is about the job, all else about its last attempt.
fn requeue(state: &mut State, job: &Job, actions: &mut Vec<Action>) {
    let alive = state.alive.remove(&job.id);
    let definition = job.definition.as_str().into();
    enqueue(
        state,
        QueueEntry {
            id: job.id,
            order_key: job.order_key,
            definition,
            after: Vec::new(),
        },
    );
    if alive.is_some_and(|alive| alive.is_cancelled()) {
        cancel(state, job.id, job.order_key, actions);
    }
}

fn ended(state: &mut State, id: JobId) {
    state.alive.remove(&id);
    for key in state.awaited.remove(&id).unwrap_or_default() {
        if let Some(after) = state.after.get_mut(&key) {
            after.retain(|other| *other != id);
            if after.is_empty() {
                state.after.remove(&key);
            }
        }
    }
}

/// Gives the event back if it can be taken now.
fn later_if_committing(state: &mut State, id: JobId, event: Event) -> Option<Event> {
    let alive = state.alive.get_mut(&id)?;
    if alive.committing || alive.job.is_none() {
        alive.inbox.push_back(event);
        return None;
    }
    Some(event)
}

fn next_from_inbox(state: &mut State, id: JobId, now: Timestamp, actions: &mut Vec<Action>) {
    while let Some(alive) = state.alive.get_mut(&id).filter(|alive| !alive.committing) {
        let Some(event) = alive.inbox.pop_front() else {
            return;
        };
        take(state, event, now, actions);
    }
}

fn found_attempt(state: &mut State, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
    let Event::Found { id, found } = event else {
        return;
    };
    let alive = state.alive.get(&id.job);
    if alive
        .and_then(|alive| alive.job.as_ref())
        .map(|job| job.attempt)
        != Some(id.attempt)
    {
        return;
    }
    match found {
        Found::Running(running) => started(state, id.job, running, now, actions),
        Found::Over(verdict) => over(state, id.job, &verdict, now, actions),
    }
}

fn started(
    state: &mut State,
    id: JobId,
    running: Running,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let Some(alive) = state.alive.get_mut(&id) else {
        return;
    };
    let Some(job) = alive.job.clone() else { return };
    actions.push(Action::Watch(id, job.attempt));
    let started_at = running.started_at;
    if job.state.word() == StateWord::Starting {
        let mut record = alive
            .record
            .take()
            .unwrap_or_else(|| new_record(&job, job.attempt, started_at));
        record.started_at = Some(started_at);
        record.tool_version = running.tool_version;
        record.shim = Some(shim_process(running.shim));
        record.process_control = Some(running.level.to_string());
        alive.record = Some(record);
        commit(
            alive,
            &job,
            &JobEvent::Start { started_at },
            job.attempt,
            now,
            actions,
        );
    } else {
        actions.extend(
            job.stop_reason
                .map(|reason| Action::Stop(id, job.attempt, reason)),
        );
    }
}

fn shim_process(shim: onelane_exec::ProcessRecord) -> ShimProcess {
    ShimProcess {
        pid: shim.pid,
        start_time: shim.start_time,
        boot_id: shim.boot_id,
        pid_namespace: shim.pid_namespace,
    }
}

fn over(
    state: &mut State,
    id: JobId,
    verdict: &Verdict,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let Some(alive) = state.alive.get_mut(&id) else {
        return;
    };
    let Some(job) = alive.job.clone() else { return };
    let Some(tool) = state.definitions.get(&job.definition) else {
        return;
    };
    let Decision { event, outcome } = decide(&job, tool, verdict, alive.interruptions, now);
    let mut record = alive
        .record
        .take()
        .unwrap_or_else(|| new_record(&job, job.attempt, now));
    fill_record(&mut record, verdict, outcome, now);
    alive.record = Some(record);
    commit(alive, &job, &event, job.attempt, now, actions);
}

fn fill_record(record: &mut AttemptRecord, verdict: &Verdict, outcome: &str, now: Timestamp) {
    record.outcome = Some(outcome.to_owned());
    match verdict {
        Verdict::Exited(exit) => {
            if exit.proof == OTHER_BOOT {
                // Also when its claim was undone by a power cut and made again in this boot: the cut is not the job's fault.
                record.boot_id = Some("another".to_owned());
            }
            record.started_at = exit.started_at.or(record.started_at);
            record.finished_at = Some(exit.finished_at);
            record.tool_version = exit.tool_version.clone().or(record.tool_version.take());
            record.process_control = Some(exit.level.to_string());
            record.exit_code = match exit.outcome {
                onelane_exec::Outcome::Exit { code } => Some(code),
                _ => None,
            };
            let used = exit.usage;
            record.usage = Some(Usage {
                wall_s: used.wall_s,
                cpu_s: used.cpu_s,
                memory_peak_bytes: used.memory_peak_bytes,
            });
        }
        Verdict::NeverStarted { .. } => record.finished_at = Some(now),
        Verdict::Stuck { .. } => {}
    }
}

fn cancel(state: &mut State, id: JobId, order_key: OrderKey, actions: &mut Vec<Action>) {
    let is_it = |waiting: &Waiting| waiting.id == id;
    if state.queue.get(order_key).is_some_and(is_it) {
        state.take_from_queue(order_key);
        // It holds nothing of the machine while it is read, and its end is on the way to the disk.
        state.alive.insert(id, Alive::new(None, NOTHING));
        actions.extend([Action::Load(id), Action::QueueMoved]);
    }
    let event = Event::Cancel { id, order_key };
    if later_if_committing(state, id, event).is_none() {
        return;
    }
    let Some(alive) = state.alive.get_mut(&id) else {
        return;
    };
    let Some(job) = alive.job.clone().filter(|job| job.stop_reason.is_none()) else {
        return;
    };
    alive.committing = true;
    actions.push(Action::Commit(Box::new(Transition {
        id,
        from: (job.attempt, job.state.word()),
        attempt: job.attempt,
        to: job.state.clone(),
        stop_reason: Some(StopReason::Cancel),
        record: None,
        durable: true,
    })));
}
