//! The two result files: a table for programs, alignments for people.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::failure::Failure;
use crate::records::Record;
use crate::search::{Hit, Input, Probe};
use crate::trace::{Alignment, Step};

const HEADER: &str = "query\tsubject\tdescription\tscore\tbit_score\tidentity\tlength\tmismatches\tgaps\tqstart\tqend\tsstart\tsend";

/// Alignment columns per block.
const WIDTH: usize = 60;

/// Writes `hits.tsv` and `alignments.txt`.
pub(crate) fn write(
    dir: &Path,
    input: &Input,
    hits: &[Hit],
    alignments: &[Alignment],
) -> Result<(), Failure> {
    let pairs: Vec<Pair<'_>> = hits
        .iter()
        .zip(alignments)
        .map(|(hit, found)| Pair::new(input, hit, found))
        .collect();
    to_file(&dir.join("hits.tsv"), |out| table(out, input, &pairs))?;
    to_file(&dir.join("alignments.txt"), |out| {
        blocks(out, input, &pairs)
    })
}

fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(Failure::output(path))
}

/// A hit with what is reported of it.
struct Pair<'a> {
    hit: &'a Hit,
    query: &'a Record,
    probe: &'a Probe,
    subject: &'a Record,
    alignment: &'a Alignment,
    columns: Vec<Column>,
    identical: usize,
    gaps: usize,
}

/// A column as printed; `None` is a gap.
struct Column {
    query: Option<u8>,
    subject: Option<u8>,
    mark: u8,
}

impl<'a> Pair<'a> {
    fn new(input: &'a Input, hit: &'a Hit, alignment: &'a Alignment) -> Self {
        let (probe, subject) = (&input.probes[hit.probe], &input.library[hit.subject]);
        let columns = columns(input, probe, subject, alignment);
        let identical = columns.iter().filter(|column| column.mark == b'|').count();
        let gaps = columns
            .iter()
            .filter(|column| column.query.is_none() || column.subject.is_none())
            .count();
        Self {
            hit,
            query: &input.queries[hit.query],
            probe,
            subject,
            alignment,
            columns,
            identical,
            gaps,
        }
    }

    /// One-based position in the query as given; on the other strand positions fall.
    fn query_position(&self, offset: usize) -> usize {
        if self.probe.reverse {
            self.probe.letters.len() - offset
        } else {
            offset + 1
        }
    }

