use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Context, tools_check};
use crate::client::{ParamProblem, ToolView};
use crate::exit::Exit;
use crate::output;

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
    for warning in &answer.warnings {
        output::complain(&warning_line(warning));
    }
    Ok(context
        .output
        .line(&format!("{} tools in force", answer.tools.len()))?)
}

fn warning_line(warning: &ParamProblem) -> String {
    let file = warning.file.as_deref().unwrap_or("the tools file");
    let line = warning.line.unwrap_or_default();
    format!("{file}, line {line}: warning: {}", warning.message)
}

async fn all(context: &Context) -> anyhow::Result<()> {
    let answer = context.client.tools().await?;
    if context.output.json {
        return Ok(context.output.document(&answer.raw)?);
    }
    let row = |tool: &ToolView| {
        let title = tool.title.clone().unwrap_or_default();
        vec![tool.name.clone(), title, lack(&tool.params)]
    };
    Ok(context
        .output
        .table(&answer.tools.iter().map(row).collect::<Vec<_>>())?)
}

/// What keeps jobs of a tool from being taken in: a parameter that must be given, and nothing to choose for it.
fn lack(params: &Value) -> String {
    let required = params["required"].as_array().into_iter().flatten();
    let is_empty = |schema: &Value| {
        let choices = schema.pointer("/items/enum").unwrap_or(&schema["enum"]);
        choices.as_array().is_some_and(Vec::is_empty)
    };
    required
        .filter_map(Value::as_str)
        .find(|name| is_empty(&params["properties"][*name]))
        .map(|name| format!("(nothing to choose for `{name}` yet)"))
        .unwrap_or_default()
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
    context.output.table(&parameters(&tool.params))?;
    let results = tool.results.iter().map(|result| {
        let title = result.title.clone().unwrap_or_default();
        vec![format!("  {}", result.file), title]
    });
    let results: Vec<_> = results.collect();
    if !results.is_empty() {
        context.output.line("Results:")?;
        context.output.table(&results)?;
    }
    Ok(())
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

/// What may be given: a type with its bounds, or the words to choose from.
fn kind(schema: &Value) -> String {
    let choices = schema.pointer("/items/enum").unwrap_or(&schema["enum"]);
    if let Some(choices) = choices.as_array() {
        if choices.is_empty() {
            return "(nothing to choose yet)".to_owned();
        }
        let word = |choice: &Value| choice.as_str().map_or(choice.to_string(), str::to_owned);
        let words: Vec<_> = choices.iter().map(word).collect();
        let of = if schema["items"].is_null() {
            "one"
        } else {
            "some"
        };
        return format!("{of} of {}", words.join("|"));
    }
    let plain = schema["type"].as_str().unwrap_or("any");
    let mut words = vec![
        schema["x-onelane-type"]
            .as_str()
            .unwrap_or(plain)
            .to_owned(),
    ];
    words.extend(schema["x-onelane-alphabet"].as_str().map(str::to_owned));
    for (key, word) in [("minimum", "from"), ("maximum", "to")] {
        let bound = schema[key].as_number();
        words.extend(bound.map(|bound| format!("{word} {bound}")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tool_with_nothing_to_choose_is_marked() {
        let params = |required: Value, property: Value| json!({"required": required, "properties": {"db": property}});
        let empty = json!({"type": "string", "enum": []});
        let empty_list = json!({"type": "array", "items": {"enum": []}});
        for property in [&empty, &empty_list] {
            let mark = lack(&params(json!(["db"]), property.clone()));
            assert_eq!(mark, "(nothing to choose for `db` yet)");
        }
        assert_eq!(lack(&params(json!([]), empty)), "");
        assert_eq!(lack(&params(json!(["db"]), json!({"enum": ["a"]}))), "");
        assert_eq!(lack(&params(json!(["db"]), json!({"type": "string"}))), "");
    }

    #[test]
    fn a_type_is_shown_as_it_was_declared_with_its_bounds() {
        let fasta =
            json!({"type": "string", "x-onelane-type": "fasta", "x-onelane-alphabet": "protein"});
        assert_eq!(kind(&fasta), "fasta protein");
        let bounded = json!({"type": "integer", "minimum": 5, "maximum": 500});
        assert_eq!(kind(&bounded), "integer from 5 to 500");
        assert_eq!(
            kind(&json!({"type": "number", "minimum": 0.0})),
            "number from 0.0"
        );
        assert_eq!(kind(&json!({"enum": ["swissprot"]})), "one of swissprot");
        let list = json!({"type": "array", "items": {"enum": ["a", "b"]}});
        assert_eq!(kind(&list), "some of a|b");
    }

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
                &["  mode", "one of protein|dna", "default \"protein\"", ""]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
    }
}
