//! How quickly a server answers while a job eats the machine: submissions and status requests at a constant rate, with
//! nothing running, beside a job that hogs every core, beside one that hogs memory bandwidth and the disk, and with a
//! long queue.

mod others;

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use others::Other;

use crate::Common;
use crate::load::{Call, Connection, Open, Opened, Shot, median, open, quantile_ms};
use crate::machine::run_first;
use crate::prepare::multiply;
use crate::report::{Chart, Report, Table};
use crate::server::{Served, fasta, pause, submit, tools, until};

/// Requests a second, half of them submissions, half of them questions.
const RATE: f64 = 400.0;
/// So many jobs are asked about in turn.
const ASKED_OF: usize = 100;
const CLIENTS: usize = 24;
const KINDS: [&str; 2] = ["submit", "status"];
/// A hog is given so long to reach its full weight.
const WARM_UP: Duration = Duration::from_millis(500);

/// What goes on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Idle,
    Running(&'static str),
    LongQueue,
}

const CONDITIONS: [(Condition, &str); 4] = [
    (Condition::Idle, "nothing runs"),
    (Condition::Running("cpu"), "a job hogs every core"),
    (
        Condition::Running("memory_disk"),
        "a job hogs memory and disk",
    ),
    (Condition::LongQueue, "a long queue"),
];

const SERVERS: [&str; 2] = ["Onelane", "probe"];

/// What was seen of one server under one condition, round by round.
struct Seen {
    server: &'static str,
    condition: Condition,
    meanwhile: &'static str,
    rounds: Vec<Opened>,
    all: Opened,
}

impl Seen {
    fn new(
        server: &'static str,
        condition: Condition,
        meanwhile: &'static str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            condition,
            meanwhile,
            rounds: Vec::new(),
            all: Opened::new(KINDS.len())?,
        })
    }

    fn p99_ms(&self, kind: usize) -> f64 {
        quantile_ms(&self.all.kinds[kind], 0.99)
    }

    /// Median of the rounds' own ratios.
    fn ratio_to(&self, idle: &Self, kind: usize) -> f64 {
        let p99 = |opened: &Opened| quantile_ms(&opened.kinds[kind], 0.99);
        let pairs = self.rounds.iter().zip(&idle.rounds);
        median(
            pairs
                .map(|(mine, theirs)| p99(mine) / p99(theirs))
                .collect(),
        )
    }

    fn add(&mut self, opened: Opened) -> anyhow::Result<()> {
        self.all.add(&opened)?;
        self.rounds.push(opened);
        Ok(())
    }
}

pub(crate) async fn run(common: &Common) -> anyhow::Result<Report> {
    let mut report = Report::new("responsive", common);
    let queued = common.pick(1_000_000, 1_000);
    let short = Onelane::start(common, 0).await?;
    let long = Onelane::start(common, queued).await?;
    let probe = Served::probe(common)?;
    let mut seen = Vec::new();
    for server in SERVERS {
        for (condition, meanwhile) in CONDITIONS {
            seen.push(Seen::new(server, condition, meanwhile)?);
        }
    }
    let mut others = Vec::new();
    for peer in common.peers(&mut report) {
        others.push(Other::start(common, peer)?);
    }
    let first = run_first(true);
    for _ in 0..common.rounds() {
        for (place, (condition, _)) in CONDITIONS.iter().enumerate() {
            let server = if *condition == Condition::LongQueue {
                &long
            } else {
                &short
            };
            let hog = server.begin(*condition).await?;
            let address = &server.served.address;
            seen[place].add(load(common, address, server.shots()).await?)?;
            let bare = load(common, &probe.address, server.shots()).await?;
            seen[place + CONDITIONS.len()].add(bare)?;
            server.end(hog).await?;
        }
    }
    let beside = others::measure(common, &others, first).await?;
    run_first(false);
    let notes = [
        format!("open loop, {RATE} requests a second, half of them submissions; latencies count from when a request was due"),
        "the hogs run as Onelane's own jobs: two threads a core, or memory copies on every core and synced writes".to_owned(),
        "the probe is measured beside the same hogs, right after: what the machine itself makes of them".to_owned(),
        format!("the long queue has {queued} jobs; the probe has none"),
        format!("the generator ran before all ordinary processes: {}", if first { "yes" } else { "no, it was not allowed to" }),
        format!("process control: {}", short.process_control().await?),
    ];
    report.notes.extend(notes);
    report.notes.extend(others::notes(&others));
    seen.extend(beside);
    tell(&mut report, &seen);
    Ok(report)
}

