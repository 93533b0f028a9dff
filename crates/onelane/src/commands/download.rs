use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{Context, RetryOptions};
use crate::client::{Client, ClientError, FileEntry, Patience};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A job: its id, a unique end of it, or `last`
    id: String,
    /// Folder for the results
    #[arg(short = 'o', long = "output", value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    retry: RetryOptions,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let job = context.client.job(&options.id).await?;
    anyhow::ensure!(
        job.is_final(),
        "job {} is {}\nhint: wait for it with `onelane wait {0}`",
        job.id,
        job.state
    );
    let files = fetch_all(
        &context.client,
        &job.id,
        &options.output,
        options.retry.patience(),
    )
    .await?;
    if context.output.json {
        context
            .output
            .document(&serde_json::json!({ "folder": options.output, "files": files }))?;
    } else {
        for file in &files {
            context
                .output
                .line(&options.output.join(file).display().to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Fetches all results of a job into a folder, and returns their paths below it.
///
/// They are fetched beside their place and moved there when all are whole: a file that is there is complete, and a
/// folder that was not there before appears at once.
pub(crate) async fn fetch_all(
    client: &Client,
    id: &str,
    folder: &Path,
    patience: Patience,
) -> anyhow::Result<Vec<PathBuf>> {
    let listed = patience
        .ask(|_| (), async || client.files(id).await)
        .await?;
    let mut files = Vec::new();
    let there = folder.is_dir();
    let beside = if there { folder } else { parent(folder) };
    fs::create_dir_all(beside).with_context(|| format!("failed to make `{}`", beside.display()))?;
    let staging = tempfile::Builder::new()
        .prefix(".onelane-")
        .tempdir_in(beside)
        .with_context(|| format!("failed to write in `{}`", beside.display()))?;
    for file in &listed.files {
        let path = inside(&file.path)?;
        let target = staging.path().join(&path);
        let attempt = async || fetch(client, id, file, &target).await;
        retried(patience, attempt)
            .await
            .with_context(|| format!("failed to fetch `{}`", file.path))?;
        files.push(path);
    }
    let moved = if there {
        move_each(staging.path(), folder, &files)
    } else {
        move_whole(staging, folder)
    };
    moved.with_context(|| format!("failed to write `{}`", folder.display()))?;
    Ok(files)
}

fn parent(folder: &Path) -> &Path {
    folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The path, if it stays where it belongs: a server must not choose where we write.
fn inside(path: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    anyhow::ensure!(
        plain && path.file_name().is_some(),
        "the server names a result `{}`, which is no path inside a folder",
        path.display()
    );
    Ok(path)
}

/// Like [`Patience::ask`], for questions whose answer also needs our own disk.
async fn retried(
    patience: Patience,
    attempt: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let ours = std::cell::Cell::new(None);
    let question = async || match attempt().await {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast::<ClientError>() {
            Ok(error) => Err(error),
            Err(error) => {
                ours.set(Some(error));
                Ok(())
            }
        },
    };
    patience.ask(|_| (), question).await?;
    ours.take().map_or(Ok(()), Err)
}

async fn fetch(client: &Client, id: &str, file: &FileEntry, target: &Path) -> anyhow::Result<()> {
    let answer = client.file(id, &file.path).await?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut written = tokio::fs::File::create(target).await?;
    let mut chunks = answer.bytes_stream();
    let mut length: u64 = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|source| ClientError::Lost {
            url: client.address().to_owned(),
            source,
        })?;
        written.write_all(&chunk).await?;
        length += chunk.len() as u64;
    }
    written.sync_all().await?;
    anyhow::ensure!(
        file.size.is_none_or(|size| size == length),
        "it has {length} bytes instead of {}",
        file.size.unwrap_or_default()
    );
    Ok(())
}

fn move_each(from: &Path, folder: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        let target = folder.join(file);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(from.join(file), target)?;
    }
    Ok(())
}

fn move_whole(staging: tempfile::TempDir, folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // A temporary folder is private; a result is as visible as the folder around it lets it be.
    fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755))?;
    fs::rename(staging.path(), folder)?;
    // It has moved: there is nothing left to remove.
    drop(staging.keep());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_stays_inside_its_folder() {
        assert!(inside("hits.tsv").is_ok() && inside("plots/a.png").is_ok());
        for path in ["", "/etc/passwd", "../x", "a/../../x", "."] {
            assert!(inside(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_there_keeps_its_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let staging = tempfile::tempdir_in(folder.path()).unwrap();
        fs::write(folder.path().join("mine.txt"), "mine").unwrap();
        fs::write(staging.path().join("hits.tsv"), "new").unwrap();
        move_each(staging.path(), folder.path(), &[PathBuf::from("hits.tsv")]).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("hits.tsv")).unwrap(),
            "new"
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("mine.txt")).unwrap(),
            "mine"
        );
    }
}
