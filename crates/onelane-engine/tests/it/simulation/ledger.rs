//! What was promised, and the checks that it is kept. They look at the model's truth, never at the engine's memory.

use std::collections::{BTreeMap, BTreeSet};

use onelane_core::{
    AttemptNo, Capacity, FailureKind, Job, JobId, JobState, OnInterrupt, OrderKey, StateWord,
    StopReason,
};
use onelane_exec::{AttemptId, OTHER_BOOT, Outcome};
use onelane_store::{QueueEntry, Transition};

use super::attempt::Attempt;
use super::world::{AttemptKey, MACHINE, Row, World, key};

/// The engine's knowledge as it must be: what it was told, when it was told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Who waits, and for whom.
    line: BTreeMap<OrderKey, (JobId, Vec<JobId>)>,
    /// Who holds a part of the machine, and which.
    holders: BTreeMap<JobId, Capacity>,
    /// Answered submissions.
    pub(crate) acknowledged: BTreeSet<JobId>,
    /// Jobs that somebody deleted, perhaps before their own submission was answered.
    pub(crate) deleted: BTreeSet<JobId>,
    /// Jobs that somebody wanted to cancel, ever.
    pub(crate) wanted_cancelled: BTreeSet<JobId>,
    /// … and since this server started: they need not wait for their turn to be read.
    pub(crate) cancelling: BTreeSet<JobId>,
    /// Answered wishes to stop, with the attempt that they were answered for.
    pub(crate) promised_stop: BTreeMap<JobId, AttemptNo>,
    /// A pause was answered, and its end is not on the disk.
    pub(crate) paused: bool,
    /// Attempts that the machine could not start: no fault of the job.
    pub(crate) hindered: BTreeSet<AttemptKey>,
    /// What the store last said of a job, to anyone.
    pub(crate) seen: BTreeMap<JobId, Seen>,
    claimed_in: BTreeMap<AttemptKey, u32>,
    /// Attempts whose tool has started, unless a power cut has undone their claim and taken their lock.
    started: BTreeSet<AttemptKey>,
    /// Jobs whose tool has started, ever.
    ever_started: BTreeSet<JobId>,
}

/// A job, as somebody may have read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    attempt: AttemptNo,
    word: StateWord,
    to_be_stopped: bool,
}

impl Seen {
    pub(crate) const fn of(job: &Job) -> Self {
        Self {
            attempt: job.attempt,
            word: job.state.word(),
            to_be_stopped: job.stop_reason.is_some(),
        }
    }

    const fn is_claimed(self) -> bool {
        matches!(self.word, StateWord::Starting | StateWord::Running)
    }

    /// What a power cut may turn it into: of a job that was claimed, and that nobody wants to stop, the claim may be
    /// undone if the job may run again, and all of it the start.
    fn may_become(self, left: Self, restarts: bool) -> bool {
        if !self.is_claimed() || self.to_be_stopped {
            let is_same = left.attempt == self.attempt && left.word == self.word;
            return is_same && left.to_be_stopped == self.to_be_stopped;
        }
        let still_claimed = left.attempt == self.attempt && left.is_claimed();
        let is_undone = left.attempt + 1 == self.attempt && left.word == StateWord::Queued;
        !left.to_be_stopped && (still_claimed || (restarts && is_undone))
    }
}

impl Ledger {
    pub(crate) fn waits(&mut self, entry: &QueueEntry) {
        let waiting = (entry.id, entry.after.clone());
        self.line.insert(entry.order_key, waiting);
    }

    /// The engine has its answer.
    pub(crate) fn told(&mut self, job: &Job) {
        match job.state.word() {
            StateWord::Queued => {
                self.holders.remove(&job.id);
                self.line.insert(job.order_key, (job.id, Vec::new()));
            }
            StateWord::Starting | StateWord::Running => {}
            _ => {
                self.holders.remove(&job.id);
                for (_, after) in self.line.values_mut() {
                    after.retain(|id| *id != job.id);
                }
            }
        }
    }

    /// A new server knows what the store knows.
    pub(crate) fn restart(
        &mut self,
        rows: &BTreeMap<JobId, Row>,
        takes: impl Fn(&Row) -> Capacity,
        paused: bool,
    ) {
        self.line.clear();
        self.holders.clear();
        self.cancelling.clear();
        self.paused = paused;
        let ended = |id: &JobId| rows.get(id).is_none_or(|row| row.job.state.is_final());
        for row in rows.values() {
            match row.job.state.word() {
                StateWord::Queued => {
                    let after = row.after.iter().filter(|id| !ended(id)).copied();
                    let waiting = (row.job.id, after.collect());
                    self.line.insert(row.job.order_key, waiting);
                }
                StateWord::Starting | StateWord::Running => {
                    self.holders.insert(row.job.id, takes(row));
                }
                _ => {}
            }
        }
    }
}

