//! The processes of an attempt and its folder, as `onelane-exec`'s shim and guard behave.

use onelane_core::{StopReason, Timestamp};
use onelane_exec::{
    AttemptId, ExitRecord, Level, LogCounts, OTHER_BOOT, Outcome, ProcessRecord, Running,
    ToolUsage, Verdict,
};

use super::dice::Dice;
use super::world::{World, key};

/// How far the pair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The folder is made; no process.
    Folder,
    /// The shim's process exists, and holds no lock yet.
    Spawned,
    /// It holds the lock and found neither `exit.json` nor `stop.json`.
    Locked,
    /// `shim.json` is written, the guard forked.
    Recorded,
    /// The guard has started the tool.
    Running,
    /// The tree is dead; `exit.json` is not yet written.
    Ended,
    /// No process of the pair is left.
    Gone,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the world that is true or not by itself"
)]
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) phase: Phase,
    /// The lock file exists.
    pub(crate) has_lock: bool,
    pub(crate) shim: bool,
    pub(crate) guard: bool,
    /// The server is looking under the lock.
    pub(crate) held_by_server: bool,
    /// The boot in the lock's text.
    pub(crate) made_in: u32,
    /// The boot in `shim.json`.
    pub(crate) record: Option<u32>,
    pub(crate) stop: Option<StopReason>,
    pub(crate) exit: Option<ExitRecord>,
    /// There is an `exit.json` that a power cut has torn.
    pub(crate) torn_exit: bool,
    /// The shim has answered its server.
    pub(crate) told: bool,
    /// … that it could not begin.
    pub(crate) could_not_begin: bool,
    signalled: bool,
    stopping: Option<StopReason>,
    /// The truth: whether anything of the tool may be alive.
    pub(crate) tree_alive: bool,
    pub(crate) started_at: Option<Timestamp>,
    /// Nobody saw the tree's end: only another boot proves it.
    pub(crate) unproved: bool,
    report: Option<(Outcome, Option<StopReason>)>,
}

impl Attempt {
    pub(crate) const fn new(boot: u32) -> Self {
        Self {
            phase: Phase::Folder,
            has_lock: false,
            made_in: boot,
            shim: false,
            guard: false,
            held_by_server: false,
            record: None,
            stop: None,
            exit: None,
            torn_exit: false,
            told: false,
            could_not_begin: false,
            signalled: false,
            stopping: None,
            tree_alive: false,
            started_at: None,
            unproved: false,
            report: None,
        }
    }

    pub(crate) const fn is_supervised(&self) -> bool {
        self.shim || self.guard
    }

    pub(crate) const fn is_locked(&self) -> bool {
        let holds = matches!(
            self.phase,
            Phase::Locked | Phase::Recorded | Phase::Running | Phase::Ended
        );
        holds && self.is_supervised()
    }

    /// Whether a tool of it runs, or may yet be started.
    pub(crate) const fn may_run(&self) -> bool {
        let stopped = self.exit.is_some() || self.torn_exit || self.stop.is_some();
        let may_start = match self.phase {
            Phase::Spawned => self.shim && !stopped,
            Phase::Locked | Phase::Recorded => self.is_supervised(),
            _ => false,
        };
        self.tree_alive || self.unproved || may_start
    }

    fn leave(&mut self) {
        self.phase = Phase::Gone;
        (self.shim, self.guard) = (false, false);
    }

    /// The server's signal, or the machine's as it goes down.
    pub(crate) const fn signal(&mut self) {
        if self.shim {
            self.signalled = true;
        }
    }

    /// A kill -9 of the supervisors.
    pub(crate) fn kill(&mut self, shim: bool, guard: bool) {
        self.shim &= !shim;
        self.guard &= !guard;
        if self.phase == Phase::Spawned || self.phase == Phase::Locked {
            if !self.shim {
                self.leave();
            }
        } else if !self.is_supervised() && self.exit.is_none() && self.record.is_some() {
            self.phase = Phase::Gone;
            self.unproved = true;
        }
    }

    /// The machine is restarted: nothing lives.
    fn reboot(&mut self) {
        self.tree_alive = false;
        self.unproved = false;
        self.held_by_server = false;
        if self.phase != Phase::Folder {
            self.leave();
        }
    }

    /// A power cut: what was not synced may be missing or torn, each by itself.
    fn lose(&mut self, dice: &mut Dice) {
        self.has_lock &= dice.chance(600);
        self.record = self.record.filter(|_| dice.chance(600));
        self.stop = self.stop.filter(|_| dice.chance(600));
    }
}

