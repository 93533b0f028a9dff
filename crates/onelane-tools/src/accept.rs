use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use onelane_seq::{Alphabet, Check, CheckError, Checked, InputError, Limits};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::definition::ToolDefinition;
use crate::digest;
use crate::input::{Format, Source, check_file, check_rules, extension, is_json};
use crate::param::{
    FastaParam, FastqParam, FileRules, FilesParam, JsonParam, MAX_ARGUMENT_BYTES, Param, kind_of,
    parse_json, quoted,
};
use crate::suggest;
use crate::tool::Tool;

/// The most errors that one submission is told.
pub const MAX_ERRORS: usize = 50;

/// So much of a name that is not known is told.
const MAX_NAME_CHARS: usize = 100;

/// What a pair costs besides its bytes, about.
const PAIR_BYTES: usize = 64;

/// No header of a sound file is longer; without a limit one endless line would fill the memory.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// What the server collected for one parameter.
#[derive(Clone, Debug)]
pub enum Given {
    /// A form's field.
    Text(String),
    /// A member of a JSON object.
    Json(Value),
    /// A small file of text.
    TextFile {
        /// What is in it.
        text: String,
        /// What the client calls it.
        file_name: String,
    },
    /// A file that is on disk already.
    Upload {
        /// Where it is.
        path: PathBuf,
        /// The same place, relative to `uploads/`.
        relative: PathBuf,
        /// What the client calls it.
        file_name: Option<String>,
    },
}

/// One thing that is wrong with a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParamError {
    /// The parameter.
    pub param: Option<String>,
    /// The record in it, from 1.
    pub record: Option<u64>,
    /// The record's id.
    pub id: Option<String>,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The column, from 1.
    pub column: Option<u64>,
    /// The character at fault.
    pub character: Option<String>,
    /// What is wrong, for a person.
    pub message: String,
}

/// Why a submission is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// All that is wrong with what was sent, up to [`MAX_ERRORS`].
    #[error("{}", sentences(.0))]
    BadInput(Vec<ParamError>),
    /// The file system failed while an upload was read or its normalised form was written, which is not the client's fault.
    #[error("an upload could not be checked: {0}")]
    Io(#[source] io::Error),
}

fn sentences(errors: &[ParamError]) -> String {
    let sentence = |error: &ParamError| match &error.param {
        Some(param) => format!("`{param}` {}", error.message),
        None => error.message.clone(),
    };
    errors.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// A submission that can run.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The parameters, defaults filled in; a sequence is `{"file", "records", "residues"}`.
    pub params: Map<String, Value>,
    /// The parameters' files.
    pub files: Vec<AcceptedFile>,
    /// What was changed in the input, as sentences.
    pub notes: Vec<String>,
    /// SHA-256 of tool, parameters and files, in hexadecimal.
    pub digest: String,
    /// The id of the first record of the first sequence parameter.
    pub first_record_id: Option<String>,
}

/// A parameter's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedFile {
    /// The parameter.
    pub param: String,
    /// Its name under `input/`, such as `query.fasta`.
    pub file: String,
    /// What is in it.
    pub content: AcceptedContent,
}

/// Where a file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptedContent {
    /// Here.
    Inline(String),
    /// In a file relative to `uploads/`: the normalised one, beside what the client sent. Not yet synced.
    Upload(PathBuf),
}

impl ToolDefinition {
    /// Checks what was sent and makes parameters of it, or tells everything that is wrong, up to [`MAX_ERRORS`].
    ///
    /// `record_id` names a sequence that came without a header. Reads and writes files when something was uploaded, so
    /// it may block.
    pub fn accept(
        &self,
        given: Vec<(String, Given)>,
        record_id: &str,
    ) -> Result<Accepted, Refusal> {
        take_in(self, &self.hash(), given, record_id)
    }

    /// Whether [`Self::accept`] comes back without asking the disk and soon: what was given is in memory and has at most
    /// so many bytes, and no parameter's choices are files.
    pub fn accepts_at_once(&self, given: &[(String, Given)], most_bytes: usize) -> bool {
        let bytes =
            |(name, given): &(String, Given)| Some(name.len() + given.bytes()? + PAIR_BYTES);
        let bytes: Option<usize> = given.iter().map(bytes).sum();
        bytes.is_some_and(|bytes| bytes <= most_bytes)
            && !self.params.values().any(Param::choices_come_from_disk)
    }
}

