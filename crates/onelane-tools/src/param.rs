use std::fmt;
use std::path::{Component, Path};

use indexmap::IndexMap;
use onelane_seq::{Alphabet, Duplicates};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use crate::bytes::Bytes;
use crate::definition::path_text;
use crate::suggest;

/// The longest argument that Linux passes to a program (`MAX_ARG_STRLEN` without its closing NUL).
pub const MAX_ARGUMENT_BYTES: usize = 131_071;

/// The most files of one parameter where the tool doesn't say.
const MAX_FILES: u64 = 1_000;

/// A text parameter's `max_length` where the tool doesn't say.
const DEFAULT_MAX_LENGTH: u64 = 10_000;

/// The same of a tool with a worker, whose text is no argument. Parameters are in every list of jobs, so it is no more.
pub(crate) const DEFAULT_WORKER_MAX_LENGTH: u64 = 100_000;

/// The most that a tool with a worker can say: its parameters come as one message, of 16 MiB at most.
const WORKER_MAX_LENGTH: u64 = 1_000_000;

/// A parameter of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Param {
    /// Sequences; the command gets the path of their file.
    Fasta(FastaParam),
    /// Reads with qualities; the command gets the path of their file.
    Fastq(FastqParam),
    /// A file of any kind; the command gets its path.
    File(FileParam),
    /// Several files; the command gets their paths, by an `each` group.
    Files(FilesParam),
    /// Text.
    Text(TextParam),
    /// A finite number.
    Number(NumberParam),
    /// A whole number.
    Integer(IntegerParam),
    /// One of some keys; the command gets the key's value.
    Choice(ChoiceParam),
    /// Some of some keys; the command gets their values, joined by commas or by an `each` group.
    Choices(ChoicesParam),
    /// Yes or no.
    Flag(FlagParam),
    /// A JSON value; the command gets the path of its file.
    Json(JsonParam),
}

/// The words of all types of parameters.
pub(crate) const KINDS: [&str; 11] = [
    "fasta", "fastq", "file", "files", "text", "number", "integer", "choice", "choices", "flag",
    "json",
];

/// A struct of a parameter: what all of them have, and its own fields.
macro_rules! param {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// What people call it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub title: Option<String>,
            /// What it is for.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub help: Option<String>,
            /// A value that people are shown.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub example: Option<Value>,
            /// Pages show it to those who ask for more.
            #[serde(default, skip_serializing_if = "is_false")]
            pub advanced: bool,
            $($(#[$field_meta])* pub $field: $type,)*
        }
    };
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
pub(crate) const fn is_false(set: &bool) -> bool {
    !*set
}

param! {
    /// Sequences in FASTA, checked and rewritten before the tool sees them. May come compressed by gzip.
    FastaParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// Which letters may occur.
        #[serde(default = "any_letters")]
        alphabet: Alphabet,
        /// Characters that may occur besides, such as `:` between chains, `*`, or the gaps `-` and `.`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        letters: String,
        /// The most records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_records: Option<u64>,
        /// The most residues, of all records together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_residues: Option<u64>,
        /// The longest header in bytes; 65,536 if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_header: Option<u64>,
        /// What becomes of ids that are there twice.
        #[serde(default)]
        duplicates: Duplicates,
        /// Take sequences that look like nucleotides where proteins are expected.
        #[serde(default, skip_serializing_if = "is_false")]
        allow_nucleotides: bool,
    }
}

param! {
    /// Reads in FASTQ, four lines each, checked before the tool sees them. May come compressed by gzip.
    FastqParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// Which letters may occur.
        #[serde(default = "nucleotides")]
        alphabet: Alphabet,
        /// The most records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_records: Option<u64>,
        /// The most residues, of all records together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_residues: Option<u64>,
        /// The longest header in bytes; 65,536 if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_header: Option<u64>,
    }
}

param! {
    /// A file of any kind.
    FileParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What may stand behind the dot in its name; the first is given to content that came without a name.
        #[serde(default, deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
        extension: Vec<String>,
        /// The most bytes.
        #[serde(default, deserialize_with = "size", skip_serializing_if = "Option::is_none")]
        max_size: Option<u64>,
        /// How its content may begin: text, or bytes as `hex:1f8b`.
        #[serde(default, deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
        magic: Vec<String>,
    }
}

