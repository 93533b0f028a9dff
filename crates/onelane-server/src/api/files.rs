use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::path::{Component, Path as FsPath, PathBuf};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use onelane_api::{FileEntry, FileList, Problem};
use onelane_core::{Job, Timestamp};
use onelane_engine::Handle;
use onelane_tools::{ResultFile, ToolDefinition};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::tools::view_word;
use crate::path::Path;
use crate::problem::{ApiError, Code};
use crate::{Server, find, serve_file, view};

const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');
const ZIP_CHUNK_BYTES: usize = 64 << 10;
/// From here on an entry needs zip64's wider fields.
const ZIP64_BYTES: u64 = 0xffff_0000;

/// The folder of an ended job's results, with every link in its own path resolved.
async fn results(handle: &Handle, id: &str) -> Result<(Job, Option<PathBuf>), ApiError> {
    let job = find::job(handle, id).await?;
    if !view::has_ended(&job) {
        return Err(ApiError::new(
            Code::JobAlive,
            format!(
                "job {id} has not ended: its results are there when it has (`GET /api/v1/jobs/{id}?wait=60` waits for that)",
                id = job.id
            ),
        ));
    }
    let output = handle.paths(job.id).output(job.attempt);
    let found = tokio::fs::canonicalize(&output).await.ok();
    if found.is_none() && job.state.started_at().is_some() {
        return Err(ApiError::new(
            Code::FilesGone,
            format!(
                "the results of job {} were deleted from the server's disk",
                job.id
            ),
        ));
    }
    Ok((job, found))
}

/// All plain files below `root`, sorted. Links are left out: they could lead anywhere.
fn walk(root: &FsPath) -> io::Result<Vec<(String, Metadata)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(root).map_err(io::Error::other)?;
                found.push((relative.to_string_lossy().into_owned(), metadata));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn entry(
    base: &str,
    tool: Option<&ToolDefinition>,
    (path, metadata): (String, Metadata),
    sha256: Option<String>,
) -> FileEntry {
    let since = metadata
        .modified()
        .ok()
        .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let millis = i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0);
    let declared = tool.and_then(|tool| declared(tool, &path));
    FileEntry {
        link: format!("{base}/files/{}", utf8_percent_encode(&path, IN_A_PATH)),
        size_bytes: metadata.len(),
        modified_at: Timestamp::from_millis(millis).to_string(),
        sha256,
        media_type: declared
            .and_then(|(_, result)| result.media_type.clone())
            .unwrap_or_else(|| serve_file::media_type(&path).to_owned()),
        result: declared.map(|(name, _)| name.to_owned()),
        title: declared.and_then(|(_, result)| result.title.clone()),
        view: declared.and_then(|(_, result)| view_word(result)),
        path,
    }
}

/// The result that the tool declares at this path, with its name.
fn declared<'a>(tool: &'a ToolDefinition, path: &str) -> Option<(&'a str, &'a ResultFile)> {
    let plain = |file: &'a str| file.strip_prefix("./").unwrap_or(file);
    let found = tool
        .results
        .iter()
        .find(|(_, result)| plain(&result.file) == path);
    found.map(|(name, result)| (name.as_str(), result))
}

/// An ended job's result files
#[utoipa::path(get, path = "/api/v1/jobs/{id}/files", operation_id = "list_files", tag = "results", params(("id" = String, Path)),
    responses((status = 200, body = FileList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<FileList>, ApiError> {
    let (job, Some(root)) = results(&server.handle, &id).await? else {
        return Ok(Json(FileList { files: Vec::new() }));
    };
    let walked = root.clone();
    let found = tokio::task::spawn_blocking(move || walk(&walked))
        .await
        .map_err(ApiError::internal)?;
    let found = found.map_err(|e| ApiError::io("can't list results", &e))?;
    let tool = server.handle.definition(&job).await?;
    let hashes = server.hashes.of(job.id, &root, &found).await;
    let base = view::path(job.id);
    let files = found
        .into_iter()
        .zip(hashes)
        .map(|(file, sha256)| entry(&base, tool.as_ref(), file, sha256))
        .collect();
    Ok(Json(FileList { files }))
}

/// The file that a client's path names, if it lies within `root` when all links are followed.
async fn within(root: &FsPath, path: &str) -> Option<PathBuf> {
    let is_plain = FsPath::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || path.contains('\0') {
        return None;
    }
    let real = tokio::fs::canonicalize(root.join(path)).await.ok()?;
    real.starts_with(root).then_some(real)
}

/// One result file
#[utoipa::path(get, path = "/api/v1/jobs/{id}/files/{path}", operation_id = "get_file", tag = "results",
    params(("id" = String, Path), ("path" = String, Path, description = "May contain `/`")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 206), (status = 304),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn get(
    State(server): State<Server>,
    Path((id, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (job, root) = results(&server.handle, &id).await?;
    let tool = server.handle.definition(&job).await?;
    let declared = tool.as_ref().and_then(|tool| declared(tool, &path));
    let media_type = declared.and_then(|(_, result)| result.media_type.as_deref());
    let found = match root {
        Some(root) => within(&root, &path).await,
        None => None,
    };
    let response = match found {
        Some(file) => serve_file::respond_result(&file, media_type, &headers).await?,
        None => None,
    };
    response.ok_or_else(|| {
        ApiError::new(
            Code::UnknownFile,
            format!("the results have no file `{path}`"),
        )
    })
}

/// All result files in one archive
#[utoipa::path(get, path = "/api/v1/jobs/{id}/archive.zip", tag = "results", params(("id" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/zip"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn archive(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (job, root) = results(&server.handle, &id).await?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_zip(root.as_deref(), &sender) {
            tracing::warn!(%error, job = %job.id, "an archive broke off: {error}");
            // The connection must break too: a short archive must not look whole. If nobody listens, all the better.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let body = stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.zip\"", job.id),
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Where the archive's bytes go: a bounded channel, so that a slow client slows the reading down.
struct Pipe<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_zip(root: Option<&FsPath>, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let pipe = io::BufWriter::with_capacity(ZIP_CHUNK_BYTES, Pipe(sender));
    let mut zip = ZipWriter::new_stream(pipe);
    for (path, metadata) in root.map(walk).transpose()?.unwrap_or_default() {
        let options = SimpleFileOptions::default().large_file(metadata.len() >= ZIP64_BYTES);
        let Some(root) = root else { continue };
        zip.start_file(path.as_str(), options)
            .map_err(io::Error::other)?;
        io::copy(&mut fs::File::open(root.join(&path))?, &mut zip)?;
    }
    zip.finish().map_err(io::Error::other)?.into_inner().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_path_leads_out_of_the_results() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("output");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/hits.tsv"), "x").unwrap();
        fs::write(root.join("../secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/hits.tsv", root.join("inside")).unwrap();
        for path in [
            "../secret",
            "out",
            "/etc/passwd",
            "sub/../../secret",
            "",
            "nothing",
            "a\0b",
        ] {
            let found = within(&root, path).await.filter(|found| *found != root);
            assert_eq!(found, None, "{path}");
        }
        assert_eq!(
            within(&root, "sub/hits.tsv").await,
            Some(root.join("sub/hits.tsv"))
        );
        assert_eq!(
            within(&root, "inside").await,
            Some(root.join("sub/hits.tsv"))
        );
        let listed: Vec<_> = walk(&root)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(listed, ["sub/hits.tsv"]);
    }
}