impl Tool {
    /// What [`ToolDefinition::accept`] does, with the hash that is known already.
    pub fn accept(
        &self,
        given: Vec<(String, Given)>,
        record_id: &str,
    ) -> Result<Accepted, Refusal> {
        take_in(self, self.hash(), given, record_id)
    }
}

fn take_in(
    tool: &ToolDefinition,
    hash: &str,
    given: Vec<(String, Given)>,
    record_id: &str,
) -> Result<Accepted, Refusal> {
    let mut intake = Intake::new(tool, record_id);
    let mut given = intake.sort(given);
    for (name, param) in &tool.params {
        intake.take(name, param, given.swap_remove(name).unwrap_or_default());
    }
    intake.finish(hash)
}

/// A submission on its way through the checks.
struct Intake<'a> {
    tool: &'a ToolDefinition,
    record_id: &'a str,
    params: Map<String, Value>,
    files: Vec<AcceptedFile>,
    notes: Vec<String>,
    /// Parameter → hash of its file's content.
    contents: BTreeMap<String, String>,
    first_record_id: Option<String>,
    /// Files made here, which a refusal takes away again.
    made: Vec<PathBuf>,
    errors: Vec<ParamError>,
    /// What the file system said first, if it failed.
    failure: Option<io::Error>,
}

impl<'a> Intake<'a> {
    fn new(tool: &'a ToolDefinition, record_id: &'a str) -> Self {
        Self {
            tool,
            record_id,
            params: Map::new(),
            files: Vec::new(),
            notes: Vec::new(),
            contents: BTreeMap::new(),
            first_record_id: None,
            made: Vec::new(),
            errors: Vec::new(),
            failure: None,
        }
    }

    /// An upload that could not be read to its end: its own fault (a damaged gzip file), or the file system's.
    fn unreadable(&mut self, param: &str, error: io::Error) {
        if error.raw_os_error().is_some() {
            self.failure.get_or_insert(error);
        } else {
            self.error(param, format!("could not be read: {error}"));
        }
    }

