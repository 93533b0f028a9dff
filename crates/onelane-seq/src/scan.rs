//! The scanner: a state machine over single characters, so that neither the size of a read nor
//! the length of a line can make a difference.

use std::io::{self, Write};
use std::mem;

use crate::decode::{Decoded, Decoder, printable};
use crate::ids::{Ids, Key};
use crate::sniff::{Sniffed, Sniffer};
use crate::wrap::Wrapped;
use crate::{Check, CheckError, Checked, Duplicates, InputError, looks_like_nucleotides};

/// Errors reported at most: more help nobody, and the list must not grow with the input.
const MAX_ERRORS: usize = 20;

/// So many numbers are tried for a repeated id before the record's own is taken.
const FEW_REPEATS: u64 = 100;

/// Why scanning ends early.
pub(crate) enum Stop {
    /// The errors noted are enough.
    Refused,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) type Step = Result<(), Stop>;

/// A place in the input; column 0 is before the first character of the line.
#[derive(Clone, Copy, Default)]
struct Place {
    line: u64,
    column: u64,
}

/// What the line in hand is, as far as it was read.
#[derive(Clone, Copy)]
enum Line {
    Blank,
    Header,
    Sequence,
}

/// The record in hand; number 0 stands for what precedes the first.
#[derive(Default)]
struct Record {
    number: u64,
    start: Place,
    bare: bool,
    header: Header,
    id: Option<String>,
    residues: u64,
    /// Residues that are A, C, G, T, U or N.
    acgtun: u64,
    digits: u64,
    /// Whether its sequence had characters that were refused.
    refused: bool,
    /// A `*` that is fine as long as nothing follows.
    star: Option<Place>,
}

#[derive(Default)]
struct Header {
    text: String,
    bytes: usize,
    /// Whether the id was read to its end.
    id_closed: bool,
    /// Whether some of the text was refused and is missing from it.
    flawed: bool,
    too_long: bool,
}

pub(crate) struct Scanner<'a, W: Write> {
    check: &'a Check<'a>,
    allowed: [bool; 128],
    sniffer: Sniffer,
    decoder: Decoder,
    at: Place,
    after_cr: bool,
    line: Line,
    /// Blanks on this line, counted as stripped only once the line turns out not to be blank.
    line_blanks: u64,
    record: Record,
    /// Each id's line; where ids are renamed, the last number that was tried for it.
    ids: Ids<'a>,
    errors: Vec<InputError>,
    checked: Checked,
    out: Wrapped<W>,
}

/// Bytes, characters, lines.
impl<'a, W: Write> Scanner<'a, W> {
    pub(crate) fn new(check: &'a Check<'a>, ids: Ids<'a>, output: W) -> Self {
        Self {
            check,
            allowed: check.allowed(),
            sniffer: Sniffer::default(),
            decoder: Decoder::default(),
            at: Place { line: 1, column: 0 },
            after_cr: false,
            line: Line::Blank,
            line_blanks: 0,
            record: Record::default(),
            ids,
            errors: Vec::new(),
            checked: Checked::default(),
            out: Wrapped::new(output),
        }
    }

    pub(crate) fn feed_all(&mut self, mut bytes: &[u8]) -> Step {
        while let Some(byte) = bytes.first() {
            let run = self.plain_run(bytes);
            if run > 0 {
                self.residues(&bytes[..run])?;
                bytes = &bytes[run..];
            } else {
                self.feed(*byte)?;
                bytes = &bytes[1..];
            }
        }
        Ok(())
    }

    /// How many of these bytes are sure to be residues that need no second look: nearly all of a large input is.
    fn plain_run(&self, bytes: &[u8]) -> usize {
        let is_usual = matches!(self.line, Line::Sequence)
            && self.decoder.is_idle()
            && self.sniffer.is_done()
            && self.record.star.is_none();
        if !is_usual {
            return 0;
        }
        let is_plain = |byte: &u8| self.allowed.get(usize::from(*byte)) == Some(&true);
        let run = bytes
            .iter()
            .position(|byte| !is_plain(byte))
            .unwrap_or(bytes.len());
        // The residue that breaks the limit is looked at alone, for its place.
        let left = self
            .check
            .limits
            .max_residues
            .map(|max| max.saturating_sub(self.checked.residues));
        left.and_then(|left| usize::try_from(left).ok())
            .map_or(run, |left| run.min(left))
    }

    fn residues(&mut self, letters: &[u8]) -> Step {
        let count = letters.len() as u64;
        self.after_cr = false;
        self.at.column += count;
        self.record.residues += count;
        self.checked.residues += count;
        if self.check.refuse_nucleotides {
            let acgtun = letters.iter().filter(|letter| is_acgtun(**letter)).count();
            self.record.acgtun += acgtun as u64;
        }
        if self.errors.is_empty() {
            self.out.residues(letters)?;
        }
        Ok(())
    }

