//! The promises, checked from outside.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use super::{Acknowledged, Ledger, Report, World, pause, processes_of, text};
use crate::{TestServer, is_final};

type Attempt = (String, u64);

/// What the attempts themselves wrote down.
#[derive(Default)]
pub(super) struct Marks {
    /// In the order of starting: when, and who.
    pub(super) starts: Vec<(u64, Attempt)>,
    ends: HashMap<Attempt, u64>,
    clashes: Vec<String>,
}

impl Marks {
    pub(super) fn read(folder: &Path) -> Self {
        let mut marks = Self::default();
        let written = std::fs::read_to_string(folder.join("marks")).unwrap_or_default();
        for line in written.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, job, attempt, _pid, at] = words.as_slice() else {
                continue;
            };
            let attempt = ((*job).to_owned(), attempt.parse().unwrap_or_default());
            let at = at.parse().unwrap_or_default();
            match *what {
                "end" => drop(marks.ends.insert(attempt, at)),
                "start" => marks.starts.push((at, attempt)),
                _ => marks.clashes.push(line.to_owned()),
            }
        }
        marks.starts.sort_unstable();
        marks
    }

    fn one_by_one(&self, ledger: &mut Ledger) {
        for clash in &self.clashes {
            ledger.violation(format!(
                "twice at once: a process of an earlier job was alive: {clash}"
            ));
        }
        for pair in self.starts.windows(2) {
            let ended = self.ends.get(&pair[0].1);
            if ended.is_some_and(|ended| *ended > pair[1].0) {
                ledger.violation(format!(
                    "twice at once: {:?} and {:?}",
                    pair[0].1, pair[1].1
                ));
            }
        }
        let mut seen = HashSet::new();
        for (_, attempt) in &self.starts {
            if !seen.insert(attempt) {
                ledger.violation(format!("{attempt:?} was started twice"));
            }
        }
    }

    /// First starts come in the order of submission.
    fn order(&self, ledger: &mut Ledger) {
        let mut last = (0, String::new());
        let mut seen = HashSet::new();
        for (_, (job, _)) in &self.starts {
            let Some(known) = ledger.jobs.get(job) else {
                ledger.violation(format!("{job} was started and never asked for"));
                continue;
            };
            if !seen.insert(job) {
                continue;
            }
            if known.seq < last.0 {
                let sentence = format!("{job} started after the later one {}", last.1);
                ledger.violations.push(sentence);
            }
            last = (known.seq, job.clone());
        }
    }

    fn stopped_ones(&self, ledger: &mut Ledger) {
        let mut late = Vec::new();
        for (at, (job, attempt)) in &self.starts {
            if let Some(cancel) = ledger.cancelled.get(job) {
                let is_over = cancel.state != "cancelling" && *at > cancel.at_ns;
                if is_over || *attempt > cancel.attempt {
                    late.push(format!("{job} was cancelled, and attempt {attempt} began"));
                }
            }
            if matches!(ledger.deleted.get(job), Some(Some(deleted)) if at > deleted) {
                late.push(format!("{job} was deleted, and attempt {attempt} began"));
            }
        }
        ledger.violations.extend(late);
    }
}

/// Everything, at the end of a run, when the queue is empty.
pub(super) async fn all(
    world: &World,
    server: &TestServer,
    child: &Path,
    tools_killed: u64,
    mut figures: Vec<(&'static str, u64)>,
) -> Report {
    let jobs = every_job(world).await;
    let left = left_over(server, child).await;
    let marks = Marks::read(&world.folder);
    let mut ledger = world.ledger.lock().await;
    let ledger = &mut *ledger;
    marks.one_by_one(ledger);
    marks.order(ledger);
    marks.stopped_ones(ledger);
    let lost = lost_ones(ledger, &jobs);
    keys(ledger, &jobs);
    for job in jobs.values() {
        ledger.saw(job, false);
        one_job(ledger, job, &marks, server);
    }
    let loading = jobs.values().filter(|job| lost_its_loading_worker(job));
    if u64::try_from(loading.count()).unwrap() > tools_killed {
        ledger.violation("more workers were ended while they loaded than were killed".to_owned());
    }
    for process in &left {
        ledger.violation(format!("left over: {process}"));
    }
    let count = |n: usize| u64::try_from(n).unwrap();
    let states = |state: &str| count(jobs.values().filter(|job| job["state"] == state).count());
    figures.extend([
        ("jobs acknowledged", count(ledger.jobs.len())),
        ("… asked for again after a kill", ledger.replays),
        ("… with an upload", ledger.uploads),
        ("cancellations acknowledged", count(ledger.cancelled.len())),
        (
            "deletions acknowledged",
            count(ledger.deleted.values().flatten().count()),
        ),
        ("pauses", ledger.pauses),
        ("attempts that began", count(marks.starts.len())),
        ("succeeded", states("succeeded")),
        ("failed", states("failed")),
        ("cancelled", states("cancelled")),
        ("lost", lost),
        (
            "twice at once",
            count(
                ledger
                    .violations
                    .iter()
                    .filter(|sentence| sentence.contains("twice"))
                    .count(),
            ),
        ),
        ("left over", count(left.len())),
        ("violations", count(ledger.violations.len())),
    ]);
    Report {
        figures,
        violations: ledger.violations.clone(),
    }
}

async fn every_job(world: &World) -> BTreeMap<String, Value> {
    let mut jobs = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let (_, list) = world
            .insist(Method::GET, &format!("/jobs?limit=1000{page}"))
            .await;
        for job in list["jobs"].as_array().into_iter().flatten() {
            jobs.insert(text(&job["id"]), job.clone());
        }
        match list["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return jobs,
        }
    }
}

