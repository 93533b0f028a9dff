//! The judgement, from what the server has recorded. Pure, but for the report.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::plan::WORK_SECONDS;
use super::probe::Samples;
use crate::client::JobView;
use crate::exit::Exit;
use crate::output::Output;

/// What was seen around the kill.
#[derive(Clone, Debug)]
pub(super) struct Restart {
    /// The job that ran.
    pub(super) id: String,
    /// Its supervisor.
    pub(super) pid: u32,
    /// The supervisor lived while there was no server.
    pub(super) went_on: bool,
    /// The job's folder names the same supervisor afterwards.
    pub(super) same_process: bool,
    /// It still lived when the new server answered.
    pub(super) still_alive: bool,
    /// How long nothing answered.
    pub(super) down: Duration,
}

/// A check and what came of it.
#[derive(Debug)]
pub(super) struct Verdict {
    name: &'static str,
    outcome: Result<String, String>,
}

/// All checks.
pub(super) fn judge(
    jobs: &[JobView],
    acknowledged: &[String],
    restart: Option<&Restart>,
    samples: &[&Samples],
) -> Vec<Verdict> {
    vec![
        Verdict {
            name: "nothing acknowledged was lost",
            outcome: nothing_lost(jobs, acknowledged),
        },
        Verdict {
            name: "every job succeeded, once",
            outcome: each_once(jobs),
        },
        Verdict {
            name: "never two at once",
            outcome: one_by_one(jobs),
        },
        Verdict {
            name: "the job outlived its server",
            outcome: outlived(jobs, restart),
        },
        Verdict {
            name: "there was work enough",
            outcome: enough_work(jobs),
        },
        Verdict {
            name: "the server always answered",
            outcome: answered(samples),
        },
    ]
}

fn nothing_lost(jobs: &[JobView], acknowledged: &[String]) -> Result<String, String> {
    match acknowledged
        .iter()
        .find(|id| !jobs.iter().any(|job| job.id == **id))
    {
        None => Ok(format!("all {} submissions are there", acknowledged.len())),
        Some(id) => Err(format!("job {id} is gone")),
    }
}

fn each_once(jobs: &[JobView]) -> Result<String, String> {
    match jobs
        .iter()
        .find(|job| job.state != "succeeded" || job.attempt != 1)
    {
        None => Ok(format!("{} jobs", jobs.len())),
        Some(job) => Err(format!(
            "job {} is {} in attempt {}",
            job.id, job.state, job.attempt
        )),
    }
}

/// No attempt started before the one that started earlier had ended. All have one attempt, so a job's times are its.
fn one_by_one(jobs: &[JobView]) -> Result<String, String> {
    let mut spans = Vec::new();
    for job in jobs {
        spans.push(span(job).ok_or_else(|| format!("job {} has no times", job.id))?);
    }
    spans.sort_unstable_by_key(|(start, end, _)| (*start, *end));
    match spans.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        None => Ok("the recorded times don't overlap".to_owned()),
        Some(pair) => Err(format!(
            "job {} started before {} had ended",
            pair[1].2, pair[0].2
        )),
    }
}

fn span(job: &JobView) -> Option<(jiff::Timestamp, jiff::Timestamp, &str)> {
    Some((
        job.started_at.as_ref()?.parse().ok()?,
        job.finished_at.as_ref()?.parse().ok()?,
        &job.id,
    ))
}

fn outlived(jobs: &[JobView], restart: Option<&Restart>) -> Result<String, String> {
    let restart =
        restart.ok_or("the long job had ended before the server could be killed under it")?;
    let job = jobs
        .iter()
        .find(|job| job.id == restart.id)
        .ok_or("the job is gone")?;
    if !restart.went_on {
        return Err(format!("process {} ended with the server", restart.pid));
    }
    if !restart.same_process {
        return Err("another process took the job's place".to_owned());
    }
    if job.state != "succeeded" || job.attempt != 1 {
        return Err(format!("it is {} in attempt {}", job.state, job.attempt));
    }
    let when = if restart.still_alive {
        "after the new server was up"
    } else {
        "before the new server was up, which took its result"
    };
    Ok(format!("process {} went on and ended {when}", restart.pid))
}

fn enough_work(jobs: &[JobView]) -> Result<String, String> {
    let seconds: f64 = jobs.iter().filter_map(JobView::seconds).sum();
    if seconds >= WORK_SECONDS {
        Ok(format!("{seconds:.0} s"))
    } else {
        Err(format!("only {seconds:.1} s of {WORK_SECONDS:.0}"))
    }
}

