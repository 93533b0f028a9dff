//! A thousand clients that follow one job's log and events at once; a large result downloaded by many; a large upload.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::Common;
use crate::load::{Connection, Shot, histogram, median, quantile_ms, record};
use crate::machine::taken;
use crate::report::{Chart, Report, Table};
use crate::server::{Served, submit, tools, until};

/// A line of the followed log comes so often.
const TICK: Duration = Duration::from_millis(50);
const DOWNLOADERS: usize = 16;

/// A tool that says the time, line by line, and one that leaves a large file; a parameter takes a large file in.
fn stream_tools() -> anyhow::Result<String> {
    let own = std::env::current_exe()?;
    let own = json!(own.to_str().context("this program's path is not UTF-8")?);
    Ok(format!(
        r#"{}
[tools.ticker]
title = "Says the time"
command = [{own}, "tick", "{{ticks}}"]
[tools.ticker.params.ticks]
type = "integer"

[tools.large]
title = "Leaves a large result"
command = ["sh", "-c", "head -c \"$0\" /dev/zero > \"$ONELANE_OUTPUT/large.bin\"", "{{bytes}}"]
[tools.large.params.bytes]
type = "integer"

[tools.takes]
title = "Takes a large file"
command = ["true", "{{given}}"]
[tools.takes.params.given]
type = "file"
max_size = "4G"
"#,
        tools()?
    ))
}

/// What a followed job runs: the time in microseconds, a line a tick.
pub(crate) fn tick(ticks: u32) {
    for _ in 0..ticks {
        println!("{}", micros());
        std::thread::sleep(TICK);
    }
}

fn micros() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_micros()
}

pub(crate) async fn run(common: &Common) -> anyhow::Result<Report> {
    let mut report = Report::new("stream", common);
    raise_limit()?;
    let served = Served::onelane(common, &stream_tools()?)?;
    let clients = common.pick(1_000, 20);
    follow(&mut report, &served, clients, common.pick(200, 20)).await?;
    let bytes = common.pick(1_u64 << 30, 1 << 20);
    let mut table = Table::new(
        "Large files",
        &["what", "MB", "clients", "MB a second", "server's PSS MB"],
    );
    let (mut downloads, mut uploads) = (Vec::new(), Vec::new());
    let id = large_result(&served, bytes).await?;
    for _ in 0..common.rounds().min(5) {
        downloads.push(download(&served, &id, bytes)?);
        uploads.push(upload(common, &served, bytes)?);
    }
    let pss = megabytes(taken(served.pid()?)?.pss_bytes);
    let rows = [
        ("download", DOWNLOADERS, median(downloads)),
        ("upload", 1, median(uploads)),
    ];
    for (what, clients, rate) in rows {
        table.row(vec![
            what.into(),
            megabytes(bytes).into(),
            clients.into(),
            rate.into(),
            pss.into(),
        ]);
    }
    report.charts.push(Chart {
        title: "Large files".to_owned(),
        unit: "MB a second",
        bars: rows
            .iter()
            .map(|(what, _, rate)| (format!("Onelane, {what}"), *rate))
            .collect(),
    });
    report.tables.push(table);
    Ok(report)
}

/// A thousand connections need as many descriptors, here and in the server, which inherits the limit.
fn raise_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .context("can't raise the limit of open files")
}

