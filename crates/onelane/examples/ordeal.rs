//! Runs torture and the hostile matrix: `cargo xtask torture` and `cargo xtask hostile` build and call this. An
//! example, so that it shares every build with the tests of this crate.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints its figures, and fails by panicking"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use onelane_testkit::torture;

/// The value after a flag.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str, usual| flag(name).map_or(usual, |n| n.parse().unwrap());
    let seed = number("--seed", u64::from(std::process::id()));
    let folder = tempfile::Builder::new()
        .prefix("onelane-torture-")
        .tempdir()
        .unwrap()
        .keep();
    // Copies: later builds don't touch them, and their processes are told by these files.
    let copy = |name: &str| {
        let here = folder.join(name);
        std::fs::copy(flag(&format!("--{name}")).unwrap(), &here).unwrap();
        here
    };
    let plan = torture::Plan {
        binary: copy("onelane"),
        child: copy("hostile-child"),
        kills: number("--kills", 50),
        seed,
        level: flag("--level"),
        folder: folder.clone(),
    };
    println!(
        "torture: {} kills, seed {seed}, in {}",
        plan.kills,
        folder.display()
    );
    let report = torture::run(plan).await;
    for (name, value) in &report.figures {
        println!("{name:<34} {value:>8}");
    }
    for sentence in &report.violations {
        println!("VIOLATION: {sentence}");
    }
    if report.violations.is_empty() {
        std::fs::remove_dir_all(PathBuf::from(&folder)).unwrap();
        return ExitCode::SUCCESS;
    }
    println!("kept: {}; again: --seed {seed}", folder.display());
    ExitCode::FAILURE
}