fn answered(samples: &[&Samples]) -> Result<String, String> {
    if let Some(failure) = samples.iter().find_map(|samples| samples.failures.first()) {
        return Err(failure.clone());
    }
    if samples.iter().any(|samples| samples.times.is_empty()) {
        return Err("it was never asked".to_owned());
    }
    Ok(format!(
        "{} times, no error",
        samples
            .iter()
            .map(|samples| samples.times.len())
            .sum::<usize>()
    ))
}

/// Prints the verdicts; the exit code says whether all are good.
pub(super) fn report(
    output: Output,
    verdicts: &[Verdict],
    asked: &Samples,
    sent: &Samples,
) -> anyhow::Result<Exit> {
    output.say("Checked from what the server recorded:")?;
    for verdict in verdicts {
        let (word, detail) = match &verdict.outcome {
            Ok(detail) => ("ok", detail),
            Err(detail) => ("FAILED", detail),
        };
        output.say(&format!("  {word:<6} {}: {detail}", verdict.name))?;
    }
    if output.json {
        output.document(&summary(verdicts, asked, sent))?;
    }
    Ok(if verdicts.iter().all(|verdict| verdict.outcome.is_ok()) {
        Exit::Done
    } else {
        Exit::CheckFailed
    })
}

fn summary(verdicts: &[Verdict], asked: &Samples, sent: &Samples) -> serde_json::Value {
    let times = |samples: &Samples| {
        let seconds = samples
            .median_and_slowest()
            .map(|(median, slowest)| (median.as_secs_f64(), slowest.as_secs_f64()));
        json!({ "count": samples.times.len(), "median_s": seconds.map(|times| times.0), "slowest_s": seconds.map(|times| times.1) })
    };
    let checks: Vec<_> = verdicts
        .iter()
        .map(|verdict| json!({ "check": verdict.name, "ok": verdict.outcome.is_ok(), "detail": verdict.outcome.as_ref().unwrap_or_else(|detail| detail) }))
        .collect();
    json!({ "checks": checks, "backlog": times(asked), "submit": times(sent) })
}

/// The best rows of `hits.tsv`, by score, as lines for a person.
pub(super) fn best_hits(table: &str, number: usize) -> Vec<String> {
    let mut lines = table.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches('#')
        .trim()
        .split('\t')
        .collect();
    let columns: HashMap<&str, usize> = header
        .iter()
        .enumerate()
        .map(|(index, name)| (*name, index))
        .collect();
    let cell = |row: &[&str], name: &str| {
        columns
            .get(name)
            .and_then(|index| row.get(*index))
            .map(|cell| (*cell).to_owned())
    };
    let score = |row: &[&str]| {
        cell(row, "score")
            .and_then(|score| score.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let mut rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    rows.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let line = |row: &Vec<&str>| {
        let description: String = cell(row, "description")
            .unwrap_or_default()
            .chars()
            .take(60)
            .collect();
        format!(
            "{:>6}  {:<28} {description}",
            cell(row, "score").unwrap_or_default(),
            cell(row, "subject").unwrap_or_default()
        )
        .trim_end()
        .to_owned()
    };
    let best: Vec<String> = rows.iter().take(number).map(line).collect();
    if best.is_empty() {
        vec!["none".to_owned()]
    } else {
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, started: u32, finished: u32) -> JobView {
        serde_json::from_value(json!({
            "id": id, "tool": "search", "state": "succeeded", "attempt": 1, "created_at": "2026-01-31T12:00:00.000Z",
            "started_at": format!("2026-01-31T12:00:{started:02}.000Z"), "finished_at": format!("2026-01-31T12:00:{finished:02}.000Z"),
        })).unwrap()
    }

    #[test]
    fn touching_times_are_fine_and_overlapping_ones_are_named() {
        assert!(one_by_one(&[job("b", 5, 9), job("a", 1, 5)]).is_ok());
        let failure = one_by_one(&[job("b", 4, 9), job("a", 1, 5)]).unwrap_err();
        assert_eq!(failure, "job b started before a had ended");
    }

    #[test]
    fn a_second_attempt_or_a_lost_job_fails() {
        let jobs = [JobView {
            attempt: 2,
            ..job("a", 1, 2)
        }];
        assert!(each_once(&jobs).is_err());
        assert!(nothing_lost(&jobs, &["b".to_owned()]).is_err());
    }

    #[test]
    fn too_little_work_and_no_answers_fail() {
        assert!(enough_work(&[job("a", 1, 2)]).is_err());
        assert!(enough_work(&[job("a", 1, 21)]).is_ok());
        assert!(answered(&[&Samples::default()]).is_err());
    }

    #[test]
    fn the_best_hits_come_first_whatever_the_columns_order() {
        let table = "query\tsubject\tdescription\tscore\nq\ts1\tone\t10\nq\ts2\ttwo\t300\n";
        let lines = best_hits(table, 1);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("300") && lines[0].contains("s2") && lines[0].contains("two"));
    }
}
