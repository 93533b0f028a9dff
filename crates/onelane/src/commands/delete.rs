use clap::Args;

use super::Context;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs: ids, unique ends of them, or `last`
    #[arg(required = true)]
    ids: Vec<String>,
    /// Cancel those that have not ended
    #[arg(long)]
    cancel: bool,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    for id in &options.ids {
        // What `last` means has to be known before it is gone.
        let id = context.client.job(id).await?.view.id;
        context.client.delete(&id, options.cancel).await?;
        context.output.line(&format!("{id} deleted"))?;
    }
    Ok(Exit::Done)
}