    /// Per cent of all columns, gaps included, to two places.
    fn identity(&self) -> String {
        let hundredths =
            (self.identical * 10_000 + self.columns.len() / 2) / self.columns.len().max(1);
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

fn columns(input: &Input, probe: &Probe, subject: &Record, alignment: &Alignment) -> Vec<Column> {
    let (mut at, mut facing) = (alignment.query_start, alignment.subject_start);
    let mut columns = Vec::with_capacity(alignment.steps.len());
    for step in &alignment.steps {
        let query = (*step != Step::Subject).then_some(at);
        let other = (*step != Step::Query).then_some(facing);
        let mark = query
            .zip(other)
            .map(|(query, other)| mark(input, probe.codes[query], subject.codes[other]));
        let letters = (
            query.map(|place| probe.letters[place]),
            other.map(|place| subject.letters[place]),
        );
        columns.push(Column {
            query: letters.0,
            subject: letters.1,
            mark: mark.unwrap_or(b' '),
        });
        at += usize::from(query.is_some());
        facing += usize::from(other.is_some());
    }
    columns
}

/// `|` for the same residue, `+` for a pair of positive score.
fn mark(input: &Input, query: u8, subject: u8) -> u8 {
    match input.scheme.row(subject)[usize::from(query)] {
        _ if query == subject => b'|',
        1.. => b'+',
        _ => b' ',
    }
}

fn table(out: &mut dyn Write, input: &Input, pairs: &[Pair<'_>]) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    pairs.iter().try_for_each(|pair| row(out, input, pair))
}

fn row(out: &mut dyn Write, input: &Input, pair: &Pair<'_>) -> io::Result<()> {
    let (length, start) = (pair.columns.len(), pair.alignment);
    let query_residues = pair
        .columns
        .iter()
        .filter(|column| column.query.is_some())
        .count();
    let subject_residues = pair
        .columns
        .iter()
        .filter(|column| column.subject.is_some())
        .count();
    write!(
        out,
        "{}\t{}\t{}\t",
        pair.query.name,
        pair.subject.name,
        pair.subject.description.replace('\t', " ")
    )?;
    write!(
        out,
        "{}\t{:.1}\t",
        pair.hit.score,
        input.scheme.bits(pair.hit.score)
    )?;
    write!(
        out,
        "{}\t{length}\t{}\t{}\t",
        pair.identity(),
        length - pair.identical - pair.gaps,
        pair.gaps
    )?;
    write!(out, "{}\t", pair.query_position(start.query_start))?;
    write!(
        out,
        "{}\t",
        pair.query_position(start.query_start + query_residues - 1)
    )?;
    writeln!(
        out,
        "{}\t{}",
        start.subject_start + 1,
        start.subject_start + subject_residues
    )
}

fn blocks(out: &mut dyn Write, input: &Input, pairs: &[Pair<'_>]) -> io::Result<()> {
    for (index, query) in input.queries.iter().enumerate() {
        writeln!(
            out,
            "Query {} {} ({} residues)\n",
            query.name,
            query.description,
            query.letters.len()
        )?;
        let mut found = pairs
            .iter()
            .filter(|pair| pair.hit.query == index)
            .peekable();
        if found.peek().is_none() {
            writeln!(out, "No hits.\n")?;
        }
        found
            .zip(1..)
            .try_for_each(|(pair, rank)| block(out, input, pair, rank))?;
    }
    Ok(())
}

fn block(out: &mut dyn Write, input: &Input, pair: &Pair<'_>, rank: usize) -> io::Result<()> {
    let (subject, length) = (pair.subject, pair.columns.len());
    let strand = if pair.probe.reverse {
        ", query reverse-complemented"
    } else {
        ""
    };
    writeln!(
        out,
        "{rank}. {} {} ({} residues)",
        subject.name,
        subject.description,
        subject.letters.len()
    )?;
    write!(
        out,
        "   Score {} ({:.1} bits), ",
        pair.hit.score,
        input.scheme.bits(pair.hit.score)
    )?;
    write!(
        out,
        "identity {}/{length} ({} %), ",
        pair.identical,
        pair.identity()
    )?;
    writeln!(out, "gaps {}/{length}{strand}\n", pair.gaps)?;
    let (mut at, mut facing) = (pair.alignment.query_start, pair.alignment.subject_start);
    for columns in pair.columns.chunks(WIDTH) {
        let text = |letter: fn(&Column) -> u8| {
            columns
                .iter()
                .map(|column| char::from(letter(column)))
                .collect::<String>()
        };
        let query_end = at
            + columns
                .iter()
                .filter(|column| column.query.is_some())
                .count();
        let subject_end = facing
            + columns
                .iter()
                .filter(|column| column.subject.is_some())
                .count();
        let (from, to) = (
            pair.query_position(at),
            pair.query_position(query_end.max(at + 1) - 1),
        );
        writeln!(
            out,
            "Query   {from:>7} {} {to}",
            text(|column| column.query.unwrap_or(b'-'))
        )?;
        writeln!(
            out,
            "{}",
            format!("{:16}{}", "", text(|column| column.mark)).trim_end()
        )?;
        let (from, to) = (facing + 1, subject_end.max(facing + 1));
        writeln!(
            out,
            "Subject {from:>7} {} {to}\n",
            text(|column| column.subject.unwrap_or(b'-'))
        )?;
        (at, facing) = (query_end, subject_end);
    }
    Ok(())
}
