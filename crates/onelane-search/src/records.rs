//! FASTA records, checked and encoded.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use noodles_fasta as fasta;

use crate::failure::Failure;
use crate::scheme::Scheme;

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Upper-case letters as in the file, for output.
    pub(crate) letters: Vec<u8>,
    /// The same residues as rows of the scheme's matrix.
    pub(crate) codes: Vec<u8>,
}

pub(crate) fn read_file(path: &Path, scheme: &Scheme) -> Result<Vec<Record>, Failure> {
    let bad = |reason: String| Failure::BadInput(format!("{}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    read(BufReader::new(file), scheme).map_err(bad)
}

/// Reads every record, or says in words what is wrong with the text.
pub(crate) fn read(source: impl BufRead, scheme: &Scheme) -> Result<Vec<Record>, String> {
    let records = fasta::io::Reader::new(source)
        .records()
        .map(|record| {
            encode(
                &record.map_err(|error| format!("not readable as FASTA: {error}"))?,
                scheme,
            )
        })
        .collect::<Result<Vec<_>, String>>()?;
    if records.is_empty() {
        return Err("holds no sequences".to_owned());
    }
    Ok(records)
}

fn encode(record: &fasta::Record, scheme: &Scheme) -> Result<Record, String> {
    let name = String::from_utf8_lossy(record.name()).into_owned();
    let description = record
        .description()
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let written = record
        .sequence()
        .as_ref()
        .iter()
        .filter(|letter| !letter.is_ascii_whitespace());
    let letters: Vec<u8> = written.map(u8::to_ascii_uppercase).collect();
    if letters.is_empty() {
        return Err(format!("sequence {name} is empty"));
    }
    let codes = codes(&name, &letters, scheme)?;
    Ok(Record {
        name,
        description: description.unwrap_or_default(),
        letters,
        codes,
    })
}

fn codes(name: &str, letters: &[u8], scheme: &Scheme) -> Result<Vec<u8>, String> {
    let code = |(position, &letter): (usize, &u8)| {
        scheme.code(letter).ok_or_else(|| {
            let shown = letter.escape_ascii();
            format!(
                "sequence {name}: '{shown}' at position {} is no {} letter",
                position + 1,
                scheme.alphabet
            )
        })
    };
    letters.iter().enumerate().map(code).collect()
}