param! {
    /// Several files of any kind.
    FilesParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What may stand behind the dot in their names; the first is given to content that came without a name.
        #[serde(default, deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
        extension: Vec<String>,
        /// The most bytes of each.
        #[serde(default, deserialize_with = "size", skip_serializing_if = "Option::is_none")]
        max_size: Option<u64>,
        /// How the content of each may begin: text, or bytes as `hex:1f8b`.
        #[serde(default, deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
        magic: Vec<String>,
        /// The fewest files; 1 if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_count: Option<u64>,
        /// The most files; 1,000 if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_count: Option<u64>,
    }
}

param! {
    /// Text, which becomes one argument.
    TextParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
        /// The fewest characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_length: Option<u64>,
        /// The most characters; 10,000 if not said, which the tools file makes 100,000 for a tool with a worker.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length: Option<u64>,
        /// A regular expression that the whole text must match.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<String>,
        /// It may begin with `-`, which most programs take for an option.
        #[serde(default)]
        allow_dash: bool,
    }
}

param! {
    /// A finite number.
    NumberParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<f64>,
        /// The smallest allowed value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// The largest allowed value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    }
}

param! {
    /// A whole number.
    IntegerParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<i64>,
        /// The smallest allowed value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<i64>,
        /// The largest allowed value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    }
}

param! {
    /// One of some keys.
    ChoiceParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// The key that it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
        /// What the client sees → what the command gets. A list in the tools file is the same text for both.
        #[serde(default, deserialize_with = "list_or_table")]
        choices: IndexMap<String, String>,
        /// A pattern of files, such as `/db/*.pin`: each is a choice, its key the name and its value the path, both
        /// without the last extension.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        choices_from: Option<String>,
    }
}

param! {
    /// Some of some keys, each at most once.
    ChoicesParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// The keys that it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Vec<String>>,
        /// What the client sees → what the command gets. A list in the tools file is the same text for both.
        #[serde(default, deserialize_with = "list_or_table")]
        choices: IndexMap<String, String>,
        /// As for a choice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        choices_from: Option<String>,
        /// The fewest keys; 1 if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_count: Option<u64>,
        /// The most keys.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_count: Option<u64>,
    }
}

param! {
    /// Yes or no; no when left out, unless its default says otherwise.
    FlagParam {
        /// What it is when left out.
        #[serde(default)]
        default: bool,
        /// The argument that the item `{name}` becomes if it is set; the item is left out if it isn't. Without this,
        /// the placeholder fills `true` or `false`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        argument: Option<String>,
    }
}

param! {
    /// A JSON value: well-formed, and otherwise up to the tool.
    JsonParam {
        /// It may be left out.
        #[serde(default)]
        optional: bool,
        /// What it is when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
        /// The most bytes.
        #[serde(default, deserialize_with = "size", skip_serializing_if = "Option::is_none")]
        max_size: Option<u64>,
    }
}

const fn any_letters() -> Alphabet {
    Alphabet::Any
}

const fn nucleotides() -> Alphabet {
    Alphabet::Nucleotide
}

impl Default for FastaParam {
    fn default() -> Self {
        Self {
            title: None,
            help: None,
            example: None,
            advanced: false,
            optional: false,
            alphabet: any_letters(),
            letters: String::new(),
            max_records: None,
            max_residues: None,
            max_header: None,
            duplicates: Duplicates::default(),
            allow_nucleotides: false,
        }
    }
}

/// What a parameter of files asks of each.
#[derive(Clone, Copy)]
pub(crate) struct FileRules<'a> {
    pub(crate) extension: &'a [String],
    pub(crate) max_size: Option<u64>,
    pub(crate) magic: &'a [String],
}

/// The same for a parameter of each type.
macro_rules! of_any {
    ($param:expr, $p:ident => $result:expr) => {
        match $param {
            Self::Fasta($p) => $result,
            Self::Fastq($p) => $result,
            Self::File($p) => $result,
            Self::Files($p) => $result,
            Self::Text($p) => $result,
            Self::Number($p) => $result,
            Self::Integer($p) => $result,
            Self::Choice($p) => $result,
            Self::Choices($p) => $result,
            Self::Flag($p) => $result,
            Self::Json($p) => $result,
        }
    };
}

