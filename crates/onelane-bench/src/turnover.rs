//! How long one job after another takes when the jobs themselves do nothing, and where that time goes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::load::{Connection, Shot, median};
use crate::peers::{self, Peer};
use crate::report::{Chart, Report, Table};
use crate::server::{Served, pause, submit, tools};
use crate::trace::{self, Step};
use crate::{Common, baseline};

/// A tool with a process for each job, and one that has one for all.
const PROCESS: &str = "nothing";
const WARM: &str = "warm";

/// One round, in milliseconds each.
struct Round {
    process_job: f64,
    warm_job: f64,
    spawn: f64,
    commit: f64,
    peers: Vec<f64>,
}

pub(crate) async fn run(common: &Common) -> anyhow::Result<Report> {
    let mut report = Report::new("turnover", common);
    let jobs = common.pick(100, 10);
    let peers = common.peers(&mut report);
    let onelane = Served::onelane(common, &tools()?)?;
    let mut rounds = Vec::new();
    for tool in [PROCESS, WARM] {
        one_by_one(&mut onelane.connection(), tool, 5).await?;
    }
    for _ in 0..common.rounds() {
        let mut of_peers = Vec::new();
        for peer in &peers {
            of_peers.push(peers::turnover::one_by_one(common, peer, jobs).await?);
        }
        rounds.push(Round {
            peers: of_peers,
            spawn: spawn_and_wait(jobs)?,
            commit: commits(&common.out, jobs)?,
            process_job: one_by_one(&mut onelane.connection(), PROCESS, jobs).await?,
            warm_job: one_by_one(&mut onelane.connection(), WARM, jobs).await?,
        });
    }
    report.notes.push(format!(
        "each round: {jobs} jobs that wait in a paused queue, from the resumption to the end of the last"
    ));
    if !peers.is_empty() {
        report.notes.push(
            "peers with one worker each: the jobs run `true`, and wait behind one that waits for us, from whose release to the \
             beginning of one behind the last is measured; the starting point's server takes no request while a job runs: \
             the next is sent when the one before is answered".to_owned(),
        );
    }
    tell(&mut report, &peers, &rounds);
    drop(onelane);
    match steps(common).await {
        Ok(steps) => tell_steps(&mut report, &steps),
        Err(error) => report.notes.push(format!("no breakdown: {error:#}")),
    }
    Ok(report)
}

fn tell(report: &mut Report, peers: &[Peer], rounds: &[Round]) {
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let of_peer = |place: usize| median(rounds.iter().map(|round| round.peers[place]).collect());
    let mut table = Table::new("One after the other", &["what", "ms each"]);
    let mut rows = vec![
        (
            "Onelane, a job of a process tool",
            of(|round| round.process_job),
        ),
        ("Onelane, a job of a warm tool", of(|round| round.warm_job)),
        ("bare spawn and wait of `true`", of(|round| round.spawn)),
        ("one durable commit of one row", of(|round| round.commit)),
    ];
    for (place, peer) in peers.iter().enumerate() {
        rows.push((peer.name, of_peer(place)));
    }
    for (what, value) in &rows {
        table.row(vec![(*what).into(), (*value).into()]);
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "One job after the other".to_owned(),
        unit: "ms each",
        bars: rows
            .iter()
            .map(|(what, value)| ((*what).to_owned(), *value))
            .collect(),
    });
    let ratio = of(|round| round.process_job / round.spawn);
    report.at_most(
        "turnover of a process tool ÷ bare spawn and wait",
        ratio,
        8.0,
        4.0,
    );
    let ratio = of(|round| round.warm_job / round.commit);
    report.at_most(
        "turnover of a warm tool ÷ one durable commit",
        ratio,
        6.0,
        3.0,
    );
}

/// Milliseconds each.
#[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
pub(crate) fn each(since: Instant, count: usize) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0 / count as f64
}

/// Runs so many jobs that do nothing, one by one; milliseconds each.
async fn one_by_one(connection: &mut Connection, tool: &str, jobs: usize) -> anyhow::Result<f64> {
    // One that does not count: the tool before may have sent a warm worker away.
    submit(connection, tool, &json!({}), "?wait=60").await?;
    pause(connection, true).await?;
    let mut last = String::new();
    for _ in 0..jobs {
        last = submit(connection, tool, &json!({}), "").await?;
    }
    let begun = Instant::now();
    pause(connection, false).await?;
    let wait = Shot::get(format!("/api/v1/jobs/{last}?wait=60"));
    let job = connection.json(&wait).await?;
    ensure!(
        job["state"] == "succeeded",
        "a job that does nothing ended so: {job}"
    );
    Ok(each(begun, jobs))
}

fn spawn_and_wait(count: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    for _ in 0..count {
        let mut command = Command::new("true");
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "`true` ended with {status}");
    }
    Ok(each(begun, count))
}

fn commits(out: &Path, count: usize) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(out)?;
    let db = baseline::open(&folder.path().join("commits.db"))?;
    let begun = Instant::now();
    for _ in 0..count {
        baseline::insert(&db, b"one row")?;
    }
    Ok(each(begun, count))
}

/// The same under strace, which makes everything slower: for the shares, not for the times.
async fn steps(common: &Common) -> anyhow::Result<Vec<Step>> {
    let folder = tempfile::tempdir_in(&common.out)?;
    let file = std::path::absolute(folder.path().join("trace"))?;
    let onelane = Served::traced(common, &tools()?, &file)?;
    let mut connection = onelane.connection();
    one_by_one(&mut connection, PROCESS, 3).await?;
    one_by_one(&mut connection, PROCESS, common.pick(50, 5)).await?;
    drop(onelane);
    let text = std::fs::read_to_string(&file).context("strace has written nothing")?;
    trace::steps(&text)
}

fn tell_steps(report: &mut Report, steps: &[Step]) {
    let total: f64 = steps.iter().map(|step| step.ms).sum();
    let columns = ["step", "ms under strace", "share", "syncs"];
    let mut table = Table::new("Where a job's time goes (medians, under strace)", &columns);
    for step in steps {
        let share = step.ms / total;
        table.row(vec![
            step.name.into(),
            step.ms.into(),
            share.into(),
            step.syncs.into(),
        ]);
    }
    let syncs: f64 = steps.iter().map(|step| step.syncs).sum();
    table.row(vec!["all".into(), total.into(), 1.0.into(), syncs.into()]);
    report.tables.push(table);
    report.charts.push(Chart {
        title: "Where a job's time goes, under strace".to_owned(),
        unit: "ms",
        bars: steps
            .iter()
            .map(|step| (step.name.to_owned(), step.ms))
            .collect(),
    });
}
