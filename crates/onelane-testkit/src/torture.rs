//! Torture: a real server under load is killed again and again, and the promises are checked from outside.
//!
//! What is known without asking the server: the ledger (what was asked, and what was acknowledged), and the marks that
//! each attempt leaves at its start and end. A lock that a whole process tree inherits tells when two jobs were alive
//! at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{TestServer, fail_points, is_final};

mod check;
mod clients;

/// How a run is made.
pub struct Plan {
    /// The server, built with the feature `failpoints`.
    pub binary: PathBuf,
    /// The hostile child.
    pub child: PathBuf,
    /// So many times the server is killed.
    pub kills: u64,
    /// Whoever gives the same one gets the same dice; the machine's timing stays its own.
    pub seed: u64,
    /// The level of process control, if it is forced.
    pub level: Option<String>,
    /// Where everything is; it must be empty, and stays.
    pub folder: PathBuf,
}

/// What came of it.
pub struct Report {
    /// Name and number, in the order of telling.
    pub figures: Vec<(&'static str, u64)>,
    /// Broken promises, one sentence each.
    pub violations: Vec<String>,
}

/// Dice that fall the same way for the same seed (`SplitMix64`).
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let bound = u64::try_from(from.len()).ok().filter(|len| *len > 0)?;
        usize::try_from(self.below(bound))
            .ok()
            .and_then(|n| from.get(n))
            .cloned()
    }
}

/// An acknowledged job.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    key: String,
    seq: i64,
    fails: bool,
}

/// An acknowledged cancellation: the job as the answer showed it.
#[derive(Clone)]
pub(crate) struct Cancelled {
    state: String,
    attempt: u64,
    at_ns: u64,
}

/// What was asked, and what was acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<String, Acknowledged>,
    /// Cancellations that were asked for, answered or not.
    wishes: HashSet<String>,
    cancelled: HashMap<String, Cancelled>,
    /// Asked to be deleted; with the time of the answer once there is one.
    deleted: HashMap<String, Option<u64>>,
    ends: HashMap<String, String>,
    replays: u64,
    uploads: u64,
    pauses: u64,
    violations: Vec<String>,
}

impl Ledger {
    fn violation(&mut self, sentence: String) {
        self.violations.push(sentence);
    }

    /// An end is final: whatever is seen later must be the same. `had_ended` is what was known before the question
    /// was asked; answers overtake each other.
    fn saw(&mut self, job: &Value, had_ended: bool) {
        let (id, state) = (text(&job["id"]), text(&job["state"]));
        if !is_final(job) {
            if had_ended {
                self.violation(format!("{id} had ended and is {state}"));
            }
            return;
        }
        let first = self.ends.entry(id.clone()).or_insert_with(|| state.clone());
        if *first != state {
            let sentence = format!("{id} ended as {first} and then as {state}");
            self.violations.push(sentence);
        }
    }

