//! A steady rate for a long time: does anything grow?

use serde_json::json;

use crate::Common;
use crate::load::{Call, Open, Shot, median, open, quantile_ms};
use crate::machine::taken;
use crate::report::{Cell, Chart, Report, Table};
use crate::server::{Served, bytes_of, fasta, submit, tools};

/// Requests a second; one of ten is a submission, whose job runs.
const RATE: f64 = 50.0;
const KINDS: usize = 10;
/// The time is cut into so many windows.
const WINDOWS: u32 = 60;

/// How long.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Length {
    /// Minutes.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
}

/// One window's end: what the server takes, and its latency.
struct Window {
    pss_mb: f64,
    threads: u64,
    descriptors: u64,
    disk_mb: f64,
    queued: u64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) async fn run(common: &Common, length: &Length) -> anyhow::Result<Report> {
    let mut report = Report::new("soak", common);
    let windows = common.pick(WINDOWS, 4);
    let seconds = if common.small {
        4.0
    } else {
        length.minutes * 60.0
    };
    let served = Served::onelane(common, &tools()?)?;
    let mut connection = served.connection();
    let id = submit(&mut connection, "nothing", &json!({}), "").await?;
    let body = json!({"query": fasta(60)}).to_string();
    let question = Shot::get(format!("/api/v1/jobs/{id}"));
    let submission = Shot::post("/api/v1/tools/noop/jobs", "application/json", body);
    let mut kinds = vec![vec![Call::from(question)]; KINDS - 1];
    kinds.push(vec![submission.into()]);
    let mut seen = Vec::new();
    for _ in 0..windows {
        seen.push(window(&served, kinds.clone(), seconds / f64::from(windows)).await?);
    }
    report.notes.push(format!(
        "{seconds} seconds of {RATE} requests a second, one of {KINDS} a submission whose job runs; p50 and p99 are of the submissions"
    ));
    tell(&mut report, &seen);
    Ok(report)
}

async fn window(served: &Served, kinds: Vec<Vec<Call>>, seconds: f64) -> anyhow::Result<Window> {
    let address = served.address.clone();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of requests"
    )]
    let requests = (RATE * seconds) as u64;
    let load = move || {
        open(&Open {
            address: &address,
            kinds,
            rate: RATE,
            requests,
            clients: 4,
        })
    };
    let opened = tokio::task::spawn_blocking(load).await??;
    let submissions = &opened.kinds[KINDS - 1];
    let queue = served
        .connection()
        .json(&Shot::get("/api/v1/queue"))
        .await?;
    let taken = taken(served.pid()?)?;
    Ok(Window {
        pss_mb: megabytes(taken.pss_bytes),
        threads: taken.threads,
        descriptors: taken.descriptors,
        disk_mb: megabytes(bytes_of(&served.data())),
        queued: queue["queued"].as_u64().unwrap_or(0),
        p50_ms: quantile_ms(submissions, 0.5),
        p99_ms: quantile_ms(submissions, 0.99),
    })
}

fn tell(report: &mut Report, seen: &[Window]) {
    let columns = [
        "window",
        "PSS MB",
        "threads",
        "descriptors",
        "disk MB",
        "queued",
        "p50 ms",
        "p99 ms",
    ];
    let mut table = Table::new("Window by window", &columns);
    for (number, window) in seen.iter().enumerate() {
        let cells: [Cell; 8] = [
            (number + 1).into(),
            window.pss_mb.into(),
            window.threads.into(),
            window.descriptors.into(),
            window.disk_mb.into(),
            window.queued.into(),
            window.p50_ms.into(),
            window.p99_ms.into(),
        ];
        table.row(cells.into());
    }
    report.tables.push(table);
    // The second half alone: the first one warms up.
    let half = &seen[seen.len() / 2..];
    let (third, last) = half.split_at(half.len() / 2);
    let drift = |value: fn(&Window) -> f64| {
        let of = |part: &[Window]| median(part.iter().map(value).collect());
        of(last) / of(third)
    };
    report.at_most(
        "memory, last quarter ÷ third quarter",
        drift(|window| window.pss_mb),
        1.05,
        1.0,
    );
    report.at_most(
        "p99, last quarter ÷ third quarter",
        drift(|window| window.p99_ms),
        1.2,
        1.0,
    );
    let bars = |value: fn(&Window) -> f64| {
        let bars = seen
            .iter()
            .enumerate()
            .map(|(number, window)| (format!("Onelane, window {}", number + 1), value(window)));
        bars.collect()
    };
    report.charts.push(Chart {
        title: "Memory".to_owned(),
        unit: "PSS, MB",
        bars: bars(|window| window.pss_mb),
    });
    report.charts.push(Chart {
        title: "Submissions".to_owned(),
        unit: "p99, ms",
        bars: bars(|window| window.p99_ms),
    });
}

#[expect(clippy::cast_precision_loss, reason = "figures to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
