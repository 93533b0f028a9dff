use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::ParamProblem;

/// A tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    /// Its name.
    pub name: String,
    /// Its title for people.
    pub title: Option<String>,
    /// What it does.
    pub help: Option<String>,
    /// JSON Schema (2020-12) of its parameters.
    #[schema(value_type = Object)]
    pub params: serde_json::Value,
    /// The result files that it declares.
    pub results: Vec<ResultView>,
    /// Parameters of a job that shows what it does.
    #[schema(value_type = Option<Object>)]
    pub example: Option<serde_json::Map<String, serde_json::Value>>,
    /// Paths of what belongs to it.
    pub links: ToolLinks,
}

/// Paths of what belongs to a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolLinks {
    /// The tool.
    #[serde(rename = "self")]
    pub this: String,
    /// `POST` its parameters here.
    pub submit: String,
}

/// All tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolList {
    /// The tools, in the order of the tools file.
    pub tools: Vec<ToolView>,
    /// The one behind the starting point's interface.
    pub default_tool: Option<String>,
}

/// A result file that a tool declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    /// Its name.
    pub name: String,
    /// Its path among the results.
    pub file: String,
    /// Its title for people.
    pub title: Option<String>,
    /// How to show it: `table`, `text`, `alignment`, `fasta`, `image`, `json`, `html` or `structure`.
    pub view: Option<String>,
    /// A table's columns, where the file has no line of headings.
    pub columns: Vec<String>,
    /// A job without it has failed.
    pub required: bool,
}

/// What reading the tools file again has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolReload {
    /// All tools now in force.
    pub tools: Vec<String>,
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that have another definition than before; jobs that wait keep the one that they were accepted with.
    pub changed: Vec<String>,
    /// Those that are gone; their jobs that wait will run all the same.
    pub removed: Vec<String>,
    /// What is missing on the machine, such as a database, and keeps no tool from being in force.
    #[serde(default)]
    pub warnings: Vec<ParamProblem>,
}
