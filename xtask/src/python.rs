//! `cargo xtask python`: builds the wheel with the server, for old C libraries too, and runs the Python package's
//! tests against the very binary that is in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{cargo, install_python, root, run, target};

/// Pinned: what builds the wheels, checks the types and runs the tests; and the workflow manager of an example. Zig is
/// the linker that knows older C libraries.
const PACKAGES: [&str; 9] = [
    "pytest==9.2.0",
    "mypy==2.4.1",
    "httpx==0.28.1",
    "tqdm==4.70.1",
    "hatchling==1.33.0",
    "editables==0.5",
    "maturin==1.16.0",
    "ziglang==0.15.2",
    "snakemake==9.27.1",
];

/// A virtual environment with all of it.
pub(crate) fn prepare() -> anyhow::Result<PathBuf> {
    install_python(&root(), "python-test", &PACKAGES)
}

/// Builds the wheel, and gives it and the server's binary that is in it.
pub(crate) fn build(python: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let target = target();
    let (host, wheels) = (host()?, target.join("wheels"));
    if wheels.is_dir() {
        std::fs::remove_dir_all(&wheels)?;
    }
    let mut maturin = Command::new(python.with_file_name("maturin"));
    maturin.current_dir(root().join("python/server"));
    maturin.env("PATH", path_with(python)?).args([
        "build",
        "--release",
        "--zig",
        "--target",
        &host,
        "--out",
    ]);
    run(maturin.arg(&wheels))?;
    let wheel = std::fs::read_dir(&wheels)?
        .next()
        .context("maturin has built no wheel")??;
    Ok((wheel.path(), target.join(&host).join("release/onelane")))
}

/// Runs the package's tests.
pub(crate) fn test(python: &Path, wheel: &Path, binary: &Path) -> anyhow::Result<()> {
    let package = root().join("python");
    let mut install = Command::new(python);
    install.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    run(install
        .args(["--no-build-isolation", "--editable"])
        .arg(&package))?;
    let mut tests = Command::new(python);
    tests
        .current_dir(&package)
        .env("PATH", path_with(python)?)
        .env("ONELANE_BINARY", binary)
        .env("ONELANE_SERVER_WHEEL", wheel);
    run(tests.args(["-m", "pytest", "-p", "no:cacheprovider"]))
}

/// This machine's target: naming it is what makes Zig the linker.
fn host() -> anyhow::Result<String> {
    let output = cargo().args(["-vV"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("cargo does not say for which machine it builds"),
    }
}

/// The environment's programs before all others.
fn path_with(python: &Path) -> anyhow::Result<OsString> {
    let bin = python.parent().context("no folder of programs")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}
