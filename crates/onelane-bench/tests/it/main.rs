//! Every command in its small form, against the real server: tables, figures and picture come out, and are plausible.
//! Nothing here looks at whether a figure is good.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_onelane-bench");

/// The server that the same test run has built, beside this program; built now, if only this crate is tested.
fn onelane() -> PathBuf {
    let path = Path::new(BENCH).with_file_name("onelane");
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "-p", "onelane"])
            .status();
        assert!(built.unwrap().success());
    }
    path
}

/// What one command left.
struct Left {
    text: String,
    report: Value,
    picture: String,
}

fn run(command: &str) -> Left {
    run_with(command, &["--without-peers"])
}

fn run_with(command: &str, options: &[&str]) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(BENCH)
        .args([command, "--small", "--out"])
        .arg(folder.path())
        .args(options)
        .arg("--onelane")
        .arg(onelane())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let read = |ending: &str| {
        std::fs::read_to_string(folder.path().join(format!("{command}.{ending}"))).unwrap()
    };
    let left = Left {
        report: serde_json::from_str(&read("json")).unwrap(),
        picture: read("svg"),
        text,
    };
    assert!(left.picture.starts_with("<svg") && left.picture.contains("Onelane"));
    assert_eq!(left.report["command"], command);
    assert_eq!(left.report["small"], true);
    let leftovers = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(leftovers, 2, "servers' data is removed");
    left
}

impl Left {
    /// The rows of the table with this title.
    fn rows(&self, title: &str) -> Vec<&Vec<Value>> {
        let tables = self.report["tables"].as_array().unwrap();
        let table = tables.iter().find(|table| table["title"] == title);
        let table = table.unwrap_or_else(|| panic_with(title, &self.text));
        assert!(self.text.contains(title));
        let rows = table["rows"].as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap()).collect()
    }
}

const PEERS: [&str; 7] = [
    "starting point (FastAPI)",
    "FastAPI + Celery + Redis",
    "FastAPI + RQ + Redis",
    "FastAPI + Huey",
    "FastAPI + procrastinate",
    "pueue",
    "task-spooler",
];

/// Each peer that is installed has as many rows as it should, with figures in `columns`; the others are named as missing.
fn each_peer_is_measured_or_named(command: &str, title: &str, columns: &[usize], rows: usize) {
    let left = run_with(command, &[]);
    let notes = left.report["notes"].as_array().unwrap();
    let notes: Vec<_> = notes.iter().map(|note| note.as_str().unwrap()).collect();
    for peer in PEERS {
        let is_missing = notes
            .iter()
            .any(|note| note.contains("left out") && note.contains(peer));
        let table = left.rows(title);
        let of_peer = table
            .iter()
            .filter(|row| row.iter().any(|cell| cell == peer));
        let of_peer: Vec<_> = of_peer.collect();
        let wanted = if is_missing { 0 } else { rows };
        assert_eq!(of_peer.len(), wanted, "{peer}: {notes:?}\n{}", left.text);
        for row in of_peer {
            assert!(columns.iter().all(|column| number(&row[*column]) > 0.0));
        }
    }
}

#[expect(clippy::panic, reason = "tests fail by panicking")]
fn panic_with(title: &str, text: &str) -> ! {
    panic!("there is no table `{title}`:\n{text}")
}

fn number(cell: &Value) -> f64 {
    cell.as_f64().expect("a figure")
}

#[test]
fn submit_measures_onelane_between_the_probe_and_the_hello() {
    let left = run("submit");
    let rows = left.rows("Submissions");
    assert_eq!(
        rows.len(),
        2 * 2 * 3,
        "two bodies, two numbers of connections, three servers"
    );
    for row in rows {
        assert!(["Onelane", "probe", "hello"].contains(&row[3].as_str().unwrap()));
        let [rate, p50, p99] = [4, 5, 6].map(|column| number(&row[column]));
        assert!(rate > 1.0 && p50 > 0.0 && p99 >= p50, "{row:?}");
    }
    assert_eq!(left.report["budgets"].as_array().unwrap().len(), 2);
}

#[test]
fn submit_measures_the_peers_that_are_there_and_names_the_others() {
    // One row for each number of connections.
    each_peer_is_measured_or_named("submit", "Submissions", &[4, 5, 6], 2);
}

#[test]
fn turnover_measures_the_peers_that_are_there_and_names_the_others() {
    each_peer_is_measured_or_named("turnover", "One after the other", &[1], 1);
}

#[test]
fn responsive_measures_the_peers_that_are_there_and_names_the_others() {
    // Two kinds of request, idle and beside a hog.
    each_peer_is_measured_or_named("responsive", "Answers under load", &[4, 5, 6, 7], 4);
}

#[test]
fn responsive_asks_while_hogs_run() {
    let left = run("responsive");
    let rows = left.rows("Answers under load");
    assert_eq!(
        rows.len(),
        2 * 2 * 4,
        "two kinds of request, two servers, four conditions"
    );
    for row in rows {
        assert_eq!(row[3], 200, "no request of the plan was left out: {row:?}");
        assert!(
            number(&row[4]) > 0.0 && number(&row[7]) >= number(&row[5]),
            "{row:?}"
        );
    }
    assert_eq!(left.report["budgets"].as_array().unwrap().len(), 6);
}

#[test]
fn turnover_runs_jobs_and_tells_their_steps() {
    let left = run("turnover");
    let rows = left.rows("One after the other");
    let [job, warm, spawn, commit] = [0, 1, 2, 3].map(|row| number(&rows[row][1]));
    assert!(
        [job, warm, spawn, commit].iter().all(|each| *each > 0.0),
        "each was measured"
    );
    let can_trace = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    if !can_trace.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI needs strace");
        eprintln!("SKIPPED: the breakdown needs strace");
        return;
    }
    let steps = left.rows("Where a job's time goes (medians, under strace)");
    assert_eq!(steps.len(), 8, "seven steps and their sum");
    let syncs = number(&steps[7][3]);
    assert!(syncs >= 1.0, "an end is durable: {syncs}");
    assert!(steps.iter().all(|step| number(&step[1]) > 0.0));
}

#[test]
fn scale_measures_every_operation_at_every_size() {
    let left = run("scale");
    let rows = left.rows("Milliseconds at each size");
    let sizes: Vec<_> = rows
        .iter()
        .map(|row| (row[0].as_u64(), row[1].as_u64()))
        .collect();
    assert_eq!(
        sizes,
        [
            (Some(10), Some(0)),
            (Some(1000), Some(0)),
            (Some(1000), Some(2000))
        ]
    );
    for row in &rows {
        assert!(row[2..].iter().all(|cell| number(cell) > 0.0), "{row:?}");
    }
    let [short, long] = [1, 2].map(|row| number(rows[row].last().unwrap()));
    assert!(long > short, "more jobs take more room on the disk");
}

#[test]
fn stream_follows_downloads_and_uploads() {
    let left = run("stream");
    let following = left.rows("Following one job");
    assert_eq!(
        [&following[0][0], &following[0][1]],
        [10, 10],
        "half and half"
    );
    assert!(number(&following[0][2]) >= 1.0, "each saw lines");
    let files = left.rows("Large files");
    assert!(files.iter().all(|row| number(&row[3]) > 0.0));
}

#[test]
fn soak_watches_a_server_window_by_window() {
    let left = run("soak");
    let windows = left.rows("Window by window");
    assert_eq!(windows.len(), 4);
    for window in windows {
        assert!(
            (1..=5).all(|column| column == 5 || number(&window[column]) > 0.0),
            "{window:?}"
        );
    }
}
