//! What people use today: web servers in front of a queue, behind adapters of a few lines in `bench/peers/`, and queues
//! that have nothing but their own command. One that is not installed is left out, by name.

mod install;
mod own_command;
pub(crate) mod turnover;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) use install::install;
use own_command::Daemon;

use crate::Common;
use crate::load::{Call, Connection, Shot};
use crate::report::Report;
use crate::server::Served;

/// A peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    needs: &'static [Need],
    /// What an acknowledged submission is worth after a power cut.
    pub(crate) kept: &'static str,
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An adapter that takes `POST /jobs` with `{"query": …, "command": …}` and answers `GET /jobs/{id}`.
    Queue(&'static str),
    /// The starting point's own interface.
    StartingPoint,
    /// Its own command; there is no HTTP.
    TaskSpooler,
    /// The same.
    Pueue,
}

/// What must be there.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Packages in `requirements.txt`.
    Python(&'static [&'static str]),
    /// A program, Debian's package of it, and the option that makes it tell its version.
    Debian(&'static str, &'static str, &'static str),
    /// A program from crates.io: its crate and version.
    Crate(&'static str, &'static str, &'static str),
}

const REDIS: Need = Need::Debian("redis-server", "redis-server", "--version");
const SYNCED: &str = "synced";
const MEMORY: &str = "in memory";

const PEERS: [Peer; 7] = [
    Peer {
        name: "starting point (FastAPI)",
        way: Way::StartingPoint,
        needs: &[Need::Python(&["fastapi", "uvicorn"])],
        kept: MEMORY,
    },
    Peer {
        name: "FastAPI + Celery + Redis",
        way: Way::Queue("celery_redis.py"),
        needs: &[
            Need::Python(&["fastapi", "uvicorn", "celery", "redis"]),
            REDIS,
        ],
        kept: SYNCED,
    },
    Peer {
        name: "FastAPI + RQ + Redis",
        way: Way::Queue("rq_redis.py"),
        needs: &[Need::Python(&["fastapi", "uvicorn", "rq", "redis"]), REDIS],
        kept: SYNCED,
    },
    Peer {
        name: "FastAPI + Huey",
        way: Way::Queue("huey_sqlite.py"),
        needs: &[Need::Python(&["fastapi", "uvicorn", "huey"])],
        kept: SYNCED,
    },
    Peer {
        name: "FastAPI + procrastinate",
        way: Way::Queue("procrastinate_postgresql.py"),
        needs: &[
            Need::Python(&["fastapi", "uvicorn", "procrastinate", "psycopg"]),
            Need::Debian("postgres", "postgresql", "--version"),
        ],
        kept: SYNCED,
    },
    Peer {
        name: "pueue",
        way: Way::Pueue,
        needs: &[Need::Crate("pueue", "pueue", "4.0.4")],
        kept: "in a file, not synced",
    },
    Peer {
        name: "task-spooler",
        way: Way::TaskSpooler,
        needs: &[Need::Debian("tsp", "task-spooler", "-V")],
        kept: MEMORY,
    },
];

fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

fn adapters() -> PathBuf {
    root().join("bench/peers")
}

/// Where everything goes that is not Debian's: a virtual environment of Python's, with pueue in its `bin/`.
fn environment() -> PathBuf {
    root().join("target/bench/peers")
}

/// A program of Debian's; `PostgreSQL`'s are on nobody's PATH.
fn debian(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let versions = versions.flatten().flatten().map(|entry| entry.path());
    let mut folders = std::env::split_paths(&path).chain(versions.map(|folder| folder.join("bin")));
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

impl Need {
    fn is_there(self) -> bool {
        match self {
            Self::Python(_) => install::has_python_packages(),
            Self::Debian(program, ..) => debian(program).is_some(),
            Self::Crate(program, ..) => self.version_of(&environment().join("bin").join(program)),
        }
    }

    /// Whether a program from crates.io has the version that is asked for.
    fn version_of(self, program: &Path) -> bool {
        let Self::Crate(_, _, version) = self else {
            return true;
        };
        said(program, "--version").is_some_and(|found| found == version)
    }

    /// Name and version of each part that is there.
    fn versions(self) -> Vec<String> {
        match self {
            Self::Python(packages) => install::python_versions(packages),
            Self::Debian(program, _, option) => debian(program)
                .and_then(|path| said(&path, option))
                .map(|version| format!("{program} {version}"))
                .into_iter()
                .collect(),
            Self::Crate(program, _, version) => vec![format!("{program} {version}")],
        }
    }
}

/// The version that a program tells.
fn said(program: &Path, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    version_in(&text).map(str::to_owned)
}

/// The first thing in a text that looks like a version.
fn version_in(text: &str) -> Option<&str> {
    let words = text.split_whitespace();
    let mut numbers = words.map(|word| word.trim_start_matches(|c: char| !c.is_ascii_digit()));
    numbers.find(|number| number.contains('.'))
}

impl Peer {
    /// Whether it can be measured here.
    fn is_there(&self) -> bool {
        self.needs.iter().all(|need| need.is_there())
    }

    /// What a submission's body is.
    pub(crate) fn body(&self) -> &'static str {
        match self.way {
            Way::Queue(_) => "json",
            Way::StartingPoint => "form",
            Way::TaskSpooler | Way::Pueue => "own command",
        }
    }

    /// Whether it speaks HTTP. A peer that doesn't is given no more than a stretch's submissions at a time.
    pub(crate) fn has_http(&self) -> bool {
        matches!(self.way, Way::Queue(_) | Way::StartingPoint)
    }

    /// Whether a submission is answered after it is synced, and by a web server: what Onelane is to be compared with.
    pub(crate) fn is_durable(&self) -> bool {
        self.kept == SYNCED
    }

    /// How many submissions may wait: task-spooler keeps a process and a connection for each, 982 at most.
    pub(crate) fn most(&self) -> u64 {
        if self.way == Way::TaskSpooler {
            800
        } else {
            u64::MAX
        }
    }

    /// Starts it with fresh data; where a queue's worker is a process of its own, with or without one.
    pub(crate) fn start(&self, common: &Common, worker: bool) -> anyhow::Result<Running> {
        let file = match self.way {
            Way::Queue(file) => file,
            Way::StartingPoint => "starting_point.py",
            Way::TaskSpooler | Way::Pueue => {
                let place = Place::Own(Daemon::start(common, self.way)?);
                return Ok(Running { peer: *self, place });
            }
        };
        let mut command = Command::new(environment().join("bin/python"));
        command.arg(adapters().join(file));
        command.args(worker.then_some("--worker"));
        let place = Place::Web(Served::program(common, self.name, command)?);
        Ok(Running { peer: *self, place })
    }
}

/// A running peer. Dropping it stops it and all that it has started, and removes its data.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    place: Place,
}

