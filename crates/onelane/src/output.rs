//! The only place that writes to the terminal.
//!
//! Results go to standard output, everything about them to standard error, so that pipes stay clean. A reader that
//! went away (`| head`) is an `io::Error` that travels up to `main`, which ends quietly.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Where and in which form a command answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// `--json`: one JSON document per answer on standard output, nothing else there.
    pub(crate) json: bool,
    /// Progress bars can be drawn on standard error.
    pub(crate) bars: bool,
}

impl Output {
    /// Looks at the terminal once.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            bars: io::stderr().is_terminal(),
        }
    }

    /// A line of the answer.
    #[expect(clippy::unused_self, reason = "all output goes through this value")]
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Bytes of the answer as they are, at once.
    #[expect(clippy::unused_self, reason = "all output goes through this value")]
    pub(crate) fn raw(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// One JSON document on a line.
    pub(crate) fn document(self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// What a person wants to know beside the answer.
    #[expect(clippy::unused_self, reason = "all output goes through this value")]
    pub(crate) fn note(self, text: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }

    /// A line for a person: part of the answer, unless the answer is JSON.
    pub(crate) fn say(self, text: &str) -> io::Result<()> {
        if self.json {
            self.note(text)
        } else {
            self.line(text)
        }
    }

    /// Rows with aligned columns; the last column is as long as it likes.
    pub(crate) fn table(self, rows: &[Vec<String>]) -> io::Result<()> {
        let widths = widths(rows);
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(
                    ' ',
                    width.saturating_sub(cell.chars().count()) + 2,
                ));
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect()
}

/// The program's last word when it fails; standard error may be gone, then there is nobody to tell.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Text that came from outside, without control characters that a terminal would obey.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() && letter != '\n' && letter != '\t' {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}
