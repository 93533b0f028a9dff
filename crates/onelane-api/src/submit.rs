use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A submission as one JSON object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitBody {
    /// The tool's name.
    pub tool: String,
    /// Its parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// What to call the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// −100 to 100, higher first.
    #[serde(default)]
    pub priority: i32,
    /// Labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Jobs that must have ended before this one starts.
    #[serde(default)]
    pub after: Vec<String>,
    /// Run anew even if the same was computed before.
    #[serde(default)]
    pub fresh: bool,
}
