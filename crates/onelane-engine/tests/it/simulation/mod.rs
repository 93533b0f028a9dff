//! The engine under seeded schedules: the real engine, its runner included, against a model of everything else.
//!
//! A model store and a model executor stop before each of their effects and wait for the schedule's permission, so that
//! a server can be made to die between any two effects, and any answer to fail or to come late. The clock stands still
//! until the schedule lets time pass; one thread runs it all. The same seed gives the same run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onelane_core::{JobId, Priority, StateWord, StopReason, Timestamp};
use onelane_engine::{
    DiskFloor, Engine, EngineError, Event, Handle, JobInput, NewJob, Setup, Surroundings,
};
use onelane_tools::ToolDefinition;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

mod attempt;
mod dice;
mod executor;
mod ledger;
mod store;
mod world;

use dice::Dice;
use executor::ModelExecutor;
use store::ModelStore;
use world::{CLIENT, Fate, MACHINE, Shared, World};

const TOOLS: &str = r#"
[machine]
gpus = [0]
[tools.whole]
command = ["true"]
[tools.half]
command = ["true"]
needs = { cpus = 2, memory = "1M" }
[tools.small]
command = ["true"]
needs = { cpus = 1 }
[tools.once]
command = ["true"]
needs = { cpus = 3, gpus = 1 }
on_interrupt = "fail"
"#;

/// Rounds of waiting in which nothing happens, after which nothing will.
const QUIET: u32 = 4;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) events: u64,
    pub(crate) crashes: u64,
    pub(crate) attempts: u64,
    pub(crate) jobs: u64,
    /// Of everything that happened, in order.
    pub(crate) digest: u64,
}

/// A broken promise.
#[derive(Debug)]
pub(crate) struct Broken {
    seed: u64,
    what: String,
    trace: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, what, trace } = self;
        write!(
            f,
            "seed {seed} breaks a promise: {what}\nthe last events:\n{trace}\
             replay it with: cargo xtask simulate --seed {seed}"
        )
    }
}

/// Runs a seed's schedule. One that fails runs again to tell its story.
pub(crate) fn simulate(seed: u64) -> Result<Totals, Broken> {
    let broken = match Schedule::new(seed, false).run() {
        Ok(totals) => return Ok(totals),
        Err(broken) => broken,
    };
    match Schedule::new(seed, true).run() {
        Err(told) if told.what == broken.what => Err(told),
        _ => Err(Broken {
            what: format!("{} (and its second run is another one)", broken.what),
            ..broken
        }),
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.attempts += other.attempts;
        self.jobs += other.jobs;
        self.digest ^= other.digest;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            events,
            crashes,
            attempts,
            jobs,
            ..
        } = self;
        write!(
            f,
            "{events} events, {jobs} jobs, {attempts} attempts, {crashes} crashes"
        )
    }
}