    /// Acknowledged, not known to have ended, not asked to go.
    fn living(&self) -> Vec<String> {
        let gone = |id: &String| self.ends.contains_key(id) || self.deleted.contains_key(id);
        let newest = self.jobs.iter().rev().map(|(id, _)| id).take(60);
        newest.filter(|id| !gone(id)).cloned().collect()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the clients share.
pub(crate) struct World {
    address: String,
    folder: PathBuf,
    http: reqwest::Client,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

impl World {
    /// One request; nothing when the server was not there, or said that it can't just now.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        dress: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder + Send,
    ) -> Option<(u16, Value)> {
        let url = format!("http://{}/api/v1{path}", self.address);
        let request = dress(self.http.request(method, url)).timeout(Duration::from_secs(20));
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.bytes().await.ok()?;
        let is_ready = !matches!(status, 429 | 502..=504);
        is_ready.then(|| (status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Asks until there is an answer.
    pub(crate) async fn insist(&self, method: Method, path: &str) -> (u16, Value) {
        for _ in 0..6000 {
            if let Some(answer) = self.ask(method.clone(), path, |request| request).await {
                return answer;
            }
            pause(20).await;
        }
        panic!("{method} {path}: the server does not answer any more");
    }

    fn going_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

pub(crate) async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn tools_file(plan: &Plan) -> String {
    let (child, folder) = (plan.child.display(), plan.folder.display());
    format!(
        r#"
[tools.mark]
command = ["{child}", "mark", "{folder}", "{{ms}}", "{{kind}}"]
[tools.mark.params.ms]
type = "integer"
[tools.mark.params.kind]
type = "text"

[tools.warm]
worker = ["{child}", "warm", "{folder}"]
keep = "300ms"
max_jobs = 20
[tools.warm.params.ms]
type = "integer"
[tools.warm.params.kind]
type = "text"

[tools.upload]
command = ["{child}", "mark", "{folder}", "10", "plain", "{{data}}"]
[tools.upload.params.data]
type = "fasta"
alphabet = "protein"
"#
    )
}

/// The whole run.
pub async fn run(plan: Plan) -> Report {
    let mut server = TestServer::in_folder(
        plan.binary.to_str().unwrap(),
        Some(&tools_file(&plan)),
        &plan.folder,
    );
    if let Some(level) = &plan.level {
        server
            .env
            .push(("ONELANE_PROCESS_CONTROL".into(), level.clone()));
    }
    server.env.push(("RUST_LOG".into(), "error".into()));
    server.address = address_of_no_client(&mut Dice::new(plan.seed));
    server.restart();
    let world = Arc::new(World {
        address: server.address().to_owned(),
        folder: plan.folder.clone(),
        http: reqwest::Client::new(),
        ledger: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..3 {
        let dice = Dice::new(plan.seed ^ (number + 1));
        clients.spawn(clients::client(world.clone(), number, dice));
    }
    clients.spawn(clients::pauser(world.clone()));
    let mut killer = Killer::new(&plan, world.clone());
    killer.kill_all(&mut server).await;
    world.stop.store(true, Ordering::Relaxed);
    killer.start(&mut server, None);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    drain(&world).await;
    let figures = killer.figures();
    check::all(&world, &server, &plan.child, killer.tools, figures).await
}

/// Below the ports that connections are made from: the clients go on asking while the server is away, and one of theirs
/// could get the server's own port (`ip_local_port_range`, ip(7)).
fn address_of_no_client(dice: &mut Dice) -> String {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u64 = range.split_whitespace().next().unwrap().parse().unwrap();
    let lowest = 1024;
    let is_free = |address: &String| std::net::TcpListener::bind(address).is_ok();
    (0..1000)
        .map(|_| format!("127.0.0.1:{}", lowest + dice.below(first - lowest)))
        .find(is_free)
        .expect("a free port")
}

async fn drain(world: &World) {
    world.insist(Method::POST, "/queue/resume").await;
    for _ in 0..6000 {
        let (_, queue) = world.insist(Method::GET, "/queue").await;
        if queue["backlog"] == 0 || is_stuck(&queue) {
            break;
        }
        pause(50).await;
    }
    let (_, queue) = world.insist(Method::GET, "/queue").await;
    if queue["backlog"] != 0 {
        let mut ledger = world.ledger.lock().await;
        ledger.violation(format!("the queue does not drain: {queue}"));
    }
}

/// Never right here: no attempt loses both of its supervisors.
pub(crate) fn is_stuck(queue: &Value) -> bool {
    queue["jobs"]
        .as_array()
        .is_some_and(|jobs| jobs.iter().any(|job| job["stuck"] == true))
}

/// Ends servers and supervisors.
struct Killer {
    kills: u64,
    dice: Dice,
    world: Arc<World>,
    child: PathBuf,
    env: Vec<(String, String)>,
    killed: u64,
    at_points: BTreeMap<&'static str, u64>,
    before_ready: u64,
    shims: u64,
    guards: u64,
    tools: u64,
    struck: HashSet<PathBuf>,
}

impl Killer {
    fn new(plan: &Plan, world: Arc<World>) -> Self {
        Self {
            kills: plan.kills,
            dice: Dice::new(plan.seed),
            world,
            child: plan.child.clone(),
            env: Vec::new(),
            killed: 0,
            at_points: BTreeMap::new(),
            before_ready: 0,
            shims: 0,
            guards: 0,
            tools: 0,
            struck: HashSet::new(),
        }
    }

    fn token(&self) -> PathBuf {
        self.world.folder.join("token")
    }

    /// Starts the server, with a fail point or without; false when it has died before it listened.
    fn start(&mut self, server: &mut TestServer, point: Option<&str>) -> bool {
        let lines = self.launch(server, point);
        tokio::task::block_in_place(|| server.listens(lines))
    }

    fn launch(
        &mut self,
        server: &mut TestServer,
        point: Option<&str>,
    ) -> std::io::Lines<std::io::BufReader<std::process::ChildStdout>> {
        if self.env.is_empty() {
            self.env.clone_from(&server.env);
        }
        server.env.clone_from(&self.env);
        if let Some(name) = point {
            std::fs::write(self.token(), name).unwrap();
            let token = self.token().display().to_string();
            server.env.extend([
                ("ONELANE_FAILPOINT".to_owned(), name.to_owned()),
                ("ONELANE_FAILPOINT_TOKEN".to_owned(), token),
            ]);
        }
        server.launch()
    }

    async fn kill_all(&mut self, server: &mut TestServer) {
        pause(200).await;
        server.kill();
        self.killed = 1;
        let points = fail_points::all();
        while self.killed < self.kills {
            let armed = self.dice.below(2) == 0;
            let point = self.dice.pick(&points).filter(|_| armed);
            if self.dice.below(8) == 0 {
                self.kill_early(server, point).await;
            } else {
                self.one_life(server, point).await;
            }
            self.disarm(point);
        }
    }

    /// Twice in a row: the server may not have got as far as listening.
    async fn kill_early(&mut self, server: &mut TestServer, point: Option<&'static str>) {
        let lines = self.launch(server, point);
        pause(self.dice.below(60)).await;
        self.kill_now(server).await;
        self.before_ready += 1;
        drop(lines);
    }

    async fn one_life(&mut self, server: &mut TestServer, point: Option<&'static str>) {
        self.start(server, point);
        let may_strike = !point.is_some_and(fail_points::is_supervisors);
        let mut strikes = may_strike && self.dice.below(2) == 0;
        let strike_after = self.dice.below(60);
        let life = 50 + self.dice.below(1000);
        for passed in 0..life / 5 {
            if strikes && passed >= strike_after && passed % 4 == 0 {
                strikes = !self.strike().await;
            }
            if self.was_killed(server).await {
                return;
            }
            pause(5).await;
        }
        self.kill_now(server).await;
    }

    async fn kill_now(&mut self, server: &mut TestServer) {
        if !self.was_killed(server).await {
            server.kill();
            self.killed += 1;
        }
    }

    /// By its fail point; any other end is a violation.
    async fn was_killed(&mut self, server: &mut TestServer) -> bool {
        let Some(status) = server.has_died() else {
            return false;
        };
        if status.signal() == Some(Signal::SIGKILL as i32) {
            self.killed += 1;
        } else {
            let mut ledger = self.world.ledger.lock().await;
            ledger.violation(format!("the server ended by itself: {status}"));
        }
        true
    }

    fn disarm(&mut self, point: Option<&'static str>) {
        if let Some(name) = point
            && std::fs::remove_file(self.token()).is_err()
        {
            *self.at_points.entry(name).or_default() += 1;
        }
    }

    /// Kills a shim, a guard or a tool, if one is there; never both supervisors of one attempt, which nothing survives.
    async fn strike(&mut self) -> bool {
        let Some((folder, shim)) = self.running_attempt().await else {
            return false;
        };
        let (pid, counter) = match self.dice.below(3) {
            0 => (shim["pid"].as_i64(), &mut self.shims),
            1 => (shim["guard"]["pid"].as_i64(), &mut self.guards),
            _ => (
                processes_of(&self.child).first().copied().map(i64::from),
                &mut self.tools,
            ),
        };
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let struck = pid.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        if struck {
            *counter += 1;
            self.struck.insert(folder);
        }
        struck
    }

    /// An attempt whose supervisors both live and that was not struck before, with its `shim.json`.
    async fn running_attempt(&mut self) -> Option<(PathBuf, Value)> {
        let (_, queue) = self
            .world
            .ask(Method::GET, "/queue", |request| request)
            .await?;
        let job = queue["jobs"].as_array()?.first()?;
        let id = job["id"].as_str()?;
        let jobs = self.world.folder.join("data/jobs");
        let folder = jobs
            .join(&id[34..])
            .join(id)
            .join("attempts")
            .join(job["attempt"].to_string());
        let shim = std::fs::read(folder.join("shim.json")).ok()?;
        let shim: Value = serde_json::from_slice(&shim).ok()?;
        let is_fresh = !self.struck.contains(&folder) && lives(&shim) && lives(&shim["guard"]);
        is_fresh.then_some((folder, shim))
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("server killed", self.killed),
            ("… of these before it listened", self.before_ready),
            ("fail points reached", self.at_points.values().sum()),
            (
                "… different ones",
                u64::try_from(self.at_points.len()).unwrap(),
            ),
            ("shim killed", self.shims),
            ("guard killed", self.guards),
            ("tool killed", self.tools),
        ]
    }
}

/// The very process that a record names.
fn lives(record: &Value) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", record["pid"])) else {
        return false;
    };
    let field = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    field == Some(record["start_time"].to_string().as_str())
}

/// Processes that run this very file, whatever they call themselves.
pub fn processes_of(program: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let removed = PathBuf::from(format!("{} (deleted)", program.display()));
    pids.filter(|pid| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe == program || exe == removed)
    })
    .collect()
}

/// The parameters of a job, and whether its tool fails.
pub(crate) fn some_job(dice: &mut Dice) -> (Value, bool) {
    let kinds = ["plain", "plain", "plain", "escapes", "ignores", "fails"];
    let kind = dice.pick(&kinds).unwrap_or("plain");
    // Some outlive their server, so that the next one finds them running.
    let ms = if dice.below(5) == 0 {
        300 + dice.below(900)
    } else {
        5 + dice.below(80)
    };
    (json!({"ms": ms, "kind": kind}), kind == "fails")
}
