//! What outlives a server: the disk, the processes of the attempts, the clock, and what people were promised.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use onelane_core::{AttemptNo, Capacity, Job, JobId, StateWord, Timestamp};
use onelane_exec::{AttemptId, Found};
use onelane_store::AttemptRecord;
use onelane_tools::ToolDefinition;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::attempt::Attempt;
use super::ledger::Ledger;

pub(crate) const MACHINE: Capacity = Capacity {
    cpus: 4,
    memory_bytes: 1 << 30,
    gpus: 1,
};

/// So many of the last events are told when a schedule fails.
const TOLD: usize = 60;

tokio::task_local! {
    /// Set for what a client asks, so that the engine's own reads can be told apart.
    pub(crate) static CLIENT: u32;
}

/// A job on the model disk.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) job: Job,
    pub(crate) after: Vec<JobId>,
    pub(crate) records: BTreeMap<AttemptNo, AttemptRecord>,
}

/// How an effect goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Done, and told at once.
    Now,
    /// Done, and told some time later, or never when the server dies first.
    Late,
    /// Not done.
    Fails,
}

/// What an operation waits for before its next effect can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// The shim has told that the tool runs, or nobody is left who could.
    Told(AttemptId),
    /// Nobody holds the attempt's lock.
    Free(AttemptId),
    /// `shim.json` is there, or nobody holds the lock.
    RecordedOrFree(AttemptId),
}

/// An operation between two of its effects.
#[derive(Debug)]
pub(crate) struct Point {
    /// The next effect.
    pub(crate) what: &'static str,
    pub(crate) about: Option<AttemptId>,
    pub(crate) when: When,
    /// Whether the machine can fail at it.
    pub(crate) may_fail: bool,
    client: Option<u32>,
    grant: oneshot::Sender<Fate>,
}

impl Point {
    /// Of everything that was granted before, and this (FNV-1a).
    pub(crate) fn digest(&self, before: u64) -> u64 {
        let about = self.about.map(|id| (*id.job.as_bytes(), id.attempt));
        let bytes = about.iter().flat_map(|(job, _)| job.iter().copied());
        let attempt = about.map_or(0, |(_, attempt)| attempt);
        let words = self.what.bytes().chain(bytes).chain(attempt.to_le_bytes());
        words.fold(before, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) boot: u32,
    pub(crate) disk_full: bool,
    pub(crate) tools: BTreeMap<String, Arc<ToolDefinition>>,
    pub(crate) rows: BTreeMap<JobId, Row>,
    /// What was there before each commit since the last durable one: a power cut may bring back the last of them.
    pub(crate) soft: Vec<(JobId, Row)>,
    pub(crate) last_seq: i64,
    pub(crate) definitions: BTreeMap<String, String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) attempts: BTreeMap<AttemptKey, Attempt>,
    /// What the executor told this server, to be told again.
    pub(crate) heard: Vec<(AttemptId, Found)>,
    pub(crate) points: Vec<Point>,
    pub(crate) ledger: Ledger,
    pub(crate) attempts_started: u64,
    /// The first promise that was broken.
    pub(crate) broken: Option<String>,
    trace: Option<VecDeque<String>>,
}

/// [`AttemptId`] with an order.
pub(crate) type AttemptKey = (JobId, AttemptNo);

pub(crate) const fn key(id: AttemptId) -> AttemptKey {
    (id.job, id.attempt)
}

impl World {
    pub(crate) fn new(traced: bool) -> Self {
        Self {
            now: 1_700_000_000_000,
            trace: traced.then(VecDeque::new),
            ..Self::default()
        }
    }

