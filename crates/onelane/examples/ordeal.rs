//! Runs torture and the hostile matrix: `cargo xtask torture` and `cargo xtask hostile` build and call this. An
//! example, so that it shares every build with the tests of this crate.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints its figures, and fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use onelane_testkit::{hostile, hostile_child, torture};

/// The user without rights on Debian.
const NOBODY: u32 = 65534;

/// The value after a flag.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

fn number<T: FromStr>(name: &str, usual: T) -> T
where
    T::Err: std::fmt::Debug,
{
    flag(name).map_or(usual, |n| n.parse().unwrap())
}

#[tokio::main]
async fn main() -> ExitCode {
    let folder = tempfile::Builder::new()
        .prefix("onelane-ordeal-")
        .tempdir()
        .unwrap()
        .keep();
    // Other users' processes look into it.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let violations = match std::env::args().nth(1).as_deref() {
        Some("torture") => torture(&folder).await,
        Some("hostile") => hostile(&folder).await,
        _ => vec!["usage: ordeal torture|hostile …".to_owned()],
    };
    for sentence in &violations {
        println!("VIOLATION: {sentence}");
    }
    if violations.is_empty() {
        std::fs::remove_dir_all(&folder).unwrap();
        return ExitCode::SUCCESS;
    }
    println!("kept: {}", folder.display());
    ExitCode::FAILURE
}

/// Copies: later builds don't touch them, and their processes are told by these files.
fn copy(name: &str, folder: &Path) -> PathBuf {
    let here = folder.join(name);
    std::fs::copy(flag(&format!("--{name}")).unwrap(), &here).unwrap();
    here
}

async fn torture(folder: &Path) -> Vec<String> {
    let seed = number("--seed", u64::from(std::process::id()));
    let plan = torture::Plan {
        binary: copy("onelane", folder),
        child: copy("hostile-child", folder),
        kills: number("--kills", 50),
        seed,
        level: flag("--level"),
        folder: folder.to_owned(),
    };
    println!(
        "torture: {} kills, --seed {seed}, in {}",
        plan.kills,
        folder.display()
    );
    let report = torture::run(plan).await;
    for (name, value) in &report.figures {
        println!("{name:<34} {value:>8}");
    }
    report.violations
}

async fn hostile(folder: &Path) -> Vec<String> {
    let levels = flag("--level").map_or_else(
        || ["cgroup", "namespace", "guard"].map(str::to_owned).to_vec(),
        |level| vec![level],
    );
    let (binary, child) = (copy("onelane", folder), copy("hostile-child", folder));
    let mut violations = Vec::new();
    for level in levels {
        let matrix = hostile::Matrix {
            binary: binary.clone(),
            child: child.clone(),
            folder: folder.to_owned(),
            level,
            behaviours: chosen("--behaviour", &hostile_child::BEHAVIOURS, |name| name),
            stops: chosen("--stop", &hostile::STOPS, |stop| stop.name()),
            runs: number("--runs", 1),
            user: (flag("--user").as_deref() == Some("nobody")).then_some(NOBODY),
        };
        let Some(table) = hostile::run(&matrix).await else {
            println!("{}: not to be had on this machine", matrix.level);
            continue;
        };
        println!("{}\n", hostile::show(&matrix, &table));
        let broken = table.values().flat_map(|cell| cell.violations.clone());
        violations.extend(broken);
    }
    violations
}

/// All, or the one that is asked for.
fn chosen<T: Copy>(flag_name: &str, all: &[T], name: impl Fn(&T) -> &'static str) -> Vec<T> {
    let wanted = flag(flag_name);
    let is_wanted = |one: &&T| wanted.as_deref().is_none_or(|wanted| wanted == name(one));
    all.iter().filter(is_wanted).copied().collect()
}