/// Runs seeds on all processors; the first broken promise ends it.
pub(crate) fn simulate_all(
    from: u64,
    count: u64,
    progress: impl Fn(u64) + Sync,
) -> Result<Totals, Broken> {
    let next = AtomicU64::new(0);
    let result = Mutex::new(Ok(Totals::default()));
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < count
        {
            let ended = simulate(from + seed);
            let mut result = result.lock();
            match (&mut *result, ended) {
                (Ok(sum), Ok(totals)) => *sum += totals,
                (Ok(_), Err(broken)) => {
                    next.store(count, Ordering::Relaxed);
                    *result = Err(broken);
                }
                (Err(_), _) => {}
            }
            if seed > 0 && seed % 5_000 == 0 {
                progress(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    result.into_inner()
}

struct ModelSurroundings {
    world: Shared,
    dice: Mutex<Dice>,
}

impl Surroundings for ModelSurroundings {
    fn now(&self) -> Timestamp {
        self.world.lock().time()
    }

    fn random(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.dice.lock().roll().to_le_bytes());
        bytes
    }
}

type Started = Arc<Mutex<Option<Result<Engine, EngineError>>>>;

/// A server's life: dropping it is kill -9.
struct Server {
    store: Arc<ModelStore>,
    engine: Started,
    clients: Vec<Client>,
    // Last, so that what it runs goes after what holds it.
    runtime: Runtime,
}

struct Client {
    wishes: Act,
    task: JoinHandle<()>,
}

impl Server {
    fn handle(&self) -> Option<Handle> {
        let engine = self.engine.lock();
        let engine = engine.as_ref().and_then(|engine| engine.as_ref().ok());
        engine.map(Engine::handle)
    }
}

impl Drop for Server {
    /// A server holds its store, which holds the server's sink: a process would take both along.
    fn drop(&mut self) {
        self.store.sink.lock().take();
    }
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Grant,
    Advance,
    Submit,
    Cancel,
    Remove,
    Pause,
    Resume,
    ClientLeaves,
    Echo,
    Wait,
    ClockJump,
    DiskFills,
    Crash,
    Restart,
    Reboot,
    Kill,
    GoingDown,
}

/// How often each thing happens in this schedule.
struct Mood {
    faults: usize,
    crash: usize,
    kill: usize,
    reboot: usize,
    disk: usize,
    client: usize,
}

struct Schedule {
    seed: u64,
    dice: Dice,
    mood: Mood,
    world: Shared,
    tools: Vec<ToolDefinition>,
    server: Option<Server>,
    clients: u32,
    totals: Totals,
}

fn tools() -> Vec<ToolDefinition> {
    onelane_tools::parse_tools_file(TOOLS, std::path::Path::new("/"))
        .unwrap()
        .tools
}

impl Schedule {
    fn new(seed: u64, traced: bool) -> Self {
        thread_local! {
            static KNOWN: Vec<ToolDefinition> = tools();
        }
        let mut dice = Dice::new(seed);
        let tools = KNOWN.with(Clone::clone);
        let mut world = World::new(traced);
        world.tools = tools
            .iter()
            .map(|tool| (tool.hash(), Arc::new(tool.clone())))
            .collect();
        Self {
            seed,
            mood: Mood {
                faults: dice.pick(&[0, 20, 100]),
                crash: dice.pick(&[0, 4, 15]),
                kill: dice.pick(&[0, 4, 12]),
                reboot: dice.pick(&[0, 2, 6]),
                disk: dice.pick(&[0, 0, 5]),
                client: dice.pick(&[10, 25, 60]),
            },
            dice,
            world: Arc::new(Mutex::new(world)),
            tools,
            server: None,
            clients: 0,
            totals: Totals::default(),
        }
    }

    fn run(mut self) -> Result<Totals, Broken> {
        self.start_server();
        for _ in 0..25 + self.dice.below(110) {
            let act = self.choose();
            self.perform(act);
            self.verdict()?;
        }
        self.end_all()?;
        let world = self.world.lock();
        self.totals.attempts = world.attempts_started;
        self.totals.jobs = world.last_seq.unsigned_abs();
        drop(world);
        Ok(self.totals)
    }

    fn verdict(&self) -> Result<(), Broken> {
        let world = self.world.lock();
        let broken = world.broken.as_ref().map(|what| Broken {
            seed: self.seed,
            what: what.clone(),
            trace: world.trace(),
        });
        broken.map_or(Ok(()), Err)
    }

    fn choose(&mut self) -> Act {
        let (grants, supervised, heard) = {
            let world = self.world.lock();
            (
                world.ready().len(),
                world.supervised().len(),
                world.heard.len(),
            )
        };
        let up = usize::from(self.server.is_some());
        let open = usize::from(self.server.as_ref().is_some_and(|s| s.handle().is_some()));
        let mood = &self.mood;
        let weights = [
            (Act::Grant, 150 * grants.min(2)),
            (Act::Advance, 60 * supervised.min(3)),
            (Act::Submit, mood.client * open),
            (Act::Cancel, mood.client / 3 * open),
            (Act::Remove, mood.client / 5 * open),
            (Act::Pause, mood.client / 10 * open),
            (Act::Resume, mood.client / 6 * open),
            (Act::ClientLeaves, 3 * open),
            (Act::Echo, mood.faults / 10 * open * heard.min(1)),
            (Act::Wait, 20),
            (Act::ClockJump, 3),
            (Act::DiskFills, mood.disk),
            (Act::Crash, mood.crash * up),
            (Act::Restart, 60 * (1 - up)),
            (Act::Reboot, mood.reboot),
            (Act::Kill, mood.kill * supervised.min(2)),
            (Act::GoingDown, mood.kill / 4 * supervised.min(1)),
        ];
        let mut left = self
            .dice
            .below(weights.iter().map(|(_, weight)| weight).sum());
        for (act, weight) in weights {
            if left < weight {
                return act;
            }
            left -= weight;
        }
        Act::Wait
    }

    fn perform(&mut self, act: Act) {
        self.totals.events += 1;
        match act {
            Act::Grant => self.grant(self.mood.faults),
            Act::Advance => self.advance(),
            Act::Submit | Act::Cancel | Act::Remove | Act::Pause | Act::Resume => self.ask(act),
            Act::ClientLeaves => self.client_leaves(),
            Act::Echo => self.echo(),
            Act::Wait => {
                let millis = self.dice.pick(&[100, 1_100, 1_100, 11_000]);
                self.pass(millis);
            }
            Act::ClockJump => {
                let jump = self.dice.pick(&[-3_600_000, -1_000, 5_000, 86_400_000]);
                let mut world = self.world.lock();
                world.now += jump;
                world.note(|_| format!("the clock jumps by {jump} ms"));
            }
            Act::DiskFills => {
                let mut world = self.world.lock();
                world.disk_full = !world.disk_full;
                let full = world.disk_full;
                world.note(|_| format!("the disk is full: {full}"));
            }
            Act::Crash => self.crash("the server is killed"),
            Act::Restart => self.start_server(),
            Act::Reboot => self.reboot(),
            Act::Kill | Act::GoingDown => self.harm(act),
        }
        let is_outside = matches!(
            act,
            Act::Advance | Act::ClockJump | Act::DiskFills | Act::Kill | Act::GoingDown
        );
        // What happens outside of the server reaches it only by an operation that is granted.
        if !is_outside {
            self.settle();
        }
    }

    /// Everything runs until it waits for the schedule.
    fn settle(&mut self) {
        self.pass(1);
        let failed_start = self.server.as_ref().is_some_and(|server| {
            let engine = server.engine.lock();
            engine.as_ref().is_some_and(Result::is_err)
        });
        if failed_start {
            self.crash("the server could not start");
        }
        if let Some(server) = &mut self.server {
            server.clients.retain(|client| !client.task.is_finished());
        }
    }

    fn pass(&mut self, millis: u64) {
        self.world.lock().now += millis.cast_signed();
        if let Some(server) = &self.server {
            // The clock moves on only when nothing else can: this comes back when all is still.
            let time = Duration::from_millis(millis);
            server
                .runtime
                .block_on(async { tokio::time::sleep(time).await });
        }
    }

    fn start_server(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let world = self.world.clone();
        let boot_id = {
            let mut world = world.lock();
            let paused = world.settings.get("paused").is_some_and(|p| p == "yes");
            world.restart(paused);
            world.note(|_| "a server starts".into());
            world.boot_id()
        };
        let store = Arc::new(ModelStore {
            world: world.clone(),
            sink: Mutex::default(),
        });
        let setup = Setup {
            store: store.clone(),
            executor: Arc::new(ModelExecutor {
                world: world.clone(),
            }),
            surroundings: Arc::new(ModelSurroundings {
                world,
                dice: Mutex::new(Dice::new(self.dice.roll())),
            }),
            machine: MACHINE,
            tools: self.tools.clone(),
            default_tool: None,
            jobs: PathBuf::from("/nowhere/jobs"),
            uploads: PathBuf::from("/nowhere/uploads"),
            boot_id,
            floor: DiskFloor::new(Vec::new(), Some(0)),
        };
        let engine = Started::default();
        let slot = engine.clone();
        runtime.spawn(async move {
            let started = Engine::start(setup).await;
            *slot.lock() = Some(started);
        });
        self.server = Some(Server {
            store,
            engine,
            clients: Vec::new(),
            runtime,
        });
    }

    /// Kill -9: what was granted is done, all else never happens.
    fn crash(&mut self, how: &'static str) {
        self.server = None;
        self.totals.crashes += 1;
        let mut world = self.world.lock();
        world.points.clear();
        world.heard.clear();
        // From here on an unfinished start is the server's fault, not the machine's.
        let World { ledger, rows, .. } = &mut *world;
        ledger.hindered.retain(|(job, attempt)| {
            rows.get(job).is_none_or(|row| {
                row.job.attempt != *attempt || row.job.state.word() != StateWord::Starting
            })
        });
        for attempt in world.attempts.values_mut() {
            attempt.held_by_server = false;
        }
        world.note(|_| how.into());
    }

    fn reboot(&mut self) {
        self.crash("the machine is restarted");
        let mut world = self.world.lock();
        world.boot += 1;
        world.cut_power(&mut self.dice);
        world.undo(&mut self.dice);
    }

    fn harm(&mut self, act: Act) {
        let mut world = self.world.lock();
        let supervised = world.supervised();
        if supervised.is_empty() {
            return;
        }
        let id = self.dice.pick(&supervised);
        let (shim, guard) =
            self.dice
                .pick(&[(true, false), (false, true), (true, false), (true, true)]);
        if let Some(attempt) = world.attempts.get_mut(&world::key(id)) {
            if act == Act::Kill {
                attempt.kill(shim, guard);
            } else {
                attempt.signal();
            }
        }
        let name = world.name(id.job);
        world.note(|_| {
            let attempt = id.attempt;
            format!("{act:?} at {name} attempt {attempt}: shim {shim}, guard {guard}")
        });
    }

    fn grant(&mut self, faults: usize) {
        let mut world = self.world.lock();
        let ready = world.ready();
        if ready.is_empty() {
            return;
        }
        let at = self.dice.pick(&ready);
        let fails = world.points[at].may_fail && self.dice.chance(faults);
        let fate = match self.dice.below(4) {
            _ if fails => Fate::Fails,
            0 => Fate::Late,
            _ => Fate::Now,
        };
        self.totals.digest = world.points[at].digest(self.totals.digest);
        world.grant(at, fate);
    }

    fn advance(&mut self) {
        let mut world = self.world.lock();
        let supervised = world.supervised();
        if !supervised.is_empty() {
            let id = self.dice.pick(&supervised);
            world.advance(id, &mut self.dice);
        }
    }

    fn echo(&mut self) {
        let heard = {
            let world = self.world.lock();
            if world.heard.is_empty() {
                return;
            }
            world.heard[self.dice.below(world.heard.len())].clone()
        };
        let (id, found) = heard;
        self.world.lock().note(|world| {
            let name = world.name(id.job);
            format!("told again: {name} attempt {} is {found:?}", id.attempt)
        });
        if let Some(server) = &self.server {
            let _inside = server.runtime.enter();
            if let Some(Ok(engine)) = server.engine.lock().as_ref() {
                engine.feed(Event::Found { id, found });
            }
        }
    }

    fn client_leaves(&mut self) {
        if let Some(server) = &mut self.server
            && !server.clients.is_empty()
        {
            let at = self.dice.below(server.clients.len());
            let client = server.clients.remove(at);
            client.task.abort();
            let wishes = client.wishes;
            self.world
                .lock()
                .note(|_| format!("a client who wants to {wishes:?} goes away"));
        }
    }

    fn some_job(&mut self) -> Option<JobId> {
        let world = self.world.lock();
        let ids: Vec<JobId> = world.rows.keys().copied().collect();
        (!ids.is_empty()).then(|| self.dice.pick(&ids))
    }

    fn ask(&mut self, act: Act) {
        let some_job = self.some_job();
        self.ask_about(act, some_job);
    }

    fn ask_about(&mut self, act: Act, some_job: Option<JobId>) {
        let Some(handle) = self.server.as_ref().and_then(Server::handle) else {
            return;
        };
        let world = self.world.clone();
        let request: Request = match (act, some_job) {
            (Act::Submit, other) => Box::pin(submit(world, self.new_job(&handle, other), handle)),
            (Act::Cancel, Some(id)) => Box::pin(cancel(world, id, handle)),
            (Act::Remove, Some(id)) => Box::pin(async move { drop(handle.remove(id).await) }),
            (Act::Pause, _) => Box::pin(pause(world, handle)),
            (Act::Resume, _) => Box::pin(async move { drop(handle.resume().await) }),
            _ => return,
        };
        self.send(act, request);
    }

    fn send(&mut self, act: Act, request: Request) {
        self.clients += 1;
        if let Some(server) = &mut self.server {
            let task = server.runtime.spawn(CLIENT.scope(self.clients, request));
            server.clients.push(Client { wishes: act, task });
        }
    }

    fn new_job(&mut self, handle: &Handle, after: Option<JobId>) -> NewJob {
        let tool = &self.tools[self.dice.below(self.tools.len())];
        let priority = self.dice.pick(&[0, 0, 0, 5]);
        NewJob {
            id: handle.new_id(),
            owner: "anonymous".into(),
            tool: tool.name.clone(),
            definition: tool.hash(),
            name: None,
            tags: Vec::new(),
            priority: Priority::try_from(priority).unwrap_or_default(),
            after: after
                .filter(|_| self.dice.chance(250))
                .into_iter()
                .collect(),
            digest: String::new(),
            input: JobInput::default(),
            idempotency: None,
            created_at: handle.now(),
        }
    }

    /// All faults off: then whatever nothing blocks must end, first without what is stuck, then with it.
    fn end_all(&mut self) -> Result<(), Broken> {
        self.world
            .lock()
            .note(|_| "from here on nothing fails".into());
        self.world.lock().disk_full = false;
        if self.dice.chance(300) {
            self.cancel_what_is_cut_off();
        }
        self.end_what_can()?;
        self.world.lock().check_quiet();
        self.verdict()?;
        self.reboot();
        self.end_what_can()?;
        self.world.lock().check_quiet();
        self.verdict()
    }

    /// In a paused queue nothing that comes later makes up for a wish that is lost.
    fn cancel_what_is_cut_off(&mut self) {
        self.ask(Act::Pause);
        self.settle();
        for _ in 0..3 {
            self.harm(Act::Kill);
            let alive = self.world.lock().claimed();
            if !alive.is_empty() {
                let id = self.dice.pick(&alive);
                self.ask_about(Act::Cancel, Some(id));
                self.settle();
            }
        }
    }

    /// First what can end in a queue that may be paused, then all.
    fn end_what_can(&mut self) -> Result<(), Broken> {
        self.go_on_until_quiet()?;
        self.ask(Act::Resume);
        self.settle();
        self.go_on_until_quiet()
    }

    fn go_on_until_quiet(&mut self) -> Result<(), Broken> {
        let mut quiet = 0;
        while quiet < QUIET {
            self.totals.events += 1;
            let (grants, supervised) = {
                let world = self.world.lock();
                (world.ready().len(), world.supervised().len())
            };
            if self.server.is_none() {
                self.start_server();
            } else if self.dice.below(grants + supervised) < grants {
                self.grant(0);
                quiet = 0;
            } else if supervised > 0 {
                self.advance();
                quiet = 0;
            } else {
                self.pass(1_100);
                quiet += 1;
            }
            self.settle();
            self.verdict()?;
        }
        let waits = self.server.as_ref().and_then(|s| s.clients.first());
        if let Some(client) = waits {
            let what = format!(
                "answer: a client who wants to {:?} waits for ever",
                client.wishes
            );
            self.world.lock().accuse(what);
        }
        self.verdict()
    }
}

type Request = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn submit(world: Shared, new: NewJob, handle: Handle) {
    if let Ok(submitted) = handle.submit(new).await {
        world.lock().ledger.acknowledged.insert(submitted.job.id);
    }
}

async fn cancel(world: Shared, id: JobId, handle: Handle) {
    {
        let mut world = world.lock();
        let name = world.name(id);
        world.note(|_| format!("somebody cancels {name}"));
        world.ledger.wanted_cancelled.insert(id);
        world.ledger.cancelling.insert(id);
    }
    let Ok(job) = handle.cancel(id).await else {
        return;
    };
    if job.stop_reason == Some(StopReason::Cancel) {
        let mut world = world.lock();
        let promised = world.ledger.promised_stop.entry(id).or_insert(job.attempt);
        *promised = job.attempt.min(*promised);
    }
}

async fn pause(world: Shared, handle: Handle) {
    if handle.pause().await.is_ok() {
        let mut world = world.lock();
        world.ledger.paused = world.settings.get("paused").is_some_and(|p| p == "yes");
    }
}