    pub(crate) const fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    pub(crate) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let text = text(self);
        if let Some(trace) = &mut self.trace {
            if trace.len() == TOLD {
                trace.pop_front();
            }
            trace.push_back(text);
        }
    }

    pub(crate) fn trace(&self) -> String {
        let lines = self.trace.iter().flatten();
        lines.fold(String::new(), |text, line| text + "  " + line + "\n")
    }

    /// A promise is broken; the first one counts.
    pub(crate) fn accuse(&mut self, what: impl Into<String>) {
        if self.broken.is_none() {
            let what = what.into();
            self.note(|_| format!("BROKEN: {what}"));
            self.broken = Some(what);
        }
    }

    pub(crate) fn name(&self, id: JobId) -> String {
        let seq = self.rows.get(&id).map(|row| row.job.seq);
        seq.map_or_else(|| format!("job {id}"), |seq| format!("job {seq}"))
    }

    /// What a job takes of the machine.
    pub(crate) fn takes(&self, id: JobId) -> Capacity {
        let row = self.rows.get(&id);
        row.map_or(MACHINE, |row| takes(&self.tools, row))
    }

    /// Jobs that are starting or running.
    pub(crate) fn claimed(&self) -> Vec<JobId> {
        let rows = self.rows.values().map(|row| &row.job);
        rows.filter(|job| {
            let word = job.state.word();
            matches!(word, StateWord::Starting | StateWord::Running)
        })
        .map(|job| job.id)
        .collect()
    }

    /// A new server begins with what the store knows.
    pub(crate) fn restart(&mut self, paused: bool) {
        let Self {
            ledger,
            rows,
            tools,
            ..
        } = self;
        ledger.restart(rows, |row| takes(tools, row), paused);
    }

    fn is_ready(&self, point: &Point) -> bool {
        let attempt = |id| self.attempts.get(&key(id));
        match point.when {
            When::Always => true,
            When::Told(id) => attempt(id).is_none_or(|a| a.told || !a.is_supervised()),
            When::Free(id) => attempt(id).is_none_or(|a| !a.is_supervised() && !a.held_by_server),
            When::RecordedOrFree(id) => {
                attempt(id).is_none_or(|a| a.record.is_some() || !a.is_locked())
            }
        }
    }

    /// The operations whose next effect can happen now, in an order that depends on the seed alone.
    pub(crate) fn ready(&self) -> Vec<usize> {
        let mut ready: Vec<usize> = (0..self.points.len())
            .filter(|at| self.is_ready(&self.points[*at]))
            .collect();
        ready.sort_by_key(|at| {
            let point = &self.points[*at];
            (point.what, point.about.map(key), point.client)
        });
        ready
    }

    /// Lets the operation at a point go on; the future takes it from there.
    pub(crate) fn grant(&mut self, at: usize, fate: Fate) {
        let point = self.points.remove(at);
        self.note(|world| {
            let about = point
                .about
                .map(|id| match (world.name(id.job), id.attempt) {
                    (job, 0) => format!(" ({job})"),
                    (job, attempt) => format!(" ({job} attempt {attempt})"),
                });
            let client = point.client.map_or("", |_| ", for a client");
            format!(
                "{}{}{client}: {fate:?}",
                point.what,
                about.unwrap_or_default()
            )
        });
        // The caller may have gone away.
        point.grant.send(fate).ok();
    }
}

fn takes(tools: &BTreeMap<String, Arc<ToolDefinition>>, row: &Row) -> Capacity {
    let tool = tools.get(&row.job.definition);
    tool.map_or(MACHINE, |tool| tool.needs.of(MACHINE))
}

/// The world, as the model store and the model executor of one server share it with the schedule.
pub(crate) type Shared = Arc<Mutex<World>>;

/// Waits for the schedule's permission for the next effect. A server that dies meanwhile has done what was granted so
/// far, and nothing more.
pub(crate) async fn turn(
    world: &Shared,
    what: &'static str,
    about: Option<AttemptId>,
    when: When,
    may_fail: bool,
) -> Fate {
    let (grant, granted) = oneshot::channel();
    world.lock().points.push(Point {
        what,
        about,
        when,
        may_fail,
        client: CLIENT.try_with(|client| *client).ok(),
        grant,
    });
    match granted.await {
        Ok(fate) => fate,
        // Only a world that is being torn down drops a point.
        Err(_) => std::future::pending().await,
    }
}
