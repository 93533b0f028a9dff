//! Installs the peers: Python packages and pueue at pinned versions under `target/`, Debian's packages where root may.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{Need, PEERS, adapters, debian, environment};

/// With this file Debian's packages start nothing when they are installed (Debian Policy, 9.3.3: `invoke-rc.d`).
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// And with this one, `PostgreSQL`'s makes no cluster (`pg_createcluster`(8)).
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/onelane-bench.conf";

/// The packages whose versions are pinned, as they are installed; changed since, they are installed again.
fn wanted() -> anyhow::Result<String> {
    let path = adapters().join("requirements.txt");
    std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

fn stamp() -> PathBuf {
    environment().join("installed")
}

pub(super) fn has_python_packages() -> bool {
    let installed = std::fs::read_to_string(stamp());
    installed.is_ok_and(|installed| wanted().is_ok_and(|wanted| wanted == installed))
}

/// Name and version of Python packages, and Python's own.
pub(super) fn python_versions(packages: &[&str]) -> Vec<String> {
    const TELL: &str = "import importlib.metadata as all, platform, sys
print('Python', platform.python_version())
for name in sys.argv[1:]: print(name, all.version(name))";
    let mut command = Command::new(environment().join("bin/python"));
    let output = command.args(["-c", TELL]).args(packages).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// Installs what is missing (`quick`: without what has to be compiled), and tells what is there in the end.
pub(crate) fn install(quick: bool) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    // One that can't be had is no reason to do without the others.
    for (what, done) in [
        ("Debian's packages", install_debian()),
        ("Python's packages", install_python()),
        ("pueue", if quick { Ok(()) } else { install_crates() }),
    ] {
        if let Err(error) = done {
            failed.push(format!("{what} ({error:#})"));
        }
    }
    for peer in PEERS {
        let versions: Vec<_> = peer.needs.iter().flat_map(|need| need.versions()).collect();
        if peer.is_there() {
            println!("{}: there ({})", peer.name, versions.join(", "));
        } else {
            println!("{}: not there, so it is left out", peer.name);
        }
    }
    ensure!(
        failed.is_empty(),
        "these can't be installed: {}",
        failed.join("; ")
    );
    Ok(())
}

fn needs() -> impl Iterator<Item = Need> {
    PEERS.iter().flat_map(|peer| peer.needs).copied()
}

fn missing_from_debian() -> Vec<&'static str> {
    let mut packages = Vec::new();
    for need in needs() {
        if let Need::Debian(program, package, _) = need
            && debian(program).is_none()
            && !packages.contains(&package)
        {
            packages.push(package);
        }
    }
    if !can("python3", &["-c", "import ensurepip"]) {
        packages.push("python3-venv");
    }
    packages
}

fn install_debian() -> anyhow::Result<()> {
    let packages = missing_from_debian();
    if packages.is_empty() {
        return Ok(());
    }
    let is_root = rustix::process::geteuid().is_root();
    ensure!(
        is_root && debian("apt-get").is_some(),
        "only root on Debian may: apt-get install {}",
        packages.join(" ")
    );
    let _nothing_starts = Meanwhile::exists(POLICY, "#!/bin/sh\nexit 101\n", true)?;
    let _no_cluster = Meanwhile::exists(NO_CLUSTER, "create_main_cluster = false\n", false)?;
    run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "-q", "--no-install-recommends"]);
    run(install.args(&packages))?;
    if packages.contains(&"redis-server") {
        // Nor at the next start of the machine: who wants that had it installed before.
        run(Command::new("update-rc.d").args(["redis-server", "disable"]))?;
    }
    Ok(())
}

/// A file that is there for a while, unless it was there before.
struct Meanwhile(Option<PathBuf>);

impl Meanwhile {
    fn exists(path: &str, text: &str, executable: bool) -> anyhow::Result<Self> {
        let path = Path::new(path);
        if path.exists() {
            return Ok(Self(None));
        }
        let folder = path.parent().context("a file without a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
        let made = Self(Some(path.to_owned()));
        if executable {
            run(Command::new("chmod").arg("+x").arg(path))?;
        }
        Ok(made)
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("{} can't be removed: {error}", path.display());
        }
    }
}

fn install_python() -> anyhow::Result<()> {
    if has_python_packages() {
        return Ok(());
    }
    let environment = environment();
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "-r"]);
    run(pip.arg(adapters().join("requirements.txt")))?;
    std::fs::write(stamp(), wanted()?)?;
    Ok(())
}

/// Not in Debian 12.
fn install_crates() -> anyhow::Result<()> {
    for need in needs().filter(|need| !need.is_there()) {
        if let Need::Crate(_, name, version) = need {
            let mut cargo = Command::new("cargo");
            cargo.args(["install", "--locked", "--force", "--version", version, name]);
            run(cargo.arg("--root").arg(environment()))?;
        }
    }
    Ok(())
}

fn can(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {command:?}");
    let status = command
        .status()
        .with_context(|| format!("can't run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