impl World {
    pub(crate) fn running(id: AttemptId, boot: u32, started_at: Timestamp) -> Running {
        let shim = ProcessRecord {
            pid: 100 + id.attempt,
            start_time: 1,
            boot_id: format!("boot-{boot}"),
            pid_namespace: "n".into(),
        };
        Running {
            shim,
            started_at,
            tool_version: None,
            level: Level::Guard,
        }
    }

    pub(crate) fn exit_record(
        &self,
        id: AttemptId,
        outcome: Outcome,
        stopped: Option<StopReason>,
        started_at: Option<Timestamp>,
    ) -> ExitRecord {
        ExitRecord {
            protocol: 1,
            job: id.job,
            attempt: id.attempt,
            outcome,
            stopped,
            started_at,
            finished_at: self.time(),
            usage: ToolUsage::default(),
            leftovers_killed: 0,
            proof: String::new(),
            level: Level::Guard,
            tool_version: None,
            command: Vec::new(),
            logs: LogCounts::default(),
            trouble: None,
        }
    }

    /// The attempts whose supervisors can do something.
    pub(crate) fn supervised(&self) -> Vec<AttemptId> {
        let ids = self.attempts.iter().filter(|(_, a)| a.is_supervised());
        ids.map(|(&(job, attempt), _)| AttemptId { job, attempt })
            .collect()
    }

    /// One step of shim or guard.
    pub(crate) fn advance(&mut self, id: AttemptId, dice: &mut Dice) {
        let Some(mut attempt) = self.attempts.get(&key(id)).cloned() else {
            return;
        };
        let before = attempt.phase;
        match attempt.phase {
            Phase::Spawned => Self::take_lock(&mut attempt),
            Phase::Locked => self.write_shim_record(&mut attempt),
            Phase::Recorded => self.go(id, &mut attempt, dice),
            Phase::Running => Self::supervise(&mut attempt, dice),
            Phase::Ended => {
                self.write_exit(id, &mut attempt);
            }
            Phase::Folder | Phase::Gone => {}
        }
        let after = attempt.phase;
        self.attempts.insert(key(id), attempt);
        if after != before {
            self.note(|world| {
                let name = world.name(id.job);
                format!("{name} attempt {}: {after:?}", id.attempt)
            });
        }
    }

    fn take_lock(attempt: &mut Attempt) {
        let is_over = attempt.exit.is_some() || attempt.torn_exit;
        if attempt.held_by_server || is_over || attempt.stop.is_some() {
            attempt.leave();
        } else {
            attempt.phase = Phase::Locked;
        }
    }

    fn write_shim_record(&self, attempt: &mut Attempt) {
        if self.disk_full {
            attempt.could_not_begin = true;
            attempt.told = true;
            attempt.leave();
        } else {
            attempt.record = Some(self.boot);
            attempt.guard = true;
            attempt.phase = Phase::Recorded;
        }
    }

    fn go(&mut self, id: AttemptId, attempt: &mut Attempt, dice: &mut Dice) {
        if !attempt.shim {
            // The guard was never told to go.
            attempt.unproved = true;
            attempt.leave();
            return;
        }
        let unstarted = |message: &str| Outcome::Interrupted {
            message: message.into(),
        };
        attempt.phase = Phase::Ended;
        if attempt.stop.is_some() {
            attempt.report = Some((unstarted("stopped"), attempt.stop));
        } else if !attempt.guard {
            attempt.report = Some((unstarted("the guard was killed"), None));
        } else if dice.chance(50) {
            let message = "not found".into();
            attempt.report = Some((Outcome::StartFailed { message }, None));
        } else {
            self.attempts_started += 1;
            self.check_start(id);
            attempt.phase = Phase::Running;
            attempt.tree_alive = true;
            attempt.started_at = Some(self.time());
            attempt.told = true;
        }
    }

    fn supervise(attempt: &mut Attempt, dice: &mut Dice) {
        let cut_off = Outcome::Interrupted {
            message: "a supervisor was killed".into(),
        };
        let report = match (attempt.shim, attempt.guard, attempt.stopping) {
            (true, false, _) | (false, true, None) => (cut_off, None),
            (false, true, stopping) => (Outcome::Signal { signal: 9 }, stopping),
            _ if attempt.signalled && attempt.stopping.is_none() => {
                attempt.stopping = Some(attempt.stop.unwrap_or(StopReason::Shutdown));
                return;
            }
            (_, _, Some(reason)) if dice.chance(800) => {
                (Outcome::Signal { signal: 15 }, Some(reason))
            }
            (_, _, stopping) => (own_end(dice), stopping),
        };
        attempt.report = Some(match report {
            (Outcome::Signal { signal: 9 }, None) => {
                let limits = [
                    None,
                    Some(StopReason::Time),
                    Some(StopReason::Memory),
                    Some(StopReason::Output),
                ];
                (Outcome::Signal { signal: 9 }, dice.pick(&limits))
            }
            other => other,
        });
        attempt.tree_alive = false;
        attempt.phase = Phase::Ended;
    }