    pub(crate) fn feed(&mut self, byte: u8) -> Step {
        if let Some(sniffed) = self.sniffer.push(byte) {
            return self.other_format(&sniffed);
        }
        loop {
            match self.decoder.push(byte) {
                Decoded::Partial => return Ok(()),
                Decoded::Char(c) => return self.character(c),
                Decoded::Bad { byte, again } => {
                    self.bad_byte(byte)?;
                    if !again {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The end of the input.
    pub(crate) fn finish(&mut self) -> Step {
        if let Some(byte) = self.decoder.cut_off() {
            self.bad_byte(byte)?;
        }
        if self.at.column > 0 {
            self.end_line()?;
        }
        self.close_record()?;
        if self.record.number == 0 {
            let message = "the input is empty: it has no sequence".to_owned();
            self.note(InputError {
                message,
                ..InputError::default()
            })?;
        }
        Ok(self.out.finish()?)
    }

    pub(crate) fn into_result(mut self, step: Step) -> Result<Checked, CheckError> {
        if let Err(Stop::Io(error)) = step {
            return Err(CheckError::Io(error));
        }
        if self.errors.is_empty() {
            return Ok(self.checked);
        }
        // That a record is empty shows only at its end and is an error of its beginning.
        self.errors.sort_by_key(|error| (error.line, error.column));
        Err(CheckError::Invalid(self.errors))
    }

    fn character(&mut self, c: char) -> Step {
        let after_cr = mem::replace(&mut self.after_cr, c == '\r');
        match c {
            '\n' if after_cr => Ok(()),
            '\n' => self.end_line(),
            '\r' => {
                self.checked.stripped.cr_line_ends += 1;
                self.end_line()
            }
            '\u{feff}' if self.at_start() => {
                self.checked.stripped.byte_order_mark = 1;
                Ok(())
            }
            _ => {
                self.at.column += 1;
                self.in_line(c)
            }
        }
    }

    fn at_start(&self) -> bool {
        let Place { line, column } = self.at;
        line == 1 && column == 0 && self.checked.stripped.byte_order_mark == 0
    }

    fn in_line(&mut self, c: char) -> Step {
        match (self.line, c) {
            (Line::Header, _) => self.header_character(c),
            (_, ' ' | '\t') => {
                self.line_blanks += 1;
                Ok(())
            }
            // Blanks before the '>' are forgiven: it can't be anything but a header.
            (Line::Blank, '>') => self.begin_header(),
            (Line::Blank, _) => {
                self.begin_sequence_line()?;
                self.sequence_character(c)
            }
            (Line::Sequence, _) => self.sequence_character(c),
        }
    }

    fn end_line(&mut self) -> Step {
        match self.line {
            Line::Blank => self.checked.stripped.blank_lines += 1,
            Line::Sequence => self.checked.stripped.spaces += self.line_blanks,
            Line::Header => {
                self.checked.stripped.spaces += self.line_blanks;
                self.end_header()?;
            }
        }
        self.line = Line::Blank;
        self.line_blanks = 0;
        self.at = Place {
            line: self.at.line + 1,
            column: 0,
        };
        Ok(())
    }

    fn bad_byte(&mut self, byte: u8) -> Step {
        self.after_cr = false;
        self.at.column += 1;
        if let Line::Blank = self.line {
            self.begin_sequence_line()?;
        }
        let code = format!("0x{byte:02X}");
        let message = format!("the byte {code} isn't valid UTF-8; save the text as UTF-8");
        self.refuse_character(code, message)
    }

    fn other_format(&mut self, sniffed: &Sniffed) -> Step {
        // Its first letters may have been complained about already.
        self.errors.clear();
        self.note(InputError {
            line: Some(self.at.line),
            column: Some(self.at.column + 2 - sniffed.len),
            message: sniffed.message.to_owned(),
            ..InputError::default()
        })?;
        Err(Stop::Refused)
    }
}

/// Records and headers.
impl<W: Write> Scanner<'_, W> {
    fn begin_header(&mut self) -> Step {
        self.close_record()?;
        self.line = Line::Header;
        self.open_record(false)
    }

    fn open_record(&mut self, bare: bool) -> Step {
        let number = self.record.number + 1;
        self.record = Record {
            number,
            start: self.at,
            bare,
            ..Record::default()
        };
        self.checked.records = number;
        match self.check.limits.max_records {
            Some(max) if number > max => {
                self.error(
                    self.at,
                    None,
                    format!("too many sequences: at most {max} are allowed"),
                )?;
                Err(Stop::Refused)
            }
            _ => Ok(()),
        }
    }

    fn header_character(&mut self, c: char) -> Step {
        let header = &mut self.record.header;
        header.bytes = header.bytes.saturating_add(c.len_utf8());
        if header.bytes > self.check.limits.max_header_bytes {
            return self.header_too_long();
        }
        if c == '\0' {
            return self.refuse_character(printable(c), nul_message());
        }
        if c.is_whitespace() {
            self.close_id()?;
        }
        self.record.header.text.push(c);
        Ok(())
    }

    fn header_too_long(&mut self) -> Step {
        self.record.header.flawed = true;
        if mem::replace(&mut self.record.header.too_long, true) {
            return Ok(());
        }
        let max = self.check.limits.max_header_bytes;
        self.error(
            self.at,
            None,
            format!("the header is too long: at most {max} bytes are allowed"),
        )
    }

    /// Called at every end of a word of the header; the first one ends the id.
    fn close_id(&mut self) -> Step {
        let header = &mut self.record.header;
        if mem::replace(&mut header.id_closed, true) || header.flawed {
            return Ok(());
        }
        let id = header.text.clone();
        if id.is_empty() {
            let message = "the header has no id: it must follow the '>' without a blank";
            return self.error(self.record.start, None, message.to_owned());
        }
        let id = self.register(id)?;
        self.record.header.text.clone_from(&id);
        self.record.id = Some(id);
        Ok(())
    }

    /// Remembers an id; gives the one to write.
    fn register(&mut self, id: String) -> Result<String, Stop> {
        let key = self.ids.key(&id);
        let id = match (self.ids.get(key)?, self.check.duplicates) {
            (None, Duplicates::Refuse) => {
                self.ids.set(key, self.record.start.line)?;
                id
            }
            (None, Duplicates::Rename) => {
                self.ids.set(key, 1)?;
                id
            }
            (Some(line), Duplicates::Refuse) => return self.repeated(id, line),
            (Some(tried), Duplicates::Rename) => self.renamed(&id, key, tried)?,
        };
        self.checked.first_id.get_or_insert_with(|| id.clone());
        Ok(id)
    }

    fn repeated(&mut self, id: String, line: u64) -> Result<String, Stop> {
        self.record.id = Some(id.clone());
        let message = format!("the id '{id}' was already used on line {line}; ids must differ");
        self.error(self.record.start, None, message)?;
        Ok(id)
    }

    /// The id with the first number that makes it new. Where an id is there very often the search goes on from the
    /// record's own number, which is most likely free, and never from one that was tried.
    fn renamed(&mut self, id: &str, key: Key, tried: u64) -> Result<String, Stop> {
        self.checked.stripped.ids_renamed += 1;
        let mut numbers = (tried + 1..FEW_REPEATS).chain(self.record.number.max(tried + 1)..);
        loop {
            let number = numbers.next().unwrap_or(self.record.number);
            let renamed = format!("{id}_{number}");
            let new = self.ids.key(&renamed);
            if self.ids.get(new)?.is_none() {
                self.ids.set(key, number)?;
                self.ids.set(new, 1)?;
                return Ok(renamed);
            }
        }
    }

    fn end_header(&mut self) -> Step {
        self.close_id()?;
        let text = mem::take(&mut self.record.header.text);
        let kept = text.trim_end();
        self.checked.stripped.spaces += text[kept.len()..].chars().count() as u64;
        self.write_header(kept)
    }

    fn write_header(&mut self, text: &str) -> Step {
        if self.errors.is_empty() {
            self.out.header(text)?;
        }
        Ok(())
    }

    fn close_record(&mut self) -> Step {
        let record = &self.record;
        if record.number == 0 {
            return Ok(());
        }
        if record.residues == 0 && !record.refused {
            return self.error(record.start, None, empty_message(record));
        }
        // At a header only: at the end of the input a bare sequence is fine.
        if record.bare && self.at_header() {
            let message =
                "sequence before the first header: with several sequences each needs a '>' header";
            return self.error(record.start, None, message.to_owned());
        }
        self.checked.stripped.final_stars += u64::from(record.star.is_some());
        let (residues, acgtun) = (record.residues, record.acgtun);
        if self.check.refuse_nucleotides && looks_like_nucleotides(residues, acgtun) {
            let share = acgtun * 100 / residues;
            let message = format!(
                "this looks like nucleotides: {share} % of its letters are A, C, G, T, U or N, and a protein sequence \
                 is expected (the tools file can allow it: `allow_nucleotides = true`)"
            );
            return self.error(record.start, None, message);
        }
        Ok(())
    }

    /// Records are closed by a `>`, with a column, or by the end of the input, without.
    fn at_header(&self) -> bool {
        self.at.column > 0
    }
}

/// Sequences.
impl<W: Write> Scanner<'_, W> {
    fn begin_sequence_line(&mut self) -> Step {
        self.line = Line::Sequence;
        if self.record.number > 0 {
            return Ok(());
        }
        self.open_record(true)?;
        // A caller's blank id or line end must not break the output.
        let id = self
            .check
            .default_id
            .split_whitespace()
            .next()
            .unwrap_or("sequence")
            .to_owned();
        self.checked.stripped.header_added = 1;
        self.write_header(&id)?;
        self.record.id = Some(self.register(id)?);
        Ok(())
    }

    fn sequence_character(&mut self, c: char) -> Step {
        match c {
            // What the tool allows besides is a letter like any other.
            _ if c.is_ascii() && self.check.letters.contains(c) => self.residue_of(c),
            '0'..='9' => {
                self.record.digits += 1;
                self.checked.stripped.digits += 1;
                Ok(())
            }
            '*' => {
                self.refuse_star()?;
                self.record.star = Some(self.at);
                Ok(())
            }
            _ => match u8::try_from(c) {
                Ok(letter) if letter.is_ascii() && self.allowed[usize::from(letter)] => {
                    self.residue(letter)
                }
                _ => self.refuse_character(printable(c), self.letter_message(c)),
            },
        }
    }

    fn residue_of(&mut self, c: char) -> Step {
        u8::try_from(c).map_or(Ok(()), |letter| self.residue(letter))
    }

    fn residue(&mut self, letter: u8) -> Step {
        self.refuse_star()?;
        self.record.residues += 1;
        self.record.acgtun += u64::from(is_acgtun(letter));
        self.checked.residues += 1;
        if let Some(max) = self.check.limits.max_residues
            && self.checked.residues > max
        {
            self.error(
                self.at,
                None,
                format!("too many residues: at most {max} are allowed in all"),
            )?;
            return Err(Stop::Refused);
        }
        if self.errors.is_empty() {
            self.out.residue(letter)?;
        }
        Ok(())
    }

    /// Something follows the `*` in hand, if there is one.
    fn refuse_star(&mut self) -> Step {
        let Some(star) = self.record.star.take() else {
            return Ok(());
        };
        self.record.refused = true;
        let message = "a '*' is allowed only at the end of a sequence";
        self.error(star, Some("*".to_owned()), message.to_owned())
    }

    fn refuse_character(&mut self, shown: String, message: String) -> Step {
        if let Line::Header = self.line {
            self.record.header.flawed = true;
        } else {
            self.refuse_star()?;
            self.record.refused = true;
        }
        self.error(self.at, Some(shown), message)
    }

    fn letter_message(&self, c: char) -> String {
        let alphabet = self.check.alphabet;
        let hint = match c {
            '\0' => return nul_message(),
            '-' | '.' => " (gaps of an alignment must be removed)",
            '>' => " (a header must begin its own line)",
            // No code of a nucleotide, and common in proteins.
            'E' | 'F' | 'I' | 'L' | 'P' | 'Q' | 'e' | 'f' | 'i' | 'l' | 'p' | 'q' => {
                " (is this a protein sequence?)"
            }
            _ => "",
        };
        let (shown, kind, letters) = (printable(c), alphabet.phrase(), alphabet.letters());
        format!(
            "'{shown}' isn't allowed in {kind}{hint}; allowed are {letters}, in upper or lower case"
        )
    }
}

/// Errors.
impl<W: Write> Scanner<'_, W> {
    /// Notes an error of the record in hand.
    fn error(&mut self, at: Place, character: Option<String>, message: String) -> Step {
        let record = &self.record;
        self.note(InputError {
            record: (record.number > 0).then_some(record.number),
            id: record.id.clone(),
            line: Some(at.line),
            column: Some(at.column),
            character,
            message,
        })
    }

    fn note(&mut self, error: InputError) -> Step {
        self.errors.push(error);
        if self.errors.len() < MAX_ERRORS {
            Ok(())
        } else {
            Err(Stop::Refused)
        }
    }
}

const fn is_acgtun(letter: u8) -> bool {
    matches!(
        letter.to_ascii_uppercase(),
        b'A' | b'C' | b'G' | b'T' | b'U' | b'N'
    )
}

fn nul_message() -> String {
    "NUL bytes aren't allowed; the input must be plain text".to_owned()
}

fn empty_message(record: &Record) -> String {
    let why = match (record.digits > 0, record.star.is_some()) {
        (true, true) => "only digits and a '*', no residues (digits are taken as position numbers)",
        (true, false) => "only digits, no residues (digits are taken as position numbers)",
        (false, true) => "only a '*', no residues",
        (false, false) => "a header without residues",
    };
    format!("the sequence is empty: {why}")
}
