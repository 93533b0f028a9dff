//! Other tools without a restart: all or nothing.

use std::fmt;
use std::sync::Arc;

use onelane_api::{ParamProblem, ToolReload};
use onelane_engine::{EngineError, Handle};
use onelane_tools::{ConfigError, ToolsFile};

use crate::problem::{ApiError, Code};

type Read = dyn Fn() -> Result<ToolsFile, Vec<ConfigError>> + Send + Sync;

/// Where the tools come from.
#[derive(Clone)]
pub enum ToolsSource {
    /// There is no tools file: the built-in tool is all there is.
    Builtin,
    /// Reads the tools file anew.
    File(Arc<Read>),
}

impl fmt::Debug for ToolsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builtin => "Builtin",
            Self::File(_) => "File",
        })
    }
}

/// Why the old tools stay in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no tools file.
    #[error("the server runs without a tools file")]
    NoFile,
    /// The file has errors.
    #[error("the tools file has errors; the old tools stay in force")]
    Bad(Vec<ConfigError>),
    /// The engine could not take them.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Reads the tools file again and puts its tools in force; jobs keep the definitions that they were accepted with.
///
/// # Errors
/// [`ReloadError`]; the old tools stay in force then.
pub async fn reload(handle: &Handle, source: &ToolsSource) -> Result<ToolReload, ReloadError> {
    let ToolsSource::File(read) = source else {
        return Err(ReloadError::NoFile);
    };
    let read = Arc::clone(read);
    let file = tokio::task::spawn_blocking(move || read()).await;
    let file = file
        .map_err(|error| EngineError::Broken(error.to_string()))?
        .map_err(ReloadError::Bad)?;
    let before = handle.tools();
    let hash_before = |name: &str| {
        before
            .iter()
            .find(|tool| tool.name == name)
            .map(|tool| tool.hash())
    };
    let mut report = ToolReload {
        warnings: file.warnings.into_iter().map(problem).collect(),
        ..ToolReload::default()
    };
    for tool in &file.tools {
        report.tools.push(tool.name.clone());
        match hash_before(&tool.name) {
            None => report.added.push(tool.name.clone()),
            Some(hash) if hash != tool.hash() => report.changed.push(tool.name.clone()),
            Some(_) => {}
        }
    }
    let gone = before
        .iter()
        .filter(|tool| !report.tools.contains(&tool.name));
    report.removed = gone.map(|tool| tool.name.clone()).collect();
    handle
        .replace_tools(file.tools, file.server.default_tool)
        .await?;
    Ok(report)
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let detail = error.to_string();
        match error {
            ReloadError::NoFile => Self::new(Code::NoToolsFile, detail),
            ReloadError::Bad(errors) => {
                let errors = errors.into_iter().filter(|error| !error.is_warning);
                let problems = errors.map(problem).collect();
                Self::new(Code::BadToolsFile, detail).with_errors(problems)
            }
            ReloadError::Engine(error) => error.into(),
        }
    }
}

fn problem(error: ConfigError) -> ParamProblem {
    let hint = error
        .hint
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default();
    ParamProblem {
        file: error.file.map(|file| file.display().to_string()),
        line: u64::try_from(error.line).ok(),
        column: u64::try_from(error.column).ok(),
        message: format!("{}{hint}", error.message),
        ..ParamProblem::default()
    }
}
