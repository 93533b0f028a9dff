//! Holds the store and the folders against each other. Reads only, and takes no lock: a server may be at work.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use onelane_core::{Failure, FailureKind, Job, JobId, JobState, StateWord};
use onelane_exec::inspect::{self, AttemptSight};
use onelane_exec::{AttemptId, ExitRecord, JobPaths, Outcome};
use onelane_store::sqlite::Inspection;
use onelane_store::{InputContent, StoreError};
use serde_json::json;

use super::{Context, FolderOptions};
use crate::exit::Exit;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Something is lost or wrong.
    Bad,
    /// Something is left over, or the next server sees to it.
    Note,
}

struct Finding {
    weight: Weight,
    kind: &'static str,
    job: Option<JobId>,
    message: String,
}

fn bad(kind: &'static str, job: Option<JobId>, message: impl Into<String>) -> Finding {
    Finding {
        weight: Weight::Bad,
        kind,
        job,
        message: message.into(),
    }
}

fn note(kind: &'static str, job: Option<JobId>, message: impl Into<String>) -> Finding {
    Finding {
        weight: Weight::Note,
        ..bad(kind, job, message)
    }
}

pub(crate) fn run(context: &Context, options: &FolderOptions) -> anyhow::Result<Exit> {
    let folders = options.folders()?;
    let findings = check(&folders.data, &folders.jobs)?;
    report(context, &folders.data, &findings)?;
    Ok(
        if findings.iter().any(|found| found.weight == Weight::Bad) {
            Exit::CheckFailed
        } else {
            Exit::Done
        },
    )
}

fn report(context: &Context, data: &Path, findings: &[Finding]) -> std::io::Result<()> {
    let word = |found: &Finding| match found.weight {
        Weight::Bad => "FAILED",
        Weight::Note => "note",
    };
    if context.output.json {
        let list: Vec<_> = findings
            .iter()
            .map(|found| {
                json!({"level": word(found).to_lowercase(), "kind": found.kind, "job": found.job, "message": found.message})
            })
            .collect();
        return context
            .output
            .document(&json!({"data": data, "findings": list}));
    }
    if findings.is_empty() {
        return context
            .output
            .line(&format!("{}: store and folders agree", data.display()));
    }
    let row = |found: &Finding| {
        let job = found
            .job
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        vec![
            word(found).to_owned(),
            found.kind.to_owned(),
            job,
            crate::output::harmless(&found.message),
        ]
    };
    context
        .output
        .table(&findings.iter().map(row).collect::<Vec<_>>())
}

fn check(data: &Path, jobs: &Path) -> anyhow::Result<Vec<Finding>> {
    let database = data.join("onelane.db");
    let store = match Inspection::open(&database) {
        Ok(store) => store,
        Err(error @ (StoreError::Damaged { .. } | StoreError::Unusable { .. })) => {
            return Ok(vec![bad("database", None, error.to_string())]);
        }
        Err(error) => return Err(error.into()),
    };
    let problems = store.problems()?;
    if !problems.is_empty() {
        let found = problems.into_iter();
        return Ok(found.map(|why| bad("database", None, why)).collect());
    }
    let check = Check {
        store,
        jobs: jobs.to_owned(),
        uploads: data.join("uploads"),
    };
    check.everything()
}

struct Check {
    store: Inspection,
    jobs: PathBuf,
    uploads: PathBuf,
}

impl Check {
    fn everything(&self) -> anyhow::Result<Vec<Finding>> {
        // The folders first: a job that is submitted meanwhile has its row before its folder.
        let folders: Vec<JobId> = inspect::job_folders(&self.jobs)?.collect();
        let uploads = names(&self.uploads)?;
        let (mut jobs, mut waiting) = (Vec::new(), HashSet::new());
        let mut known = HashSet::new();
        self.store.each_job(|job| {
            known.insert(job.id);
            if !job.state.is_final() {
                waiting.insert(job.id.to_string());
            }
            jobs.push(job);
        })?;
        let mut findings = Vec::new();
        for job in jobs {
            findings.extend(self.job(job)?);
        }
        for id in folders.iter().filter(|id| !known.contains(id)) {
            let why = "has a folder and is not in the store: it was deleted, or is newer than a backup that was restored";
            findings.push(note("unknown_job", Some(*id), why));
        }
        for name in uploads.iter().filter(|name| !waiting.contains(*name)) {
            let why =
                format!("`uploads/{name}` belongs to no waiting job; the next start removes it");
            findings.push(note("left_upload", None, why));
        }
        Ok(findings)
    }