/// What is wrong with a parameter's declaration, and under which key.
pub(crate) struct Problem {
    pub(crate) key: &'static str,
    pub(crate) message: String,
}

impl Problem {
    /// Whether it is one whatever the parameter's other keys say.
    pub(crate) fn stands_alone(&self) -> bool {
        !matches!(
            self.key,
            "choices" | "default" | "example" | "max_count" | "min_length"
        )
    }
}

fn problem(key: &'static str, message: impl Into<String>) -> Problem {
    Problem {
        key,
        message: message.into(),
    }
}

impl Param {
    /// What people call it.
    pub fn title(&self) -> Option<&str> {
        of_any!(self, p => p.title.as_deref())
    }

    /// What it is for.
    pub fn help(&self) -> Option<&str> {
        of_any!(self, p => p.help.as_deref())
    }

    /// A value that people are shown.
    pub fn example(&self) -> Option<&Value> {
        of_any!(self, p => p.example.as_ref())
    }

    /// Whether pages show it only to those who ask for more.
    pub fn is_advanced(&self) -> bool {
        of_any!(self, p => p.advanced)
    }

    /// What it is when left out, if that is declared.
    pub fn default_value(&self) -> Option<Value> {
        match self {
            Self::Fasta(_) | Self::Fastq(_) | Self::File(_) | Self::Files(_) => None,
            Self::Text(p) => p.default.clone().map(Value::from),
            Self::Number(p) => p.default.map(number_value),
            Self::Integer(p) => p.default.map(Value::from),
            Self::Choice(p) => p.default.clone().map(Value::from),
            Self::Choices(p) => p.default.clone().map(Value::from),
            Self::Flag(p) => Some(Value::Bool(p.default)),
            Self::Json(p) => p.default.clone(),
        }
    }

    /// True when a submission without it is refused.
    pub fn is_required(&self) -> bool {
        !self.is_optional() && self.default_value().is_none()
    }

