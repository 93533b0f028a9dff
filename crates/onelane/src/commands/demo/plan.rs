//! What to submit, and how much of it. Pure.

use std::fmt::Write as _;

/// How much work there is to be seen, in seconds of running jobs.
pub(super) const WORK_SECONDS: f64 = 20.0;
/// An ordinary job: short enough that the backlog drains visibly.
pub(super) const JOB_SECONDS: f64 = 1.2;
/// The job that the server is killed under: long enough to go on for a while without it.
pub(super) const LONG_SECONDS: f64 = 5.0;
/// The tool limits the records of one submission.
const MAX_COPIES: usize = 100;
/// Residues of the query that is submitted every second.
const TINY_RESIDUES: usize = 20;

/// One record of the queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// The first word of its header.
    pub(super) id: String,
    description: String,
    sequence: String,
}

impl Query {
    /// The id without database and accession: `sp|P02135|HBB_LITCT` is `HBB_LITCT`.
    pub(super) fn short(&self) -> &str {
        self.id.rsplit('|').next().unwrap_or(&self.id)
    }

    /// What the work grows with.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sequences are far shorter than 2^52"
    )]
    pub(super) fn residues(&self) -> f64 {
        self.sequence.len() as f64
    }

    /// The record as it was.
    pub(super) fn fasta(&self) -> Vec<u8> {
        format!(">{} {}\n{}\n", self.id, self.description, self.sequence).into_bytes()
    }

    /// The record many times, each with an id of its own, so that it is as much work and no input is like another.
    pub(super) fn copies(&self, number: usize, round: usize) -> Vec<u8> {
        let mut text = String::new();
        for copy in 1..=number {
            // Writing into a String can't fail.
            if writeln!(
                text,
                ">{}.r{round}c{copy} {}\n{}",
                self.id, self.description, self.sequence
            )
            .is_err()
            {
                break;
            }
        }
        text.into_bytes()
    }

    /// The first few residues: hardly any work.
    pub(super) fn tiny(&self, number: usize) -> Vec<u8> {
        let start: String = self.sequence.chars().take(TINY_RESIDUES).collect();
        format!(">probe{number}\n{start}\n").into_bytes()
    }
}

/// Cuts FASTA into records. What is inside of them the server judges.
pub(super) fn read_queries(bytes: &[u8]) -> anyhow::Result<Vec<Query>> {
    let text = std::str::from_utf8(bytes)?;
    let mut queries: Vec<Query> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(header) = line.strip_prefix('>') {
            let (id, description) = header
                .split_once(char::is_whitespace)
                .unwrap_or((header, ""));
            queries.push(Query {
                id: id.to_owned(),
                description: description.to_owned(),
                sequence: String::new(),
            });
        } else if let Some(query) = queries.last_mut() {
            query.sequence.push_str(line);
        } else {
            anyhow::bail!("there is a sequence before the first `>` line");
        }
    }
    anyhow::ensure!(!queries.is_empty(), "there is no sequence");
    Ok(queries)
}

/// How many copies of a query make a job of about so many seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range"
)]
pub(super) fn copies_for(seconds: f64, seconds_per_residue: f64, query: &Query) -> usize {
    let one = (seconds_per_residue * query.residues()).max(1e-4);
    ((seconds / one).ceil() as usize).clamp(1, MAX_COPIES)
}

/// How many rounds of all queries fill the rest of the work.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to a small range"
)]
pub(super) fn rounds_for(missing_seconds: f64, queries: usize) -> usize {
    let round = JOB_SECONDS * queries.max(1) as f64;
    ((missing_seconds / round).ceil() as usize).clamp(1, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_and_copied_under_ids_of_their_own() {
        let queries = read_queries(b">sp|P1|AAA one\nMK\nLV\n\n>b\nGG\n").unwrap();
        assert_eq!(
            (
                queries.len(),
                queries[0].short(),
                queries[0].sequence.as_str()
            ),
            (2, "AAA", "MKLV")
        );
        let text = String::from_utf8(queries[0].copies(2, 3)).unwrap();
        assert_eq!(
            text,
            ">sp|P1|AAA.r3c1 one\nMKLV\n>sp|P1|AAA.r3c2 one\nMKLV\n"
        );
    }

    #[test]
    fn what_is_no_fasta_is_refused() {
        assert!(read_queries(b"").is_err());
        assert!(read_queries(b"MKLV\n").is_err());
    }

    #[test]
    fn amounts_follow_the_measured_speed_within_bounds() {
        let query = &read_queries(format!(">a\n{}\n", "M".repeat(100)).as_bytes()).unwrap()[0];
        assert_eq!(copies_for(1.0, 0.001, query), 10);
        assert_eq!(copies_for(1.0, 10.0, query), 1);
        assert_eq!(copies_for(1.0, 0.0, query), MAX_COPIES);
        assert_eq!(rounds_for(20.0, 6), 3);
        assert_eq!(rounds_for(-1.0, 6), 1);
    }
}
