//! Onelane: a job server for sequence analyses, and its command line.
//!
//! This binary is the only composition root. Two of its faces never reach the CLI parser or any runtime: the shim
//! (small, forked often, must start fast) and the built-in tools (they are jobs, not clients).

mod cli;
mod client;
mod commands;
mod exit;
mod output;
mod progress;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = args
        .iter()
        .skip(1)
        .take(2)
        .filter_map(|word| word.to_str())
        .collect();
    match words.as_slice() {
        ["shim", trial @ ..] => onelane_exec::shim_main(trial.first().copied()),
        ["tool", "search"] => onelane_search::main(args.into_iter().skip(3)),
        _ => cli::main(args),
    }
}
