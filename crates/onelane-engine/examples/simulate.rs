//! Runs the simulation for many seeds, or one: `simulate [--seeds N] [--from S]`, `simulate --seed N`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for developers: it tells what it does, and fails by panicking"
)]

#[path = "../tests/it/simulation/mod.rs"]
mod simulation;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let (from, count) = match number("--seed") {
        Some(seed) => (seed, 1),
        None => (
            number("--from").unwrap_or(0),
            number("--seeds").unwrap_or(10_000),
        ),
    };
    match simulation::simulate_all(from, count, |done| println!("{done} of {count} seeds")) {
        Ok(totals) => {
            println!("{count} seeds are clean: {totals}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}
