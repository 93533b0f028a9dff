//! How many durable submissions a second, and how long each takes. Starts are held back: this measures the way in.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::Common;
use crate::load::{Call, Closed, Measured, Shot, closed, median};
use crate::peers::{Peer, Running};
use crate::report::{Chart, Report, Table};
use crate::server::{Served, fasta, pause, tools};

const CONNECTIONS: [usize; 4] = [1, 8, 32, 128];
/// The row that the budgets look at.
const JUDGED: (usize, &str, &str) = (32, "json", "small");

/// Only a part of it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Part {
    /// Only with so many connections; may be repeated.
    #[arg(long)]
    connections: Vec<usize>,
    /// Only this body: json or form.
    #[arg(long)]
    body: Option<String>,
    /// Only this sequence: small or large.
    #[arg(long)]
    sequence: Option<String>,
}

impl Part {
    fn connections(&self, common: &Common) -> Vec<usize> {
        if self.connections.is_empty() {
            return common.pick(&CONNECTIONS[..], &[1, 32]).to_vec();
        }
        self.connections.clone()
    }

    fn has(&self, kind: Kind) -> bool {
        let is = |wanted: &Option<String>, word: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == word)
        };
        is(&self.body, kind.body) && is(&self.sequence, kind.size)
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
struct Kind {
    body: &'static str,
    size: &'static str,
    residues: usize,
}

const KINDS: [Kind; 4] = [
    kind("json", "small", 60),
    kind("form", "small", 60),
    kind("json", "large", 100_000),
    kind("form", "large", 100_000),
];

const fn kind(body: &'static str, size: &'static str, residues: usize) -> Kind {
    Kind {
        body,
        size,
        residues,
    }
}

impl Kind {
    fn shot(self, path: &str) -> Shot {
        let query = fasta(self.residues);
        if self.body == "json" {
            return Shot::post(
                path,
                "application/json",
                json!({"query": query}).to_string(),
            );
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &query)
            .finish();
        Shot::post(path, "application/x-www-form-urlencoded", form)
    }
}

/// Where the calls go.
enum Target {
    /// A server, and what it is sent.
    Server(Served, Shot),
    /// A peer that keeps what it gets.
    Peer(Running),
    /// A peer that gets a new queue each time: its own command becomes slower the more jobs wait, or takes no more.
    Afresh(Peer),
}

/// One server's rounds in one row.
struct Column {
    name: String,
    body: &'static str,
    /// What an answer is worth after a power cut.
    kept: &'static str,
    target: Target,
    rounds: Vec<Measured>,
}

impl Column {
    fn new(served: Served, kind: Kind, path: &str, kept: &'static str) -> Self {
        Self {
            name: served.name.clone(),
            body: kind.body,
            kept,
            target: Target::Server(served, kind.shot(path)),
            rounds: Vec::new(),
        }
    }

    fn of_peer(common: &Common, peer: &Peer) -> anyhow::Result<Self> {
        let target = if peer.has_http() {
            Target::Peer(peer.start(common, false)?)
        } else {
            Target::Afresh(*peer)
        };
        Ok(Self {
            name: peer.name.to_owned(),
            body: peer.body(),
            kept: peer.kept,
            target,
            rounds: Vec::new(),
        })
    }

    fn is_durable_peer(&self) -> bool {
        matches!(&self.target, Target::Peer(running) if running.peer.is_durable())
    }

    async fn measure(
        &self,
        common: &Common,
        kind: Kind,
        connections: usize,
        lasts: Duration,
    ) -> anyhow::Result<Measured> {
        let query = fasta(kind.residues);
        let started;
        let (address, call, most) = match &self.target {
            Target::Server(served, shot) => (&*served.address, Call::from(shot.clone()), u64::MAX),
            Target::Peer(running) => (running.address(), running.submission(&query), u64::MAX),
            Target::Afresh(peer) => {
                started = peer.start(common, false)?;
                started.hold_back().await?;
                ("", started.submission(&query), peer.most())
            }
        };
        let plan = Closed {
            address,
            call,
            connections,
            lasts,
            most,
        };
        let measured = closed(&plan).await;
        measured.with_context(|| format!("{} fails with {connections} connections", self.name))
    }

    fn rate(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.rate).collect())
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        let rounds = self.rounds.iter().map(|round| round.quantile_ms(quantile));
        median(rounds.collect())
    }

    /// Median of the rounds' own ratios: what happened to both at that moment cancels out.
    fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(
            pairs
                .map(|(mine, theirs)| mine.rate / theirs.rate)
                .collect(),
        )
    }
}

