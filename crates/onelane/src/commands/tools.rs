use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Context, tools_check};
use crate::client::ToolView;
use crate::exit::Exit;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// One tool, with its parameters
    name: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check on this machine that programs, databases and examples work
    Check(tools_check::Options),
    /// Have the server read its tools file again; queued jobs keep what they were accepted with
    Reload,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    match (&options.action, &options.name) {
        (Some(Action::Check(options)), _) => return tools_check::run(context, options),
        (Some(Action::Reload), _) => reload(context).await?,
        (None, Some(name)) => one(context, name).await?,
        (None, None) => all(context).await?,
    }
    Ok(Exit::Done)
}

async fn reload(context: &Context) -> anyhow::Result<()> {
    let answer = context.client.reload_tools().await?;
    if context.output.json {
        return Ok(context.output.document(&answer.raw)?);
    }
    let parts = [
        ("added", &answer.added),
        ("changed", &answer.changed),
        ("removed", &answer.removed),
    ];
    for (word, names) in parts.into_iter().filter(|(_, names)| !names.is_empty()) {
        context
            .output
            .line(&format!("{word}: {}", names.join(", ")))?;
    }
    Ok(context
        .output
        .line(&format!("{} tools in force", answer.tools.len()))?)
}

async fn all(context: &Context) -> anyhow::Result<()> {
    let answer = context.client.tools().await?;
    if context.output.json {
        return Ok(context.output.document(&answer.raw)?);
    }
    let row = |tool: &ToolView| vec![tool.name.clone(), tool.title.clone().unwrap_or_default()];
    Ok(context
        .output
        .table(&answer.tools.iter().map(row).collect::<Vec<_>>())?)
}

async fn one(context: &Context, name: &str) -> anyhow::Result<()> {
    let tool = context.client.tool(name).await?;
    if context.output.json {
        return Ok(context.output.document(&tool.raw)?);
    }
    context.output.line(
        &[Some(&tool.name), tool.title.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(": "),
    )?;
    if let Some(help) = &tool.help {
        context.output.line(help)?;
    }
    Ok(context.output.table(&parameters(&tool.params))?)
}

/// A row for each parameter: name, type, whether it must be given, what it means.
fn parameters(params: &Value) -> Vec<Vec<String>> {
    let required = params["required"].as_array().cloned().unwrap_or_default();
    let properties = params["properties"].as_object().into_iter().flatten();
    let row = |(name, schema): (&String, &Value)| {
        let must = required.iter().any(|word| word.as_str() == Some(name));
        let default = schema
            .get("default")
            .map(|value| format!("default {value}"));
        let meaning = schema["description"]
            .as_str()
            .or_else(|| schema["title"].as_str())
            .unwrap_or_default();
        vec![
            format!("  {name}"),
            kind(schema),
            if must {
                "required".to_owned()
            } else {
                default.unwrap_or_else(|| "optional".to_owned())
            },
            meaning.to_owned(),
        ]
    };
    properties.map(row).collect()
}

fn kind(schema: &Value) -> String {
    match schema["enum"].as_array() {
        Some(choices) => choices
            .iter()
            .map(|choice| {
                choice
                    .as_str()
                    .map_or_else(|| choice.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join("|"),
        None => schema["type"].as_str().unwrap_or("any").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parameter_is_shown_with_its_choices_and_default() {
        let schema = json!({"required": ["query"], "properties": {
            "query": {"type": "string", "description": "what to look for"}, "mode": {"enum": ["protein", "dna"], "default": "protein"}}});
        let rows = parameters(&schema);
        assert!(
            rows.contains(
                &["  query", "string", "required", "what to look for"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        assert!(
            rows.contains(
                &["  mode", "protein|dna", "default \"protein\"", ""]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
    }
}