    /// True when it may come several times.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Self::Files(_) | Self::Choices(_))
    }

    /// True when its value is kept in files under `input/`.
    pub(crate) fn is_file(&self) -> bool {
        matches!(
            self,
            Self::Fasta(_) | Self::Fastq(_) | Self::File(_) | Self::Files(_) | Self::Json(_)
        )
    }

    fn is_optional(&self) -> bool {
        match self {
            Self::Fasta(p) => p.optional,
            Self::Fastq(p) => p.optional,
            Self::File(p) => p.optional,
            Self::Files(p) => p.optional,
            Self::Text(p) => p.optional,
            Self::Number(p) => p.optional,
            Self::Integer(p) => p.optional,
            Self::Choice(p) => p.optional,
            Self::Choices(p) => p.optional,
            Self::Flag(_) => true,
            Self::Json(p) => p.optional,
        }
    }

    /// True when an empty field of a form means that nothing was given: a form can't say it in another way.
    pub(crate) fn empty_is_absent(&self) -> bool {
        match self {
            Self::Text(p) => p.optional,
            other => !other.is_required(),
        }
    }

    /// The value that some text stands for. Not for what is kept in files, which needs a place to be written to.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text(p) => p.read(text),
            Self::Number(p) => p.read_text(text),
            Self::Integer(p) => p.read_text(text),
            Self::Choice(p) => choose(&p.choices, p.choices_from.as_deref(), text),
            Self::Choices(p) => choose(&p.choices, p.choices_from.as_deref(), text)
                .map(|key| Value::from(vec![key])),
            Self::Flag(_) => read_flag(text),
            Self::Json(_) => parse_json(text),
            Self::Fasta(_) | Self::Fastq(_) | Self::File(_) | Self::Files(_) => Ok(text.into()),
        }
    }

    /// The value that some JSON stands for.
    pub(crate) fn read_json(&self, json: &Value) -> Result<Value, String> {
        match (self, json) {
            (Self::Choices(p), Value::Array(keys)) => p.read(keys),
            (Self::Files(_), Value::Array(texts)) if texts.iter().all(Value::is_string) => {
                Ok(json.clone())
            }
            (_, Value::String(text)) => self.read_text(text),
            (Self::Json(_), other) => Ok(other.clone()),
            (Self::Number(p), Value::Number(number)) => p.read_number(number),
            (Self::Integer(p), Value::Number(number)) => p.read_number(number),
            (Self::Flag(_), Value::Bool(set)) => Ok(Value::Bool(*set)),
            (Self::Flag(_), Value::Number(number)) => read_flag(&number.to_string()),
            (_, other) => Err(self.wrong_type(kind_of(other))),
        }
    }

    /// The sentence for a value of the wrong type.
    pub(crate) fn wrong_type(&self, kind: &str) -> String {
        format!("{} is expected here, not {kind}", self.expected())
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Fasta(_) => "FASTA as text or as a file",
            Self::Fastq(_) => "FASTQ as text or as a file",
            Self::File(_) => "a file, or its content as text,",
            Self::Files(_) => "a list of files, or of their contents as text,",
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Integer(_) => "a whole number",
            Self::Choice(_) => "text, one of the choices,",
            Self::Choices(_) => "a list of texts, each one of the choices,",
            Self::Flag(_) => "true or false",
            Self::Json(_) => "a JSON value",
        }
    }

    /// What fills the placeholder for an accepted value.
    pub(crate) fn fill(&self, value: &Value, input: &Path) -> Result<String, String> {
        match (self, value) {
            (Self::Fasta(_) | Self::Fastq(_) | Self::File(_) | Self::Json(_), value) => {
                input_path(value, input)
            }
            (Self::Files(_), _) => {
                Err("holds several files: they are filled in by an `each` group".to_owned())
            }
            (Self::Choices(_), _) => Ok(self.fill_each(value, input)?.join(",")),
            (Self::Choice(p), Value::String(key)) => chosen(&p.choices, key),
            (Self::Text(_), Value::String(text)) => Ok(text.clone()),
            (Self::Number(_) | Self::Integer(_), Value::Number(number)) => Ok(number.to_string()),
            (Self::Flag(_), Value::Bool(set)) => Ok(set.to_string()),
            (param, other) => Err(format!("holds {}: {}", kind_of(other), param.expected())),
        }
    }

    /// What fills the placeholder for each member of an accepted list.
    pub(crate) fn fill_each(&self, value: &Value, input: &Path) -> Result<Vec<String>, String> {
        let members = value.as_array().ok_or("holds no list")?;
        let fill = |member: &Value| match self {
            Self::Files(_) => input_path(member, input),
            Self::Choices(p) => chosen(&p.choices, member.as_str().unwrap_or_default()),
            _ => Err("is no list".to_owned()),
        };
        members.iter().map(fill).collect()
    }

    /// What is wrong with the declaration, in a tool with a worker or with a command.
    pub(crate) fn problems(&self, has_worker: bool) -> Vec<Problem> {
        let mut problems = match self {
            Self::Fasta(p) => p.problems(),
            Self::Fastq(p) => zeros([
                ("max_records", p.max_records),
                ("max_residues", p.max_residues),
            ]),
            Self::File(p) => p.rules().problems(),
            Self::Files(p) => p.problems(),
            Self::Text(p) => p.problems(has_worker),
            Self::Number(p) => p.problems(),
            Self::Integer(p) => crossed(p.min, p.max),
            Self::Choice(p) => choice_problems(&p.choices, p.choices_from.is_some()),
            Self::Choices(p) => p.problems(),
            Self::Json(_) | Self::Flag(_) => Vec::new(),
        };
        // A default is held to the same rules as what people send; but only rules that make sense themselves. What is
        // on the disk may change: a default that is not there now is told when a job is submitted without it.
        if !problems.is_empty() || self.choices_come_from_disk() {
            return problems;
        }
        for (key, value) in [
            ("default", self.default_value()),
            ("example", self.example().cloned()),
        ] {
            if let Some(Err(why)) = value.map(|value| self.read_json(&value)) {
                problems.push(problem(key, format!("the {key} {why}")));
            }
        }
        problems
    }

    /// What is wrong with a choice of files of which there is none; none for any other parameter.
    pub fn nothing_to_choose(&self) -> Option<String> {
        let (choices, from) = match self {
            Self::Choice(p) => (&p.choices, p.choices_from.as_deref()),
            Self::Choices(p) => (&p.choices, p.choices_from.as_deref()),
            _ => return None,
        };
        from.filter(|_| choices.is_empty()).map(no_match)
    }

    pub(crate) fn choices_come_from_disk(&self) -> bool {
        match self {
            Self::Choice(p) => p.choices_from.is_some(),
            Self::Choices(p) => p.choices_from.is_some(),
            _ => false,
        }
    }
}

