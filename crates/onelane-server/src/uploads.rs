//! Files on their way in: streamed to `uploads/<id>/<n>`, synced before the submission is committed, removed on any
//! refusal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::multipart::{Field, Multipart, MultipartError};
use onelane_core::JobId;
use onelane_engine::{Handle, fail_point};
use onelane_tools::{AcceptedContent, AcceptedFile, Given};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::body::{BODY_LIMIT_BYTES, too_large};
use crate::problem::{ApiError, Code};

/// A submission's upload folder. Dropped without [`Uploads::keep`], also when the client hangs up, it is removed.
pub(crate) struct Uploads {
    handle: Handle,
    id: JobId,
    files: usize,
    inline_left: usize,
    keep: bool,
}

/// So much of a submission may live in the store.
const INLINE_BYTES: usize = 256 * 1024;
/// A refused upload is read to its end for so long, for the answer's sake.
const READ_ON: Duration = Duration::from_secs(10);
/// After so much of an upload the disk's floor is looked at again.
const ROOM_CHECK_BYTES: usize = 4 << 20;

impl Uploads {
    pub(crate) fn new(handle: &Handle, id: JobId) -> Self {
        Self {
            handle: handle.clone(),
            id,
            files: 0,
            inline_left: INLINE_BYTES,
            keep: false,
        }
    }

    fn folder(&self) -> PathBuf {
        self.handle.uploads().join(self.id.to_string())
    }

    /// No file came with the submission, or none that wasn't small.
    pub(crate) fn are_none(&self) -> bool {
        self.files == 0
    }

    /// From now on the folder belongs to the job.
    pub(crate) fn keep(mut self) {
        self.keep = true;
    }

    /// Takes all parts of a multipart body in.
    pub(crate) async fn receive(
        &mut self,
        mut multipart: Multipart,
    ) -> Result<Vec<(String, Given)>, ApiError> {
        let mut given = Vec::new();
        let mut text_left = BODY_LIMIT_BYTES;
        while let Some(field) = multipart.next_field().await.map_err(|e| broken(&e))? {
            let name = field.name().unwrap_or_default().to_owned();
            let value = match field.file_name().map(str::to_owned) {
                // What a browser sends for a file input that was left empty.
                Some(file) if file.is_empty() => continue,
                Some(file) => self.file(field, file).await?,
                None => Given::Text(text(field, &mut text_left).await?),
            };
            given.push((name, value));
        }
        Ok(given)
    }

    /// A small file of text travels like text, so that an ordinary submission makes no file; the rest is streamed.
    async fn file(&mut self, mut field: Field<'_>, file_name: String) -> Result<Given, ApiError> {
        let mut head = Vec::new();
        while head.len() <= self.inline_left {
            let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? else {
                return self.small(head, file_name).await;
            };
            head.extend_from_slice(&chunk);
        }
        self.stream(head, Some(field), file_name).await
    }

    async fn small(&mut self, bytes: Vec<u8>, file_name: String) -> Result<Given, ApiError> {
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.inline_left -= text.len();
                Ok(Given::TextFile { text, file_name })
            }
            // As a file it is checked byte by byte, which tells where it is wrong.
            Err(error) => self.stream(error.into_bytes(), None, file_name).await,
        }
    }

    async fn stream(
        &mut self,
        head: Vec<u8>,
        mut rest: Option<Field<'_>>,
        file_name: String,
    ) -> Result<Given, ApiError> {
        let written = self.write(head, rest.as_mut(), file_name).await;
        if let (Err(_), Some(field)) = (&written, rest) {
            read_on(field).await;
        }
        written
    }

    async fn write(
        &mut self,
        head: Vec<u8>,
        rest: Option<&mut Field<'_>>,
        file_name: String,
    ) -> Result<Given, ApiError> {
        let failed = |e: std::io::Error| ApiError::io("can't write an upload", &e);
        self.handle.check_room()?;
        fs::create_dir_all(self.folder()).await.map_err(failed)?;
        let relative = Path::new(&self.id.to_string()).join(self.files.to_string());
        self.files += 1;
        let path = self.handle.uploads().join(&relative);
        let mut file = File::create_new(&path).await.map_err(failed)?;
        file.write_all(&head).await.map_err(failed)?;
        let mut unchecked = 0;
        if let Some(field) = rest {
            while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
                file.write_all(&chunk).await.map_err(failed)?;
                unchecked += chunk.len();
                if unchecked >= ROOM_CHECK_BYTES {
                    unchecked = 0;
                    self.handle.check_room()?;
                }
            }
        }
        file.flush().await.map_err(failed)?;
        fail_point("upload.written");
        Ok(Given::Upload {
            path,
            relative,
            file_name: Some(file_name),
        })
    }

    /// Makes what the job needs durable and removes the rest.
    pub(crate) async fn settle(&self, accepted: &[AcceptedFile]) -> Result<(), ApiError> {
        if self.files == 0 {
            return Ok(());
        }
        let uploaded = accepted.iter().filter_map(|file| match &file.content {
            AcceptedContent::Upload(relative) => Some(self.handle.uploads().join(relative)),
            AcceptedContent::Inline(_) => None,
        });
        let (needed, folder, root) = (
            uploaded.collect::<Vec<_>>(),
            self.folder(),
            self.handle.uploads().to_owned(),
        );
        let settled =
            tokio::task::spawn_blocking(move || settle_blocking(&needed, &folder, &root)).await;
        settled
            .map_err(ApiError::internal)?
            .map_err(|e| ApiError::io("can't sync an upload", &e))
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if self.keep || self.files == 0 {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(self.folder()) {
            tracing::debug!(%error, folder = %self.folder().display(), "an upload folder stays for the sweep: {error}");
        }
    }
}

/// Most clients read an answer only after they have sent all: a refusal that closed the connection before would reach
/// them as a broken one. Bounded, since what comes is thrown away.
async fn read_on(mut field: Field<'_>) {
    let mut left = BODY_LIMIT_BYTES;
    let reading = async {
        while let Ok(Some(chunk)) = field.chunk().await {
            let Some(less) = left.checked_sub(chunk.len()) else {
                break;
            };
            left = less;
        }
    };
    tokio::time::timeout(READ_ON, reading).await.ok();
}

fn settle_blocking(needed: &[PathBuf], folder: &Path, root: &Path) -> std::io::Result<()> {
    if needed.is_empty() {
        return std::fs::remove_dir_all(folder);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if needed.contains(&path) {
            std::fs::File::open(&path)?.sync_all()?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    std::fs::File::open(folder)?.sync_all()?;
    std::fs::File::open(root)?.sync_all()?;
    fail_point("upload.synced");
    Ok(())
}

pub(crate) async fn text(mut field: Field<'_>, left: &mut usize) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        *left = left.checked_sub(chunk.len()).ok_or_else(too_large)?;
        bytes.extend_from_slice(&chunk);
    }
    let name = field.name().unwrap_or_default();
    String::from_utf8(bytes)
        .map_err(|_| ApiError::bad_param(name, format!("`{name}` is not UTF-8 text")))
}

pub(crate) fn broken(error: &MultipartError) -> ApiError {
    ApiError::new(
        Code::BadRequest,
        format!("the multipart body can't be read: {}", error.body_text()),
    )
}
