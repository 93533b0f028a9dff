use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use onelane_api::Problem;
use onelane_core::{AttemptNo, Job, JobId};
use onelane_engine::Handle;
use rustix::fs::SeekFrom;
use tokio::fs::File;
use tokio::sync::watch;

use crate::options::Options;
use crate::path::Path;
use crate::problem::{ApiError, Code};
use crate::{Server, find, serve_file, view};

/// A growing file wakes nobody up, so it is looked at this often.
const GROWTH_CHECK: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Log {
    Stdout,
    Stderr,
}

impl Log {
    fn parse(name: &str) -> Result<Self, ApiError> {
        match name {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(ApiError::new(
                Code::NotFound,
                "there are two logs: stdout and stderr",
            )),
        }
    }

    fn path(self, handle: &Handle, id: JobId, attempt: AttemptNo) -> PathBuf {
        let paths = handle.paths(id);
        match self {
            Self::Stdout => paths.stdout(attempt),
            Self::Stderr => paths.stderr(attempt),
        }
    }
}

fn as_text(mut response: Response) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn whole(path: &std::path::Path, headers: &HeaderMap) -> Result<Response, ApiError> {
    match serve_file::open(path).await {
        // Cut while it grows: its hole must not come as zeros.
        Some((file, _)) if has_hole(&file).await => {
            let reader = Reader::new(file).await;
            let body = stream::try_unfold(reader, async |mut reader: Reader| {
                Ok::<_, io::Error>(reader.read().await?.map(|bytes| (bytes, reader)))
            });
            Ok(as_text(Body::from_stream(body).into_response()))
        }
        Some((file, _)) => Ok(as_text(
            serve_file::respond(file, serve_file::range(headers)).await?,
        )),
        // No attempt yet, or one that never came to its tool: nothing was written.
        None => Ok(as_text(Body::empty().into_response())),
    }
}

