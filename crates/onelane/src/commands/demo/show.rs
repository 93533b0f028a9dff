//! The demonstration itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checks::{self, Restart};
use super::plan::{self, JOB_SECONDS, LONG_SECONDS, Query, WORK_SECONDS};
use super::probe::{Probe, Samples};
use super::screen::Screen;
use super::server::DemoServer;
use crate::client::{Client, ClientError, Given, JobView, Param, Patience, Submission};
use crate::exit::Exit;
use crate::output::{Output, harmless};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A server that has just been started may need a moment, never this long.
const PATIENCE: Patience = Patience(Duration::from_secs(30));
/// How often missing work may be added, where the first estimate was too low.
const TOP_UPS: usize = 5;
const BEST_HITS: usize = 3;

struct Stage<'a> {
    client: Client,
    screen: Screen,
    server: &'a mut DemoServer,
    probe: Probe,
    queries: &'a [Query],
    submitted: Vec<String>,
    work_seconds: f64,
    round: usize,
    restart: Option<Restart>,
}

/// A submission to the tool `search`.
pub(super) fn search(name: &str, fasta: Vec<u8>) -> Submission {
    let given = Given::Content {
        file_name: "query.fasta".to_owned(),
        bytes: fasta,
    };
    let params = vec![Param {
        name: "query".to_owned(),
        given,
    }];
    Submission {
        tool: "search".to_owned(),
        params,
        options: vec![("name".to_owned(), name.to_owned())],
        key: None,
    }
}

/// Runs it all, and judges.
pub(super) async fn run(
    output: Output,
    queries: &[Query],
    server: &mut DemoServer,
) -> anyhow::Result<Exit> {
    let client = server.client()?;
    let probe = Probe::start(&client, &queries[0]);
    let screen = Screen::new(output);
    let mut stage = Stage {
        client,
        screen,
        server,
        probe,
        queries,
        submitted: Vec::new(),
        work_seconds: 0.0,
        round: 0,
        restart: None,
    };
    let first = stage.first_round().await?;
    let speed = seconds_per_residue(queries, &first);
    stage.main_rounds(speed).await?;
    stage.top_up(speed).await?;
    let (client, submitted, restart) = (
        stage.client.clone(),
        std::mem::take(&mut stage.submitted),
        stage.restart.take(),
    );
    stage.screen.clear();
    let (asked, sent) = stage.probe.finish().await?;
    drain(&client).await?;
    print_hits(&client, output, queries, &first).await?;
    let jobs = all_jobs(&client).await?;
    let acknowledged: Vec<String> = submitted
        .into_iter()
        .chain(sent.ids.iter().cloned())
        .collect();
    let verdicts = checks::judge(&jobs, &acknowledged, restart.as_ref(), &[&asked, &sent]);
    report(output, &asked, &sent, restart.as_ref())?;
    checks::report(output, &verdicts, &asked, &sent)
}

