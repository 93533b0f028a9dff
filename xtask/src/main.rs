//! Tasks that people repeat: `cargo xtask test` installs what the tests need, where it may, and runs them all;
//! `simulate` and `mutants` run the engine against a model of the world; `bench` measures.
#![expect(
    clippy::print_stdout,
    reason = "a task says what it does and reads its environment"
)]

mod bench;
mod large;
mod mutants;
mod ordeal;
mod python;
mod simulate;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Debian packages that the tests use: the program (or file) that shows that it is there, and the package.
const PACKAGES: [(&str, &str); 15] = [
    ("ssearch36", "fasta3"),
    ("blastp", "ncbi-blast+"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("strace", "strace"),
    ("hmmsearch", "hmmer"),
    ("/usr/share/doc/hmmer/tutorial/globins4.hmm", "hmmer-doc"),
    ("mmseqs", "mmseqs2"),
    (
        "/usr/share/doc/mmseqs2/example-data/QUERY.fasta.gz",
        "mmseqs2-examples",
    ),
    ("diamond", "diamond-aligner"),
    ("mafft", "mafft"),
    ("muscle", "muscle"),
    ("clustalo", "clustalo"),
    ("minimap2", "minimap2"),
    ("seqkit", "seqkit"),
];

/// Python packages for the tests' clients, pinned.
const PYTHON: [&str; 5] = [
    "httpx==0.28.1",
    "fastapi==0.115.6",
    "python-multipart==0.0.20",
    "openapi-spec-validator==0.7.1",
    "jsonschema==4.23.0",
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    match std::env::args().nth(1).as_deref() {
        Some("test") => test(),
        Some("bench") => bench::bench(&arguments),
        Some("simulate") => simulate::simulate(&arguments),
        Some("mutants") => mutants::mutants(&arguments),
        Some("torture") => ordeal::torture(&arguments),
        Some("hostile") => ordeal::hostile(&arguments),
        Some("failpoints") => ordeal::fail_points(),
        Some("large") => large::run(),
        Some("python") => python_package(&python::prepare()?).map(drop),
        _ => bail!(
            "usage: cargo xtask test | bench [NAME …] [OPTION …] | simulate [--seeds N] [--from S] [--seed N] | mutants [NAME] | \
             torture [--kills N] [--seed S] [--level L] | hostile [--runs N] [--level L] [--user NAME] | failpoints | large | \
             python"
        ),
    }
}

fn test() -> anyhow::Result<()> {
    let strict = std::env::var_os("CI").is_some();
    let mut missing = install_packages()?;
    let python = install_python(&root(), "python", &PYTHON);
    let wheels = python::prepare();
    for error in [&python, &wheels]
        .into_iter()
        .filter_map(|made| made.as_ref().err())
    {
        missing.push(format!("Python packages ({error:#})"));
    }
    if let Err(error) = bench::peers() {
        missing.push(format!("peers to measure ({error:#})"));
    }
    if strict && !missing.is_empty() {
        bail!(
            "CI needs what could not be installed: {}",
            missing.join(", ")
        );
    }
    run_tests(python.ok().as_deref(), strict)?;
    ordeal::fail_points()?;
    ordeal::torture(&[])?;
    // One release build serves all: the binary of the wheel is the one that is shown.
    let mut demo = match &wheels {
        Ok(python) => Command::new(python_package(python)?),
        Err(_) => cargo_run_release(),
    };
    run(demo.arg("demo"))?;
    for name in &missing {
        println!("SKIPPED, because it is not installed: {name}");
    }
    Ok(())
}

/// Builds and tests the Python package; gives the server's binary.
fn python_package(python: &Path) -> anyhow::Result<PathBuf> {
    let (wheel, binary) = python::build(python)?;
    python::test(python, &wheel, &binary)?;
    Ok(binary)
}

fn cargo_run_release() -> Command {
    let mut command = cargo();
    command.args(["run", "--release", "--"]);
    command
}

fn run_tests(python: Option<&Path>, strict: bool) -> anyhow::Result<()> {
    let mut command = cargo();
    if has_nextest() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        println!("cargo-nextest is not installed; using cargo test");
        command.args(["test", "--workspace"]);
    }
    if let Some(python) = python {
        command.env("ONELANE_TEST_PYTHON", python);
    }
    if strict {
        command.env("ONELANE_REQUIRE_TOOLS", "1");
    }
    run(&mut command)
}

fn has_nextest() -> bool {
    let version = cargo().args(["nextest", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// Installs what is missing, as root on Debian; otherwise gives the names of what is missing.
fn install_packages() -> anyhow::Result<Vec<String>> {
    let missing = || {
        PACKAGES
            .iter()
            .filter(|(program, _)| !on_path(program))
            .map(|(_, package)| *package)
    };
    let wanted: Vec<&str> = missing().collect();
    let may_install = on_path("apt-get") && is_root();
    if !wanted.is_empty() && may_install {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive").args([
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
        ]);
        run(install.args(&wanted))?;
    }
    Ok(missing().map(str::to_owned).collect())
}

/// A virtual environment under `target/`, made once for these versions.
fn install_python(root: &Path, name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = root.join("target").join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("versions");
    let versions = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == versions) {
        return Ok(python);
    }
    if !Command::new("python3")
        .args(["-c", "import ensurepip"])
        .output()
        .is_ok_and(|output| output.status.success())
        && is_root()
    {
        run(Command::new("apt-get").args([
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            "python3-venv",
        ]))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(packages))?;
    std::fs::write(&stamp, versions)?;
    Ok(python)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

fn on_path(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {command:?}");
    let status = command
        .status()
        .with_context(|| format!("{command:?} could not be started"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
