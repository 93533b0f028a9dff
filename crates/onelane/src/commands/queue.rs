use clap::{Args, ValueEnum};

use super::Context;
use super::list::row;
use crate::client::JobView;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Start no more jobs, or go on; the running ones are left alone
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Pause,
    Resume,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    match options.order {
        Some(Order::Pause) => context.client.queue_order("pause").await?,
        Some(Order::Resume) => context.client.queue_order("resume").await?,
        None => {}
    }
    let queue = context.client.queue().await?;
    if context.output.json {
        context.output.document(&queue.raw)?;
        return Ok(Exit::Done);
    }
    let paused = if queue.paused { ", paused" } else { "" };
    context.output.line(&format!(
        "{} running, {} queued{paused}",
        queue.running, queue.queued
    ))?;
    context
        .output
        .table(&queue.jobs.iter().map(placed).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}

fn placed(job: &JobView) -> Vec<String> {
    let mut cells = vec![
        job.position
            .map_or_else(|| "-".to_owned(), |position| position.to_string()),
    ];
    cells.extend(row(job));
    cells.push(crate::progress::describe(job));
    cells
}
