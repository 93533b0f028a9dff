use clap::Args;

use super::Context;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs: ids, unique ends of them, or `last`
    #[arg(required = true)]
    ids: Vec<String>,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    for id in &options.ids {
        let job = context.client.cancel(id).await?;
        if context.output.json {
            context.output.document(&job.raw)?;
        } else {
            context.output.line(&format!("{} {}", job.id, job.state))?;
        }
    }
    Ok(Exit::Done)
}
