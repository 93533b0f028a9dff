//! `cargo xtask mutants [NAME]`: plants one bug per promise in a copy of the sources and runs the simulation against
//! it. A bug that the simulation does not notice fails the task: then a check is missing, not a bug.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::root;

/// More seeds than any of the mutants has needed so far.
const SEEDS: &str = "30000";

/// A bug: in `file` under `crates/`, `old` becomes `new`, which breaks a promise.
struct Mutant {
    name: &'static str,
    breaks: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

impl Mutant {
    /// The file's text with the bug.
    fn planted(&self, text: &str) -> anyhow::Result<String> {
        let Self { name, file, .. } = self;
        if text.matches(self.old).count() != 1 {
            bail!(
                "mutant {name}: its text is not found once in {file}; bring the mutant up to date"
            );
        }
        Ok(text.replace(self.old, self.new))
    }
}

const STATE: &str = "onelane-engine/src/state.rs";
const DECIDE: &str = "onelane-engine/src/decide.rs";
const RUNNER: &str = "onelane-engine/src/runner.rs";

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "everything-fits",
        breaks: "capacity is never exceeded",
        file: STATE,
        old: "self.alive.is_empty() || self.free().fits(takes)",
        new: "self.alive.is_empty() || self.free().fits(takes) || self.alive.len() == 1",
    },
    Mutant {
        name: "small-ones-pass",
        breaks: "nobody passes the first in line who does not fit",
        file: STATE,
        old: "line.find(|(key, _)| !self.after.contains_key(key))",
        new: "line.find(|(key, one)| {
            let takes = self.takes(self.definitions.numbered(one.definition));
            !self.after.contains_key(key) && self.fits(&takes)
        })",
    },
    Mutant {
        name: "last-in-first-out",
        breaks: "first in, first out",
        file: STATE,
        old: "line.find(|(key, _)| !self.after.contains_key(key))",
        new: "line.by_ref().filter(|(key, _)| !self.after.contains_key(key)).last()",
    },
    Mutant {
        name: "no-waiting-for-others",
        breaks: "a job that waits for others is stepped over",
        file: STATE,
        old: "state.after.insert(entry.order_key, entry.after);",
        new: "drop(entry.after);",
    },
    Mutant {
        name: "stuck-is-over",
        breaks: "nothing starts before its predecessor is proved dead",
        file: DECIDE,
        old: "event: JobEvent::Stick,",
        new: "event: JobEvent::Requeue,",
    },
    Mutant {
        name: "adopted-ones-hold-nothing",
        breaks: "capacity is never exceeded, after a crash either",
        file: STATE,
        old: "..Alive::new(Some(job), takes)",
        new: "..Alive::new(Some(job), Capacity { cpus: takes.cpus.min(1), ..NOTHING })",
    },
    Mutant {
        name: "launch-before-the-claim",
        breaks: "nothing starts without a claim in the store",
        file: STATE,
        old: "        alive.interruptions = interruptions;\n        alive.record",
        new: "        alive.launched = true;\n        let early = Job { attempt: job.attempt + 1, ..job.clone() };\n        \
              actions.push(Action::Launch(Box::new(early)));\n        alive.interruptions = interruptions;\n        alive.record",
    },
    Mutant {
        name: "same-attempt-again",
        breaks: "attempt numbers are never used twice",
        file: STATE,
        old: "commit(alive, &job, &JobEvent::Claim, job.attempt + 1, now, actions);",
        new: "commit(alive, &job, &JobEvent::Claim, job.attempt.max(1), now, actions);",
    },
    Mutant {
        name: "two-commits-at-once",
        breaks: "each transition is a compare-and-set of one writer; what is final stays so",
        file: STATE,
        old: "if alive.committing || alive.job.is_none() {",
        new: "if alive.job.is_none() {",
    },
    Mutant {
        name: "four-interruptions",
        breaks: "at most three interruptions in one boot",
        file: DECIDE,
        old: "after_interruption(tool.on_interrupt, earlier + 1)",
        new: "after_interruption(tool.on_interrupt, earlier)",
    },
    Mutant {
        name: "interruptions-of-all-boots",
        breaks: "a power cut is not the job's fault",
        file: RUNNER,
        old: "cut_off && record.boot_id.as_deref() == Some(boot_id)",
        new: "cut_off && (record.boot_id.is_some() || boot_id.is_empty())",
    },
    Mutant {
        name: "machine-faults-count",
        breaks: "what the machine lacks costs no job",
        file: RUNNER,
        old: "let Some(why) = error.machine_fault() else {",
        new: "let Some(why) = error.machine_fault().filter(|_| false) else {",
    },
    Mutant {
        name: "a-cancelled-success",
        breaks: "a cancelled job never succeeds unless its tool had ended before the stop",
        file: DECIDE,
        old: "(_, Some(StopReason::Cancel)) => (end(Ending::Cancelled, times), \"cancelled\"),",
        new: "(_, Some(StopReason::Cancel)) => (end(Ending::Success, times), \"exit\"),",
    },
    Mutant {
        name: "a-cancelled-job-runs-again",
        breaks: "a cancelled job starts no further attempt",
        file: DECIDE,
        old: "if job.stop_reason == Some(StopReason::Cancel) {\n        return",
        new: "if job.stop_reason == Some(StopReason::Time) {\n        return",
    },
    Mutant {
        name: "requeued-and-not-cancelled",
        breaks: "a request to cancel is answered and not forgotten",
        file: STATE,
        old: "if alive.is_some_and(|alive| alive.is_cancelled()) {",
        new: "if alive.is_some_and(|_| false) {",
    },
    Mutant {
        name: "alive-ones-are-forgotten",
        breaks: "no acknowledged job is lost",
        file: STATE,
        old: "            actions.push(Action::Recover(id, attempt));",
        new: "            drop((id, attempt));",
    },
    Mutant {
        name: "nobody-is-told-of-the-end",
        breaks: "every job ends if nothing blocks it",
        file: STATE,
        old: "after.retain(|other| *other != id);",
        new: "after.retain(|other| *other == id);",
    },
    Mutant {
        name: "a-late-word-counts",
        breaks: "a word about an earlier attempt ends no later one",
        file: STATE,
        old: "!= Some(id.attempt)\n    {",
        new: ".is_none()\n    {",
    },
    Mutant {
        name: "pause-is-forgotten",
        breaks: "a paused queue starts nothing, after a crash either",
        file: RUNNER,
        old: "        if !paused {\n",
        new: "        if paused || !paused {\n",
    },
    Mutant {
        name: "the-record-starts-over",
        breaks: "an attempt's record keeps its claim and its shim",
        file: STATE,
        old: "        interruptions,\n        record,\n        launched: true,",
        new: "        interruptions,\n        record: record.filter(|_| false),\n        launched: true,",
    },
    Mutant {
        name: "an-unsynced-claim-of-once",
        breaks: "a tool that must not run twice does not, after a power cut either",
        file: RUNNER,
        old: "tool.is_none_or(|tool| tool.on_interrupt == OnInterrupt::Fail)",
        new: "tool.is_none_or(|tool| tool.on_interrupt == OnInterrupt::Fail && transition.attempt > 1)",
    },
    Mutant {
        name: "an-unsynced-end",
        breaks: "an end that was told outlasts a power cut",
        file: RUNNER,
        old: "if !matches!(word, StateWord::Starting | StateWord::Running) || transition",
        new: "if word == StateWord::Queued || transition",
    },
    Mutant {
        name: "an-unsynced-cancellation",
        breaks: "a cancellation that was answered outlasts a power cut",
        file: RUNNER,
        old: "StateWord::Starting | StateWord::Running) || transition.stop_reason.is_some()",
        new: "StateWord::Starting | StateWord::Running) || transition.id.to_string().is_empty()",
    },
    Mutant {
        name: "an-unsynced-requeue",
        breaks: "attempts and interruptions are counted, after a power cut too",
        file: RUNNER,
        old: "if !matches!(word, StateWord::Starting | StateWord::Running) || transition",
        new: "if !matches!(word, StateWord::Starting | StateWord::Running | StateWord::Queued) || transition",
    },
    Mutant {
        name: "the-boot-of-the-claim-is-ignored",
        breaks: "what a power cut took of a folder was not deleted by hand",
        file: RUNNER,
        old: "shared.executor.recover(id, boot.as_deref()).await",
        new: "shared.executor.recover(id, boot.as_deref().filter(|_| false)).await",
    },
    Mutant {
        name: "a-claim-made-again-counts",
        breaks: "a power cut is not the job's fault, also when it undid the claim",
        file: STATE,
        old: "if exit.proof == OTHER_BOOT {",
        new: "if exit.proof == OTHER_BOOT && exit.proof.is_empty() {",
    },
    Mutant {
        name: "a-claim-moves-to-this-boot",
        breaks: "a power cut is not the job's fault",
        file: RUNNER,
        old: "record.boot_id.get_or_insert_with(|| shared.boot_id.clone());",
        new: "record.boot_id = Some(shared.boot_id.clone());",
    },
];

