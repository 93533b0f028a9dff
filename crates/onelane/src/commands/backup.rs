//! A consistent copy of the store, also while a server is at work on it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{Context, FolderOptions};
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The file to write
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    folders: FolderOptions,
}

pub(crate) fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let data = options.folders.folders()?.data;
    let database = data.join("onelane.db");
    let file = std::path::absolute(&options.file)?;
    let is_there = fs::exists(&file)?;
    if is_there && same_file(&file, &database)? {
        bail!("`{}` is the database itself", file.display());
    }
    if is_there && !options.force {
        return Err(refuse(&file));
    }
    let instance = onelane_exec::instance_of(&data)
        .with_context(|| format!("can't read the id of `{}`", data.display()))?
        .unwrap_or_default();
    let unfinished = beside(&file, ".unfinished");
    if fs::exists(&unfinished)? {
        // Of a backup that was cut off.
        fs::remove_file(&unfinished)?;
    }
    let copied = onelane_store::sqlite::copy(&database, &unfinished, &instance)
        .map_err(anyhow::Error::from)
        .and_then(|()| put_in_place(&unfinished, &file, options.force));
    if let Err(error) = copied {
        fs::remove_file(&unfinished).ok();
        return Err(error);
    }
    let bytes = fs::metadata(&file)?.len();
    if context.output.json {
        let document = json!({"file": file, "size_bytes": bytes, "data": data});
        context.output.document(&document)?;
    } else {
        let line = format!(
            "{}: {} KiB, the store of {}; results are files, and not in it",
            file.display(),
            bytes.div_ceil(1024),
            data.display()
        );
        context.output.line(&line)?;
    }
    Ok(Exit::Done)
}

fn refuse(file: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "`{}` is there already\nhint: name another file, or replace it with --force",
        file.display()
    )
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::exists(other)? && one.canonicalize()? == other.canonicalize()?)
}

/// The path with something added to its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// A file that appeared meanwhile is not replaced unless that is wished.
fn put_in_place(from: &Path, to: &Path, force: bool) -> anyhow::Result<()> {
    let flags = if force {
        RenameFlags::empty()
    } else {
        RenameFlags::NOREPLACE
    };
    match renameat_with(CWD, from, CWD, to, flags) {
        Err(rustix::io::Errno::EXIST) => return Err(refuse(to)),
        // Some file systems know no flags; the file was not there a moment ago.
        Err(rustix::io::Errno::INVAL) => fs::rename(from, to)?,
        other => other?,
    }
    let folder = to.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()?;
    Ok(())
}
