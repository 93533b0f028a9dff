use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::leave_out::{LeftOut, find, put_in, take_out};
use super::{ConfigError, MAX_MISTAKES, ToolsFile, twice, words};
use crate::suggest;

/// A value of the file, with its place.
pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// Reads values and keeps what is wrong with them.
pub(super) struct Reader<'i> {
    text: &'i str,
    folder: &'i Path,
    pub(super) exe: &'i str,
    errors: Vec<ConfigError>,
    /// Where values begin that a mistake was taken out of: what is wrong with the rest of them may only follow from that.
    spoilt: HashSet<usize>,
}

impl<'i> Reader<'i> {
    pub(super) fn new(text: &'i str, folder: &'i Path, exe: &'i str) -> Self {
        Self {
            text,
            folder,
            exe,
            errors: Vec::new(),
            spoilt: HashSet::new(),
        }
    }

    pub(super) fn into_result(mut self, file: ToolsFile) -> Result<ToolsFile, Vec<ConfigError>> {
        let place = |error: &ConfigError| (error.file.clone(), error.line, error.column);
        // Warnings must not crowd a mistake out.
        self.errors
            .sort_by_key(|error| (error.is_warning, place(error)));
        self.errors.truncate(MAX_MISTAKES);
        if self.errors.iter().all(|error| error.is_warning) {
            return Ok(ToolsFile {
                warnings: self.errors,
                ..file
            });
        }
        self.errors.sort_by_key(place);
        Err(self.errors)
    }

    /// Takes over what is wrong with an included file.
    pub(super) fn take_errors(&mut self, included: Reader<'_>, path: &Path) {
        for error in included.errors {
            self.take_error(error, path);
        }
    }

    /// Takes over one of an included file.
    pub(super) fn take_error(&mut self, error: ConfigError, path: &Path) {
        self.errors.push(ConfigError {
            file: Some(path.to_owned()),
            ..error
        });
    }

    /// A pattern of files, relative to this file's folder, whose own name is no pattern.
    pub(super) fn absolute_pattern(&self, pattern: &str) -> String {
        let relative = pattern.strip_prefix("./").unwrap_or(pattern);
        if relative.starts_with('/') {
            return relative.to_owned();
        }
        let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
        format!("{}/{relative}", folder.trim_end_matches('/'))
    }

