use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
