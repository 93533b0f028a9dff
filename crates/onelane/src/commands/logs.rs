use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::TryStreamExt;

use super::{Context, RetryOptions};
use crate::client::{ClientError, Result};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A job: its id, a unique end of it, or `last`
    id: String,
    /// Go on until the job ends
    #[arg(short, long)]
    follow: bool,
    /// Standard error instead of standard output
    #[arg(long)]
    stderr: bool,
    #[command(flatten)]
    retry: RetryOptions,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    // `last` and short ids may mean another job when the connection has to be made again.
    let id = context.client.job(&options.id).await?.view.id;
    let stream = if options.stderr { "stderr" } else { "stdout" };
    let patience = options.retry.patience();
    let mut shown = 0;
    loop {
        let answer = patience
            .ask(
                |_| (),
                async || context.client.log(&id, stream, options.follow).await,
            )
            .await?;
        let before = shown;
        match copy(context, answer, &mut shown).await? {
            Ok(()) => return Ok(Exit::Done),
            Err(error) if options.follow && error.is_passing() => {
                context.output.note("lost the connection; asking again")?;
            }
            Err(error) => return Err(error.into()),
        }
        if shown == before {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
}

/// Prints what comes after the bytes that were `shown` already. The outer error is the terminal's, the inner the network's.
async fn copy(
    context: &Context,
    answer: reqwest::Response,
    shown: &mut u64,
) -> std::io::Result<Result<()>> {
    let url = context.client.address().to_owned();
    let mut chunks = answer.bytes_stream().map_err(|source| ClientError::Lost {
        url: url.clone(),
        source,
    });
    let mut seen: u64 = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(Err(error)),
        };
        let skip = usize::try_from(shown.saturating_sub(seen))
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        seen += chunk.len() as u64;
        context.output.raw(&chunk[skip..])?;
        *shown = (*shown).max(seen);
    }
    Ok(Ok(()))
}
