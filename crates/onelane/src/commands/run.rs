use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::submit::JobOptions;
use super::{Context, RetryOptions, exit_of};
use crate::client::{
    ClientError, JobView, JobWords, Patience, Seen, Submission, WireState, fresh_key, until_end,
};
use crate::commands::download::fetch_all;
use crate::commands::show::show_stderr;
use crate::exit::Exit;
use crate::progress::describe;

/// An interrupted person doesn't wait longer than this for the server to take note.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    job: JobOptions,
    /// Folder for the results
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    retry: RetryOptions,
}

pub(crate) async fn run(context: &Context, mut options: Options) -> anyhow::Result<Exit> {
    let patience = options.retry.patience();
    let key = options.job.key.take().map_or_else(fresh_key, Ok)?;
    options.job.key = Some(key.clone());
    let submission = options.job.submission(&context.client).await?;
    // Listening starts before the job exists: an interrupt between the two would leave it behind.
    let interrupted = interruption()?;
    let whole = async {
        let job = submit(context, &submission, options.retry).await?;
        context.output.note(&format!(
            "job {} (take it up again with --key {key})",
            job.id
        ))?;
        finish(context, &job.id, &options.output, patience).await
    };
    tokio::select! {
        exit = whole => exit,
        () = interrupted => {
            abandon(context, &submission).await?;
            Ok(Exit::Interrupted)
        }
    }
}

/// Submits. Nobody there at the first word is most likely a wrong address and said at once, except to those who asked
/// for patience; whatever goes wrong later is waited out, for the key makes sending it again harmless.
async fn submit(
    context: &Context,
    submission: &Submission,
    retry: RetryOptions,
) -> anyhow::Result<Seen<JobView>> {
    let first = context.client.submit(submission).await;
    let is_nobody = matches!(first, Err(ClientError::NoServer { .. }));
    match first {
        Err(error) if error.is_passing() && (!is_nobody || retry.is_asked_for()) => {
            let words = error.to_string();
            let words = words.lines().next().unwrap_or_default();
            context.output.note(&format!("{words}; trying again"))?;
            Ok(retry
                .patience()
                .ask(|_| (), async || context.client.submit(submission).await)
                .await?)
        }
        answer => Ok(answer?),
    }
}

async fn finish(
    context: &Context,
    id: &str,
    folder: &std::path::Path,
    patience: Patience,
) -> anyhow::Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let job = until_end(client, id, patience, output).await?;
    output.note(&format!("{} {}", job.short_id(), describe(&job)))?;
    match job.state {
        WireState::Succeeded => {
            let files = fetch_all(client, &job.id, folder, patience).await?;
            output.note(&format!(
                "{} in {}",
                counted(files.len(), "file"),
                folder.display()
            ))?;
        }
        WireState::Failed => show_stderr(client, &job, output).await?,
        _ => {}
    }
    if output.json {
        output.document(&job.raw)?;
    }
    Ok(exit_of(&job))
}

fn counted(number: usize, word: &str) -> String {
    if number == 1 {
        format!("1 {word}")
    } else {
        format!("{number} {word}s")
    }
}

/// Cancels the job. The answer to the submission may not have come yet: the same key finds the job, and if it never
/// reached the server, makes one that is cancelled at once.
async fn abandon(context: &Context, submission: &Submission) -> anyhow::Result<()> {
    let cancel = async {
        let job = context.client.submit(submission).await?;
        context.client.cancel(&job.id).await
    };
    let again = interruption()?;
    let outcome = tokio::select! {
        outcome = timeout(CANCEL_WITHIN, cancel) => outcome,
        () = again => return Ok(()),
    };
    match outcome {
        Ok(Ok(job)) => context.output.note(&format!(
            "interrupted: job {} is {}",
            job.id,
            job.state.as_str()
        ))?,
        Ok(Err(error)) => context.output.note(&format!(
            "interrupted, but the job could not be cancelled: {error}"
        ))?,
        Err(_) => context
            .output
            .note("interrupted, but the server did not answer: the job may still run")?,
    }
    Ok(())
}

/// Ends with Ctrl-C, or with the polite signal of a workflow manager.
fn interruption() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