/// The path of a parameter's file. The value comes from the store, so its file name is not trusted.
fn input_path(value: &Value, input: &Path) -> Result<String, String> {
    let file = value
        .get("file")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut parts = Path::new(file).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => path_text(&input.join(file)),
        _ => Err("names no file".to_owned()),
    }
}

/// Text that is JSON.
pub(crate) fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is not well-formed JSON: {error}"))
}

fn zeros<const N: usize>(limits: [(&'static str, Option<u64>); N]) -> Vec<Problem> {
    let zero = limits.into_iter().filter(|(_, limit)| *limit == Some(0));
    zero.map(|(key, _)| problem(key, format!("`{key}` must be at least 1")))
        .collect()
}

impl FastaParam {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = zeros([
            ("max_records", self.max_records),
            ("max_residues", self.max_residues),
        ]);
        if let Some(c) = self
            .letters
            .chars()
            .find(|c| !c.is_ascii_punctuation() || *c == '>')
        {
            let message = format!(
                "`{c}` can't be a letter besides: only signs such as `:`, `*`, `-` or `.` can"
            );
            problems.push(problem("letters", message));
        }
        problems
    }
}

impl FileParam {
    pub(crate) fn rules(&self) -> FileRules<'_> {
        FileRules {
            extension: &self.extension,
            max_size: self.max_size,
            magic: &self.magic,
        }
    }
}

impl FilesParam {
    pub(crate) fn rules(&self) -> FileRules<'_> {
        FileRules {
            extension: &self.extension,
            max_size: self.max_size,
            magic: &self.magic,
        }
    }

    /// The fewest and the most files.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.min_count.unwrap_or(1),
            self.max_count.unwrap_or(MAX_FILES),
        )
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.rules().problems();
        let (fewest, most) = self.counts();
        if fewest > most || most == 0 {
            problems.push(problem(
                "max_count",
                "`max_count` is below `min_count`, or 0",
            ));
        }
        problems
    }
}

impl FileRules<'_> {
    fn problems(self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for extension in self.extension {
            if extension.is_empty()
                || extension.starts_with('.')
                || !extension.chars().all(is_plain)
            {
                let message = format!(
                    "`{extension}` is no extension: write it without its first dot, such as `pdb`"
                );
                problems.push(problem("extension", message));
            }
        }
        for magic in self.magic {
            if magic_bytes(magic).is_none() {
                let message = format!("`{magic}` is neither text nor bytes such as `hex:1f8b`");
                problems.push(problem("magic", message));
            }
        }
        problems
    }
}

/// The bytes that a magic stands for: its text, or what stands in hexadecimal behind `hex:`.
pub(crate) fn magic_bytes(magic: &str) -> Option<Vec<u8>> {
    let Some(digits) = magic.strip_prefix("hex:") else {
        return (!magic.is_empty()).then(|| magic.as_bytes().to_vec());
    };
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair)
            .ok()
            .filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    };
    pairs
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .filter(|bytes| !bytes.is_empty())
}

impl TextParam {
    /// The most characters.
    pub(crate) fn longest(&self) -> u64 {
        self.max_length.unwrap_or(DEFAULT_MAX_LENGTH)
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        let length = text.chars().count() as u64;
        let shortest = self.min_length.unwrap_or(0);
        if text.contains('\0') {
            Err("must not hold a NUL character".to_owned())
        } else if text.starts_with('-') && !self.allow_dash {
            Err("must not begin with `-`, which the tool would take for an option".to_owned())
        } else if length < shortest {
            Err(format!(
                "has {length} characters, but at least {shortest} are needed"
            ))
        } else if length > self.longest() {
            Err(format!(
                "has {length} characters, but at most {} are allowed",
                self.longest()
            ))
        } else if let Some(pattern) = self
            .pattern
            .as_deref()
            .filter(|pattern| !matches(pattern, text))
        {
            Err(format!("must match `{pattern}`, but is {}", quoted(text)))
        } else {
            Ok(Value::from(text))
        }
    }