/// The newest attempt's log; `follow` streams it until the job has ended
#[utoipa::path(get, path = "/api/v1/jobs/{id}/logs/{log}", tag = "logs",
    params(("id" = String, Path), ("log" = String, Path, description = "`stdout` or `stderr`"), ("follow" = Option<bool>, Query)),
    responses((status = 200, body = String), (status = 206, body = String),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn newest(
    State(server): State<Server>,
    Path((id, log)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (log, handle) = (Log::parse(&log)?, server.handle);
    let follow = Options::parse(query.as_deref(), &["follow"])?.flag("follow")?;
    let job = find::job(&handle, &id).await?;
    if follow {
        let tail = Tail {
            watch: handle.watch(job.id),
            handle,
            id: job.id,
            log,
            job: None,
            attempt: 0,
            file: None,
        };
        return Ok(as_text(
            Body::from_stream(stream::try_unfold(tail, Tail::next)).into_response(),
        ));
    }
    whole(&log.path(&handle, job.id, job.attempt), &headers).await
}

/// An earlier attempt's log
#[utoipa::path(get, path = "/api/v1/jobs/{id}/attempts/{attempt}/logs/{log}", tag = "logs",
    params(("id" = String, Path), ("attempt" = u32, Path), ("log" = String, Path, description = "`stdout` or `stderr`")),
    responses((status = 200, body = String), (status = 206, body = String),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn of_attempt(
    State(server): State<Server>,
    Path((id, attempt, log)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let log = Log::parse(&log)?;
    let job = find::job(&server.handle, &id).await?;
    let known = attempt
        .parse()
        .ok()
        .filter(|n| (1..=job.attempt).contains(n));
    let unknown = || {
        ApiError::new(
            Code::UnknownAttempt,
            format!("the job has had {} attempts", job.attempt),
        )
    };
    whole(
        &log.path(&server.handle, job.id, known.ok_or_else(unknown)?),
        &headers,
    )
    .await
}

/// True for a log that is longer than its limit and whose tool still runs.
async fn has_hole(file: &File) -> bool {
    let (Ok(length), Ok(file)) = (
        file.metadata().await.map(|data| data.len()),
        file.try_clone().await,
    ) else {
        return false;
    };
    let file = file.into_std().await;
    let hole = rustix::fs::seek(&file, SeekFrom::Hole(0));
    // Both descriptors share one place in the file.
    rustix::fs::seek(&file, SeekFrom::Start(0)).is_ok() && hole.is_ok_and(|hole| hole < length)
}

/// Reads a log, and says where something is left out.
struct Reader {
    file: Arc<std::fs::File>,
    at: u64,
}

impl Reader {
    async fn new(file: File) -> Self {
        let file = Arc::new(file.into_std().await);
        Self { file, at: 0 }
    }

    /// The next bytes; nothing at the end, for now. Whether there are any is asked on the spot, which takes a microsecond:
    /// many follow a log that says nothing.
    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.file.metadata()?.len() <= self.at {
            return Ok(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let read = tokio::task::spawn_blocking(move || read_part(&file, at)).await;
        let (bytes, at) = read.map_err(io::Error::other)??;
        self.at = at;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

/// What follows this place, at most a chunk, and where that ends.
fn read_part(file: &std::fs::File, at: u64) -> io::Result<(Bytes, u64)> {
    let begin = seek(file, SeekFrom::Data(at))?;
    if begin > at {
        return Ok((left_out(begin - at), begin));
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let count = file.read_at(&mut chunk, at)? as u64;
    // The hole may have grown over what was just read, or over the end of it.
    let begin = seek(file, SeekFrom::Data(at))?;
    if begin > at {
        return Ok((left_out(begin - at), begin));
    }
    let hole = seek(file, SeekFrom::Hole(at))?;
    let count = if hole > at {
        count.min(hole - at)
    } else {
        count
    };
    let bytes = usize::try_from(count).unwrap_or(0);
    // Copied, so that a line that waits for its client does not hold a whole chunk.
    Ok((Bytes::copy_from_slice(&chunk[..bytes]), at + count))
}

/// Where the next data or hole is; where it was asked from at the end, or where holes are not known.
fn seek(file: &std::fs::File, to: SeekFrom) -> io::Result<u64> {
    match (rustix::fs::seek(file, to), to) {
        (Ok(place), _) => Ok(place),
        (
            Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL),
            SeekFrom::Data(at) | SeekFrom::Hole(at),
        ) => Ok(at),
        (Err(error), _) => Err(error.into()),
    }
}

fn left_out(skipped: u64) -> Bytes {
    format!("\n[onelane: {skipped} bytes are left out here]\n").into()
}

/// A log that is followed, from the attempt that is the newest at first through all later ones.
struct Tail {
    handle: Handle,
    id: JobId,
    log: Log,
    watch: watch::Receiver<u64>,
    /// As it was when there was news of it last.
    job: Option<Job>,
    /// 0 until there is one.
    attempt: AttemptNo,
    file: Option<Reader>,
}

impl Tail {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // The job first: what is written later wakes us up or is read next time, and the log of a job seen ended is
            // complete.
            let Some(job) = self.job().await? else {
                return Ok(None);
            };
            if self.attempt == 0 {
                self.attempt = job.attempt;
            }
            if let Some(bytes) = self.read().await? {
                return Ok(Some((bytes, self)));
            }
            if self.attempt < job.attempt {
                (self.attempt, self.file) = (self.attempt + 1, None);
            } else if view::has_ended(&job) || !self.wake().await {
                return Ok(None);
            }
        }
    }

    /// The job, asked for again after there was news of it.
    async fn job(&mut self) -> io::Result<Option<Job>> {
        if self.job.is_none() {
            self.job = self.handle.job(self.id).await.map_err(io::Error::other)?;
        }
        Ok(self.job.clone())
    }

    /// Waits for news, or for the time to look at the file again; false when there won't be any.
    async fn wake(&mut self) -> bool {
        if self.attempt == 0 {
            let news = self.watch.changed().await.is_ok();
            self.job = None;
            return news;
        }
        tokio::select! {
            news = self.watch.changed() => {
                self.job = None;
                news.is_ok()
            }
            () = tokio::time::sleep(GROWTH_CHECK) => true,
        }
    }

    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.file.is_none() && self.attempt > 0 {
            let path = self.log.path(&self.handle, self.id, self.attempt);
            self.file = match serve_file::open(&path).await {
                Some((file, _)) => Some(Reader::new(file).await),
                None => None,
            };
        }
        match &mut self.file {
            Some(reader) => reader.read().await,
            None => Ok(None),
        }
    }
}
