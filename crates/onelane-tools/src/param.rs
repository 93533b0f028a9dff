use std::fmt;
use std::path::{Component, Path};

use indexmap::IndexMap;
use onelane_seq::Alphabet;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use crate::definition::path_text;
use crate::suggest;

/// The longest argument that Linux passes to a program (`MAX_ARG_STRLEN` without its closing NUL).
pub const MAX_ARGUMENT_BYTES: usize = 131_071;

/// A text parameter's `max_length` where the tool doesn't say.
const DEFAULT_MAX_LENGTH: u64 = 10_000;

/// A parameter of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Param {
    /// Sequences; the command gets the path of their file.
    Fasta(FastaParam),
    /// Text.
    Text(TextParam),
    /// A finite number.
    Number(NumberParam),
    /// A whole number.
    Integer(IntegerParam),
    /// One of some keys; the command gets the key's value.
    Choice(ChoiceParam),
    /// Yes or no.
    Flag(FlagParam),
}

/// Sequences in FASTA, checked and rewritten before the tool sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastaParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// Which letters may occur.
    #[serde(default = "any_letters")]
    pub alphabet: Alphabet,
    /// The most records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<u64>,
    /// The most residues, of all records together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_residues: Option<u64>,
}

const fn any_letters() -> Alphabet {
    Alphabet::Any
}

impl Default for FastaParam {
    fn default() -> Self {
        Self {
            title: None,
            help: None,
            optional: false,
            alphabet: any_letters(),
            max_records: None,
            max_residues: None,
        }
    }
}

/// Text, which becomes one argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// What it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The fewest characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// The most characters; 10,000 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// It may begin with `-`, which most programs take for an option.
    #[serde(default)]
    pub allow_dash: bool,
}

/// A finite number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// What it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<f64>,
    /// The smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A whole number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// What it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<i64>,
    /// The smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// One of some keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// The key that it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What the client sees → what the command gets. A list in the tools file is the same text for both.
    #[serde(deserialize_with = "list_or_table")]
    pub choices: IndexMap<String, String>,
}

/// Yes or no; no when left out, unless its default says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagParam {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What it is when left out.
    #[serde(default)]
    pub default: bool,
    /// The argument that the item `{name}` becomes if it is set; the item is left out if it isn't. Without this, the
    /// placeholder fills `true` or `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
}

