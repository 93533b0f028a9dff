//! What the figures were measured on, and what a process takes of it.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpus: usize,
    cpu: String,
    memory_bytes: u64,
    kernel: String,
    file_system: String,
}

impl Machine {
    pub(crate) fn here(folder: &Path) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = field(&cpuinfo, "model name")
            .unwrap_or("unknown")
            .to_owned();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu,
            memory_bytes: kib(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} × {}, {} GiB, Linux {}, data on {}",
            self.cpus,
            self.cpu,
            self.memory_bytes >> 30,
            self.kernel,
            self.file_system
        )
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?
        .trim_end_matches("kB")
        .trim()
        .parse()
        .ok()
}

/// The type of the mount that holds a folder (proc(5), `mounts`).
fn file_system(folder: &Path) -> Option<String> {
    let folder = std::fs::canonicalize(folder).ok()?;
    let mounts = read("/proc/self/mounts");
    let words = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let holding = words.filter(|(mount, _)| folder.starts_with(mount));
    holding
        .max_by_key(|(mount, _)| mount.len())
        .map(|(_, kind)| kind.to_owned())
}

/// What a process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Resident, shared pages counted in part (`smaps_rollup`, `Pss`).
    pub(crate) pss_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
}

pub(crate) fn taken(pid: u32) -> anyhow::Result<Taken> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
    let status = read(&format!("/proc/{pid}/status"));
    Ok(Taken {
        pss_bytes: kib(&rollup, "Pss").context("no Pss")? * 1024,
        threads: field(&status, "Threads").context("no Threads")?.parse()?,
        descriptors: u64::try_from(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())?,
    })
}

/// Gives this process's threads a place before all ordinary ones, where that is allowed, so that a job that hogs the
/// machine delays the server and not the one who measures it. Start the servers before: children inherit it.
pub(crate) fn run_first(on: bool) -> bool {
    let (policy, priority) = if on { ("-f", "1") } else { ("-o", "0") };
    let pid = std::process::id().to_string();
    let mut command = std::process::Command::new("chrt");
    command.args([policy, "-a", "-p", priority, &pid]);
    let done = command.stderr(std::process::Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
