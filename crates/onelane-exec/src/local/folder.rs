//! An attempt's folder before it begins: what is laid out there, and whether anything came of it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::lock::{make_lock, wait_lock};
use super::{LocalExecutor, blocking, shim};
use crate::fail_point;
use crate::files::{reserve, sync_folder, write_whole};
use crate::layout::JobPaths;
use crate::room::enough_to_start;
use crate::{AttemptId, ExecError, Launch, LaunchContent, LaunchFile};

/// Room for each of an attempt's records, in bytes: reserved before it begins, so that a disk that fills up later can
/// neither lose its end nor keep it from being stopped.
const RECORDS: [(&str, u64); 3] = [
    ("exit.json", shim::EXIT_BYTES),
    ("shim.json", 4096),
    ("stop.json", 4096),
];

impl LocalExecutor {
    /// The folders and files of an attempt; false when the attempt's folder is there already.
    pub(super) async fn lay_out(&self, launch: &Launch) -> Result<bool, ExecError> {
        let (paths, uploads, launch) = (
            self.paths(launch.id.job),
            self.uploads.clone(),
            launch.clone(),
        );
        blocking("make the attempt's folder", move || {
            lay_out(&paths, &uploads, &launch)
        })
        .await
    }

    pub(super) fn is_stopped(&self, id: AttemptId) -> bool {
        self.folder(id).join("stop.json").exists()
    }

    /// Whether a shim that has failed left nothing behind; then the lock goes, so that the attempt can be tried again.
    pub(super) async fn has_not_begun(&self, id: AttemptId) -> Result<bool, ExecError> {
        let folder = self.folder(id);
        blocking("look at an attempt that did not begin", move || {
            let _held = wait_lock(&folder)?;
            let has_record = ["shim.json", "exit.json"]
                .iter()
                .any(|name| folder.join(name).exists());
            if !has_record {
                fs::remove_file(folder.join("attempt.lock"))?;
            }
            Ok(!has_record)
        })
        .await
    }
}

fn lay_out(paths: &JobPaths, uploads: &Path, launch: &Launch) -> io::Result<bool> {
    let folder = paths.attempt(launch.id.attempt);
    let lock = folder.join("attempt.lock");
    if lock.exists() {
        // It has begun before, by the word of its folder, which counts more than that of an older store.
        return Ok(false);
    }
    let Some((shard, jobs)) = paths
        .job
        .parent()
        .and_then(|shard| Some((shard, shard.parent()?)))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    enough_to_start(jobs)?;
    // Without a lock nothing of this boot has begun: what is there is what an earlier try left when the disk was full, or
    // what a power cut left when it took claim and lock. Its records and results are no part of what starts now.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for folder in [&paths.input(), &folder.join("work"), &folder.join("output")] {
        fs::create_dir_all(folder)?;
    }
    let moves = |file: &LaunchFile| matches!(file.content, LaunchContent::Upload(_));
    if launch.files.iter().any(moves) {
        // Whole only with all folders above it: before anything is moved here. All else that a power cut can take is
        // in the store, or was never a result: records are synced after the end (`make_lasting`).
        for folder in [&paths.job, shard, jobs] {
            sync_folder(folder)?;
        }
    }
    write_whole(
        &paths.job.join("job.json"),
        &serde_json::to_vec_pretty(&launch.story)?,
    )?;
    for file in &launch.files {
        bring(file, uploads, &paths.input())?;
    }
    fail_point("exec.after_inputs");
    forget_uploads(&launch.files, uploads);
    // Two of them repeat the command.
    let command: usize = launch.command.iter().map(|word| 2 * word.len() + 16).sum();
    for (name, bytes) in RECORDS {
        reserve(&folder.join(name), bytes + command as u64)?;
    }
    fail_point("exec.after_attempt_folder");
    File::create(folder.join("progress"))?;
    make_lock(&lock).inspect_err(|_| {
        // Nothing has begun: the next try may make it anew.
        fs::remove_file(&lock).ok();
    })?;
    fail_point("exec.after_lock");
    Ok(true)
}

/// Puts an input in place. An earlier attempt may have moved it there already; what the store holds is written anew, as
/// a power cut may have torn it.
fn bring(file: &LaunchFile, uploads: &Path, input: &Path) -> io::Result<()> {
    let target = input.join(&file.file);
    match &file.content {
        LaunchContent::Inline(text) => write_whole(&target, text.as_bytes()),
        LaunchContent::Upload(_) if target.exists() => Ok(()),
        LaunchContent::Upload(relative) => {
            fs::rename(uploads.join(relative), &target)?;
            sync_folder(input)
        }
    }
}

/// All inputs are in place: what is left of their uploads (the originals) goes. The next server sweeps what this misses.
fn forget_uploads(files: &[LaunchFile], uploads: &Path) {
    for file in files {
        if let LaunchContent::Upload(relative) = &file.content
            && let Some(folder) = relative
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::remove_dir_all(uploads.join(folder)).ok();
        }
    }
}
