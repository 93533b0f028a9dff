use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{ConfigError, ToolsFile};
use crate::suggest;

/// A value of the file, with its place.
pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// Reads values and keeps what is wrong with them.
pub(super) struct Reader<'i> {
    text: &'i str,
    folder: &'i Path,
    pub(super) exe: &'i str,
    errors: Vec<ConfigError>,
}

impl<'i> Reader<'i> {
    pub(super) fn new(text: &'i str, folder: &'i Path, exe: &'i str) -> Self {
        Self {
            text,
            folder,
            exe,
            errors: Vec::new(),
        }
    }

    pub(super) fn into_result(mut self, file: ToolsFile) -> Result<ToolsFile, Vec<ConfigError>> {
        if self.errors.is_empty() {
            return Ok(file);
        }
        self.errors
            .sort_by_key(|error| (error.file.clone(), error.line, error.column));
        Err(self.errors)
    }

    /// Takes over what is wrong with an included file.
    pub(super) fn take_errors(&mut self, included: Reader<'_>, path: &Path) {
        let errors = included.errors.into_iter();
        self.errors.extend(errors.map(|error| ConfigError {
            file: Some(path.to_owned()),
            ..error
        }));
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

    /// The files that match a pattern, sorted; what can't be looked at is an error at this place.
    pub(super) fn files_of(&mut self, pattern: &str, at: usize) -> Vec<PathBuf> {
        let found = match glob::glob(pattern) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("`{pattern}` is no pattern of files: {}", error.msg);
                self.error(at, message, None);
                return Vec::new();
            }
        };
        let mut files = Vec::new();
        for entry in found {
            match entry {
                Ok(path) => files.push(path),
                Err(error) => {
                    let message = format!(
                        "`{}` can't be read: {}",
                        error.path().display(),
                        error.error()
                    );
                    self.error(at, message, None);
                }
            }
        }
        files
    }

    pub(super) fn error(&mut self, at: usize, message: impl Into<String>, hint: Option<String>) {
        let (line, column) = line_and_column(self.text, at);
        self.errors.push(ConfigError {
            file: None,
            line,
            column,
            message: message.into(),
            hint,
        });
    }

    /// Reads a value as a `T`.
    pub(super) fn read<T: Deserialize<'i>>(&mut self, node: &Node<'i>) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(node.clone())) {
            Ok(value) => Some(value),
            Err(error) => {
                self.syntax(&error, node.span().start);
                None
            }
        }
    }

    /// The value as a table.
    pub(super) fn table<'n>(&mut self, node: &'n Node<'i>) -> Option<&'n DeTable<'i>> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            let kind = node.get_ref().type_str();
            self.error(
                node.span().start,
                format!("a table is expected here, not {kind}"),
                None,
            );
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

    /// An error of the TOML reader, in our words where they say more.
    pub(super) fn syntax(&mut self, error: &toml::de::Error, fallback: usize) {
        let at = error.span().map_or(fallback, |span| span.start);
        let message = error.message();
        let names = backticked(message);
        if message.starts_with("unknown field") {
            let (name, known) = names.split_first().unwrap_or((&"", &[]));
            self.error(
                at,
                format!("unknown key `{name}`"),
                unknown_hint(name, known),
            );
        } else if message.starts_with("missing field") {
            let name = names.first().unwrap_or(&"");
            self.error(at, format!("key `{name}` is missing"), None);
        } else if message.starts_with("unknown variant") {
            let (name, known) = names.split_first().unwrap_or((&"", &[]));
            let message = format!("`{name}` is not one of {}", suggest::quoted_list(known));
            let hint = suggest::nearest(name, known.iter().copied());
            self.error(
                at,
                message,
                hint.map(|name| format!("did you mean `{name}`?")),
            );
        } else {
            self.error(at, message.trim_end(), None);
        }
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
        _ => suggest::hint(name, known),
    }
}

/// What stands between backticks: the only way to learn the known keys from serde's message.
fn backticked(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
