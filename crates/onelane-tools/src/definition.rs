use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use onelane_core::{CpuPriority, Limits, Needs, OnInterrupt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::command::CommandItem;
use crate::digest;
use crate::param::Param;
use crate::progress::ProgressPattern;
use crate::warm::Warm;

/// Time to end by itself, where a tool says nothing, in milliseconds.
pub const DEFAULT_GRACE_MS: u64 = 10_000;

/// A tool: a command or a warm worker, its typed parameters, what it needs and what it leaves behind.
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
    /// The program and its arguments, with placeholders; none if it is warm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<CommandItem>,
    /// A process that stays between jobs, instead of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
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
    /// What it reads on its standard input: a template, which is a parameter's file or a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The folder that it runs in; its attempt's own `work/` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<Workdir>,
    /// Its environment, besides the server's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// What a success is; exit code 0 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Success>,
    /// How to read progress off its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressPattern>,
    /// A job that shows that it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
}

/// The folder that a tool runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workdir {
    /// The attempt's own `work/`.
    Work,
    /// The attempt's `output/`: all that is left there is a result.
    Output,
    /// A fixed one, absolute.
    Folder(PathBuf),
}

/// A value of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// The value itself.
    Literal(String),
    /// A secret: what is in a file when the attempt starts. It is kept nowhere.
    File(SecretFile),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// The file, absolute.
    pub file: PathBuf,
}

/// What a success is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// The exit codes of a success.
    #[serde(default = "only_zero")]
    pub exit_codes: Vec<i32>,
    /// A file that must be there at the end, relative to the output folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

fn only_zero() -> Vec<i32> {
    vec![0]
}

/// A job that shows that a tool works.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Its parameters, as a client would send them in JSON.
    pub params: Map<String, Value>,
    /// What must be in its results, by the results' names.
    #[serde(default)]
    pub expect: IndexMap<String, Expect>,
}

/// What must be in a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Texts that must occur.
    #[serde(
        default,
        deserialize_with = "crate::param::one_or_more",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub contains: Vec<String>,
    /// The fewest bytes; 1 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<u64>,
    /// SHA-256 of the whole file, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
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
    /// A job without it has failed.
    #[serde(default, skip_serializing_if = "crate::param::is_false")]
    pub required: bool,
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
    /// A page, which is shown shut off from everything else.
    Html,
    /// A structure of molecules: PDB or mmCIF.
    Structure,
}

impl View {
    /// Its word in the tools file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Text => "text",
            Self::Alignment => "alignment",
            Self::Fasta => "fasta",
            Self::Image => "image",
            Self::Json => "json",
            Self::Html => "html",
            Self::Structure => "structure",
        }
    }
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
            .filter(|(_, param)| matches!(param, Param::Fasta(_) | Param::Fastq(_)));
        let (name, _) = sequences.next()?;
        sequences.next().is_none().then_some(name.as_str())
    }

    /// What the tools file says about an exit code.
    pub fn exit_sentence(&self, code: i32) -> Option<&str> {
        self.exit_codes.get(&code).map(String::as_str)
    }

    /// True when this exit code is a success.
    pub fn is_success(&self, code: i32) -> bool {
        match &self.success {
            Some(success) => success.exit_codes.contains(&code),
            None => code == 0,
        }
    }

    /// The files that a successful run must leave, relative to the output folder, in no special order.
    pub fn required_files(&self) -> impl Iterator<Item = &str> {
        let declared = self.results.values().filter(|result| result.required);
        let rule = self
            .success
            .as_ref()
            .and_then(|success| success.file.as_deref());
        declared.map(|result| result.file.as_str()).chain(rule)
    }

    /// The declared environment, with secrets read from their files. No message tells what is in such a file.
    pub fn environment(&self) -> Result<BTreeMap<String, String>, String> {
        let mut environment = BTreeMap::new();
        for (name, value) in &self.env {
            let value = match value {
                EnvValue::Literal(text) => text.clone(),
                EnvValue::File(secret) => read_secret(&secret.file)
                    .map_err(|why| format!("environment variable `{name}`: {why}"))?,
            };
            environment.insert(name.clone(), value);
        }
        Ok(environment)
    }
}

/// No secret is larger.
const MAX_SECRET_BYTES: u64 = 64 << 10;

fn read_secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => return Err(format!("`{shown}` can't be read: {error}")),
        Ok(size) if size as u64 > MAX_SECRET_BYTES => {
            return Err(format!("`{shown}` has more than 64 KiB"));
        }
        Ok(_) if text.contains('\0') => return Err(format!("`{shown}` holds a NUL character")),
        Ok(_) => {}
    }
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(text)
}

impl Places<'_> {
    pub(crate) fn fill(&self, name: &str) -> Result<String, String> {
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