fn sum(parts: impl Iterator<Item = Capacity>) -> Capacity {
    let nothing = Capacity {
        cpus: 0,
        memory_bytes: 0,
        gpus: 0,
    };
    parts.fold(nothing, |sum, part| Capacity {
        cpus: sum.cpus + part.cpus,
        memory_bytes: sum.memory_bytes + part.memory_bytes,
        gpus: sum.gpus + part.gpus,
    })
}

impl World {
    /// The engine reads a job to claim it: order, capacity and pause.
    pub(crate) fn check_admission(&mut self, id: JobId) {
        let Some(order) = self.rows.get(&id).map(|row| row.job.order_key) else {
            return;
        };
        let Some((_, after)) = self.ledger.line.remove(&order) else {
            return;
        };
        if self.ledger.cancelling.contains(&id) {
            return;
        }
        if let Some(other) = after.first() {
            let (early, late) = (self.name(id), self.name(*other));
            self.accuse(format!("after: {early} starts before {late} has ended"));
        }
        let passed = self.ledger.line.range(..order).find(|(_, (other, after))| {
            after.is_empty() && !self.ledger.cancelling.contains(other)
        });
        if let Some((_, (other, _))) = passed {
            let (late, early) = (self.name(id), self.name(*other));
            self.accuse(format!(
                "order: {late} starts before {early}, which is ready"
            ));
        }
        if self.ledger.paused {
            self.accuse(format!("pause: {} starts in a paused queue", self.name(id)));
        }
        self.ledger.holders.insert(id, self.takes(id));
        let taken = sum(self.ledger.holders.values().copied());
        if !MACHINE.fits(&taken) {
            self.accuse(format!(
                "capacity: {} is admitted beside others",
                self.name(id)
            ));
        }
    }

    /// A tool is about to start.
    pub(crate) fn check_start(&mut self, id: AttemptId) {
        let name = format!("{} attempt {}", self.name(id.job), id.attempt);
        let others: Vec<_> = self
            .attempts
            .iter()
            .filter(|(other, attempt)| **other != key(id) && attempt.may_run())
            .map(|(other, _)| *other)
            .collect();
        if others.iter().any(|(job, _)| *job == id.job) {
            self.accuse(format!(
                "twice: {name} starts while an earlier attempt is not proved dead"
            ));
        }
        let alive = others
            .iter()
            .filter(|other| self.attempts[*other].tree_alive || self.attempts[*other].unproved);
        let parts = alive.map(|(job, _)| *job).chain([id.job]);
        if !MACHINE.fits(&sum(parts.map(|job| self.takes(job)))) {
            self.accuse(format!(
                "capacity: {name} starts on a machine that is taken"
            ));
        }
        let once = self
            .rows
            .get(&id.job)
            .is_some_and(|row| !self.restarts(row));
        let has_started = !self.ledger.ever_started.insert(id.job);
        if once && has_started {
            self.accuse(format!(
                "once: {name} starts, and its tool must not run twice"
            ));
        }
        if !self.ledger.started.insert(key(id)) {
            self.accuse(format!("attempt numbers: {name} starts a second time"));
        }
        let job = self.rows.get(&id.job).map(|row| &row.job);
        let is_claimed = job.is_some_and(|job| {
            let word = job.state.word();
            job.attempt == id.attempt && matches!(word, StateWord::Starting | StateWord::Running)
        });
        if !is_claimed {
            self.accuse(format!("claim: {name} starts without a claim in the store"));
        }
        let promised = self.ledger.promised_stop.get(&id.job);
        if promised.is_some_and(|attempt| *attempt < id.attempt) {
            self.accuse(format!(
                "cancel: {name} starts after its cancellation was answered"
            ));
        }
    }

    /// A power cut has undone a commit, perhaps a claim. Its number is free again, but for what its folder says.
    pub(crate) fn forget_claim(&mut self, undone: &Job) {
        let claim = (undone.id, undone.attempt);
        let is_claimed = self
            .rows
            .get(&undone.id)
            .is_some_and(|row| row.job.attempt == undone.attempt);
        if is_claimed {
            return;
        }
        self.ledger.claimed_in.remove(&claim);
        let has_lock = self.attempts.get(&claim).is_some_and(|a| a.has_lock);
        if !has_lock {
            self.ledger.started.remove(&claim);
        }
    }