    fn problems(&self, has_worker: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        if has_worker && self.longest() > WORKER_MAX_LENGTH {
            let message = format!("a worker gets at most {WORKER_MAX_LENGTH} characters of text");
            problems.push(problem("max_length", message));
        } else if !has_worker && self.longest() > MAX_ARGUMENT_BYTES as u64 {
            problems.push(problem("max_length", too_long_for_an_argument()));
        }
        let default = self.default.as_deref().unwrap_or_default();
        if !has_worker && default.len() > MAX_ARGUMENT_BYTES {
            problems.push(problem("default", too_long_for_an_argument()));
        }
        if let Some(Err(error)) = self.pattern.as_deref().map(whole) {
            let message = format!("the pattern is not right: {error}");
            problems.push(problem("pattern", message));
        }
        if self.min_length.unwrap_or(0) > self.longest() {
            problems.push(problem("min_length", "`min_length` is above `max_length`"));
        }
        problems
    }
}

fn too_long_for_an_argument() -> String {
    format!("an argument of a program holds at most {MAX_ARGUMENT_BYTES} bytes")
}

impl NumberParam {
    fn read_text(&self, text: &str) -> Result<Value, String> {
        match text.trim().parse::<f64>() {
            Ok(number) => self.check(number),
            Err(_) => Err(format!("must be a number, not {}", quoted(text))),
        }
    }

    fn read_number(&self, number: &Number) -> Result<Value, String> {
        self.check(number.as_f64().unwrap_or(f64::NAN))
    }

    fn check(&self, number: f64) -> Result<Value, String> {
        if !number.is_finite() {
            return Err("must be a finite number".to_owned());
        }
        within(number, self.min, self.max)?;
        Ok(number_value(number))
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = crossed(self.min, self.max);
        for (key, bound) in [("min", self.min), ("max", self.max)] {
            if bound.is_some_and(|bound| !bound.is_finite()) {
                problems.push(problem(key, format!("`{key}` must be a finite number")));
            }
        }
        problems
    }
}

impl IntegerParam {
    fn read_text(&self, text: &str) -> Result<Value, String> {
        match text.trim().parse::<i64>() {
            Ok(number) => self.check(number),
            Err(_) => Err(format!("must be a whole number, not {}", quoted(text))),
        }
    }

    /// JSON doesn't tell 10 from 10.0, and neither does JSON Schema's `integer`.
    fn read_number(&self, number: &Number) -> Result<Value, String> {
        let whole = number
            .as_i64()
            .or_else(|| number_value(number.as_f64()?).as_i64());
        match whole {
            Some(whole) => self.check(whole),
            None => Err(format!("must be a whole number, not {number}")),
        }
    }

    fn check(&self, number: i64) -> Result<Value, String> {
        within(number, self.min, self.max)?;
        Ok(Value::from(number))
    }
}

impl ChoicesParam {
    fn read(&self, keys: &[Value]) -> Result<Value, String> {
        let mut read = Vec::new();
        for key in keys {
            let text = key
                .as_str()
                .ok_or_else(|| format!("must hold texts, not {}", kind_of(key)))?;
            let key = choose(&self.choices, self.choices_from.as_deref(), text)?;
            if read.contains(&key) {
                return Err(format!("has {} twice", quoted(text)));
            }
            read.push(key);
        }
        let count = read.len() as u64;
        let (fewest, most) = (
            self.min_count.unwrap_or(1),
            self.max_count.unwrap_or(u64::MAX),
        );
        if count < fewest {
            return Err(format!(
                "has {count} choices, but at least {fewest} are needed"
            ));
        }
        if count > most {
            return Err(format!(
                "has {count} choices, but at most {most} are allowed"
            ));
        }
        Ok(Value::from(read))
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = choice_problems(&self.choices, self.choices_from.is_some());
        problems.extend(crossed(self.min_count, self.max_count));
        problems
    }
}

