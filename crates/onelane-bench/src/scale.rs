//! What each operation costs when the queue, or the past, is long: that it costs the same is the promise.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use crate::Common;
use crate::load::{Connection, Shot, median};
use crate::machine::taken;
use crate::prepare::{id_text, multiply};
use crate::report::{Chart, Report, Table};
use crate::server::{Served, bytes_of, fasta, pause, submit, tools, until};

/// The size that the largest is compared with.
const REFERENCE: u64 = 1_000;

/// How far it goes.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Sizes {
    /// The longest queue.
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
    /// The longest past: jobs that have ended.
    #[arg(long, default_value_t = 1_000_000)]
    finished: u64,
}

/// What is measured at each size, in milliseconds.
const OPERATIONS: [&str; 6] = [
    "submit",
    "status and position",
    "list page",
    "queue",
    "cancel",
    "claim and run",
];

/// A server with so many jobs, and what it was seen to do.
struct Sized {
    served: Served,
    queued: u64,
    finished: u64,
    /// Waiting jobs, spread over the queue; each is cancelled once.
    ids: Vec<String>,
    asked: String,
    /// Milliseconds, a list for each operation.
    took: [Vec<f64>; OPERATIONS.len()],
    ready: Vec<f64>,
    pss_bytes: u64,
    disk_bytes: u64,
}

pub(crate) async fn run(common: &Common, sizes: &Sizes) -> anyhow::Result<Report> {
    let mut report = Report::new("scale", common);
    let mut plan = vec![
        (10, 0),
        (REFERENCE, 0),
        (100_000, 0),
        (sizes.queued, 0),
        (REFERENCE, sizes.finished),
    ];
    if common.small {
        plan = vec![(10, 0), (REFERENCE, 0), (REFERENCE, 2_000)];
    }
    let repeats = common.pick(100, 10);
    let mut servers = Vec::new();
    for (queued, finished) in plan {
        servers.push(Sized::start(common, queued, finished, repeats).await?);
    }
    for _ in 0..common.rounds() {
        for server in &mut servers {
            server.round(repeats).await?;
        }
    }
    report.notes.push(format!(
        "one connection, {repeats} requests of each kind in a round (a tenth of that for claims); medians. Jobs were put \
         into the store with the server down, as copies of a real one"
    ));
    tell(&mut report, &servers);
    Ok(report)
}

impl Sized {
    async fn start(
        common: &Common,
        queued: u64,
        finished: u64,
        repeats: usize,
    ) -> anyhow::Result<Self> {
        let mut served = Served::onelane(common, &tools()?)?;
        let mut connection = served.connection();
        let done = submit(&mut connection, "nothing", &json!({}), "").await?;
        until(&mut connection, &done, |state| state == "succeeded").await?;
        pause(&mut connection, true).await?;
        submit(&mut connection, "nothing", &json!({}), "").await?;
        served.stop();
        let database = served.data().join("onelane.db");
        multiply(&database, 1, finished)?;
        let first = multiply(&database, 2, queued)?;
        let wanted = u64::try_from((common.rounds() + 1) * repeats)?.min(queued);
        let mut ids = Vec::new();
        for number in 0..wanted {
            let seq = first + i64::try_from(number * (queued / wanted))?;
            ids.push(id_text(&database, seq)?);
        }
        let disk_bytes = bytes_of(&served.data());
        served.launch()?;
        Ok(Self {
            // It stays, and is not among those to be cancelled.
            asked: ids.remove(ids.len() / 2),
            ids,
            served,
            queued,
            finished,
            took: Default::default(),
            ready: Vec::new(),
            pss_bytes: 0,
            disk_bytes,
        })
    }

    async fn round(&mut self, repeats: usize) -> anyhow::Result<()> {
        let asked = Shot::get(format!("/api/v1/jobs/{}", self.asked));
        let body = json!({"query": fasta(60)}).to_string();
        let shots = [
            Shot::post("/api/v1/tools/noop/jobs", "application/json", body),
            asked,
            Shot::get("/api/v1/jobs?limit=50"),
            Shot::get("/api/v1/queue"),
        ];
        let mut connection = self.served.connection();
        for (shot, took) in shots.iter().zip(&mut self.took) {
            took.push(
                median_of(&mut connection, std::iter::repeat_n(shot.clone(), repeats)).await?,
            );
        }
        // Most of a short queue stays.
        let cancelled = self.ids.len().min(repeats).min(self.ids.len() / 2);
        let doomed = self.ids.split_off(self.ids.len() - cancelled);
        if !doomed.is_empty() {
            let shots = doomed
                .iter()
                .map(|id| Shot::post(&format!("/api/v1/jobs/{id}/cancel"), "", ""));
            self.took[4].push(median_of(&mut connection, shots).await?);
        }
        self.claims(&mut connection, repeats.div_ceil(10)).await?;
        drop(connection);
        self.start_again().await
    }

