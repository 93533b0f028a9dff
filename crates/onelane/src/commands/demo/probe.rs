//! Asks and submits all the while, and measures how long the answers take.
//!
//! Only what was asked and answered while the server was meant to be up counts: the restart is announced by
//! [`Gate::close`], and a sample that touches it is left out, fast or slow. The next question comes a pause after the
//! last answer, so a slow answer makes fewer samples; that is why the slowest is reported beside the median.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::plan::Query;
use super::show::search;
use crate::client::Client;

const ASK_EVERY: Duration = Duration::from_millis(20);
const SUBMIT_EVERY: Duration = Duration::from_secs(1);

/// Whether the server is meant to be up: even numbers are, odd ones are not.
#[derive(Default)]
pub(super) struct Gate {
    epoch: AtomicU64,
    over: AtomicBool,
}

impl Gate {
    /// The server goes down on purpose.
    pub(super) fn close(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// It is back.
    pub(super) fn open(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| epoch % 2 == 0)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// What one kind of question found.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// How long each answer took.
    pub(super) times: Vec<Duration>,
    /// What was answered by an error, or not at all.
    pub(super) failures: Vec<String>,
    /// Jobs that were acknowledged.
    pub(super) ids: Vec<String>,
}

impl Samples {
    /// Median and slowest.
    pub(super) fn median_and_slowest(&self) -> Option<(Duration, Duration)> {
        let mut times = self.times.clone();
        times.sort_unstable();
        Some((*times.get(times.len() / 2)?, *times.last()?))
    }

    /// Both as a person reads them.
    pub(super) fn summary(&self) -> String {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        match self.median_and_slowest() {
            Some((median, slowest)) => format!(
                "{} times, median {:.1} ms, slowest {:.1} ms",
                self.times.len(),
                millis(median),
                millis(slowest)
            ),
            None => "never".to_owned(),
        }
    }
}

/// The two tasks that ask.
pub(super) struct Probe {
    gate: Arc<Gate>,
    asker: JoinHandle<Samples>,
    submitter: JoinHandle<Samples>,
}

impl Probe {
    /// Begins.
    pub(super) fn start(client: &Client, query: &Query) -> Self {
        let gate = Arc::new(Gate::default());
        let asker = tokio::spawn(ask(client.clone(), Arc::clone(&gate)));
        let submitter = tokio::spawn(submit(client.clone(), query.clone(), Arc::clone(&gate)));
        Self {
            gate,
            asker,
            submitter,
        }
    }

    /// To announce a restart.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Ends, and tells what the questions and the submissions found.
    pub(super) async fn finish(mut self) -> anyhow::Result<(Samples, Samples)> {
        self.gate.over.store(true, Ordering::SeqCst);
        Ok(((&mut self.asker).await?, (&mut self.submitter).await?))
    }
}

impl Drop for Probe {
    /// A demonstration that ends early must not go on submitting to a server that is being put away.
    fn drop(&mut self) {
        self.asker.abort();
        self.submitter.abort();
    }
}

async fn ask(client: Client, gate: Arc<Gate>) -> Samples {
    let mut samples = Samples::default();
    while !gate.is_over() {
        let question = async { client.backlog().await.map(|_| None) };
        sample(&gate, &mut samples, question).await;
        sleep(ASK_EVERY).await;
    }
    samples
}

async fn submit(client: Client, query: Query, gate: Arc<Gate>) -> Samples {
    let mut samples = Samples::default();
    let mut number = 0;
    while !gate.is_over() {
        number += 1;
        let submission = search(&format!("probe {number}"), query.tiny(number));
        let question = async {
            client
                .submit(&submission)
                .await
                .map(|job| Some(job.view.id))
        };
        sample(&gate, &mut samples, question).await;
        sleep(SUBMIT_EVERY).await;
    }
    samples
}

async fn sample(
    gate: &Gate,
    samples: &mut Samples,
    question: impl Future<Output = crate::client::Result<Option<String>>>,
) {
    let Some(before) = gate.epoch() else { return };
    let asked = Instant::now();
    let answer = question.await;
    let took = asked.elapsed();
    let counts = gate.epoch() == Some(before);
    match answer {
        Ok(id) => {
            // Acknowledged is acknowledged, however the time is counted.
            samples.ids.extend(id);
            if counts {
                samples.times.push(took);
            }
        }
        Err(error) if counts => samples.failures.push(error.to_string()),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_slowest_are_of_all_samples() {
        let times = [5, 1, 9, 3, 7].map(Duration::from_millis).to_vec();
        let samples = Samples {
            times,
            ..Samples::default()
        };
        assert_eq!(
            samples.median_and_slowest(),
            Some((Duration::from_millis(5), Duration::from_millis(9)))
        );
    }

    #[tokio::test]
    async fn what_touches_the_restart_is_left_out() {
        let (gate, mut samples) = (Gate::default(), Samples::default());
        sample(&gate, &mut samples, async {
            gate.close();
            Ok(Some("job".to_owned()))
        })
        .await;
        sample(&gate, &mut samples, async { Ok(None) }).await;
        assert_eq!((samples.times.len(), samples.ids.len()), (0, 1));
        gate.open();
        sample(&gate, &mut samples, async { Ok(None) }).await;
        assert_eq!(samples.times.len(), 1);
    }
}
