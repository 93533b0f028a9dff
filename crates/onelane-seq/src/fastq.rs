//! FASTQ, four lines a record. Unlike FASTA it is written by machines: nothing is forgiven but line ends and blank lines
//! at the end.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use crate::decode::printable;
use crate::sniff::compressed;
use crate::{Check, CheckError, Checked, InputError};

/// Errors reported at most.
const MAX_ERRORS: usize = 20;
/// No read is longer; without a limit one endless line would fill the memory.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// The quality characters: Phred 0 to 93 (Cock et al. 2010, Nucleic Acids Research 38, 1767).
const QUALITY: std::ops::RangeInclusive<u8> = b'!'..=b'~';

struct Reader<'a, R, W: Write> {
    check: &'a Check<'a>,
    allowed: [bool; 128],
    input: BufReader<R>,
    output: BufWriter<W>,
    line: u64,
    id: Option<String>,
    checked: Checked,
    errors: Vec<InputError>,
}

pub(crate) fn check(
    check: &Check<'_>,
    input: impl Read,
    output: impl Write,
) -> Result<Checked, CheckError> {
    let mut reader = Reader {
        check,
        allowed: check.allowed(),
        input: BufReader::new(input),
        output: BufWriter::new(output),
        line: 0,
        id: None,
        checked: Checked::default(),
        errors: Vec::new(),
    };
    while reader.errors.len() < MAX_ERRORS && reader.record()? {}
    if reader.errors.is_empty() && reader.checked.records == 0 {
        reader.refuse(None, None, "the input is empty: it has no record");
    }
    if !reader.errors.is_empty() {
        return Err(CheckError::Invalid(reader.errors));
    }
    reader.output.flush()?;
    Ok(reader.checked)
}

impl<R: Read, W: Write> Reader<'_, R, W> {
    /// Reads one record; false at the end, and where the rest can't be understood.
    fn record(&mut self) -> Result<bool, CheckError> {
        let Some(header) = self.first_line()? else {
            return Ok(false);
        };
        self.checked.records += 1;
        if !self.header(&header) {
            return Ok(false);
        }
        let (Some(sequence), Some(plus), Some(quality)) =
            (self.next_line()?, self.next_line()?, self.next_line()?)
        else {
            self.refuse(None, None, "the record is cut off: it needs four lines");
            return Ok(false);
        };
        let line = self.line;
        self.line = line - 2;
        self.sequence(&sequence);
        self.line = line - 1;
        if plus.first() != Some(&b'+') {
            let message = "the third line of a record begins with '+'; sequences of several lines aren't read";
            self.refuse(Some(1), None, message);
            return Ok(false);
        }
        self.line = line;
        self.quality(&quality, sequence.len());
        if self.errors.is_empty() {
            for part in [&header, &sequence, &b"+".to_vec(), &quality] {
                self.output.write_all(part)?;
                self.output.write_all(b"\n")?;
            }
        }
        Ok(!self.is_over_limit())
    }

    /// The first line of a record; blank lines before it are skipped.
    fn first_line(&mut self) -> Result<Option<Vec<u8>>, CheckError> {
        while let Some(line) = self.next_line()? {
            if !line.is_empty() {
                return Ok(Some(line));
            }
            self.checked.stripped.blank_lines += 1;
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, CheckError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.input).take(MAX_LINE_BYTES);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == MAX_LINE_BYTES {
            self.refuse(None, None, "the line is longer than 64 MiB");
            return Err(CheckError::Invalid(std::mem::take(&mut self.errors)));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
            self.checked.stripped.cr_line_ends += 1;
        }
        Ok(Some(line))
    }

    fn header(&mut self, header: &[u8]) -> bool {
        self.id = None;
        let Some(rest) = header.strip_prefix(b"@") else {
            let message = match header.first() {
                Some(b'>') => "this looks like FASTA ('>' comes first); FASTQ is expected",
                _ => compressed(header).unwrap_or("a record of FASTQ begins with '@'"),
            };
            self.refuse(Some(1), None, message);
            return false;
        };
        let text = String::from_utf8_lossy(rest);
        let id = text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        let max = self.check.limits.max_header_bytes;
        if rest.len() > max {
            self.refuse(
                None,
                None,
                format!("the header is too long: at most {max} bytes are allowed"),
            );
        } else if id.is_empty() || text.starts_with(char::is_whitespace) {
            self.refuse(
                Some(1),
                None,
                "the header has no id: it must follow the '@' without a blank",
            );
        } else if rest.contains(&0) || std::str::from_utf8(rest).is_err() {
            self.refuse(None, None, "the header isn't text in UTF-8");
        }
        self.checked.first_id.get_or_insert_with(|| id.clone());
        self.id = Some(id);
        true
    }

    fn sequence(&mut self, sequence: &[u8]) {
        self.checked.residues += sequence.len() as u64;
        if sequence.is_empty() {
            self.refuse(None, None, "the sequence is empty");
        }
        let is_allowed = |byte: &u8| self.allowed.get(usize::from(*byte)) == Some(&true);
        if let Some(at) = sequence.iter().position(|byte| !is_allowed(byte)) {
            let (shown, alphabet) = (printable(char::from(sequence[at])), self.check.alphabet);
            let (kind, letters) = (alphabet.phrase(), alphabet.letters());
            let message = format!(
                "'{shown}' isn't allowed in {kind}; allowed are {letters}, in upper or lower case"
            );
            self.refuse(Some(at as u64 + 1), Some(shown), message);
        }
    }

    fn quality(&mut self, quality: &[u8], residues: usize) {
        if quality.len() != residues {
            let message = format!(
                "the record has {residues} residues, but {} qualities",
                quality.len()
            );
            self.refuse(None, None, message);
        }
        if let Some(at) = quality.iter().position(|byte| !QUALITY.contains(byte)) {
            let shown = format!("0x{:02X}", quality[at]);
            let message = format!("the byte {shown} is no quality: those are '!' to '~'");
            self.refuse(Some(at as u64 + 1), Some(shown), message);
        }
    }

    fn is_over_limit(&mut self) -> bool {
        let limits = self.check.limits;
        if let Some(max) = limits.max_records.filter(|max| self.checked.records > *max) {
            self.refuse(
                None,
                None,
                format!("too many sequences: at most {max} are allowed"),
            );
            return true;
        }
        if let Some(max) = limits
            .max_residues
            .filter(|max| self.checked.residues > *max)
        {
            self.refuse(
                None,
                None,
                format!("too many residues: at most {max} are allowed in all"),
            );
            return true;
        }
        false
    }

    fn refuse(
        &mut self,
        column: Option<u64>,
        character: Option<String>,
        message: impl Into<String>,
    ) {
        self.errors.push(InputError {
            record: (self.checked.records > 0).then_some(self.checked.records),
            id: self.id.clone(),
            line: (self.line > 0).then_some(self.line),
            column,
            character,
            message: message.into(),
        });
    }
}