/// Half of the clients follow the log, half the events, from before the first line to the end of the job.
async fn follow(
    report: &mut Report,
    served: &Served,
    clients: usize,
    ticks: u32,
) -> anyhow::Result<()> {
    let mut connection = served.connection();
    let id = submit(&mut connection, "ticker", &json!({"ticks": ticks}), "").await?;
    until(&mut connection, &id, |state| state == "running").await?;
    let log = format!("/api/v1/jobs/{id}/logs/stdout?follow=true");
    let events = format!("/api/v1/jobs/{id}/events");
    let mut followers = Vec::new();
    for number in 0..clients {
        let path = if number % 2 == 0 { &log } else { &events };
        let (address, shot) = (served.address.clone(), Shot::get(path));
        followers.push(tokio::spawn(async move { follower(&address, &shot).await }));
    }
    let half = TICK * ticks / 2;
    tokio::time::sleep(half).await;
    let pss = megabytes(taken(served.pid()?)?.pss_bytes);
    let mut late = histogram()?;
    let (mut lines, mut ended) = (Vec::new(), 0_usize);
    for (number, follower) in followers.into_iter().enumerate() {
        let (seen, bytes) = follower.await??;
        if number % 2 == 0 {
            ensure!(!seen.is_empty(), "a follower of the log saw nothing");
            lines.push(seen.len());
            late.add(&seen)?;
        } else {
            ensure!(bytes > 0, "a follower of the events saw nothing");
            ended += 1;
        }
    }
    let columns = [
        "followers of the log",
        "of the events",
        "lines each",
        "late p50 ms",
        "late p99 ms",
        "server's PSS MB",
    ];
    let mut table = Table::new("Following one job", &columns);
    let fewest = lines.iter().min().copied().unwrap_or(0);
    let late_ms = [0.5, 0.99].map(|quantile| quantile_ms(&late, quantile));
    table.row(vec![
        lines.len().into(),
        ended.into(),
        fewest.into(),
        late_ms[0].into(),
        late_ms[1].into(),
        pss.into(),
    ]);
    report.tables.push(table);
    Ok(())
}

/// How late the lines came (those that were written after it had connected), and all bytes.
async fn follower(address: &str, shot: &Shot) -> anyhow::Result<(Histogram<u64>, usize)> {
    let (mut late, mut bytes, mut rest) = (histogram()?, 0, Vec::new());
    let since = micros();
    let mut connection = Connection::new(address);
    connection
        .read(shot, |part| {
            let now = micros();
            bytes += part.len();
            rest.extend_from_slice(part);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let written = std::str::from_utf8(&line)
                    .ok()
                    .and_then(|line| line.trim().parse::<u128>().ok());
                if let Some(written) = written.filter(|written| *written > since) {
                    let took = u64::try_from(now.saturating_sub(written)).unwrap_or(u64::MAX);
                    record(&mut late, Duration::from_micros(took));
                }
            }
        })
        .await?;
    Ok((late, bytes))
}

async fn large_result(served: &Served, bytes: u64) -> anyhow::Result<String> {
    let mut connection = served.connection();
    let id = submit(&mut connection, "large", &json!({"bytes": bytes}), "").await?;
    until(&mut connection, &id, |state| state == "succeeded").await?;
    Ok(id)
}

/// Megabytes a second of all clients together; they are real ones.
fn download(served: &Served, id: &str, bytes: u64) -> anyhow::Result<f64> {
    let url = format!("http://{}/api/v1/jobs/{id}/files/large.bin", served.address);
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..DOWNLOADERS {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-o", "/dev/null", "-w", "%{size_download}", &url]);
        clients.push(
            curl.stdout(Stdio::piped())
                .spawn()
                .context("can't run curl")?,
        );
    }
    for client in clients {
        let output = client.wait_with_output()?;
        let size = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success() && size == bytes.to_string(),
            "a download had {size} bytes"
        );
    }
    Ok(megabytes(bytes * DOWNLOADERS as u64) / begun.elapsed().as_secs_f64())
}

/// Megabytes a second until the job is accepted, which is after the file is synced.
fn upload(common: &Common, served: &Served, bytes: u64) -> anyhow::Result<f64> {
    let file = tempfile::NamedTempFile::new_in(&common.out)?;
    file.as_file().set_len(bytes)?;
    let url = format!("http://{}/api/v1/tools/takes/jobs", served.address);
    let begun = Instant::now();
    let mut curl = Command::new("curl");
    curl.args(["-sf", "-o", "/dev/null", "-F"]);
    curl.arg(format!("given=@{}", file.path().display()))
        .arg(url);
    if !curl.status().context("can't run curl")?.success() {
        bail!("an upload was not taken in");
    }
    Ok(megabytes(bytes) / begun.elapsed().as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "figures to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
