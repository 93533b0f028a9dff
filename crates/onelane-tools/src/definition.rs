use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use onelane_core::{CpuPriority, Limits, Needs, OnInterrupt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest;
use crate::param::Param;
use crate::template::{self, Piece};

/// Time to end by itself, where a tool says nothing, in milliseconds.
pub const DEFAULT_GRACE_MS: u64 = 10_000;

/// A tool: a command, its typed parameters, what it needs and what it leaves behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefinition {
    /// Its name in addresses: `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The program and its arguments, with placeholders.
    pub command: Vec<String>,
    /// A command, without placeholders, that prints the tool's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Vec<String>>,
    /// What it takes of the machine; nothing declared is all of it.
    #[serde(default)]
    pub needs: Needs,
    /// What an attempt may use before it is ended.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Milliseconds between the polite signal and the final one; without it there are ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Whether it yields to the server and to other programs.
    #[serde(default, skip_serializing_if = "CpuPriority::is_idle")]
    pub cpu_priority: CpuPriority,
    /// What follows an interrupted attempt.
    #[serde(default)]
    pub on_interrupt: OnInterrupt,
    /// Its parameters, in the order of their declaration.
    #[serde(default)]
    pub params: IndexMap<String, Param>,
    /// Its result files, in the order of their declaration.
    #[serde(default)]
    pub results: IndexMap<String, ResultFile>,
    /// What an exit code means: the end of the sentence "the tool …".
    #[serde(default)]
    pub exit_codes: BTreeMap<i32, String>,
}

/// A file that a tool leaves in its output folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// Path relative to the output folder.
    pub file: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How a page shows it; without one it is offered for download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// A table's columns, where the file has no line of headings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The media type it is served with, where its name doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

/// How a page shows a result file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Tab-separated values.
    Table,
    /// Plain text.
    Text,
    /// Alignments as text, in a fixed-width face.
    Alignment,
    /// Sequences.
    Fasta,
    /// A picture.
    Image,
    /// A JSON value.
    Json,
}

/// What an attempt's own placeholders stand for.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// The folder of the parameters' files.
    pub input: &'a Path,
    /// The folder for results.
    pub output: &'a Path,
    /// The folder that the attempt runs in.
    pub work: &'a Path,
    /// Processors that the attempt may use.
    pub cpus: u32,
    /// Bytes of memory that the attempt may use.
    pub memory_bytes: u64,
    /// The job's id.
    pub job_id: String,
    /// What the submitter calls the job.
    pub name: String,
}

impl ToolDefinition {
    /// SHA-256 of the definition's canonical JSON, in hexadecimal: the name under which a store keeps it.
    pub fn hash(&self) -> String {
        // Every part of a definition is text, a number or a list of these: it always has a JSON form.
        let value = serde_json::to_value(self).unwrap_or_default();
        digest::sha256_hex(digest::canonical(&value).as_bytes())
    }

    /// Milliseconds between the polite signal and the final one.
    pub fn grace_ms(&self) -> u64 {
        self.grace_ms.unwrap_or(DEFAULT_GRACE_MS)
    }

    /// The only parameter that is a sequence, if exactly one is.
    pub fn sequence_param(&self) -> Option<&str> {
        let mut sequences = self
            .params
            .iter()
            .filter(|(_, param)| matches!(param, Param::Fasta(_)));
        let (name, _) = sequences.next()?;
        sequences.next().is_none().then_some(name.as_str())
    }

    /// What the tools file says about an exit code.
    pub fn exit_sentence(&self, code: i32) -> Option<&str> {
        self.exit_codes.get(&code).map(String::as_str)
    }

    /// The program and its arguments for accepted parameters.
    ///
    /// Each item of `command` becomes exactly one argument. Two kinds of item are left out instead: one that mentions
    /// an optional parameter that wasn't given, and one that is just a flag with an `argument` of its own, not set.
    pub fn command_line(
        &self,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Vec<String>, String> {
        let mut line = Vec::with_capacity(self.command.len());
        for item in &self.command {
            line.extend(self.argument(item, params, places)?);
        }
        if line.is_empty() {
            return Err(format!("tool `{}` has no program to run", self.name));
        }
        Ok(line)
    }

    fn argument(
        &self,
        item: &str,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Option<String>, String> {
        let pieces = template::parse(item)?;
        if let Some(Param::Flag(flag)) = template::alone(&pieces).and_then(|n| self.params.get(n))
            && let Some(argument) = &flag.argument
        {
            let set = params.get(template::alone(&pieces).unwrap_or_default());
            return Ok((set == Some(&Value::Bool(true))).then(|| argument.clone()));
        }
        let mut argument = String::new();
        for piece in &pieces {
            match self.fill(piece, params, places)? {
                Some(text) => argument.push_str(&text),
                None => return Ok(None),
            }
        }
        if argument.contains('\0') {
            return Err(format!("argument `{item}` would hold a NUL character"));
        }
        Ok(Some(argument))
    }

    fn fill(
        &self,
        piece: &Piece,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Option<String>, String> {
        let name = match piece {
            Piece::Literal(text) => return Ok(Some(text.clone())),
            Piece::Placeholder(name) => name.as_str(),
        };
        if let Some(param) = self.params.get(name) {
            let value = params.get(name).filter(|value| !value.is_null());
            let fill = |value| param.fill(value, places.input);
            return value
                .map(fill)
                .transpose()
                .map_err(|why| format!("parameter `{name}` {why}"));
        }
        places.fill(name).map(Some)
    }
}

impl Places<'_> {
    fn fill(&self, name: &str) -> Result<String, String> {
        match name {
            "output" => path_text(self.output),
            "work" => path_text(self.work),
            "cpus" => Ok(self.cpus.to_string()),
            "memory_bytes" => Ok(self.memory_bytes.to_string()),
            "job_id" => Ok(self.job_id.clone()),
            "name" => Ok(without_leading_dash(&self.name)),
            other => Err(format!("placeholder `{{{other}}}` is not known")),
        }
    }
}

/// A path as an argument. Arguments are text here; a folder whose name isn't is refused rather than mangled.
pub(crate) fn path_text(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("path `{}` is not UTF-8", path.display())),
    }
}

/// A job's name is the submitter's text: at the start of an argument it must not become an option.
fn without_leading_dash(name: &str) -> String {
    match name.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => name.to_owned(),
    }
}