/// What is wrong with a parameter's declaration, and under which key.
pub(crate) struct Problem {
    pub(crate) key: &'static str,
    pub(crate) message: String,
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
        match self {
            Self::Fasta(p) => p.title.as_deref(),
            Self::Text(p) => p.title.as_deref(),
            Self::Number(p) => p.title.as_deref(),
            Self::Integer(p) => p.title.as_deref(),
            Self::Choice(p) => p.title.as_deref(),
            Self::Flag(p) => p.title.as_deref(),
        }
    }

    /// What it is for.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Fasta(p) => p.help.as_deref(),
            Self::Text(p) => p.help.as_deref(),
            Self::Number(p) => p.help.as_deref(),
            Self::Integer(p) => p.help.as_deref(),
            Self::Choice(p) => p.help.as_deref(),
            Self::Flag(p) => p.help.as_deref(),
        }
    }

    /// What it is when left out, if that is declared.
    pub fn default_value(&self) -> Option<Value> {
        match self {
            Self::Fasta(_) => None,
            Self::Text(p) => p.default.clone().map(Value::from),
            Self::Number(p) => p.default.map(number_value),
            Self::Integer(p) => p.default.map(Value::from),
            Self::Choice(p) => p.default.clone().map(Value::from),
            Self::Flag(p) => Some(Value::Bool(p.default)),
        }
    }

    /// True when a submission without it is refused.
    pub fn is_required(&self) -> bool {
        !self.is_optional() && self.default_value().is_none()
    }

    fn is_optional(&self) -> bool {
        match self {
            Self::Fasta(p) => p.optional,
            Self::Text(p) => p.optional,
            Self::Number(p) => p.optional,
            Self::Integer(p) => p.optional,
            Self::Choice(p) => p.optional,
            Self::Flag(_) => true,
        }
    }

    /// True when an empty field of a form means that nothing was given: a form can't say it in another way.
    pub(crate) fn empty_is_absent(&self) -> bool {
        match self {
            Self::Text(p) => p.optional,
            other => !other.is_required(),
        }
    }

    /// The value that some text stands for. Not for sequences, which need a place to be written to.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Fasta(_) => Err("must be sequences".to_owned()),
            Self::Text(p) => p.read(text),
            Self::Number(p) => p.read_text(text),
            Self::Integer(p) => p.read_text(text),
            Self::Choice(p) => p.read(text),
            Self::Flag(_) => read_flag(text),
        }
    }

    /// The value that some JSON stands for.
    pub(crate) fn read_json(&self, json: &Value) -> Result<Value, String> {
        match (self, json) {
            (_, Value::String(text)) => self.read_text(text),
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
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Integer(_) => "a whole number",
            Self::Choice(_) => "text, one of the choices,",
            Self::Flag(_) => "true or false",
        }
    }

    /// What fills the placeholder for an accepted value.
    pub(crate) fn fill(&self, value: &Value, input: &Path) -> Result<String, String> {
        match (self, value) {
            (Self::Fasta(_), value) => sequence_path(value, input),
            (Self::Choice(p), Value::String(key)) => match p.choices.get(key) {
                Some(value) => Ok(value.clone()),
                None => Err(format!("has no choice {}", quoted(key))),
            },
            (Self::Text(_), Value::String(text)) => Ok(text.clone()),
            (Self::Number(_) | Self::Integer(_), Value::Number(number)) => Ok(number.to_string()),
            (Self::Flag(_), Value::Bool(set)) => Ok(set.to_string()),
            (param, other) => Err(format!("holds {}: {}", kind_of(other), param.expected())),
        }
    }

    /// What is wrong with the declaration.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = match self {
            Self::Fasta(p) => p.problems(),
            Self::Text(p) => p.problems(),
            Self::Number(p) => p.problems(),
            Self::Integer(p) => crossed(p.min, p.max),
            Self::Choice(p) => p.problems(),
            Self::Flag(_) => Vec::new(),
        };
        // A default is held to the same rules as what people send; but only rules that make sense themselves.
        if problems.is_empty()
            && let Some(Err(why)) = self.default_value().map(|value| self.read_json(&value))
        {
            problems.push(problem("default", format!("the default {why}")));
        }
        problems
    }
}

/// The path of a sequence parameter's file. The value comes from the store, so its file name is not trusted.
fn sequence_path(value: &Value, input: &Path) -> Result<String, String> {
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

impl FastaParam {
    fn problems(&self) -> Vec<Problem> {
        [
            ("max_records", self.max_records),
            ("max_residues", self.max_residues),
        ]
        .into_iter()
        .filter(|(_, limit)| *limit == Some(0))
        .map(|(key, _)| problem(key, format!("`{key}` must be at least 1")))
        .collect()
    }
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
        } else if text.len() > MAX_ARGUMENT_BYTES {
            Err(format!(
                "has {} bytes, but an argument holds at most {MAX_ARGUMENT_BYTES}",
                text.len()
            ))
        } else {
            Ok(Value::from(text))
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.longest() > MAX_ARGUMENT_BYTES as u64 {
            problems.push(problem(
                "max_length",
                format!("an argument of a program holds at most {MAX_ARGUMENT_BYTES} bytes"),
            ));
        }
        if self.min_length.unwrap_or(0) > self.longest() {
            problems.push(problem("min_length", "`min_length` is above `max_length`"));
        }
        problems
    }
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

impl ChoiceParam {
    fn read(&self, key: &str) -> Result<Value, String> {
        if self.choices.contains_key(key) {
            return Ok(Value::from(key));
        }
        let keys: Vec<_> = self.choices.keys().map(String::as_str).collect();
        Err(format!(
            "must be one of {}, not {}",
            suggest::quoted_list(&keys),
            quoted(key)
        ))
    }

    fn problems(&self) -> Vec<Problem> {
        if self.choices.is_empty() {
            return vec![problem("choices", "there must be at least one choice")];
        }
        let nul = |(key, value): (&String, &String)| key.contains('\0') || value.contains('\0');
        if self.choices.iter().any(nul) {
            return vec![problem("choices", "a choice must not hold a NUL character")];
        }
        Vec::new()
    }
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
