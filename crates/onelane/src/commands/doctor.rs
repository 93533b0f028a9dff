use std::path::{Path, PathBuf};

use clap::Args;
use onelane_exec::{Control, WantedLevel};
use rustix::process::{PidfdFlags, getpid, pidfd_open, set_child_subreaper};
use serde_json::json;

use super::Context;
use crate::cli::default_data_folder;
use crate::client::ClientError;
use crate::exit::Exit;

/// Below this a job's results may not find room.
const LITTLE_BYTES: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The data folder to check [default: the one that `serve` takes without a tools file]
    #[arg(long, env = "ONELANE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// How grave a finding is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    Note,
    Bad,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "FAILED",
        }
    }
}

struct Finding {
    check: &'static str,
    level: Level,
    message: String,
}

impl Finding {
    fn new(check: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self {
            check,
            level,
            message: message.into(),
        }
    }
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let mut findings = vec![proc_is_there(), pidfd_works(), subreaper_works()];
    findings.extend(process_control());
    match options.data.clone().or_else(default_data_folder) {
        Some(folder) => findings.extend(folder_checks(&folder)),
        None => findings.push(Finding::new(
            "data folder",
            Level::Note,
            "no home folder: name one with --data",
        )),
    }
    findings.push(server(context).await);
    report(context, &findings)?;
    Ok(
        if findings.iter().any(|finding| finding.level == Level::Bad) {
            Exit::CheckFailed
        } else {
            Exit::Done
        },
    )
}

fn report(context: &Context, findings: &[Finding]) -> std::io::Result<()> {
    if context.output.json {
        let checks: Vec<_> = findings.iter().map(|found| json!({"check": found.check, "level": found.level.word().to_lowercase(), "message": found.message})).collect();
        return context.output.document(&json!({ "checks": checks }));
    }
    let row = |found: &Finding| {
        vec![
            found.level.word().to_owned(),
            found.check.to_owned(),
            found.message.clone(),
        ]
    };
    context
        .output
        .table(&findings.iter().map(row).collect::<Vec<_>>())
}

fn proc_is_there() -> Finding {
    match std::fs::read_to_string("/proc/self/stat") {
        Ok(_) => Finding::new("/proc", Level::Good, "readable"),
        Err(error) => Finding::new(
            "/proc",
            Level::Bad,
            format!("{error}: processes can't be told apart without it"),
        ),
    }
}

fn pidfd_works() -> Finding {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::new(
            "pidfd_open",
            Level::Good,
            "works: running jobs can be taken up after a restart",
        ),
        Err(error) => Finding::new(
            "pidfd_open",
            Level::Bad,
            format!("{error}: Linux 5.3 or newer is needed, or a sandbox forbids it"),
        ),
    }
}

fn subreaper_works() -> Finding {
    match set_child_subreaper(Some(getpid())).and_then(|()| set_child_subreaper(None)) {
        Ok(()) => Finding::new(
            "subreaper",
            Level::Good,
            "works: processes that a tool leaves behind are found",
        ),
        Err(error) => Finding::new("subreaper", Level::Bad, error.to_string()),
    }
}

/// Every level is tried; the strongest that works is the one that a server takes.
fn process_control() -> Vec<Finding> {
    let name = format!("doctor-{}", std::process::id());
    let control = match Control::choose(WantedLevel::Auto, &name) {
        Ok(control) => control,
        Err(error) => {
            return vec![Finding::new(
                "process control",
                Level::Bad,
                error.to_string(),
            )];
        }
    };
    let controllers = control.controllers().join(", ");
    control.leave();
    let what = match control.level() {
        onelane_exec::Level::Cgroup if controllers.is_empty() => {
            "cgroup, without controllers".to_owned()
        }
        onelane_exec::Level::Cgroup => format!("cgroup, with {controllers}"),
        onelane_exec::Level::Namespace => "namespace: a pid namespace for each attempt".to_owned(),
        onelane_exec::Level::Guard => {
            "guard: if both supervisors of a job are killed at once, it is stuck".to_owned()
        }
    };
    let mut findings = vec![Finding::new("process control", Level::Good, what)];
    findings.extend(control.refusals().iter().map(|(level, why)| {
        Finding::new(
            "process control",
            Level::Note,
            format!("{level} does not work here: {why}"),
        )
    }));
    findings
}

fn folder_checks(folder: &Path) -> Vec<Finding> {
    // A folder that isn't there yet will lie on the file system of the nearest one that is.
    let Some(there) = folder.ancestors().find(|path| path.is_dir()) else {
        return vec![Finding::new(
            "data folder",
            Level::Bad,
            format!("`{}` can't be made", folder.display()),
        )];
    };
    vec![
        file_system(folder, there),
        writable(folder, there),
        room(there),
    ]
}

fn file_system(folder: &Path, there: &Path) -> Finding {
    match onelane_exec::is_on_network(there) {
        Err(error) => Finding::new("file system", Level::Bad, error.to_string()),
        Ok(true) => Finding::new(
            "file system",
            Level::Bad,
            format!(
                "`{}` is on a network file system, where a lock proves nothing",
                folder.display()
            ),
        ),
        Ok(false) => Finding::new(
            "file system",
            Level::Good,
            format!("`{}` is on a local file system", folder.display()),
        ),
    }
}

fn writable(folder: &Path, there: &Path) -> Finding {
    match rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Finding::new(
            "data folder",
            Level::Good,
            if there == folder {
                "writable"
            } else {
                "can be made"
            },
        ),
        Err(error) => Finding::new(
            "data folder",
            Level::Bad,
            format!("`{}` is not writable: {error}", there.display()),
        ),
    }
}

fn room(there: &Path) -> Finding {
    match rustix::fs::statvfs(there) {
        Err(error) => Finding::new("disk", Level::Bad, error.to_string()),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let level = if free < LITTLE_BYTES {
                Level::Bad
            } else {
                Level::Good
            };
            Finding::new("disk", level, format!("{} MiB free", free >> 20))
        }
    }
}

async fn server(context: &Context) -> Finding {
    match context.client.ready().await {
        Ok(name) => Finding::new(
            "server",
            Level::Good,
            format!("{name} answers at {}", context.client.address()),
        ),
        // Not running is no fault of the machine.
        Err(ClientError::NoServer { url }) => {
            Finding::new("server", Level::Note, format!("none answers at {url}"))
        }
        Err(error) => Finding::new(
            "server",
            Level::Bad,
            error.to_string().lines().next().unwrap_or_default(),
        ),
    }
}