impl Stage<'_> {
    /// One job for each query, as it is: their hits are shown, and they tell how fast this machine is.
    async fn first_round(&mut self) -> anyhow::Result<Vec<JobView>> {
        self.screen.say(&format!("Submitting {} queries; each is searched exactly (Smith-Waterman) against the sample library.", self.queries.len()))?;
        let mut ids = Vec::new();
        for query in self.queries {
            ids.push(self.submit(query.short(), query.fasta()).await?);
        }
        self.follow_all(&ids).await
    }

    /// Enough work to watch, and in its middle the server is killed under a running job.
    async fn main_rounds(&mut self, speed: f64) -> anyhow::Result<()> {
        let missing = WORK_SECONDS - self.work_seconds - LONG_SECONDS;
        let rounds = plan::rounds_for(missing, self.queries.len());
        self.screen.say(&format!("Submitting {rounds} more rounds, as larger jobs, for {WORK_SECONDS:.0} s of work or more on every core."))?;
        let before = self.submit_rounds(rounds.div_ceil(2), speed).await?;
        let long = self.submit_long(speed).await?;
        let after = self.submit_rounds(rounds / 2, speed).await?;
        self.follow_all(&before).await?;
        self.follow_through_restart(&long).await?;
        self.follow_all(&after).await?;
        Ok(())
    }

    async fn top_up(&mut self, speed: f64) -> anyhow::Result<()> {
        for _ in 0..TOP_UPS {
            if self.work_seconds >= WORK_SECONDS {
                break;
            }
            let rounds = plan::rounds_for(WORK_SECONDS - self.work_seconds, self.queries.len());
            let ids = self.submit_rounds(rounds, speed).await?;
            self.follow_all(&ids).await?;
        }
        Ok(())
    }

    async fn submit_rounds(&mut self, rounds: usize, speed: f64) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for _ in 0..rounds {
            self.round += 1;
            for query in self.queries {
                let copies = plan::copies_for(JOB_SECONDS, speed, query);
                let name = format!("{} x {copies}, round {}", query.short(), self.round);
                ids.push(self.submit(&name, query.copies(copies, self.round)).await?);
            }
        }
        Ok(ids)
    }

    /// The longest query, many times: the job that has to survive its server.
    async fn submit_long(&mut self, speed: f64) -> anyhow::Result<String> {
        let longest = self
            .queries
            .iter()
            .max_by(|a, b| a.residues().total_cmp(&b.residues()))
            .unwrap_or(&self.queries[0]);
        let copies = plan::copies_for(LONG_SECONDS, speed, longest);
        self.submit(
            &format!(
                "{} x {copies}, the server is killed under it",
                longest.short()
            ),
            longest.copies(copies, 0),
        )
        .await
    }

    async fn submit(&mut self, name: &str, fasta: Vec<u8>) -> anyhow::Result<String> {
        let job = self.client.submit(&search(name, fasta)).await?;
        self.submitted.push(job.id.clone());
        self.screen.expect(1);
        Ok(job.view.id)
    }

    async fn follow_all(&mut self, ids: &[String]) -> anyhow::Result<Vec<JobView>> {
        let mut jobs = Vec::new();
        for id in ids {
            jobs.push(self.follow(id, false).await?);
        }
        Ok(jobs)
    }

    async fn follow_through_restart(&mut self, id: &str) -> anyhow::Result<JobView> {
        self.follow(id, true).await
    }

    async fn follow(&mut self, id: &str, restart: bool) -> anyhow::Result<JobView> {
        loop {
            let job = self.ask(async |client| client.job(id).await).await?.view;
            let queue = self.ask(async |client| client.queue().await).await?;
            let backlog = queue.queued + queue.running;
            if job.is_final() {
                self.work_seconds += job.seconds().unwrap_or(0.0);
                self.screen.ended(&job, backlog)?;
                return Ok(job);
            }
            self.screen.update(&job, backlog);
            if restart && self.restart.is_none() && job.state == "running" {
                self.kill_and_restart(&job).await?;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        Ok(PATIENCE
            .ask(|_| (), async || question(&self.client).await)
            .await?)
    }

    async fn kill_and_restart(&mut self, job: &JobView) -> anyhow::Result<()> {
        let Some(before) = self.server.shim_of(&job.id) else {
            anyhow::bail!("job {} runs, but its folder has no shim.json", job.id);
        };
        self.screen.say(&format!(
            "Killing the server (SIGKILL, process {}) while this job runs in process {} …",
            self.server.pid(),
            before.pid
        ))?;
        self.probe.gate().close();
        let down_since = Instant::now();
        self.server.kill()?;
        let went_on = before.is_alive();
        self.server.start_again().await?;
        self.ask(async |client| client.backlog().await).await?;
        let down = down_since.elapsed();
        self.probe.gate().open();
        let same_process = self.server.shim_of(&job.id).as_ref() == Some(&before);
        self.screen.say(&format!(
            "… started again on the same data (process {}), answering after {:.2} s.",
            self.server.pid(),
            down.as_secs_f64()
        ))?;
        self.restart = Some(Restart {
            id: job.id.clone(),
            pid: before.pid,
            went_on,
            same_process,
            still_alive: before.is_alive(),
            down,
        });
        Ok(())
    }
}

/// The best speed of the first round: there a job's fixed cost weighs least.
fn seconds_per_residue(queries: &[Query], jobs: &[JobView]) -> f64 {
    let speeds = queries
        .iter()
        .zip(jobs)
        .filter_map(|(query, job)| Some(job.seconds()? / query.residues().max(1.0)));
    speeds.fold(f64::INFINITY, f64::min).clamp(0.0, 1.0)
}

/// Waits for the last small jobs.
async fn drain(client: &Client) -> anyhow::Result<()> {
    loop {
        let queue = client.queue().await?;
        if queue.queued + queue.running == 0 {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn all_jobs(client: &Client) -> anyhow::Result<Vec<JobView>> {
    let mut jobs = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut filter = vec![("limit".to_owned(), "100".to_owned())];
        filter.extend(cursor.take().map(|cursor| ("cursor".to_owned(), cursor)));
        let page = client.jobs(&filter).await?.view;
        jobs.extend(page.jobs);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(jobs),
        }
    }
}

async fn print_hits(
    client: &Client,
    output: Output,
    queries: &[Query],
    jobs: &[JobView],
) -> anyhow::Result<()> {
    for (query, job) in queries
        .iter()
        .zip(jobs)
        .filter(|(_, job)| job.state == "succeeded")
    {
        output.say(&format!("Best hits of {}:", query.short()))?;
        let table = client.file(&job.id, "hits.tsv").await?.text().await?;
        for line in checks::best_hits(&table, BEST_HITS) {
            output.say(&format!("  {}", harmless(&line)))?;
        }
    }
    Ok(())
}

fn report(
    output: Output,
    asked: &Samples,
    sent: &Samples,
    restart: Option<&Restart>,
) -> anyhow::Result<()> {
    output.say("Meanwhile, as this program saw it on the same machine:")?;
    output.say(&format!("  asked /backlog  {}", asked.summary()))?;
    output.say(&format!("  submitted a job {}", sent.summary()))?;
    if let Some(restart) = restart {
        output.say(&format!(
            "  (the {:.2} s in which the server was down on purpose are left out)",
            restart.down.as_secs_f64()
        ))?;
    }
    Ok(())
}