pub(crate) async fn run(common: &Common, part: &Part) -> anyhow::Result<Report> {
    let mut report = Report::new("submit", common);
    report.notes.push(
        "closed loop, starts of jobs held back; medians of the rounds; each round measures all in turn; a small sequence has \
         60 residues, a large one 100,000".to_owned(),
    );
    let mut table = Table::new(
        "Submissions",
        &[
            "body",
            "sequence",
            "connections",
            "server",
            "per second",
            "p50 ms",
            "p99 ms",
            "kept",
        ],
    );
    let kinds = common.pick(&KINDS[..], &KINDS[..2]);
    let peers = common.peers(&mut report);
    if !peers.is_empty() {
        report.notes.push(
            "peers without workers; the starting point's server can't hold its jobs back: they do nothing, and run at once; \
             `own command`: no HTTP, so each submission is a process of the peer's own command, to a new queue in each \
             stretch (which ends after 800 of task-spooler's: it takes some 980)".to_owned(),
        );
    }
    for kind in kinds.iter().filter(|kind| part.has(**kind)) {
        for connections in &part.connections(common) {
            let columns = row(common, &peers, *kind, *connections).await?;
            for column in &columns {
                table.row(vec![
                    column.body.into(),
                    kind.size.into(),
                    (*connections).into(),
                    column.name.as_str().into(),
                    column.rate().into(),
                    column.quantile_ms(0.5).into(),
                    column.quantile_ms(0.99).into(),
                    column.kept.into(),
                ]);
            }
            if (*connections, kind.body, kind.size) == JUDGED {
                judge(&mut report, &columns);
            }
        }
    }
    report.tables.push(table);
    Ok(report)
}

/// All servers afresh, in turn, round after round. Small sequences in JSON are enough to tell the peers.
async fn row(
    common: &Common,
    peers: &[Peer],
    kind: Kind,
    connections: usize,
) -> anyhow::Result<Vec<Column>> {
    let onelane = Served::onelane(common, &tools()?)?;
    pause(&mut onelane.connection(), true).await?;
    let mut columns = vec![
        Column::new(onelane, kind, "/api/v1/tools/noop/jobs", "synced"),
        Column::new(Served::probe(common)?, kind, "/", "synced"),
        Column::new(Served::hello(common)?, kind, "/", "nowhere"),
    ];
    if (kind.body, kind.size) == ("json", "small") {
        for peer in peers {
            columns.push(Column::of_peer(common, peer)?);
        }
    }
    let lasts = Duration::from_millis(common.pick(1500, 200));
    for round in 0..=common.rounds() {
        for column in &mut columns {
            // The first is not counted: caches fill, the database gets its first pages.
            let lasts = if round == 0 { lasts / 5 } else { lasts };
            let measured = column.measure(common, kind, connections, lasts).await?;
            if round > 0 {
                column.rounds.push(measured);
            }
        }
    }
    Ok(columns)
}

fn judge(report: &mut Report, columns: &[Column]) {
    let [onelane, probe, hello, peers @ ..] = columns else {
        return;
    };
    report.at_least(
        "submit at 32 ÷ bare group-commit probe",
        onelane.ratio_to(probe),
        0.7,
        0.9,
    );
    report.at_least(
        "submit at 32 ÷ bare hello",
        onelane.ratio_to(hello),
        0.25,
        0.35,
    );
    // Of those that promise the same.
    let durable = peers.iter().filter(|peer| peer.is_durable_peer());
    if let Some(best) = durable.max_by(|one, other| one.rate().total_cmp(&other.rate())) {
        report.at_least(
            &format!("submit at 32 ÷ {}, the best durable peer", best.name),
            onelane.ratio_to(best),
            15.0,
            15.0,
        );
    }
    let bars = |value: fn(&Column) -> f64| {
        let bars = columns
            .iter()
            .map(|column| (column.name.clone(), value(column)));
        bars.collect()
    };
    report.charts.push(Chart {
        title: "Submissions at 32 connections".to_owned(),
        unit: "per second",
        bars: bars(Column::rate),
    });
    report.charts.push(Chart {
        title: "The slowest of a hundred submissions".to_owned(),
        unit: "p99, ms",
        bars: bars(|column| column.quantile_ms(0.99)),
    });
}