    fn error(&mut self, param: &str, message: impl Into<String>) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        self.errors.push(ParamError {
            param: Some(param.to_owned()),
            message: message.into(),
            ..ParamError::default()
        });
    }

    /// The values of each known name; unknown ones are errors, and repeated ones unless the parameter is a list.
    fn sort(&mut self, given: Vec<(String, Given)>) -> IndexMap<String, Vec<Given>> {
        let mut sorted = IndexMap::<String, Vec<Given>>::new();
        for (name, value) in given {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            let Some(param) = self.tool.params.get(&name) else {
                let name: String = name.chars().take(MAX_NAME_CHARS).collect();
                let message = self.unknown(&name);
                self.error(&name, message);
                continue;
            };
            let values = sorted.entry(name.clone()).or_default();
            if param.is_list() {
                values.extend(members(value));
            } else if values.is_empty() || values.iter().all(Given::is_empty) {
                *values = vec![value];
            } else if !value.is_empty() {
                // A page that offers a text field and a file field under one name always sends both.
                self.error(&name, "is given more than once");
            }
        }
        sorted
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<_> = self.tool.params.keys().map(String::as_str).collect();
        let tool = &self.tool.name;
        let message = format!("tool `{tool}` has no parameter {}", quoted(name));
        match suggest::hint(name, &known) {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        }
    }

    fn take(&mut self, name: &str, param: &Param, given: Vec<Given>) {
        let absent_if_empty = param.empty_is_absent();
        let is_there = |g: &Given| !(g.is_null() || (absent_if_empty && g.is_empty()));
        let mut given: Vec<_> = given.into_iter().filter(is_there).collect();
        if given.is_empty() {
            return self.leave_out(name, param);
        }
        match param {
            Param::Files(files) => return self.take_files(name, files, &given),
            Param::Choices(_) => return self.take_choices(name, param, &given),
            _ => {}
        }
        let given = given.remove(0);
        match param {
            Param::Fasta(fasta) => {
                let check = self.check(name, fasta);
                self.take_sequences(name, param, (Format::Fasta, check), given);
            }
            Param::Fastq(fastq) => {
                let check = Self::fastq_check(name, fastq);
                self.take_sequences(name, param, (Format::Fastq, check), given);
            }
            Param::File(file) => {
                if let Some(value) = self.file(name, name, file.rules(), &given) {
                    self.put(name, value);
                }
            }
            Param::Json(json) => self.take_json(name, json, &given),
            _ => match scalar(param, &given).and_then(|value| self.as_argument(param, value)) {
                Ok(value) => self.put(name, value),
                Err(why) => self.error(name, why),
            },
        }
    }

    /// A command's text becomes an argument, whose size Linux limits; a worker's doesn't.
    fn as_argument(&self, param: &Param, value: Value) -> Result<Value, String> {
        let bytes = value.as_str().map_or(0, str::len);
        let is_text = matches!(param, Param::Text(_));
        if is_text && self.tool.warm.is_none() && bytes > MAX_ARGUMENT_BYTES {
            return Err(format!(
                "has {bytes} bytes, but an argument holds at most {MAX_ARGUMENT_BYTES}"
            ));
        }
        Ok(value)
    }

    fn take_choices(&mut self, name: &str, param: &Param, given: &[Given]) {
        let keys: Result<Vec<Value>, String> = given
            .iter()
            .map(|given| match given {
                Given::Text(text) | Given::TextFile { text, .. } => Ok(Value::from(text.clone())),
                Given::Json(value) => Ok(value.clone()),
                Given::Upload { .. } => Err(param.wrong_type("a file")),
            })
            .collect();
        match keys.and_then(|keys| param.read_json(&Value::from(keys))) {
            Ok(value) => self.put(name, value),
            Err(why) => self.error(name, why),
        }
    }

    fn take_files(&mut self, name: &str, files: &FilesParam, given: &[Given]) {
        let (fewest, most) = files.counts();
        let count = given.len() as u64;
        if count < fewest || count > most {
            let message = format!("has {count} files; there must be {fewest} to {most}");
            return self.error(name, message);
        }
        let mut values = Vec::new();
        for (index, given) in given.iter().enumerate() {
            let stem = format!("{name}.{}", index + 1);
            values.extend(self.file(name, &stem, files.rules(), given));
        }
        self.put(name, Value::from(values));
    }

    /// Checks one file and keeps it under this stem; gives its value, or nothing when it was refused.
    fn file(
        &mut self,
        name: &str,
        stem: &str,
        rules: FileRules<'_>,
        given: &Given,
    ) -> Option<Value> {
        let (source, file_name) = match given {
            Given::Text(text) | Given::Json(Value::String(text)) => (Source::Text(text), None),
            Given::TextFile { text, file_name } => (Source::Text(text), Some(file_name.as_str())),
            Given::Upload {
                path, file_name, ..
            } => (Source::File(path), file_name.as_deref()),
            Given::Json(other) => {
                let message = format!(
                    "must be a file or its content as text, not {}",
                    kind_of(other)
                );
                self.error(name, message);
                return None;
            }
        };
        let checked = check_rules(rules, &source).and_then(|size| Ok((size, source.hash()?)));
        let (size, hash) = match checked {
            Ok((Ok(size), hash)) => (size, hash),
            Ok((Err(why), _)) => {
                self.error(name, why);
                return None;
            }
            Err(error) => {
                self.unreadable(name, error);
                return None;
            }
        };
        let extension = match extension(rules, file_name) {
            Ok(extension) => extension,
            Err(why) => {
                self.error(name, why);
                return None;
            }
        };
        let file = extension.map_or(stem.to_owned(), |extension| format!("{stem}.{extension}"));
        self.contents.insert(stem.to_owned(), hash);
        let content = match given {
            Given::Upload { relative, .. } => AcceptedContent::Upload(relative.clone()),
            Given::Text(text) | Given::Json(Value::String(text)) | Given::TextFile { text, .. } => {
                AcceptedContent::Inline(text.clone())
            }
            Given::Json(_) => return None,
        };
        let mut value = json!({"file": file, "bytes": size});
        if let Some(shown) = file_name.map(plain_name).filter(|shown| !shown.is_empty()) {
            value["name"] = shown.into();
        }
        let param = name.to_owned();
        self.files.push(AcceptedFile {
            param,
            file,
            content,
        });
        Some(value)
    }

    fn take_json(&mut self, name: &str, param: &JsonParam, given: &Given) {
        let text = match given {
            Given::Text(text) | Given::TextFile { text, .. } | Given::Json(Value::String(text)) => {
                match parse_json(text) {
                    Ok(_) => Some(text.clone()),
                    Err(why) => return self.error(name, why),
                }
            }
            Given::Json(value) => Some(value.to_string()),
            Given::Upload { path, .. } => match is_json(path) {
                Ok(()) => None,
                Err(why) => return self.error(name, why),
            },
        };
        let rules = FileRules {
            extension: &[],
            max_size: param.max_size,
            magic: &[],
        };
        let given = match (text, given) {
            (Some(text), _) => Given::TextFile {
                text,
                file_name: "json.json".to_owned(),
            },
            (None, Given::Upload { path, relative, .. }) => Given::Upload {
                path: path.clone(),
                relative: relative.clone(),
                file_name: Some("json.json".to_owned()),
            },
            (None, _) => return,
        };
        if let Some(mut value) = self.file(name, name, rules, &given) {
            value.as_object_mut().map(|value| value.remove("name"));
            self.put(name, value);
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        self.params.insert(name.to_owned(), value);
    }

    fn leave_out(&mut self, name: &str, param: &Param) {
        match (param.default_value(), param) {
            (Some(value), Param::Json(json)) => self.take_json(name, json, &Given::Json(value)),
            // What is on the disk changes without the file: such a default was not checked before.
            (Some(value), Param::Choice(_) | Param::Choices(_)) => match param.read_json(&value) {
                Ok(value) => self.put(name, value),
                Err(why) => self.error(name, format!("is missing, and its default {why}")),
            },
            (Some(value), _) => self.put(name, value),
            (None, _) if param.is_required() => {
                let nothing_there = param.nothing_to_choose();
                self.error(
                    name,
                    nothing_there.unwrap_or_else(|| "is missing".to_owned()),
                );
            }
            (None, _) => {}
        }
    }

    fn take_sequences(
        &mut self,
        name: &str,
        param: &Param,
        how: (Format, Check<'_>),
        given: Given,
    ) {
        match given {
            Given::Text(text) | Given::TextFile { text, .. } | Given::Json(Value::String(text)) => {
                self.take_inline(name, how, &text);
            }
            Given::Json(other) => self.error(name, param.wrong_type(kind_of(&other))),
            Given::Upload { path, relative, .. } => self.take_upload(name, how, &path, &relative),
        }
    }

    fn take_inline(&mut self, name: &str, (format, check): (Format, Check<'_>), text: &str) {
        let mut bytes = Vec::new();
        match format.check(&check, text.as_bytes(), &mut bytes) {
            Ok(checked) => {
                let hash = digest::sha256_hex(&bytes);
                // The check keeps letters of its alphabet and the headers of what was text before.
                let content = String::from_utf8_lossy(&bytes).into_owned();
                self.keep(
                    name,
                    format,
                    checked,
                    hash,
                    AcceptedContent::Inline(content),
                );
            }
            Err(error) => self.refuse(name, error),
        }
    }

    fn take_upload(
        &mut self,
        name: &str,
        (format, check): (Format, Check<'_>),
        path: &Path,
        relative: &Path,
    ) {
        let (checked_path, checked_relative) = (beside(path), beside(relative));
        self.made.push(checked_path.clone());
        // Beside the upload: what room there is for it was looked at, and a temporary folder may be memory.
        let check = Check {
            scratch: path.parent(),
            ..check
        };
        match check_file(format, &check, path, &checked_path) {
            Ok((checked, hash)) => {
                let content = AcceptedContent::Upload(checked_relative);
                self.keep(name, format, checked, hash, content);
            }
            Err(error) => self.refuse(name, error),
        }
    }

    fn check<'b>(&self, name: &'b str, fasta: &'b FastaParam) -> Check<'b>
    where
        'a: 'b,
    {
        Check {
            letters: &fasta.letters,
            duplicates: fasta.duplicates,
            refuse_nucleotides: fasta.alphabet == Alphabet::Protein && !fasta.allow_nucleotides,
            limits: limits(fasta.max_records, fasta.max_residues, fasta.max_header),
            ..Check::new(
                fasta.alphabet,
                if self.record_id.is_empty() {
                    name
                } else {
                    self.record_id
                },
            )
        }
    }

    fn fastq_check<'b>(name: &'b str, fastq: &FastqParam) -> Check<'b> {
        Check {
            limits: limits(fastq.max_records, fastq.max_residues, fastq.max_header),
            ..Check::new(fastq.alphabet, name)
        }
    }

    fn keep(
        &mut self,
        name: &str,
        format: Format,
        checked: Checked,
        hash: String,
        content: AcceptedContent,
    ) {
        let file = format!("{name}.{}", format.extension());
        let (records, residues) = (checked.records, checked.residues);
        self.put(
            name,
            json!({"file": file, "records": records, "residues": residues}),
        );
        self.notes.extend(checked.stripped.sentences());
        self.contents.insert(name.to_owned(), hash);
        if self.first_record_id.is_none() {
            self.first_record_id = checked.first_id;
        }
        let param = name.to_owned();
        self.files.push(AcceptedFile {
            param,
            file,
            content,
        });
    }

    fn refuse(&mut self, name: &str, error: CheckError) {
        match error {
            CheckError::Invalid(errors) => {
                let of_param = |error| in_param(name, error);
                self.errors.extend(errors.into_iter().map(of_param));
            }
            CheckError::Io(error) => self.unreadable(name, error),
        }
    }

    fn finish(mut self, hash: &str) -> Result<Accepted, Refusal> {
        self.errors.truncate(MAX_ERRORS);
        let refusal = match self.failure {
            Some(error) => Some(Refusal::Io(error)),
            None if !self.errors.is_empty() => Some(Refusal::BadInput(self.errors)),
            None => None,
        };
        if let Some(refusal) = refusal {
            self.made.iter().for_each(|path| remove(path));
            return Err(refusal);
        }
        let digest = digest::submission(hash, &self.params, &self.contents);
        Ok(Accepted {
            params: self.params,
            files: self.files,
            notes: self.notes,
            digest,
            first_record_id: self.first_record_id,
        })
    }
}

/// What is left of a refused upload is swept with `uploads/` anyway: a failure here changes nothing.
fn remove(path: &Path) {
    std::fs::remove_file(path).ok();
}

impl Given {
    /// Bytes of text in it, about; none if it is a file, or JSON that is more than a text or a number.
    fn bytes(&self) -> Option<usize> {
        match self {
            Self::Text(text) | Self::TextFile { text, .. } | Self::Json(Value::String(text)) => {
                Some(text.len())
            }
            Self::Json(Value::Array(_) | Value::Object(_)) | Self::Upload { .. } => None,
            Self::Json(_) => Some(0),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) | Self::TextFile { text, .. } => text.trim().is_empty(),
            Self::Json(_) => false,
            Self::Upload { path, .. } => path.metadata().is_ok_and(|file| file.len() == 0),
        }
    }
}