pub(crate) fn mutants(arguments: &[String]) -> anyhow::Result<()> {
    let place = root().join("target").join("mutants");
    let copy = place.join("sources");
    copy_sources(&copy)?;
    let wanted =
        |mutant: &&Mutant| arguments.is_empty() || arguments.iter().any(|a| a == mutant.name);
    let mut survivors = Vec::new();
    let (mut tried, mut caught) = (0, 0);
    if arguments.is_empty() && !simulation(&copy, &place)?.is_clean() {
        bail!("the simulation fails without any mutant");
    }
    for mutant in MUTANTS.iter().filter(wanted) {
        tried += 1;
        match try_mutant(mutant, &copy, &place)? {
            Run::Caught(how) => {
                caught += 1;
                println!("caught    {:28} {how}", mutant.name);
            }
            Run::Clean => {
                println!("SURVIVED  {:28} breaks: {}", mutant.name, mutant.breaks);
                survivors.push(mutant.name);
            }
        }
    }
    println!("{caught} of {tried} mutants were caught");
    if survivors.is_empty() && tried > 0 {
        return Ok(());
    }
    bail!("not caught: {}", survivors.join(", "))
}

enum Run {
    Clean,
    Caught(String),
}

impl Run {
    const fn is_clean(&self) -> bool {
        matches!(self, Self::Clean)
    }
}

