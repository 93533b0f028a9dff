use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use onelane_tools::{ConfigError, load_tools_file, tools_file_schema};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;
use crate::serve::{config_path, hardware, own_path};

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
    let read = load_tools_file(&path, &own_path()?, hardware()?);
    let told = match &read {
        Ok(read) => &read.warnings,
        Err(errors) => errors,
    };
    if context.output.json {
        let views = |is_warning: bool| {
            let of_kind = told.iter().filter(|error| error.is_warning == is_warning);
            of_kind.map(|error| view(&path, error)).collect::<Vec<_>>()
        };
        let (errors, warnings) = (views(false), views(true));
        context
            .output
            .document(&json!({"file": path, "errors": errors, "warnings": warnings}))?;
    } else {
        if !told.is_empty() {
            output::complain(&lines(&path, told));
        }
        if let Ok(read) = &read {
            let path = path.display();
            let tools = counted(read.tools.len(), "tool");
            let and = match read.warnings.len() {
                0 => String::new(),
                count => format!(", {}", counted(count, "warning")),
            };
            context
                .output
                .line(&format!("{path}: {tools}, no mistakes{and}"))?;
        }
    }
    Ok(if read.is_ok() {
        Exit::Done
    } else {
        Exit::CheckFailed
    })
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
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
