//! What a check found: the counts of a good input, the errors of a bad one.

use std::fmt;

use serde::Serialize;

/// What is known of an input that passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Number of sequences.
    pub records: u64,
    /// Number of residues in all of them.
    pub residues: u64,
    /// Id of the first sequence.
    pub first_id: Option<String>,
    /// What normalising changed.
    pub stripped: Stripped,
}

/// What normalising took away or added, as counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stripped {
    /// UTF-8 byte order marks at the start (0 or 1).
    pub byte_order_mark: u64,
    /// Line ends written as CR LF or as a lone CR.
    pub cr_line_ends: u64,
    /// Lines that were empty or held only blanks.
    pub blank_lines: u64,
    /// Spaces and tabs inside sequences, around headers; those of blank lines aren't counted.
    pub spaces: u64,
    /// Digits of position numbers.
    pub digits: u64,
    /// Stop signs (`*`) at the end of a sequence.
    pub final_stars: u64,
    /// Headers written for a sequence that had none (0 or 1).
    pub header_added: u64,
    /// Ids that were there before and got a number.
    pub ids_renamed: u64,
}

impl Stripped {
    /// Whether nothing but the line width was changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One short phrase for each kind of change, such as "3 blank lines".
    pub fn sentences(&self) -> Vec<String> {
        let counted = [
            (self.byte_order_mark, "byte order mark", "byte order marks"),
            (
                self.cr_line_ends,
                "carriage return line end",
                "carriage return line ends",
            ),
            (self.blank_lines, "blank line", "blank lines"),
            (self.spaces, "space or tab", "spaces or tabs"),
            (self.digits, "digit", "digits"),
            (self.final_stars, "final '*'", "final '*'s"),
            (self.header_added, "header added", "headers added"),
            (
                self.ids_renamed,
                "repeated id renamed",
                "repeated ids renamed",
            ),
        ];
        let present = counted.into_iter().filter(|(count, ..)| *count > 0);
        present
            .map(|(count, one, many)| phrase(count, one, many))
            .collect()
    }
}

/// A bare count of digits would puzzle; that they are position numbers explains it.
fn phrase(count: u64, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    if one == "digit" {
        format!("position numbers ({count} {noun})")
    } else {
        format!("{count} {noun}")
    }
}

/// One reason an input was refused, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InputError {
    /// Number of the sequence, from 1.
    pub record: Option<u64>,
    /// Id of the sequence, where it is known.
    pub id: Option<String>,
    /// Number of the line, from 1.
    pub line: Option<u64>,
    /// Column in characters, from 1.
    pub column: Option<u64>,
    /// The offending character, or its code where it can't be printed.
    pub character: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        if let Some(column) = self.column {
            write!(f, "column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Why there is no normalised output; whatever was already written is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The input is wrong: at most 20 reasons, in the order of the input.
    #[error("{}", summary(.0))]
    Invalid(Vec<InputError>),
    /// Reading the input or writing the output failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn summary(errors: &[InputError]) -> String {
    match errors {
        [] => "the input was refused".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