enum Place {
    Web(Served),
    Own(Daemon),
}

impl Running {
    /// Where it listens, if it does.
    pub(crate) fn address(&self) -> &str {
        match &self.place {
            Place::Web(served) => &served.address,
            Place::Own(_) => "",
        }
    }

    /// Its data folder.
    pub(crate) fn folder(&self) -> &Path {
        match &self.place {
            Place::Web(served) => served.folder(),
            Place::Own(daemon) => daemon.folder(),
        }
    }

    /// A job that does nothing, with this sequence.
    pub(crate) fn submission(&self, query: &str) -> Call {
        match (&self.place, self.peer.way) {
            (Place::Own(daemon), _) => daemon.job(&["true", query]),
            (_, Way::StartingPoint) => form("name", query).into(),
            _ => json_job(&json!({"query": query})),
        }
    }

    /// A job that runs this command.
    pub(crate) fn job(&self, words: &[&str]) -> Call {
        match (&self.place, self.peer.way) {
            (Place::Own(daemon), _) => daemon.job(words),
            (_, Way::StartingPoint) => form("command", &json!(words).to_string()).into(),
            _ => json_job(&json!({"query": "", "command": words})),
        }
    }

    /// No job begins until this is dropped: the first in line waits for ever.
    pub(crate) async fn hold_back(&self) -> anyhow::Result<()> {
        let job = self.job(&["sleep", "infinity"]);
        Connection::new(self.address()).call(&job).await?;
        Ok(())
    }

    /// The question after the job whose submission was answered so.
    pub(crate) fn question(&self, answer: &Bytes) -> anyhow::Result<Call> {
        match (&self.place, self.peer.way) {
            (Place::Own(daemon), _) => daemon.question(answer),
            (_, Way::StartingPoint) => Ok(Shot::get("/backlog").into()),
            _ => {
                let job: Value = serde_json::from_slice(answer)?;
                let id = job["id"].as_str().context("a job without an id")?;
                Ok(Shot::get(format!("/jobs/{id}")).into())
            }
        }
    }
}

fn json_job(job: &Value) -> Call {
    Shot::post("/jobs", "application/json", job.to_string()).into()
}

fn form(name: &str, sequence: &str) -> Shot {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("query_name", name)
        .append_pair("query_sequence", sequence)
        .finish();
    Shot::post("/", "application/x-www-form-urlencoded", body)
}

/// The peers that can be measured here; the report gets their versions, and the names of those that can't.
pub(crate) fn there(report: &mut Report) -> Vec<Peer> {
    let (there, missing): (Vec<_>, Vec<_>) = PEERS.into_iter().partition(Peer::is_there);
    let names: Vec<_> = missing.iter().map(|peer| peer.name).collect();
    if !names.is_empty() {
        report.notes.push(format!(
            "not installed, hence left out (`onelane-bench peers` installs them): {}",
            names.join(", ")
        ));
    }
    let mut versions = Vec::new();
    for version in there
        .iter()
        .flat_map(|peer| peer.needs)
        .flat_map(|need| need.versions())
    {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if !versions.is_empty() {
        report
            .notes
            .push(format!("the peers: {}", versions.join(", ")));
    }
    there
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        let said = [
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
            "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
            "Task Spooler v1.0.1 - a task queue system for the unix user.",
            "pueue 4.0.4",
            "nothing of the kind",
        ];
        let versions = said.map(version_in);
        let wanted = ["7.0.15", "15.18", "1.0.1", "4.0.4"].map(Some);
        assert_eq!(versions[..4], wanted);
        assert_eq!(versions[4], None);
    }
}
