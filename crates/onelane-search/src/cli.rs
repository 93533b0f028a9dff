//! The arguments of `onelane tool search`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::failure::Failure;

/// Exact Smith–Waterman search of FASTA queries against a FASTA library.
#[derive(Debug, Parser)]
#[command(
    name = "search",
    bin_name = "onelane tool search",
    no_binary_name = true,
    version
)]
pub(crate) struct Arguments {
    /// FASTA file with the queries
    #[arg(long, value_name = "FILE")]
    pub(crate) query: PathBuf,
    /// Directory for hits.tsv and alignments.txt; made if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Threads to compute with
    #[arg(long, value_name = "N")]
    pub(crate) threads: NonZeroUsize,
    /// FASTA file to search; without it, the built-in demonstration sample of 2,000 Swiss-Prot proteins
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
    /// File to append progress lines to, such as `0.42 aligning query 3 of 6`
    #[arg(long, value_name = "FILE", env = "ONELANE_PROGRESS")]
    pub(crate) progress: Option<PathBuf>,
    /// BLOSUM62 and gaps 11/1, or +2/-3 and gaps 5/2 on both strands
    #[arg(long, value_enum, default_value_t = Mode::Protein)]
    pub(crate) mode: Mode,
    /// Most hits to report per query
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) max_hits: usize,
    /// Lowest raw score to report
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) min_score: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Protein,
    Nucleotide,
}

pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Arguments, Failure> {
    Arguments::try_parse_from(args).map_err(|error| Failure::Usage {
        text: error.render().to_string(),
        exit_code: u8::try_from(error.exit_code()).unwrap_or(2),
    })
}
