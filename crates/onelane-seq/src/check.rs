//! The entry points.

use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ids::Ids;
use crate::scan::{Scanner, Step, Stop};
use crate::{Alphabet, CheckError, Checked};

/// Bytes asked for in one read, at first and at most: most inputs are small, and some are not.
const FIRST_CHUNK: usize = 2 * 1024;
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

/// What becomes of an id that was used before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// It is an error.
    #[default]
    Refuse,
    /// It gets a number: the second `a` becomes `a_2`.
    Rename,
}

/// What to check an input against.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The letters allowed.
    pub alphabet: Alphabet,
    /// Characters of ASCII that are allowed besides, such as `:` between chains, `*` or the gaps `-` and `.`.
    pub letters: &'a str,
    /// What becomes of ids that are there twice.
    pub duplicates: Duplicates,
    /// Refuse a sequence of proteins that is surely one of nucleotides: see [`looks_like_nucleotides`].
    pub refuse_nucleotides: bool,
    /// How much is allowed.
    pub limits: Limits,
    /// Id of a bare sequence without header. Only its first word is used.
    pub default_id: &'a str,
    /// A folder for nameless files with the ids seen so far, once they are more than fifty thousand: at most 32 bytes for
    /// each. Without it all ids are kept in memory, in some 50 bytes each.
    pub scratch: Option<&'a Path>,
}

/// Fewer residues than these say nothing: many a short peptide is made of A, C and G.
const ENOUGH_RESIDUES: u64 = 20;

/// The field's rule: nine letters in ten are A, C, G, T, U or N; of 20 residues or more.
pub fn looks_like_nucleotides(residues: u64, acgtun: u64) -> bool {
    residues >= ENOUGH_RESIDUES && acgtun.saturating_mul(10) >= residues.saturating_mul(9)
}

impl<'a> Check<'a> {
    /// A check against an alphabet, without limits or extras.
    pub fn new(alphabet: Alphabet, default_id: &'a str) -> Self {
        Self {
            alphabet,
            letters: "",
            duplicates: Duplicates::Refuse,
            refuse_nucleotides: false,
            limits: Limits::default(),
            default_id,
            scratch: None,
        }
    }
}

impl Check<'_> {
    /// What [`Check::run`] does for FASTA, for FASTQ of four lines a record. Ids may repeat: reads of a pair do.
    pub fn run_fastq(&self, input: impl Read, output: impl Write) -> Result<Checked, CheckError> {
        crate::fastq::check(self, input, output)
    }

    /// The characters allowed in a sequence, by ASCII code.
    pub(crate) fn allowed(&self) -> [bool; 128] {
        let mut table = self.alphabet.table();
        for letter in self.letters.bytes().filter(u8::is_ascii) {
            table[usize::from(letter)] = true;
        }
        table
    }

    /// Reads `input` to its end, or to where it is surely wrong, and writes it normalised.
    ///
    /// After an error the output is incomplete and to be thrown away.
    pub fn run(&self, input: impl Read, output: impl Write) -> Result<Checked, CheckError> {
        self.run_with(Ids::new(self.scratch), input, output)
    }

    pub(crate) fn run_with(
        &self,
        ids: Ids<'_>,
        input: impl Read,
        output: impl Write,
    ) -> Result<Checked, CheckError> {
        let mut scanner = Scanner::new(self, ids, output);
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
    let mut chunk = vec![0; FIRST_CHUNK];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return scanner.finish(),
            Ok(count) => {
                scanner.feed_all(&chunk[..count])?;
                if count == chunk.len() && count < CHUNK {
                    chunk = vec![0; CHUNK];
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Io(error)),
        }
    }
}
