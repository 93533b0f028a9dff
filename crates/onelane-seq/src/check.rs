//! The entry points.

use std::io::{self, Read, Write};

use crate::scan::{Scanner, Step, Stop};
use crate::{Alphabet, CheckError, Checked};

/// Bytes asked for in one read.
const CHUNK: usize = 64 * 1024;

/// How much input is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most sequences; none for no limit.
    pub max_records: Option<u64>,
    /// Most residues over all sequences; none for no limit.
    pub max_residues: Option<u64>,
    /// Longest header in bytes, without the `>`.
    pub max_header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_records: None,
            max_residues: None,
            max_header_bytes: 65_536,
        }
    }
}

/// What to check an input against.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The letters allowed.
    pub alphabet: Alphabet,
    /// How much is allowed.
    pub limits: Limits,
    /// Id of a bare sequence without header. Only its first word is used.
    pub default_id: &'a str,
}

impl Check<'_> {
    /// Reads `input` to its end, or to where it is surely wrong, and writes it normalised.
    ///
    /// After an error the output is incomplete and to be thrown away.
    pub fn run(&self, input: impl Read, output: impl Write) -> Result<Checked, CheckError> {
        let mut scanner = Scanner::new(self, output);
        let step = pump(input, &mut scanner);
        scanner.into_result(step)
    }
}

/// [`Check::run`] for an input that is in memory anyway.
pub fn check_bytes(check: &Check<'_>, bytes: &[u8]) -> Result<(Vec<u8>, Checked), CheckError> {
    let mut output = Vec::new();
    let checked = check.run(bytes, &mut output)?;
    Ok((output, checked))
}

fn pump<W: Write>(mut input: impl Read, scanner: &mut Scanner<'_, W>) -> Step {
    let mut chunk = vec![0; CHUNK];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return scanner.finish(),
            Ok(count) => chunk[..count]
                .iter()
                .try_for_each(|byte| scanner.feed(*byte))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Io(error)),
        }
    }
}