    /// The files that match a pattern, sorted, and what is to be said of folders that can't be looked at; none for what is
    /// no pattern, which is an error at this place.
    pub(super) fn files_of(
        &mut self,
        pattern: &str,
        at: usize,
    ) -> Option<(Vec<PathBuf>, Vec<String>)> {
        let found = match glob::glob(pattern) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("`{pattern}` is no pattern of files: {}", error.msg);
                self.error(at, message, None);
                return None;
            }
        };
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for entry in found {
            match entry {
                Ok(path) => files.push(path),
                Err(error) => unreadable.push(format!(
                    "`{}` can't be read: {}",
                    error.path().display(),
                    error.error()
                )),
            }
        }
        Some((files, unreadable))
    }

    /// Keeps what is wrong with a value that could be read.
    pub(super) fn error(&mut self, at: usize, message: impl Into<String>, hint: Option<String>) {
        if !self.spoilt.contains(&at) {
            self.keep(at, message, hint);
        }
    }

    /// Keeps what is amiss with a value and leaves the file usable.
    pub(super) fn warn(&mut self, at: usize, message: impl Into<String>, hint: Option<String>) {
        let warning = ConfigError {
            is_warning: true,
            ..self.at(at, message, hint)
        };
        self.errors.push(warning);
    }

    fn keep(&mut self, at: usize, message: impl Into<String>, hint: Option<String>) {
        let error = self.at(at, message, hint);
        self.errors.push(error);
    }

    fn at(&self, at: usize, message: impl Into<String>, hint: Option<String>) -> ConfigError {
        let (line, column) = line_and_column(self.text, at);
        ConfigError {
            file: None,
            line,
            column,
            message: message.into(),
            hint,
            is_warning: false,
        }
    }

    /// Reads a value as a `T`, without the keys that can't be read.
    pub(super) fn read<T: Deserialize<'i>>(&mut self, node: &Node<'i>) -> Option<T> {
        self.read_what_can_be(node).map(|(value, _)| value)
    }

    /// Reads a value as a `T`, and names the keys that had to be left out of it, or that were misspelt. Serde stops at the
    /// first mistake, so it is asked again without that, until all of them are told.
    pub(super) fn read_what_can_be<T: Deserialize<'i>>(
        &mut self,
        node: &Node<'i>,
    ) -> Option<(T, Vec<String>)> {
        let mut rest = node.clone();
        let mut left_out = LeftOut::default();
        let mut value = None;
        for _ in 0..2 * MAX_MISTAKES {
            match T::deserialize(ValueDeserializer::from(rest.clone())) {
                Ok(read) => {
                    value = Some((read, left_out.names));
                    break;
                }
                Err(error) => {
                    if !self.mend(&mut rest, &error, &mut left_out) {
                        break;
                    }
                }
            }
        }
        self.spoilt.extend(left_out.places);
        value
    }

    /// Tells a mistake and takes it out of the value; false where that can't be done.
    fn mend(&mut self, rest: &mut Node<'i>, error: &toml::de::Error, out: &mut LeftOut) -> bool {
        let span = error.span().unwrap_or_else(|| rest.span());
        let names = backticked(error.message());
        let name = names.first().copied().unwrap_or_default();
        if error.message().starts_with("missing field") {
            if !out.names.iter().any(|gone| gone == name) {
                self.mistake(error, rest);
            }
            out.places.extend([rest.span().start, span.start]);
            return put_in(rest, &span, name);
        }
        self.mistake(error, rest);
        if error.message().starts_with("unknown field") {
            let meant = suggest::nearest(name, names.iter().skip(1).copied());
            out.names.extend(meant.map(str::to_owned));
        }
        take_out(rest, &span, out)
    }

    /// The value as a table.
    pub(super) fn table<'n>(&mut self, node: &'n Node<'i>) -> Option<&'n DeTable<'i>> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            let message = words::expected("a table", Some(node.get_ref()));
            self.error(node.span().start, message, None);
        }
        table
    }

    pub(super) fn known_keys(&mut self, table: &DeTable<'i>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let message = format!("unknown key `{name}`");
                self.error(key.span().start, message, suggest::hint(name, known));
            }
        }
    }

    /// What is wrong with the TOML itself, once a line, since one mistake makes others behind it. True if all that could be
    /// read can be relied on.
    pub(super) fn syntax(&mut self, errors: &[toml::de::Error]) -> bool {
        let mut errors: Vec<_> = errors.iter().collect();
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        let mut is_sound = true;
        let mut last_line = 0;
        for error in errors.into_iter().take(MAX_MISTAKES) {
            let span = error.span().unwrap_or_default();
            let line = line_and_column(self.text, span.start).0;
            if error.message() == "duplicate key" {
                self.duplicate(&span);
            } else {
                is_sound = false;
                if line > last_line {
                    self.keep(span.start, error.message().trim_end(), None);
                }
            }
            last_line = line;
        }
        is_sound
    }

    fn duplicate(&mut self, second: &Range<usize>) {
        let name = self.text.get(second.clone()).unwrap_or_default();
        let first = twice::first(self.text, second);
        let message = match first.map(|at| line_and_column(self.text, at).0) {
            Some(line) => format!("key `{name}` is there already, in line {line}"),
            None => format!("key `{name}` is there already"),
        };
        self.keep(second.start, message, None);
    }

    /// What serde says of a value, in our words where they say more.
    fn mistake(&mut self, error: &toml::de::Error, node: &Node<'i>) {
        let span = error.span().unwrap_or_else(|| node.span());
        let message = error.message();
        let names = backticked(message);
        let (name, known) = names.split_first().unwrap_or((&"", &[]));
        let (message, hint) = if message.starts_with("unknown field") {
            (format!("unknown key `{name}`"), unknown_hint(name, known))
        } else if message.starts_with("missing field") {
            (format!("key `{name}` is missing"), None)
        } else if message.starts_with("unknown variant") {
            let nearest = suggest::nearest(name, known.iter().copied());
            (
                format!("`{name}` is not one of {}", suggest::quoted_list(known)),
                nearest.map(|name| format!("did you mean `{name}`?")),
            )
        } else {
            let value = find(node, &span).map(Spanned::get_ref);
            let words = words::wrong_value(message, value);
            (words.unwrap_or_else(|| message.trim_end().to_owned()), None)
        };
        self.keep(span.start, message, hint);
    }

    /// A path of the file, relative to the file's folder.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path.strip_prefix("./").unwrap_or(path))
    }
}

/// The hint for an unknown key; keys that the design promises for later get an answer of their own.
fn unknown_hint(name: &str, known: &[&str]) -> Option<String> {
    match name {
        "cache" => Some(format!("`{name}` is not there yet in this release")),
        "include" => Some("put `include` before the first `[table]`".to_owned()),
        _ => suggest::hint(name, known),
    }
}

/// What stands between backticks: the only way to learn the known keys from serde's message.
fn backticked(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