async fn load(common: &Common, address: &str, kinds: Vec<Vec<Call>>) -> anyhow::Result<Opened> {
    load_at(address, kinds, RATE, common.pick(4000, 200)).await
}

async fn load_at(
    address: &str,
    kinds: Vec<Vec<Call>>,
    rate: f64,
    requests: u64,
) -> anyhow::Result<Opened> {
    let address = address.to_owned();
    // Threads of its own: this one belongs to the runtime.
    let load = move || {
        open(&Open {
            address: &address,
            kinds,
            rate,
            requests,
            clients: CLIENTS,
        })
    };
    tokio::task::spawn_blocking(load).await?
}

fn tell(report: &mut Report, seen: &[Seen]) {
    let columns = [
        "what",
        "server",
        "meanwhile",
        "samples",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "p99 ÷ idle",
        "generator late p99 ms",
    ];
    let mut table = Table::new("Answers under load", &columns);
    let mut bars = Vec::new();
    for (kind, what) in KINDS.iter().enumerate() {
        for one in seen {
            let latency = &one.all.kinds[kind];
            let idle = seen
                .iter()
                .find(|idle| idle.server == one.server && idle.condition == Condition::Idle);
            let ratio = idle.map_or(f64::NAN, |idle| one.ratio_to(idle, kind));
            table.row(vec![
                (*what).into(),
                one.server.into(),
                one.meanwhile.into(),
                latency.len().into(),
                quantile_ms(latency, 0.5).into(),
                one.p99_ms(kind).into(),
                quantile_ms(latency, 0.999).into(),
                quantile_ms(latency, 1.0).into(),
                ratio.into(),
                quantile_ms(&one.all.lateness, 0.99).into(),
            ]);
            bars.push((
                format!("{} {what}, {}", one.server, one.meanwhile),
                one.p99_ms(kind),
            ));
            if one.server == "Onelane" && one.condition != Condition::Idle {
                report.at_most(
                    &format!("{what} p99 while {} ÷ idle", one.meanwhile),
                    ratio,
                    2.0,
                    1.5,
                );
            }
        }
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "The slowest of a hundred answers".to_owned(),
        unit: "p99, ms",
        bars,
    });
}

/// A server with a paused queue of so many jobs.
struct Onelane {
    served: Served,
    ids: Vec<String>,
}

impl Onelane {
    async fn start(common: &Common, queued: u64) -> anyhow::Result<Self> {
        let mut served = Served::onelane(common, &tools()?)?;
        let mut connection = served.connection();
        pause(&mut connection, true).await?;
        let mut ids = Vec::new();
        for _ in 0..ASKED_OF {
            ids.push(submit(&mut connection, "nothing", &json!({}), "").await?);
        }
        if queued > 0 {
            served.stop();
            multiply(&served.data().join("onelane.db"), 1, queued)?;
            served.launch()?;
        }
        Ok(Self { served, ids })
    }

    /// Starts are held back but for the hog's, which goes to the front and takes the whole machine.
    async fn begin(&self, condition: Condition) -> anyhow::Result<Option<String>> {
        match condition {
            Condition::Running(tool) => {
                Ok(Some(start_hog(&mut self.served.connection(), tool).await?))
            }
            Condition::Idle | Condition::LongQueue => Ok(None),
        }
    }

    async fn end(&self, hog: Option<String>) -> anyhow::Result<()> {
        let Some(id) = hog else {
            return Ok(());
        };
        let mut connection = self.served.connection();
        connection
            .must(&Shot::post(&format!("/api/v1/jobs/{id}/cancel"), "", ""))
            .await?;
        until(&mut connection, &id, |state| state == "cancelled").await
    }

    fn shots(&self) -> Vec<Vec<Call>> {
        let body = json!({"query": fasta(60)}).to_string();
        let submission = Shot::post("/api/v1/tools/noop/jobs", "application/json", body);
        let questions = self
            .ids
            .iter()
            .map(|id| Call::from(Shot::get(format!("/api/v1/jobs/{id}"))));
        vec![vec![submission.into()], questions.collect()]
    }

    async fn process_control(&self) -> anyhow::Result<String> {
        let queue = self
            .served
            .connection()
            .json(&Shot::get("/api/v1/queue"))
            .await?;
        let level = queue["process_control"].as_str();
        Ok(level
            .context("a queue without a process control")?
            .to_owned())
    }
}

async fn start_hog(connection: &mut Connection, tool: &str) -> anyhow::Result<String> {
    let id = submit(connection, tool, &json!({}), "?priority=100").await?;
    pause(connection, false).await?;
    until(connection, &id, |state| state == "running").await?;
    pause(connection, true).await?;
    tokio::time::sleep(WARM_UP).await;
    Ok(id)
}