    /// What is wrong with a job; looked at again if it moved meanwhile.
    fn job(&self, mut job: Job) -> anyhow::Result<Vec<Finding>> {
        loop {
            let findings = self.judge(&job)?;
            if findings.is_empty() {
                return Ok(findings);
            }
            match self.store.job(job.id)? {
                Some(now) if now.changed_seq != job.changed_seq => job = now,
                Some(_) => return Ok(findings),
                None => return Ok(Vec::new()),
            }
        }
    }

    fn judge(&self, job: &Job) -> anyhow::Result<Vec<Finding>> {
        let id = AttemptId {
            job: job.id,
            attempt: job.attempt,
        };
        if job.state.word() == StateWord::Queued {
            return self.missing_uploads(job);
        }
        let seen = inspect::look_at(&self.jobs, id)?;
        let mut findings: Vec<Finding> = seen
            .damaged
            .iter()
            .map(|why| bad("damaged_record", Some(job.id), why))
            .collect();
        findings.extend(disagreement(job, &seen));
        Ok(findings)
    }

    fn missing_uploads(&self, job: &Job) -> anyhow::Result<Vec<Finding>> {
        let input = self.store.input(job.id)?.unwrap_or_default();
        let there = JobPaths::new(&self.jobs, job.id).input();
        let lost = input.files.into_iter().filter(|file| match &file.content {
            InputContent::Inline(_) => false,
            InputContent::Upload(path) => {
                !self.uploads.join(path).exists() && !there.join(&file.file).exists()
            }
        });
        Ok(lost
            .map(|file| {
                let why = format!("waits, and its input `{}` is not there", file.file);
                bad("missing_input", Some(job.id), why)
            })
            .collect())
    }
}

/// What the store says of an attempt and its folder does not.
fn disagreement(job: &Job, seen: &AttemptSight) -> Option<Finding> {
    let id = Some(job.id);
    match &job.state {
        JobState::Succeeded { .. } if !seen.output => Some(bad(
            "missing_output",
            id,
            "succeeded, and its results are not there",
        )),
        JobState::Succeeded { .. } => match &seen.exit {
            Some(exit) if is_success(exit) => None,
            Some(exit) => Some(disagrees(job, "succeeded", exit)),
            None => Some(bad(
                "missing_exit",
                id,
                "succeeded, and its `exit.json` is not there",
            )),
        },
        JobState::Failed { failure, .. } => {
            let exit = seen.exit.as_ref()?;
            (!is_this_failure(failure, exit)).then(|| disagrees(job, "failed", exit))
        }
        JobState::Running { .. } if !seen.folder => Some(bad(
            "missing_folder",
            id,
            "runs, and its folder is not there",
        )),
        JobState::Starting { .. } | JobState::Running { .. } if seen.exit.is_some() => {
            let why =
                "has ended according to its `exit.json`; a server finishes it when it sees that";
            Some(note("unfinished", id, why))
        }
        _ => None,
    }
}

fn disagrees(job: &Job, store: &str, exit: &ExitRecord) -> Finding {
    let outcome = serde_json::to_string(&exit.outcome).unwrap_or_default();
    let why = format!("{store} according to the store; its `exit.json` says {outcome}");
    bad("other_exit", Some(job.id), why)
}

fn is_success(exit: &ExitRecord) -> bool {
    let ended_well = exit.outcome == Outcome::Exit { code: 0 };
    ended_well && exit.stopped.is_none() && exit.trouble.is_none()
}

/// Only what a folder can say is compared.
fn is_this_failure(failure: &Failure, exit: &ExitRecord) -> bool {
    match (&failure.kind, &exit.outcome) {
        (FailureKind::Exit { code }, Outcome::Exit { code: written }) => code == written,
        (FailureKind::Exit { .. }, _) => false,
        _ => !is_success(exit),
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_documentation_explains_each_kind_and_no_other() {
        let source = include_str!("check.rs");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let named = |call: &str| -> BTreeSet<&str> {
            let calls = code.split(call).skip(1);
            calls
                .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
                .collect()
        };
        let (bad, notes) = (named("bad("), named("note("));
        let page = include_str!("../../../../docs/disk.md");
        let rows = page.split("## `onelane check`").nth(1).unwrap_or_default();
        let rows = rows.split("## Backup").next().unwrap_or_default().lines();
        let firsts = rows.filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let (lesser, graver): (Vec<_>, Vec<_>) =
            firsts.partition(|(_, rest)| rest.starts_with(" (note)"));
        let kinds = |rows: Vec<(&'static str, &str)>| {
            rows.into_iter()
                .map(|(kind, _)| kind)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(kinds(graver), bad);
        assert_eq!(kinds(lesser), notes);
    }
}