fn scalar(param: &Param, given: &Given) -> Result<Value, String> {
    match given {
        Given::Text(text) | Given::TextFile { text, .. } => param.read_text(text),
        Given::Json(json) => param.read_json(json),
        Given::Upload { .. } => Err(param.wrong_type("a file")),
    }
}

/// The normalised file's name: another than the original's, whatever that is.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".checked");
    path.with_file_name(name)
}

/// What stands for one member each: the members of a JSON list, and anything else by itself.
fn members(given: Given) -> Vec<Given> {
    match given {
        Given::Json(Value::Array(members)) => members.into_iter().map(Given::Json).collect(),
        other => vec![other],
    }
}

/// What a client calls its file, without folders, for people to read.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(255).collect()
}

fn limits(max_records: Option<u64>, max_residues: Option<u64>, max_header: Option<u64>) -> Limits {
    let max_header = max_header.and_then(|bytes| usize::try_from(bytes).ok());
    Limits {
        max_records,
        max_residues,
        max_header_bytes: max_header.unwrap_or(MAX_HEADER_BYTES),
    }
}

fn in_param(name: &str, error: InputError) -> ParamError {
    ParamError {
        param: Some(name.to_owned()),
        record: error.record,
        id: error.id,
        line: error.line,
        column: error.column,
        character: error.character,
        message: error.message,
    }
}
