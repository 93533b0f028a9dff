//! Warm tools: a process that stays between jobs and gets their parameters as values instead of arguments.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::{Places, ToolDefinition};
use crate::param::Param;

/// How long an idle worker stays, where a tool says nothing: ten minutes.
pub const DEFAULT_KEEP_MS: u64 = 600_000;

/// What makes a tool a warm one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warm {
    /// The program and its arguments, final.
    pub worker: Vec<String>,
    /// How long an idle one stays.
    #[serde(default)]
    pub keep: Keep,
    /// After so many jobs it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u64>,
}

/// How long an idle worker stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// From the server's start to its end.
    Always,
    /// So many milliseconds.
    ForMs(u64),
}

impl Default for Keep {
    fn default() -> Self {
        Self::ForMs(DEFAULT_KEEP_MS)
    }
}

impl ToolDefinition {
    /// What a warm worker gets as `params` for accepted parameters: those that were given, by name.
    ///
    /// Sequences and files are the paths of their files, `json` too: its content is read by whoever sends it
    /// ([`ToolDefinition::json_params`]).
    ///
    /// # Errors
    /// When a value does not fit its parameter's type.
    pub fn worker_params(
        &self,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Map<String, Value>, String> {
        let given = self.params.iter().filter_map(|(name, param)| {
            let value = params.get(name).filter(|value| !value.is_null())?;
            let filled = worker_value(param, value, places.input);
            Some(
                filled
                    .map(|value| (name.clone(), value))
                    .map_err(|why| format!("parameter `{name}` {why}")),
            )
        });
        given.collect()
    }

    /// The parameters that hold any JSON.
    pub fn json_params(&self) -> impl Iterator<Item = &str> {
        let is_json = |(_, param): &(&String, &Param)| matches!(param, Param::Json(_));
        self.params
            .iter()
            .filter(is_json)
            .map(|(name, _)| name.as_str())
    }
}

fn worker_value(param: &Param, value: &Value, input: &Path) -> Result<Value, String> {
    match param {
        Param::Text(_) | Param::Number(_) | Param::Integer(_) | Param::Flag(_) => Ok(value.clone()),
        Param::Files(_) | Param::Choices(_) => param.fill_each(value, input).map(Value::from),
        Param::Fasta(_) | Param::Fastq(_) | Param::File(_) | Param::Json(_) | Param::Choice(_) => {
            param.fill(value, input).map(Value::from)
        }
    }
}
