use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use onelane_tools::{ConfigError, load_tools_file, tools_file_schema};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;
use crate::serve::{config_path, own_path};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check a tools file and all that it includes; tells every mistake at once
    Check {
        /// The file [default: ./onelane.toml]
        #[arg(env = "ONELANE_CONFIG", value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of tools files, for editors
    Schema,
}

pub(crate) fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    match &options.action {
        Action::Check { file } => check(context, file.as_deref()),
        Action::Schema => {
            let schema = serde_json::to_string_pretty(&tools_file_schema())?;
            context.output.line(&schema)?;
            Ok(Exit::Done)
        }
    }
}

fn check(context: &Context, file: Option<&Path>) -> anyhow::Result<Exit> {
    let path = config_path(file)?
        .context("there is no ./onelane.toml\nhint: name a file: `onelane config check FILE`")?;
    let read = load_tools_file(&path, &own_path()?);
    let errors = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    if context.output.json {
        let views: Vec<_> = errors.iter().map(|error| view(&path, error)).collect();
        context
            .output
            .document(&json!({"file": path, "errors": views}))?;
    } else if let Ok(read) = &read {
        let count = read.tools.len();
        let noun = if count == 1 { "tool" } else { "tools" };
        context
            .output
            .line(&format!("{}: {count} {noun}, no mistakes", path.display()))?;
    } else {
        output::complain(&lines(&path, errors));
    }
    Ok(if errors.is_empty() {
        Exit::Done
    } else {
        Exit::CheckFailed
    })
}

fn view(path: &Path, error: &ConfigError) -> serde_json::Value {
    json!({
        "file": error.file.as_deref().unwrap_or(path),
        "line": error.line,
        "column": error.column,
        "message": error.message,
        "hint": error.hint,
    })
}

/// One mistake after the other, each with its file, as editors and people find it.
pub(crate) fn lines(path: &Path, errors: &[ConfigError]) -> String {
    let line = |error: &ConfigError| {
        let file = error.file.as_deref().unwrap_or(path).display();
        format!("{file}:{error}")
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}