    /// From the end of a pause until a job at the front has run.
    async fn claims(&mut self, connection: &mut Connection, repeats: usize) -> anyhow::Result<()> {
        let mut took = Vec::new();
        for _ in 0..repeats {
            let id = submit(connection, "nothing", &json!({}), "?priority=100").await?;
            let begun = Instant::now();
            pause(connection, false).await?;
            connection
                .must(&Shot::get(format!("/api/v1/jobs/{id}?wait=60")))
                .await?;
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
            pause(connection, true).await?;
            until_idle(connection).await?;
        }
        self.took[5].push(median(took));
        Ok(())
    }

    /// kill -9, and the time from the next start until `/readyz` says so.
    async fn start_again(&mut self) -> anyhow::Result<()> {
        self.served.kill()?;
        let begun = Instant::now();
        self.served.launch()?;
        let mut connection = self.served.connection();
        while connection.must(&Shot::get("/readyz")).await.is_err() {
            if begun.elapsed() > Duration::from_mins(5) {
                bail!("the server does not get ready");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.ready.push(begun.elapsed().as_secs_f64() * 1000.0);
        self.pss_bytes = self.pss_bytes.max(taken(self.served.pid()?)?.pss_bytes);
        Ok(())
    }

    fn median(&self, operation: usize) -> f64 {
        median(self.took[operation].clone())
    }

    fn name(&self) -> String {
        format!("{} queued, {} finished", self.queued, self.finished)
    }
}

async fn median_of(
    connection: &mut Connection,
    shots: impl Iterator<Item = Shot>,
) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for shot in shots {
        let begun = Instant::now();
        connection.must(&shot).await?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(took))
}

async fn until_idle(connection: &mut Connection) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let queue = connection.json(&Shot::get("/api/v1/queue")).await?;
        if queue["running"]
            .as_u64()
            .context("a queue without a count")?
            == 0
        {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_mins(2) {
            bail!("jobs that do nothing do not end: {queue}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn tell(report: &mut Report, servers: &[Sized]) {
    let mut columns = vec!["queued", "finished"];
    columns.extend(OPERATIONS);
    columns.extend(["ready after kill -9", "PSS MB", "disk MB"]);
    let mut table = Table::new("Milliseconds at each size", &columns);
    for server in servers {
        let mut row = vec![server.queued.into(), server.finished.into()];
        row.extend((0..OPERATIONS.len()).map(|number| server.median(number).into()));
        row.push(median(server.ready.clone()).into());
        row.extend([
            megabytes(server.pss_bytes).into(),
            megabytes(server.disk_bytes).into(),
        ]);
        table.row(row);
    }
    report.tables.push(table);
    let Some(reference) = servers
        .iter()
        .find(|one| one.queued == REFERENCE && one.finished == 0)
    else {
        return;
    };
    let largest = servers
        .iter()
        .filter(|one| one.queued > REFERENCE || one.finished > 0);
    for server in largest.filter(|one| one.queued != 100_000) {
        for (number, what) in OPERATIONS.iter().enumerate() {
            let ratio = server.median(number) / reference.median(number);
            report.at_most(
                &format!("{what}: {} ÷ {REFERENCE} queued", server.name()),
                ratio,
                2.0,
                1.2,
            );
        }
    }
    if let Some(longest) = servers.iter().max_by_key(|one| one.queued) {
        let ready = median(longest.ready.clone());
        report.at_most(
            &format!("ready after kill -9, {}, ms", longest.name()),
            ready,
            500.0,
            200.0,
        );
        report.at_most(
            &format!("memory, {}, MB", longest.name()),
            megabytes(longest.pss_bytes),
            60.0,
            40.0,
        );
    }
    if let Some(shortest) = servers.iter().min_by_key(|one| one.queued) {
        report.at_most("memory idle, MB", megabytes(shortest.pss_bytes), 30.0, 15.0);
    }
    for (number, what) in OPERATIONS.iter().enumerate() {
        let bars = servers
            .iter()
            .map(|one| (format!("Onelane, {}", one.name()), one.median(number)));
        report.charts.push(Chart {
            title: (*what).to_owned(),
            unit: "ms",
            bars: bars.collect(),
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