/// With its text replaced, and put back afterwards.
fn try_mutant(mutant: &Mutant, copy: &Path, place: &Path) -> anyhow::Result<Run> {
    let path = copy.join("crates").join(mutant.file);
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, mutant.planted(&text)?)?;
    let run = simulation(copy, place).with_context(|| format!("mutant {}", mutant.name));
    std::fs::write(&path, text)?;
    run
}

fn simulation(copy: &Path, place: &Path) -> anyhow::Result<Run> {
    let arguments = [
        "--quiet",
        "--package",
        "onelane-engine",
        "--example",
        "simulate",
    ];
    let built = in_copy(copy, place, "build").args(arguments).status()?;
    if !built.success() {
        bail!("it can't be built");
    }
    let output = in_copy(copy, place, "run")
        .args(arguments)
        .args(["--", "--seeds", SEEDS])
        .stderr(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(Run::Clean);
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let how = told.lines().find(|line| line.contains("breaks a promise"));
    // A panic of the engine is noticed too.
    Ok(Run::Caught(how.unwrap_or("it panicked").to_owned()))
}

fn in_copy(copy: &Path, place: &Path, what: &str) -> Command {
    let mut command = crate::cargo();
    command
        .current_dir(copy)
        .arg(what)
        .env("CARGO_TARGET_DIR", place.join("build"))
        .env("RUSTFLAGS", "--cap-lints=allow");
    command
}

/// What Git knows of, as it is here now. Only what differs is written, so that little is built again.
fn copy_sources(copy: &Path) -> anyhow::Result<()> {
    let list = Command::new("git")
        .current_dir(root())
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .output()?;
    let names = String::from_utf8(list.stdout)?;
    for name in names.split('\0').filter(|name| is_source(name)) {
        let (from, to) = (root().join(name), copy.join(name));
        let Ok(content) = std::fs::read(&from) else {
            continue;
        };
        if std::fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        let folder = to.parent().map(PathBuf::from).unwrap_or_default();
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&to, content))
            .with_context(|| format!("failed to write `{}`", to.display()))?;
    }
    Ok(())
}

fn is_source(name: &str) -> bool {
    ["crates/", "xtask/", "Cargo."]
        .iter()
        .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They take too long to be tried in each run of the tests; that each still fits its file is seen at once.
    #[test]
    fn every_mutant_fits_the_sources() -> anyhow::Result<()> {
        for mutant in MUTANTS {
            let path = root().join("crates").join(mutant.file);
            let text = std::fs::read_to_string(path)?;
            assert_ne!(mutant.planted(&text)?, text, "{}", mutant.name);
        }
        Ok(())
    }
}
