//! `onelane demo`: the whole promise in under a minute, on the user's own machine, and checked.

mod checks;
mod plan;
mod probe;
mod screen;
mod server;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::time::timeout;

use crate::exit::Exit;
use crate::output::Output;
use server::DemoServer;

/// A demonstration that takes longer is stuck, whatever the machine.
const WHOLE_WITHIN: Duration = Duration::from_mins(15);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the server up at the end, and print its address
    #[arg(long)]
    keep: bool,
    /// Search with these protein sequences (FASTA) instead of the six that are built in
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
}

pub(crate) async fn run(output: Output, options: &Options) -> anyhow::Result<Exit> {
    let queries = queries(options)?;
    let folder = tempfile::Builder::new()
        .prefix("onelane-demo-")
        .tempdir()
        .context("failed to make a temporary folder")?;
    output.say("Starting a server of its own, with a temporary data folder.")?;
    let mut server = DemoServer::start(folder.path(), "127.0.0.1:0").await?;
    output.say(&format!(
        "It listens on http://{} (process {}).",
        server.address(),
        server.pid()
    ))?;
    let outcome = tokio::select! {
        outcome = timeout(WHOLE_WITHIN, show::run(output, &queries, &mut server)) => outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the demonstration took too long"))),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    };
    if options.keep && !matches!(outcome, Ok(Exit::Interrupted)) {
        leave_up(output, server, folder)?;
    } else {
        server.put_away().await;
        folder
            .close()
            .context("failed to remove the temporary folder")?;
    }
    outcome
}

fn queries(options: &Options) -> anyhow::Result<Vec<plan::Query>> {
    let Some(path) = &options.queries else {
        return plan::read_queries(onelane_search::SAMPLE_QUERIES);
    };
    let bytes =
        std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    plan::read_queries(&bytes).with_context(|| format!("in `{}`", path.display()))
}

fn leave_up(output: Output, server: DemoServer, folder: tempfile::TempDir) -> anyhow::Result<()> {
    let (address, pid) = (server.address().to_owned(), server.pid());
    server.leave_up();
    output.say(&format!(
        "The server stays up at http://{address} (end it with: kill {pid}); its data is in {}.",
        folder.keep().display()
    ))?;
    Ok(())
}