fn choose(
    choices: &IndexMap<String, String>,
    from: Option<&str>,
    key: &str,
) -> Result<Value, String> {
    if choices.contains_key(key) {
        return Ok(Value::from(key));
    }
    if let (true, Some(pattern)) = (choices.is_empty(), from) {
        return Err(no_match(pattern));
    }
    let keys: Vec<_> = choices.keys().map(String::as_str).collect();
    Err(format!(
        "must be one of {}, not {}",
        suggest::quoted_list(&keys),
        quoted(key)
    ))
}

/// What is wrong with a choice of files of which there is none.
fn no_match(pattern: &str) -> String {
    format!(
        "has nothing to choose from: no file matches `{pattern}`; put a database there, then run `onelane tools reload`"
    )
}

fn chosen(choices: &IndexMap<String, String>, key: &str) -> Result<String, String> {
    let value = choices.get(key).cloned();
    value.ok_or_else(|| format!("has no choice {}", quoted(key)))
}

fn choice_problems(choices: &IndexMap<String, String>, from_disk: bool) -> Vec<Problem> {
    if choices.is_empty() && !from_disk {
        return vec![problem(
            "choices",
            "there must be at least one choice, in `choices` or by `choices_from`",
        )];
    }
    let nul = |(key, value): (&String, &String)| key.contains('\0') || value.contains('\0');
    if choices.iter().any(nul) {
        return vec![problem("choices", "a choice must not hold a NUL character")];
    }
    Vec::new()
}

/// The pattern as one that the whole text must match.
pub(crate) fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn whole(pattern: &str) -> Result<regex::Regex, String> {
    // Compiled alone first: a `)` too many must not close the group that is put around it.
    regex::Regex::new(pattern).map_err(|error| error.to_string())?;
    regex::RegexBuilder::new(&format!("\\A(?:{pattern})\\z"))
        .size_limit(1 << 20)
        .build()
        .map_err(|error| error.to_string())
}

fn matches(pattern: &str, text: &str) -> bool {
    whole(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

fn read_flag(text: &str) -> Result<Value, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
        "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
        _ => Err(format!("must be true or false, not {}", quoted(text))),
    }
}

fn within<T: PartialOrd + fmt::Display + Copy>(
    number: T,
    min: Option<T>,
    max: Option<T>,
) -> Result<(), String> {
    match (min, max) {
        (Some(min), _) if number < min => Err(format!("must be at least {min}, but is {number}")),
        (_, Some(max)) if number > max => Err(format!("must be at most {max}, but is {number}")),
        _ => Ok(()),
    }
}

fn crossed<T: PartialOrd>(min: Option<T>, max: Option<T>) -> Vec<Problem> {
    match (min, max) {
        (Some(min), Some(max)) if min > max => vec![problem("min", "`min` is above `max`")],
        _ => Vec::new(),
    }
}

/// A finite number as JSON, whole ones without a fraction: `10` is what tools expect, and one value has one spelling.
fn number_value(number: f64) -> Value {
    // Above 2⁵³ not every whole number has a form of its own, so the exponent form is the honest one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() < EXACT;
    let whole = is_whole.then(|| format!("{number:.0}").parse::<i64>().ok());
    match whole.flatten() {
        Some(whole) => Value::from(whole),
        None => Value::from(number),
    }
}

/// What a client sent, short enough for a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug())
}

/// A JSON value's type, as a sentence says it.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn list_or_table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<IndexMap<String, String>, D::Error> {
    deserializer.deserialize_any(ChoicesVisitor)
}

struct ChoicesVisitor;

impl<'de> Visitor<'de> for ChoicesVisitor {
    type Value = IndexMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a list of texts, or a table from what the client sees to what the command gets",
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut choices = IndexMap::new();
        while let Some(choice) = list.next_element::<String>()? {
            if let Some(twice) = choices.insert(choice.clone(), choice) {
                return Err(A::Error::custom(format!("choice `{twice}` is there twice")));
            }
        }
        Ok(choices)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
        let mut choices = IndexMap::new();
        while let Some((key, value)) = table.next_entry::<String, String>()? {
            choices.insert(key, value);
        }
        Ok(choices)
    }
}

pub(crate) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, or a list of texts")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Bytes::deserialize(deserializer).map(|bytes| Some(bytes.0))
}