    fn write_exit(&self, id: AttemptId, attempt: &mut Attempt) {
        let cut_off = || {
            let message = "the guard was killed".into();
            (Outcome::Interrupted { message }, None)
        };
        let (outcome, stopped) = attempt.report.take().unwrap_or_else(cut_off);
        attempt.exit = Some(self.exit_record(id, outcome, stopped, attempt.started_at));
        attempt.leave();
    }

    /// The machine is restarted. Of a folder without a synced `exit.json` anything may be gone.
    pub(crate) fn cut_power(&mut self, dice: &mut Dice) {
        let ids: Vec<_> = self.attempts.keys().copied().collect();
        for (job, attempt) in ids {
            let id = AttemptId { job, attempt };
            let Some(mut left) = self.attempts.remove(&key(id)) else {
                continue;
            };
            // What an earlier cut has left is on the disk.
            if left.exit.is_none() && left.made_in + 1 == self.boot {
                if dice.chance(250) {
                    continue;
                }
                if left.phase == Phase::Ended {
                    // Its `exit.json` was on the way to the disk.
                    match dice.below(3) {
                        0 => self.write_exit(id, &mut left),
                        1 => left.torn_exit = true,
                        _ => {}
                    }
                }
                if left.exit.is_none() && dice.chance(600) {
                    left.lose(dice);
                }
            }
            left.reboot();
            self.attempts.insert(key(id), left);
        }
    }

    /// What became of an attempt that was claimed in another boot: only a whole `exit.json` counts.
    pub(crate) fn end_by_restart(&mut self, id: AttemptId) -> Result<Verdict, &'static str> {
        let there = self.attempts.get(&key(id));
        if let Some(exit) = there.and_then(|attempt| attempt.exit.as_ref()) {
            return Ok(Verdict::Exited(Box::new(exit.clone())));
        }
        let has_lock = there.is_some_and(|attempt| attempt.has_lock);
        if has_lock && self.disk_full {
            return Err("no space left on device");
        }
        let message = "restarted".into();
        let mut exit = self.exit_record(id, Outcome::Interrupted { message }, None, None);
        exit.proof = OTHER_BOOT.into();
        if let Some(attempt) = self.attempts.get_mut(&key(id)).filter(|_| has_lock) {
            attempt.exit = Some(exit.clone());
        }
        Ok(Verdict::Exited(Box::new(exit)))
    }

    /// What follows from what is under the lock, for whoever holds it.
    pub(crate) fn conclude(&mut self, id: AttemptId) -> Result<Verdict, &'static str> {
        let Some(mut attempt) = self.attempts.get(&key(id)).cloned() else {
            let why = "its folder is gone".to_owned();
            return Ok(Verdict::NeverStarted { why });
        };
        attempt.held_by_server = false;
        let unstarted = |message: &str| Outcome::Interrupted {
            message: message.into(),
        };
        let verdict = match (&attempt.exit, attempt.record) {
            (Some(exit), _) => Ok(Verdict::Exited(Box::new(exit.clone()))),
            (None, _) if attempt.torn_exit && attempt.made_in == self.boot => {
                let message = "its record is damaged".into();
                let exit = self.exit_record(id, Outcome::Unknown { message }, None, None);
                Ok(Verdict::Exited(Box::new(exit)))
            }
            (None, _) if self.disk_full => Err("no space left on device"),
            (None, record) if record.unwrap_or(attempt.made_in) != self.boot => {
                let mut exit = self.exit_record(id, unstarted("restarted"), None, None);
                exit.proof = OTHER_BOOT.into();
                attempt.exit = Some(exit.clone());
                Ok(Verdict::Exited(Box::new(exit)))
            }
            (None, None) => {
                let why = "its shim ended before it started the tool".to_owned();
                attempt.exit = Some(self.exit_record(id, unstarted(&why), None, None));
                Ok(Verdict::NeverStarted { why })
            }
            (None, Some(_)) => Ok(Verdict::Stuck {
                why: "both supervisors were killed".into(),
            }),
        };
        self.attempts.insert(key(id), attempt);
        verdict
    }
}

fn own_end(dice: &mut Dice) -> Outcome {
    match dice.below(10) {
        0 | 1 => Outcome::Exit { code: 1 },
        2 => Outcome::Signal { signal: 11 },
        3 => Outcome::Signal { signal: 9 },
        _ => Outcome::Exit { code: 0 },
    }
}
