//! The built-in demonstration tool: exact Smith–Waterman search of FASTA queries against a library.
//!
//! `onelane tool search` gives a server something real to run before any other tool is installed. It reports every
//! best local alignment by exact affine-gap dynamic programming (Smith & Waterman 1981, doi:10.1016/0022-2836(81)90087-5;
//! Gotoh 1982, doi:10.1016/0022-2836(82)90398-9); there is no heuristic filter. Scores equal those of `ssearch36`.
//!
//! # Why the alignment is written here
//!
//! `bio` aligns exactly but brings some hundred crates for one function and scores one pair at a time; `block-aligner`
//! is exact only while its block covers the shorter sequence and scores stay small; `parasail` needs cmake. So scores come from a short
//! inter-sequence pass of our own (one query against sixteen library sequences, in plain arrays that the compiler
//! vectorises; the layout follows Rognes 2011, doi:10.1186/1471-2105-12-221), and reported hits alone are traced back.
//! The tests compare the scores with those of `ssearch36`.
//!
//! # Gaps
//!
//! A gap of length k costs `open + k · extend`: 11 + k for proteins, 5 + 2k for nucleotides. That is what BLAST means by
//! 11/1 and what `ssearch36 -f -11 -g -1` computes.

mod cli;
mod failure;
mod lanes;
mod progress;
mod records;
mod report;
mod scheme;
mod search;
mod trace;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// FASTA text of the built-in library: 2,000 Swiss-Prot proteins (`UniProt` Consortium, CC BY 4.0).
pub const SAMPLE_LIBRARY: &[u8] = include_bytes!("../../../data/swissprot-sample.fasta");

/// FASTA text of six queries, all but one with relatives in [`SAMPLE_LIBRARY`] (`UniProt` Consortium, CC BY 4.0).
pub const SAMPLE_QUERIES: &[u8] = include_bytes!("../../../data/queries.fasta");

/// Runs the tool on the process's standard streams; `args` are the words after `onelane tool search`.
///
/// The exit code is 0 on success, 2 for bad arguments or unusable input, 1 for anything else.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(args, &mut io::stdout(), &mut io::stderr()))
}

/// Runs the tool as [`main`] does, with its messages going to `out` and `err`, and returns the exit code.
pub fn run(args: impl Iterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let outcome = cli::parse(args).and_then(|arguments| search::run(&arguments, out));
    let Err(failure) = outcome else { return 0 };
    let message = failure.to_string();
    let message = message.trim_end();
    // The message is the last thing said; a closed stream must not hide the exit code.
    drop(if failure.exit_code() == 0 {
        writeln!(out, "{message}")
    } else {
        writeln!(err, "{message}")
    });
    failure.exit_code()
}
