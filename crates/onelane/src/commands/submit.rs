use clap::Args;

use super::{Context, RetryOptions, exit_of};
use crate::client::{Client, Param, Submission, until_end};
use crate::exit::Exit;
use crate::progress::describe;

/// What to submit: shared by `submit` and `run`.
#[derive(Debug, Args)]
pub(crate) struct JobOptions {
    /// The tool (see `onelane tools`)
    tool: String,
    /// A parameter: key=value, key=@file, or key=- for standard input
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    params: Vec<Param>,
    /// What to call the job
    #[arg(long)]
    name: Option<String>,
    /// A label (repeatable)
    #[arg(long)]
    tag: Vec<String>,
    /// How urgent: -100 to 100
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: Option<i32>,
    /// A job that must have ended before, well or not (repeatable)
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// Idempotency key: the same key gives the same job
    #[arg(long)]
    pub(crate) key: Option<String>,
}

impl JobOptions {
    /// Ready to be sent, as often as need be.
    pub(crate) async fn submission(self, client: &Client) -> anyhow::Result<Submission> {
        if self
            .params
            .iter()
            .filter(|param| param.given == crate::client::Given::Stdin)
            .count()
            > 1
        {
            anyhow::bail!("standard input can fill only one parameter");
        }
        let mut options: Vec<(String, String)> = Vec::new();
        options.extend(self.name.map(|name| ("name".to_owned(), name)));
        options.extend(
            self.priority
                .map(|priority| ("priority".to_owned(), priority.to_string())),
        );
        options.extend(self.tag.into_iter().map(|tag| ("tag".to_owned(), tag)));
        for id in &self.after {
            // `last` is another job once this one is there: fixed before anything is sent.
            options.push(("after".to_owned(), client.job(id).await?.view.id));
        }
        let params = self
            .params
            .into_iter()
            .map(Param::settled)
            .collect::<Result<_, _>>()?;
        Ok(Submission {
            tool: self.tool,
            params,
            options,
            key: self.key,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    job: JobOptions,
    /// Wait until the job has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    retry: RetryOptions,
}

pub(crate) async fn run(context: &Context, options: Options) -> anyhow::Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let submission = options.job.submission(client).await?;
    let mut job = client.submit(&submission).await?;
    if !output.json {
        output.line(&job.id)?;
    }
    if options.wait {
        let id = job.id.clone();
        job = until_end(client, &id, options.retry.patience(), output).await?;
        output.note(&describe(&job))?;
    }
    if output.json {
        output.document(&job.raw)?;
    }
    Ok(if options.wait {
        exit_of(&job)
    } else {
        Exit::Done
    })
}
