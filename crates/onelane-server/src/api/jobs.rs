use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use onelane_api::{AttemptList, JobList, JobView, Problem};
use onelane_core::StateWord;
use onelane_engine::{EngineError, JobFilter};

use crate::options::{Options, bad_query};
use crate::path::Path;
use crate::problem::ApiError;
use crate::{Server, find, view};

const FILTERS: [&str; 8] = [
    "state", "tool", "owner", "tag", "name", "id", "limit", "cursor",
];
const MAX_LIMIT: usize = 1000;
const DEFAULT_LIMIT: usize = 100;
/// How long a deletion waits for the job that it cancelled.
const DELETE_WAIT: Duration = Duration::from_mins(1);

fn filter(options: &Options) -> Result<JobFilter, ApiError> {
    let states = options.all("state").map(|word| {
        word.parse::<StateWord>()
            .map_err(|e| bad_query(e.to_string()))
    });
    let ids = options.all("id").map(|id| {
        id.parse()
            .map_err(|e: onelane_core::ParseJobIdError| bad_query(e.to_string()))
    });
    let limit = options
        .parsed("limit", "1 to 1000")?
        .unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad_query("`limit` must be 1 to 1000"));
    }
    Ok(JobFilter {
        states: states.collect::<Result<_, _>>()?,
        tools: options.strings("tool"),
        owners: options.strings("owner"),
        tags: options.strings("tag"),
        names: options.strings("name"),
        ids: ids.collect::<Result<_, _>>()?,
        before_seq: options.one("cursor")?.map(read_cursor).transpose()?,
        limit,
    })
}

fn cursor(seq: i64) -> String {
    format!("{seq:016x}")
}

fn read_cursor(text: &str) -> Result<i64, ApiError> {
    let seq = i64::from_str_radix(text, 16)
        .ok()
        .filter(|seq| cursor(*seq) == text);
    seq.ok_or_else(|| bad_query("`cursor` must be the `next_cursor` of an earlier answer"))
}

/// Jobs, newest first
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "list_jobs", tag = "jobs",
    params(("state" = Option<Vec<String>>, Query), ("tool" = Option<Vec<String>>, Query), ("owner" = Option<Vec<String>>, Query),
        ("tag" = Option<Vec<String>>, Query), ("name" = Option<Vec<String>>, Query), ("id" = Option<Vec<String>>, Query),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default"), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = JobList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
) -> Result<Json<JobList>, ApiError> {
    let mut filter = filter(&Options::parse(query.as_deref(), &FILTERS)?)?;
    let limit = filter.limit;
    // One more than asked tells whether there is a next page.
    filter.limit += 1;
    let mut found = server.handle.jobs(filter).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| !is_last).map(|job| cursor(job.seq));
    Ok(Json(JobList {
        jobs: view::jobs(&server.handle, &found).await?,
        next_cursor,
    }))
}

/// One job; held until it ends, at most `wait` seconds
#[utoipa::path(get, path = "/api/v1/jobs/{id}", operation_id = "show_job", tag = "jobs",
    params(("id" = String, Path, description = "An id, the unique end of one (4 characters or more), or `last`"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 3600")),
    responses((status = 200, body = JobView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(server): State<Server>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<JobView>, ApiError> {
    let wait = Options::parse(query.as_deref(), &["wait"])?.wait(&headers)?;
    let (job, known) = find::shown(&server.handle, &id).await?;
    if wait.is_zero() || view::has_ended(&job) {
        return Ok(Json(view::with(&server.handle, &job, known)));
    }
    let job = server.handle.wait(job.id, wait).await?;
    Ok(Json(view::job(&server.handle, &job).await?))
}

/// Cancel a job; one that has ended stays as it is
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let job = find::job(&server.handle, &id).await?;
    let job = server.handle.cancel(job.id).await?;
    Ok(Json(view::job(&server.handle, &job).await?))
}

/// Delete an ended job with its folder; with `cancel=true` a living one is cancelled first
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path), ("cancel" = Option<bool>, Query)),
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(server): State<Server>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, ApiError> {
    let cancel = Options::parse(query.as_deref(), &["cancel"])?.flag("cancel")?;
    let job = find::job(&server.handle, &id).await?;
    if cancel && !view::has_ended(&job) {
        server.handle.cancel(job.id).await?;
        let job = server.handle.wait(job.id, DELETE_WAIT).await?;
        if !view::has_ended(&job) {
            return Err(EngineError::Alive(job.id).into());
        }
    }
    server.handle.remove(job.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A job's attempts, first one first
#[utoipa::path(get, path = "/api/v1/jobs/{id}/attempts", tag = "logs", params(("id" = String, Path)),
    responses((status = 200, body = AttemptList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn attempts(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<AttemptList>, ApiError> {
    let job = find::job(&server.handle, &id).await?;
    let records = server.handle.attempts(job.id).await?;
    Ok(Json(AttemptList {
        attempts: records.iter().map(view::attempt).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_anything_else_is_refused() {
        assert_eq!(read_cursor(&cursor(77)).unwrap(), 77);
        for text in ["", "77", "x", "+00000000000004d"] {
            assert!(read_cursor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_one_to_a_thousand() {
        let of = |raw| filter(&Options::parse(Some(raw), &FILTERS).unwrap());
        assert_eq!(of("").unwrap().limit, 100);
        assert_eq!(
            of("limit=1000&state=queued&state=failed")
                .unwrap()
                .states
                .len(),
            2
        );
        for raw in ["limit=0", "limit=1001", "limit=x", "state=done", "id=1"] {
            assert!(of(raw).is_err(), "{raw}");
        }
    }
}
