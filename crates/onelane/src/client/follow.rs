use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Client, JobView, Patience, Seen};
use crate::output::{Output, harmless};
use crate::progress::Meter;

/// How long the server holds an answer for the end; between two answers the bar stands still.
const HOLD_SECONDS: u64 = 1;

/// Waits for a job's end, showing its way, over restarts of the server.
pub(crate) async fn until_end(
    client: &Client,
    id: &str,
    patience: Patience,
    output: Output,
) -> anyhow::Result<Seen<JobView>> {
    let mut meter = Meter::new(output);
    loop {
        let asked = Instant::now();
        let notice = |error: &super::ClientError| {
            let words = harmless(&error.to_string());
            drop(output.note(&format!(
                "{}; asking again until it is back",
                words.lines().next().unwrap_or_default()
            )));
        };
        let job = patience
            .ask(notice, async || client.job_within(id, HOLD_SECONDS).await)
            .await?;
        meter.update(&job)?;
        if job.is_final() {
            meter.finish();
            return Ok(job);
        }
        // A server that is stopping answers at once: don't hammer it.
        if asked.elapsed() < Duration::from_millis(100) {
            sleep(Duration::from_millis(200)).await;
        }
    }
}
