use clap::Args;

use super::Context;
use crate::client::JobView;
use crate::exit::Exit;
use crate::output::harmless;

/// The server's largest page that we ask for.
const PAGE: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only jobs in this state (repeatable)
    #[arg(long)]
    state: Vec<String>,
    /// Only jobs of this tool (repeatable)
    #[arg(long)]
    tool: Vec<String>,
    /// Only jobs with this label (repeatable)
    #[arg(long)]
    tag: Vec<String>,
    /// Only jobs of this name
    #[arg(long)]
    name: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

impl Options {
    fn filter(&self) -> Vec<(String, String)> {
        let pairs = |key: &'static str, values: &[String]| {
            values
                .iter()
                .map(move |value| (key.to_owned(), value.clone()))
                .collect::<Vec<_>>()
        };
        let mut filter = [
            pairs("state", &self.state),
            pairs("tool", &self.tool),
            pairs("tag", &self.tag),
        ]
        .concat();
        filter.extend(
            self.name
                .iter()
                .map(|name| ("name".to_owned(), name.clone())),
        );
        filter
    }
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let mut rows = vec![header()];
    let mut raw = Vec::new();
    let mut cursor: Option<String> = None;
    while raw.len() < options.limit {
        let mut filter = options.filter();
        filter.push((
            "limit".to_owned(),
            (options.limit - raw.len()).min(PAGE).to_string(),
        ));
        filter.extend(cursor.take().map(|cursor| ("cursor".to_owned(), cursor)));
        let page = context.client.jobs(&filter).await?;
        rows.extend(page.jobs.iter().map(row));
        raw.extend(page.raw["jobs"].as_array().cloned().unwrap_or_default());
        match &page.next_cursor {
            Some(next) if !page.jobs.is_empty() => cursor = Some(next.clone()),
            _ => break,
        }
    }
    if context.output.json {
        context
            .output
            .document(&serde_json::json!({ "jobs": raw }))?;
    } else {
        context.output.table(&rows)?;
    }
    Ok(Exit::Done)
}

pub(super) fn header() -> Vec<String> {
    ["ID", "STATE", "TOOL", "CREATED", "SECONDS", "NAME"]
        .map(str::to_owned)
        .to_vec()
}

pub(super) fn row(job: &JobView) -> Vec<String> {
    let state = if job.stuck {
        format!("{} (stuck)", job.state)
    } else {
        job.state.clone()
    };
    let seconds = job
        .seconds()
        .map_or_else(String::new, |seconds| format!("{seconds:.1}"));
    let name = harmless(job.name.as_deref().unwrap_or_default());
    vec![
        job.short_id().to_owned(),
        state,
        job.tool.clone(),
        job.created_at.clone(),
        seconds,
        name,
    ]
}
