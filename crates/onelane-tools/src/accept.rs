use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use onelane_seq::{Check, CheckError, Checked, InputError, Limits};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::definition::ToolDefinition;
use crate::digest::{self, HashingWriter};
use crate::param::{FastaParam, Param, kind_of, quoted};
use crate::suggest;

/// The most errors that one submission is told.
pub const MAX_ERRORS: usize = 50;

/// No header of a sound file is longer; without a limit one endless line would fill the memory.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// What the server collected for one parameter.
#[derive(Clone, Debug)]
pub enum Given {
    /// A form's field.
    Text(String),
    /// A member of a JSON object.
    Json(Value),
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
    ) -> Result<Accepted, Vec<ParamError>> {
        let mut intake = Intake::new(self, record_id);
        let mut given = intake.sort(given);
        for (name, param) in &self.params {
            intake.take(name, param, given.swap_remove(name));
        }
        intake.finish()
    }
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
        }
    }

    fn error(&mut self, param: &str, message: impl Into<String>) {
        self.errors.push(ParamError {
            param: Some(param.to_owned()),
            message: message.into(),
            ..ParamError::default()
        });
    }

    /// One value for each known name; unknown and repeated names are errors.
    fn sort(&mut self, given: Vec<(String, Given)>) -> IndexMap<String, Given> {
        let mut sorted = IndexMap::<String, Given>::new();
        for (name, value) in given {
            if !self.tool.params.contains_key(&name) {
                let message = self.unknown(&name);
                self.error(&name, message);
                continue;
            }
            match sorted.get(&name) {
                // A page that offers a text field and a file field under one name always sends both.
                Some(_) if value.is_empty() => {}
                Some(earlier) if !earlier.is_empty() => {
                    self.error(&name, "is given more than once");
                }
                _ => {
                    sorted.insert(name, value);
                }
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

    fn take(&mut self, name: &str, param: &Param, given: Option<Given>) {
        let absent_if_empty = param.empty_is_absent();
        let is_absent = |g: &Given| g.is_null() || (absent_if_empty && g.is_empty());
        let given = given.filter(|given| !is_absent(given));
        match (given, param) {
            (None, _) => self.leave_out(name, param),
            (Some(given), Param::Fasta(fasta)) => self.take_sequences(name, param, fasta, given),
            (Some(given), _) => match scalar(param, &given) {
                Ok(value) => self.put(name, value),
                Err(why) => self.error(name, why),
            },
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        self.params.insert(name.to_owned(), value);
    }

    fn leave_out(&mut self, name: &str, param: &Param) {
        match param.default_value() {
            Some(value) => self.put(name, value),
            None if param.is_required() => self.error(name, "is missing"),
            None => {}
        }
    }

    fn take_sequences(&mut self, name: &str, param: &Param, fasta: &FastaParam, given: Given) {
        match given {
            Given::Text(text) | Given::Json(Value::String(text)) => {
                self.take_inline(name, fasta, &text);
            }
            Given::Json(other) => self.error(name, param.wrong_type(kind_of(&other))),
            Given::Upload { path, relative, .. } => {
                self.take_upload(name, fasta, &path, &relative);
            }
        }
    }

    fn take_inline(&mut self, name: &str, fasta: &FastaParam, text: &str) {
        let check = self.check(name, fasta);
        match onelane_seq::check_bytes(&check, text.as_bytes()) {
            Ok((bytes, checked)) => {
                let hash = digest::sha256_hex(&bytes);
                // The check keeps letters of its alphabet and the headers of what was text before.
                let content = String::from_utf8_lossy(&bytes).into_owned();
                self.keep(name, checked, hash, AcceptedContent::Inline(content));
            }
            Err(error) => self.refuse(name, error),
        }
    }

    fn take_upload(&mut self, name: &str, fasta: &FastaParam, path: &Path, relative: &Path) {
        let (checked_path, checked_relative) = (beside(path), beside(relative));
        self.made.push(checked_path.clone());
        match run(&self.check(name, fasta), path, &checked_path) {
            Ok((checked, hash)) => {
                self.keep(
                    name,
                    checked,
                    hash,
                    AcceptedContent::Upload(checked_relative),
                );
            }
            Err(error) => self.refuse(name, error),
        }
    }

    fn check<'b>(&self, name: &'b str, fasta: &FastaParam) -> Check<'b>
    where
        'a: 'b,
    {
        Check {
            letters: "",
            duplicates: onelane_seq::Duplicates::Refuse,
            refuse_nucleotides: false,
            alphabet: fasta.alphabet,
            limits: Limits {
                max_records: fasta.max_records,
                max_residues: fasta.max_residues,
                max_header_bytes: MAX_HEADER_BYTES,
            },
            default_id: if self.record_id.is_empty() {
                name
            } else {
                self.record_id
            },
        }
    }

    fn keep(&mut self, name: &str, checked: Checked, hash: String, content: AcceptedContent) {
        let file = format!("{name}.fasta");
        let (records, residues) = (checked.records, checked.residues);
        self.put(
            name,
            json!({"file": file, "records": records, "residues": residues}),
        );
        self.notes.extend(checked.stripped.sentences());
        self.contents.insert(name.to_owned(), hash);
        if self.files.is_empty() {
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
            CheckError::Io(error) => self.error(name, format!("could not be read: {error}")),
        }
    }

    fn finish(mut self) -> Result<Accepted, Vec<ParamError>> {
        if !self.errors.is_empty() {
            self.errors.truncate(MAX_ERRORS);
            self.made.iter().for_each(|path| remove(path));
            return Err(self.errors);
        }
        let digest = digest::submission(&self.tool.hash(), &self.params, &self.contents);
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
    fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Json(_) => false,
            Self::Upload { path, .. } => path.metadata().is_ok_and(|file| file.len() == 0),
        }
    }
}

fn scalar(param: &Param, given: &Given) -> Result<Value, String> {
    match given {
        Given::Text(text) => param.read_text(text),
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

fn run(check: &Check<'_>, from: &Path, to: &Path) -> Result<(Checked, String), CheckError> {
    let input = BufReader::new(File::open(from).map_err(CheckError::Io)?);
    let mut output = output(to).map_err(CheckError::Io)?;
    let checked = check.run(input, &mut output)?;
    let hash = output.finish().map_err(CheckError::Io)?;
    Ok((checked, hash))
}

fn output(path: &Path) -> io::Result<HashingWriter<BufWriter<File>>> {
    Ok(HashingWriter::new(BufWriter::new(File::create(path)?)))
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
