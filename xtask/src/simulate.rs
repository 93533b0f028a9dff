//! `cargo xtask simulate [--seeds N] [--from S]`, `cargo xtask simulate --seed N`: the engine's simulation, optimised.

use crate::{cargo, run};

pub(crate) fn simulate(arguments: &[String]) -> anyhow::Result<()> {
    let example = ["run", "--quiet", "--release", "--package", "onelane-engine"];
    run(cargo()
        .args(example)
        .args(["--example", "simulate", "--"])
        .args(arguments))
}
