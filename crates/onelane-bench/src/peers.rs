//! What people use today, behind adapters of a few lines in `bench/peers/`. One that is not installed is left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::Common;
use crate::server::Served;

/// A peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Its adapter in `bench/peers/`.
    file: &'static str,
    /// Programs that it needs besides Python: the program, and Debian's package.
    needs: &'static [(&'static str, &'static str)],
}

const REDIS: &[(&str, &str)] = &[("redis-server", "redis-server")];
const POSTGRESQL: &[(&str, &str)] = &[("pg_ctlcluster", "postgresql")];

/// Web servers in front of a queue: each takes `POST /jobs` with `{"query": …}` and answers `GET /jobs/{id}`.
pub(crate) const PEERS: [Peer; 4] = [
    peer("FastAPI + Celery + Redis", "celery_redis.py", REDIS),
    peer("FastAPI + RQ + Redis", "rq_redis.py", REDIS),
    peer("FastAPI + Huey", "huey_sqlite.py", &[]),
    peer(
        "FastAPI + procrastinate",
        "procrastinate_postgresql.py",
        POSTGRESQL,
    ),
];

const fn peer(
    name: &'static str,
    file: &'static str,
    needs: &'static [(&'static str, &'static str)],
) -> Peer {
    Peer { name, file, needs }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn adapters() -> PathBuf {
    root().join("bench/peers")
}

fn environment() -> PathBuf {
    root().join("target/bench-peers")
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Peer {
    /// The programs that are missing.
    fn missing(&self) -> impl Iterator<Item = &'static str> {
        let missing = self
            .needs
            .iter()
            .filter(|(program, _)| !is_on_path(program));
        missing.map(|(_, package)| *package)
    }

    /// Whether it can be measured here.
    pub(crate) fn is_there(&self) -> bool {
        environment().join("installed").is_file() && self.missing().next().is_none()
    }

    pub(crate) fn start(&self, common: &Common) -> anyhow::Result<Served> {
        let mut command = Command::new(environment().join("bin/python"));
        command.arg(adapters().join(self.file));
        Served::program(common, self.name, command)
    }
}

/// The peers that can be measured here, and a sentence that names those that can't.
pub(crate) fn there() -> (Vec<Peer>, Option<String>) {
    let (there, missing): (Vec<_>, Vec<_>) = PEERS.into_iter().partition(Peer::is_there);
    let names: Vec<_> = missing.iter().map(|peer| peer.name).collect();
    let note = format!(
        "not installed, hence left out (`onelane-bench peers` installs them): {}",
        names.join(", ")
    );
    (there, (!names.is_empty()).then_some(note))
}

/// Installs the peers: Python packages at pinned versions under `target/`, Debian's packages where root may.
pub(crate) fn install() -> anyhow::Result<()> {
    let packages: Vec<_> = PEERS.iter().flat_map(Peer::missing).collect();
    if !packages.is_empty() && rustix::process::geteuid().is_root() && is_on_path("apt-get") {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "-y", "-q", "--no-install-recommends"]);
        run(install.args(["python3-venv"]).args(&packages))?;
    }
    let environment = environment();
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "-r"])
        .arg(adapters().join("requirements.txt"));
    run(&mut pip)?;
    std::fs::write(environment.join("installed"), "")?;
    for peer in PEERS {
        println!(
            "{}: {}",
            peer.name,
            if peer.is_there() { "there" } else { "missing" }
        );
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("can't run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