fn lost_ones(ledger: &mut Ledger, jobs: &BTreeMap<String, Value>) -> u64 {
    let is_lost = |id: &&String| !jobs.contains_key(*id) && !ledger.deleted.contains_key(*id);
    let lost: Vec<String> = ledger.jobs.keys().filter(is_lost).cloned().collect();
    let is_back =
        |id: &&String| matches!(ledger.deleted.get(*id), Some(Some(_))) && jobs.contains_key(*id);
    let back: Vec<String> = ledger.jobs.keys().filter(is_back).cloned().collect();
    for id in &lost {
        ledger.violation(format!("{id} was acknowledged and is lost"));
    }
    for id in back {
        ledger.violation(format!("{id} was deleted and is there"));
    }
    u64::try_from(lost.len()).unwrap()
}

/// One job a key; nothing that nobody asked for.
fn keys(ledger: &mut Ledger, jobs: &BTreeMap<String, Value>) {
    let mut by_key = HashMap::new();
    for (id, job) in jobs {
        let key = text(&job["name"]);
        match ledger.jobs.get(id) {
            None => ledger.violation(format!("{id} ({key}) is there and was never acknowledged")),
            Some(Acknowledged { key: ours, .. }) if *ours != key => {
                let sentence = format!("{id} was {ours} and is {key}");
                ledger.violations.push(sentence);
            }
            Some(_) => {}
        }
        if let Some(other) = by_key.insert(key, id) {
            ledger.violation(format!("{id} and {other} have the same key"));
        }
    }
}

fn one_job(ledger: &mut Ledger, job: &Value, marks: &Marks, server: &TestServer) {
    let id = text(&job["id"]);
    let attempt = job["attempt"].as_u64().unwrap_or_default();
    if !is_final(job) {
        return ledger.violation(format!("{id} has not ended: {job}"));
    }
    if let Some(wrong) = wrong_end(ledger, job, attempt) {
        return ledger.violation(format!("{id}: {wrong}: {job}"));
    }
    if job["state"] == "succeeded" {
        let ended = marks.ends.contains_key(&(id.clone(), attempt));
        let output = format!("attempts/{attempt}/output/done.txt");
        let has_result = server.job_folder(&id).join(output).exists();
        if !(ended && has_result) {
            ledger.violation(format!(
                "{id} succeeded; its tool ended: {ended}, its result is there: {has_result}"
            ));
        }
    }
}

/// Why a job may not have ended as it did.
fn wrong_end(ledger: &Ledger, job: &Value, attempt: u64) -> Option<&'static str> {
    let known = ledger.jobs.get(&text(&job["id"]))?;
    let id = text(&job["id"]);
    let wished = ledger.wishes.contains(&id) || ledger.deleted.contains_key(&id);
    match (job["state"].as_str()?, job["failure"]["kind"].as_str()) {
        ("succeeded", _) if known.fails => Some("its tool fails, and it succeeded"),
        // A request that was cut off may have been carried out all the same.
        ("cancelled", _) if !wished => Some("nobody has cancelled it"),
        ("failed", Some("exit")) if !known.fails => Some("its tool does not fail"),
        ("failed", Some("start_failed")) if lost_its_loading_worker(job) => None,
        ("failed", Some("interrupted" | "start_failed")) if attempt < 3 => {
            Some("it was not tried three times")
        }
        ("succeeded" | "cancelled", _)
        | ("failed", Some("exit" | "signal" | "interrupted" | "start_failed")) => None,
        _ => Some("it has no reason to end so"),
    }
}

/// Its worker was killed before its `hello`: a tool that ends by itself, which is not tried again.
fn lost_its_loading_worker(job: &Value) -> bool {
    let message = text(&job["failure"]["message"]);
    job["failure"]["kind"] == "start_failed"
        && message.starts_with("its worker was ended by signal 9 before it was ready")
}

/// Shims get a moment to leave, and warm workers the time that an idle one stays.
async fn left_over(server: &TestServer, child: &Path) -> Vec<String> {
    let binary = std::fs::read_link(format!("/proc/{}/exe", server.pid())).unwrap();
    let others = || {
        let mut pids = processes_of(&binary);
        pids.retain(|pid| pid.unsigned_abs() != server.pid());
        // What the living server has ready for its next attempt has no attempt yet, and so no lock.
        let is_spare = |pid: &i32| is_descendant(*pid, server.pid()) && !has_lock(*pid);
        if pids.iter().filter(|pid| is_spare(pid)).count() <= SPARE {
            pids.retain(|pid| !is_spare(pid));
        }
        pids
    };
    for _ in 0..500 {
        if others().is_empty() && processes_of(child).is_empty() {
            return Vec::new();
        }
        pause(10).await;
    }
    let left = others().into_iter().chain(processes_of(child));
    left.map(describe).collect()
}

/// A shim, a guard, and a process that waits to become a tool.
const SPARE: usize = 3;

/// Whether it has an attempt's or a worker's lock open.
fn has_lock(pid: i32) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let links = entries.into_iter().flatten().flatten();
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|link| link.to_string_lossy().contains(".lock"))
}

fn is_descendant(pid: i32, of: u32) -> bool {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let chain = std::iter::successors(Some(pid.unsigned_abs()), |pid| parent(*pid));
    chain.take(8).skip(1).any(|pid| pid == of)
}

fn describe(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!(
        "{pid} {}",
        String::from_utf8_lossy(&words).replace('\0', " ")
    )
}