    /// After a power cut: what was told may be undone only where another boot finds it out by itself.
    pub(crate) fn check_undone(&mut self) {
        for (id, seen) in self.ledger.seen.clone() {
            let left = self.rows.get(&id);
            let kept =
                left.is_some_and(|row| seen.may_become(Seen::of(&row.job), self.restarts(row)));
            let now = left.map(|row| Seen::of(&row.job));
            if !kept {
                let name = self.name(id);
                self.accuse(format!(
                    "durability: {name} was told as {seen:?}, and after a power cut it is {now:?}"
                ));
            }
            self.ledger.seen.extend(now.map(|now| (id, now)));
        }
    }

    /// Whether a job's tool may run again after an interruption.
    fn restarts(&self, row: &Row) -> bool {
        let tool = self.tools.get(&row.job.definition);
        tool.is_some_and(|tool| tool.on_interrupt == OnInterrupt::Restart)
    }

    /// A transition is about to be committed.
    pub(crate) fn check_transition(&mut self, row: &Row, wish: &Transition) {
        let name = self.name(wish.id);
        let (from, to) = (row.job.state.word(), wish.to.word());
        if from.is_final() {
            self.accuse(format!("final: {name} is {from} and shall become {to}"));
        }
        if wish.from != (row.job.attempt, from) {
            self.accuse(format!(
                "compare-and-set: {name} was moved by somebody else"
            ));
        }
        if to == StateWord::Starting && from == StateWord::Queued {
            self.check_claim(row, wish);
        }
        let leaves = matches!(from, StateWord::Starting | StateWord::Running);
        if leaves && (to == StateWord::Queued || to.is_final()) {
            self.check_proof(row, wish);
        }
        if to.is_final() {
            self.check_end(row, wish);
        }
        if let (Some(new), Some(old)) = (&wish.record, row.records.get(&wish.attempt))
            && (new.claimed_at != old.claimed_at || (old.shim.is_some() && new.shim != old.shim))
        {
            self.accuse(format!("record: {name} forgets its claim or its shim"));
        }
    }

    fn check_claim(&mut self, row: &Row, wish: &Transition) {
        let name = self.name(wish.id);
        let claim = (wish.id, wish.attempt);
        let is_new = self.ledger.claimed_in.insert(claim, self.boot).is_none();
        if wish.attempt != row.job.attempt + 1 || !is_new {
            let attempt = wish.attempt;
            self.accuse(format!(
                "attempt numbers: {name} claims attempt {attempt} again"
            ));
        }
        if self.interruptions(row, self.boot) >= 3 {
            self.accuse(format!(
                "poison: {name} starts after 3 interruptions in one boot"
            ));
        }
    }

    /// Interrupted attempts of a job that were claimed in a boot and hindered by nothing else.
    fn interruptions(&self, row: &Row, boot: u32) -> usize {
        let cut_off = row.records.values().filter(|record| {
            let claim = (record.job, record.attempt);
            matches!(
                record.outcome.as_deref(),
                Some("interrupted" | "never_started")
            ) && self.ledger.claimed_in.get(&claim) == Some(&boot)
                && !(self.is_of_another_boot(claim, boot) && self.tells_its_boot(claim))
                && !self.ledger.hindered.contains(&claim)
        });
        cut_off.count()
    }

    /// Claimed anew after a power cut had undone the claim, and then found in its old folder: the cut ended it. Without a
    /// lock the folder tells nothing: that attempt never began, and was cut off in the boot that it was claimed in.
    fn is_of_another_boot(&self, claim: AttemptKey, boot: u32) -> bool {
        let attempt = self.attempts.get(&claim);
        attempt.is_some_and(|attempt| attempt.has_lock && attempt.made_in != boot)
    }

    /// A record of an earlier boot that says by itself how the attempt was cut off does not say in which boot: such an
    /// attempt counts in the boot of its claim, like any other.
    fn tells_its_boot(&self, claim: AttemptKey) -> bool {
        let exit = self
            .attempts
            .get(&claim)
            .and_then(|attempt| attempt.exit.as_ref());
        exit.is_none_or(|exit| exit.proof == OTHER_BOOT)
    }

    /// Nothing of the attempt may run, or start, once the job has left it.
    fn check_proof(&mut self, row: &Row, wish: &Transition) {
        let attempt = (wish.id, row.job.attempt);
        let attempt_now = self.attempts.get(&attempt);
        let may_run = attempt_now.is_some_and(Attempt::may_run);
        let may_start = self.points.iter().any(|point| {
            let starts = [
                "make the attempt's folder",
                "make the lock",
                "spawn the shim",
            ];
            starts.contains(&point.what) && point.about.map(key) == Some(attempt)
        });
        if may_run || may_start {
            let (name, to) = (self.name(wish.id), wish.to.word());
            self.accuse(format!(
                "proof: {name} becomes {to} while its attempt may run"
            ));
        }
    }

