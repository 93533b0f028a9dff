//! `cargo xtask bench`: a release build, and `onelane-bench`'s commands one after the other.

use std::process::Command;

use crate::{cargo, root, run, target};

/// All but `soak`, which takes an hour; the ones that matter most first.
const NAMES: [&str; 5] = ["submit", "responsive", "turnover", "scale", "stream"];

/// Runs the named commands, or all but `soak`. Words that begin with `-`, and all after them, go to each of them.
pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let is_option = |argument: &String| argument.starts_with('-');
    let first = arguments.iter().position(is_option);
    let (named, options) = arguments.split_at(first.unwrap_or(arguments.len()));
    let named = named.iter().map(String::as_str).collect::<Vec<_>>();
    let mut build = cargo();
    build.args(["build", "--release", "-p", "onelane", "-p", "onelane-bench"]);
    run(&mut build)?;
    for name in if named.is_empty() { &NAMES } else { &named[..] } {
        let mut command = Command::new(target().join("release/onelane-bench"));
        run(command.current_dir(root()).arg(name).args(options))?;
    }
    Ok(())
}

/// Installs the peers that need no compiler, for the tests of the benches.
pub(crate) fn peers() -> anyhow::Result<()> {
    // With the workspace's features, as the tests are built.
    run(cargo().args(["build", "--workspace", "--bin", "onelane-bench"]))?;
    let program = target().join("debug/onelane-bench");
    run(Command::new(program)
        .current_dir(root())
        .args(["peers", "--quick"]))
}
