use clap::Args;

use super::{Context, RetryOptions, exit_of};
use crate::client::until_end;
use crate::exit::Exit;
use crate::progress::describe;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs: ids, unique ends of them, or `last`
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    retry: RetryOptions,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let mut ids = Vec::new();
    for id in &options.ids {
        ids.push(context.client.job(id).await?.view.id);
    }
    let mut exit = Exit::Done;
    for id in ids {
        let job = until_end(
            &context.client,
            &id,
            options.retry.patience(),
            context.output,
        )
        .await?;
        exit = exit.worse(exit_of(&job));
        if context.output.json {
            context.output.document(&job.raw)?;
        } else {
            context
                .output
                .line(&format!("{} {}", job.id, describe(&job)))?;
        }
    }
    Ok(exit)
}
