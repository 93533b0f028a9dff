//! Brings a backup of the store back, under the folders that are there.
//!
//! Nothing here decides about a job: an attempt's folder does, when the next server comes to it. A job that waits
//! according to the backup and has run according to its folder is finished from there, as after a crash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use onelane_core::{JobId, StateWord};
use onelane_exec::{DataFolder, inspect};
use onelane_store::sqlite::{self, Inspection};
use serde_json::json;

use super::backup::beside;
use super::{Context, FolderOptions};
use crate::exit::Exit;

/// So many jobs are named.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A file that `onelane backup` wrote
    file: PathBuf,
    /// Also where the backup is from another data folder
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    folders: FolderOptions,
}

/// What the folders know and the backup does not.
#[derive(Debug, Default, serde::Serialize)]
struct Newer {
    /// Not in the backup at all.
    unknown: Vec<JobId>,
    /// They wait according to the backup, and an attempt that the backup does not know has begun.
    ran_since: Vec<JobId>,
}

pub(crate) fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let folders = options.folders.folders()?;
    let backup = Inspection::open(&options.file)?;
    if let Some(problem) = backup.problems()?.first() {
        bail!("the backup is damaged: {problem}");
    }
    let Some(instance) = backup.backup_of()? else {
        bail!(
            "`{}` is a store, but no backup\nhint: `onelane backup FILE` writes one",
            options.file.display()
        );
    };
    refuse_other_folder(&folders.data, &instance, options.force)?;
    let data = DataFolder::open_as(&folders.data, Some(&folders.jobs), &instance)?;
    refuse_running(data.jobs())?;
    let newer = newer(&backup, data.jobs())?;
    drop(backup);
    let kept = replace(&options.file, &data.database())?;
    report(context, &data, kept.as_deref(), &newer)?;
    Ok(Exit::Done)
}

fn refuse_other_folder(data: &Path, instance: &str, force: bool) -> anyhow::Result<()> {
    let own = onelane_exec::instance_of(data)
        .with_context(|| format!("can't read the id of `{}`", data.display()))?;
    if force || own.is_none_or(|own| own == instance) {
        return Ok(());
    }
    bail!(
        "the backup is from another data folder than `{}`\nhint: name the right one with --data, or insist with --force",
        data.display()
    )
}

/// A running tool's end would find a store that does not know its attempt.
fn refuse_running(jobs: &Path) -> anyhow::Result<()> {
    let running = inspect::running_attempts(jobs)?;
    let Some(first) = running.first() else {
        return Ok(());
    };
    bail!(
        "{} of this folder's jobs still run, such as {}\nhint: start the server and cancel them, or wait for their end",
        running.len(),
        first.job
    )
}

fn newer(backup: &Inspection, jobs: &Path) -> anyhow::Result<Newer> {
    let mut newer = Newer::default();
    for id in inspect::job_folders(jobs)? {
        match backup.job(id)? {
            None => newer.unknown.push(id),
            Some(job) if job.state.word() == StateWord::Queued => {
                let began = inspect::attempts_of(jobs, id)?;
                if began.last().is_some_and(|last| *last > job.attempt) {
                    newer.ran_since.push(id);
                }
            }
            Some(_) => {}
        }
    }
    newer.unknown.sort_unstable();
    newer.ran_since.sort_unstable();
    Ok(newer)
}

/// Puts the backup in the database's place; gives the folder where the old one is kept. Cut off in between, there is no
/// database, and a server refuses to start beside the jobs' folders.
fn replace(file: &Path, database: &Path) -> anyhow::Result<Option<PathBuf>> {
    let folder = database.parent().unwrap_or(Path::new("/"));
    let fresh = beside(database, ".restored");
    fs::copy(file, &fresh).with_context(|| format!("can't copy `{}`", file.display()))?;
    File::open(&fresh)?.sync_all()?;
    let old = sqlite::files(database);
    let kept = (!old.is_empty()).then(|| free_name(&folder.join("replaced")));
    if let Some(kept) = &kept {
        fs::create_dir(kept)?;
        for path in &old {
            fs::rename(path, kept.join(path.file_name().unwrap_or_default()))?;
        }
        File::open(kept)?.sync_all()?;
    }
    fs::rename(&fresh, database)?;
    File::open(folder)?.sync_all()?;
    Ok(kept)
}

fn free_name(wanted: &Path) -> PathBuf {
    let mut names = (1..).map(|number: u32| beside(wanted, &format!("-{number}")));
    names.find(|path| !path.exists()).unwrap_or_default()
}

fn report(
    context: &Context,
    data: &DataFolder,
    kept: Option<&Path>,
    newer: &Newer,
) -> std::io::Result<()> {
    let output = context.output;
    if output.json {
        return output.document(&json!({"data": data.root(), "replaced": kept, "newer": newer}));
    }
    output.line(&format!("restored the store of {}", data.root().display()))?;
    if let Some(kept) = kept {
        output.line(&format!(
            "the one that was there is kept in {}",
            kept.display()
        ))?;
    }
    let lists = [
        (
            &newer.ran_since,
            "wait according to the backup and have begun since: the next server takes their end from their folders",
        ),
        (
            &newer.unknown,
            "have a folder and are newer than the backup, or were deleted: their files stay, the store does not know them",
        ),
    ];
    for (ids, what) in lists.iter().filter(|(ids, _)| !ids.is_empty()) {
        output.line(&format!("{} jobs {what}", ids.len()))?;
        for id in ids.iter().take(NAMED) {
            output.line(&format!("  {id}"))?;
        }
    }
    Ok(())
}
