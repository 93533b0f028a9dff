//! `cargo xtask torture` and `cargo xtask hostile`: builds the server with its fail points, and the programs that
//! torment it, and runs them.

use crate::{cargo, has_nextest, run, target};

/// Kills the server under load, fifty times in every test run. Arguments: `--kills N`, `--seed S`, `--level L`.
pub(crate) fn torture(arguments: &[String]) -> anyhow::Result<()> {
    ordeal("torture", arguments)
}

/// Runs the hostile matrix. Arguments: `--runs N`, `--level L`, `--stop S`, `--behaviour B`, `--user nobody`.
pub(crate) fn hostile(arguments: &[String]) -> anyhow::Result<()> {
    ordeal("hostile", arguments)
}

/// Runs the tests that need a server with its fail points.
pub(crate) fn fail_points() -> anyhow::Result<()> {
    let runner: &[&str] = if has_nextest() {
        &["nextest", "run"]
    } else {
        &["test"]
    };
    let arguments = ["-p", "onelane", "--features", "failpoints", "failpoints::"];
    run(cargo().args(runner).args(arguments))
}

fn ordeal(which: &str, arguments: &[String]) -> anyhow::Result<()> {
    let what = [
        "--bin",
        "onelane",
        "--example",
        "hostile-child",
        "--example",
        "ordeal",
    ];
    let mut build = cargo();
    build.args(["build", "-p", "onelane", "--features", "failpoints"]);
    run(build.args(what))?;
    let target = target().join("debug");
    let mut command = std::process::Command::new(target.join("examples/ordeal"));
    command.arg(which).args(arguments);
    command.arg("--onelane").arg(target.join("onelane"));
    command
        .arg("--hostile-child")
        .arg(target.join("examples/hostile-child"));
    run(&mut command)
}
