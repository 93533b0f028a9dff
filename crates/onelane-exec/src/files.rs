use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::fail_point;

/// Makes a folder's entries durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes a file so that a reader, also after a power cut, finds all of it or none of it.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let (temporary, file) = write_aside(path, content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Writes a file so that a reader finds all of it or none of it. After a power cut it may be anything.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let (temporary, _) = write_aside(path, content)?;
    named_fail_point(path, ["exit.json.written", "shim.json.written"]);
    fs::rename(&temporary, path)?;
    named_fail_point(path, ["exit.json.renamed", "shim.json.renamed"]);
    Ok(())
}

fn write_aside(path: &Path, content: &[u8]) -> io::Result<(PathBuf, File)> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&temporary)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    Ok((temporary, file))
}

/// Reserves the bytes of a later [`write_whole`] (or [`write_durably`]) to the same path, so that a disk that fills up in between can't
/// stop it.
pub(crate) fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    // What a server has reserved its shim finds again: emptying it first could lose it to somebody else.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.with_extension("tmp"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).or_else(|error| {
        // A file system without preallocation loses the guarantee, not the job.
        if error == rustix::io::Errno::OPNOTSUPP {
            Ok(())
        } else {
            Err(error.into())
        }
    })
}

/// The fail points of the two files that decide about an attempt.
fn named_fail_point(path: &Path, names: [&str; 2]) {
    let here = names.iter().find(|name| {
        path.file_stem()
            .is_some_and(|stem| name.starts_with(&*stem.to_string_lossy()))
    });
    if let Some(name) = here {
        fail_point(name);
    }
}

/// Syncs every name on the way to an attempt's folder: attempts/n, attempts, the job, its shard, jobs.
pub(crate) fn sync_way(attempt: &Path) -> io::Result<()> {
    way(attempt).try_for_each(sync_folder)
}

/// An attempt's folder and all above it, up to that of all jobs.
pub(crate) fn way(attempt: &Path) -> impl Iterator<Item = &Path> {
    attempt.ancestors().take(5)
}

/// Syncs every file and folder below `folder`, and `folder` itself. Symbolic links are not followed.
pub(crate) fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}
