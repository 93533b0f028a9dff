use clap::Args;

use super::Context;
use crate::client::{Client, JobView};
use crate::exit::Exit;
use crate::output::{Output, harmless};

/// Enough for the lines that say why.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A job: its id, a unique end of it, or `last`
    id: String,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let job = context.client.job(&options.id).await?;
    if context.output.json {
        context.output.document(&job.raw)?;
        return Ok(Exit::Done);
    }
    context.output.table(&rows(&job))?;
    if let Some(params) = job.raw["params"].as_object() {
        for (name, value) in params {
            context.output.line(&format!(
                "  {name} = {}",
                harmless(&shortened(&value.to_string()))
            ))?;
        }
    }
    if job.state == "failed" {
        show_stderr(&context.client, &job, context.output).await?;
    }
    Ok(Exit::Done)
}

/// The end of what a job wrote to standard error, for a person who asks why it failed.
pub(crate) async fn show_stderr(
    client: &Client,
    job: &JobView,
    output: Output,
) -> anyhow::Result<()> {
    // A job that never started has no log; that is no reason to fail here.
    let Ok(text) = client.log_end(&job.id, "stderr", TAIL_BYTES).await else {
        return Ok(());
    };
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return Ok(());
    }
    output.note("--- end of standard error ---")?;
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        output.note(&harmless(line))?;
    }
    Ok(())
}

fn rows(job: &JobView) -> Vec<Vec<String>> {
    let state = if job.stuck {
        format!("{} (stuck: its processes can't be proved dead)", job.state)
    } else {
        job.state.clone()
    };
    let fields = [
        ("id", Some(job.id.clone())),
        ("name", job.name.clone()),
        ("tool", Some(job.tool.clone())),
        ("state", Some(state)),
        ("why", job.why.clone()),
        (
            "position",
            job.position.map(|position| position.to_string()),
        ),
        (
            "progress",
            job.progress
                .as_ref()
                .map(|_| format!("{:.0} %", job.fraction() * 100.0)),
        ),
        (
            "failure",
            job.failure
                .as_ref()
                .map(|failure| format!("{}: {}", failure.kind, failure.message)),
        ),
        ("exit code", job.exit_code.map(|code| code.to_string())),
        ("attempt", Some(job.attempt.to_string())),
        ("created", Some(job.created_at.clone())),
        ("started", job.started_at.clone()),
        ("finished", job.finished_at.clone()),
        ("used", job.usage.map(|usage| usage_line(&usage))),
        (
            "tags",
            Some(job.tags.join(" ")).filter(|tags| !tags.is_empty()),
        ),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some(vec![name.to_owned(), harmless(&value?)]))
        .collect()
}

fn usage_line(usage: &crate::client::UsageView) -> String {
    let seconds =
        |value: Option<f64>, what: &str| value.map(|value| format!("{value:.1} s {what}"));
    let memory = usage
        .memory_peak_bytes
        .map(|bytes| format!("{} MiB at most", bytes >> 20));
    let parts = [
        seconds(usage.wall_s, "in all"),
        seconds(usage.cpu_s, "of CPU"),
        memory,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