    /// How a job ends follows from how its tool ended.
    fn check_end(&mut self, row: &Row, wish: &Transition) {
        let name = self.name(wish.id);
        let attempt = self.attempts.get(&(wish.id, row.job.attempt));
        let exit = attempt.and_then(|attempt| attempt.exit.as_ref());
        let how = exit.map(|exit| (&exit.outcome, exit.stopped));
        let ended_well = matches!(how, Some((Outcome::Exit { code: 0 }, None)));
        let stopped_by_wish = matches!(how, Some((_, Some(StopReason::Cancel))));
        let was_queued = row.job.state.word() == StateWord::Queued;
        let cancelled = wish.to.word() == StateWord::Cancelled;
        let claim = (wish.id, row.job.attempt);
        // Cancelled after it was claimed anew and before it was launched: nobody has looked into its old folder, just as
        // when it is cancelled while it waits.
        let is_unseen = cancelled
            && self.ledger.claimed_in.get(&claim) == Some(&self.boot)
            && self.is_of_another_boot(claim, self.boot);
        let succeeds = wish.to.word() == StateWord::Succeeded;
        if succeeds != (ended_well && !was_queued && !is_unseen) {
            let to = wish.to.word();
            self.accuse(format!(
                "ending: {name} becomes {to}, its tool ended as {how:?}"
            ));
        }
        if stopped_by_wish && !cancelled {
            self.accuse(format!(
                "cancel: {name} was stopped by wish and is not cancelled"
            ));
        }
        if cancelled && !self.ledger.wanted_cancelled.contains(&wish.id) {
            self.accuse(format!(
                "cancel: {name} is cancelled and nobody asked for it"
            ));
        }
        if let JobState::Failed { failure, .. } = &wish.to {
            self.check_failure(row, wish, &failure.kind.clone());
        }
    }

    fn check_failure(&mut self, row: &Row, wish: &Transition, kind: &FailureKind) {
        let restarts = self.restarts(row);
        let attempt = self.attempts.get(&(wish.id, row.job.attempt));
        let exit = attempt.and_then(|attempt| attempt.exit.as_ref());
        let tool_failed =
            exit.is_some_and(|exit| matches!(exit.outcome, Outcome::StartFailed { .. }));
        let cut_off = matches!(kind, FailureKind::Interrupted | FailureKind::StartFailed);
        if *kind == FailureKind::Unknown {
            let name = self.name(wish.id);
            self.accuse(format!(
                "restart: {name} fails, and nobody harmed its folder but a power cut"
            ));
        }
        if !cut_off || tool_failed {
            return;
        }
        let mut after = row.clone();
        if let Some(record) = &wish.record {
            after.records.insert(record.attempt, record.clone());
        }
        let most = (0..=self.boot)
            .map(|boot| self.interruptions(&after, boot))
            .max();
        let needed = if restarts { 3 } else { 1 };
        if most.is_none_or(|most| most < needed) {
            let name = self.name(wish.id);
            self.accuse(format!(
                "poison: {name} fails as {kind:?} after {most:?} interruptions in one boot"
            ));
        }
    }

    pub(crate) fn delete_files(&mut self, job: JobId) {
        let may_run = self
            .attempts
            .iter()
            .any(|((other, _), attempt)| *other == job && attempt.may_run());
        if may_run {
            self.accuse(format!("deletion: the files of {job} go while it runs"));
        }
        self.attempts.retain(|(other, _), _| *other != job);
    }

    /// With all faults off and nothing more to do: whoever has not ended must be blocked by something that is known.
    pub(crate) fn check_quiet(&mut self) {
        let stuck = self.attempts.values().any(|attempt| attempt.unproved);
        let alive: Vec<Row> = self
            .rows
            .values()
            .filter(|row| !row.job.state.is_final())
            .cloned()
            .collect();
        for row in alive {
            let unproved = self
                .attempts
                .get(&(row.job.id, row.job.attempt))
                .is_some_and(|attempt| attempt.unproved);
            let says_stuck = matches!(row.job.state, JobState::Running { stuck: true, .. });
            let name = self.name(row.job.id);
            if unproved != says_stuck {
                self.accuse(format!("stuck: {name} does not say how it is"));
            }
            if !stuck {
                let word = row.job.state.word();
                self.accuse(format!(
                    "end: {name} is {word} for ever, and nothing blocks it"
                ));
            }
        }
        let lost = self
            .ledger
            .acknowledged
            .iter()
            .find(|id| !self.rows.contains_key(id) && !self.ledger.deleted.contains(id));
        if let Some(id) = lost {
            self.accuse(format!("loss: {id} was acknowledged and is not there"));
        }
    }
}
