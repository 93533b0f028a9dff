use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, Multipart, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use onelane_api::{JobView, Problem, SubmitBody};
use onelane_core::{JobId, Priority};
use onelane_engine::{
    EngineError, Handle, Idempotency, InputContent, InputFile, JobInput, NewJob, Particulars,
    Submitted,
};
use onelane_tools::{Accepted, AcceptedContent, AcceptedFile, Given, Tool};
use sha2::{Digest, Sha256};

use super::tools;
use crate::body::{self, Kind, Pairs};
use crate::options::{Options, bad_query};
use crate::path::Path;
use crate::problem::{ApiError, Code};
use crate::uploads::Uploads;
use crate::{OWNER, Server, curl, find, view};

const OPTIONS: [&str; 6] = ["name", "priority", "tag", "after", "fresh", "wait"];
const MAX_NAME_CHARS: usize = 255;
const MAX_TAGS: usize = 64;
const MAX_KEY_CHARS: usize = 255;
/// Checked on the spot, in well under a millisecond; what is longer may not hold up other requests.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// What a submission says besides its parameters.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Wishes {
    pub(crate) name: Option<String>,
    pub(crate) priority: i32,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) after: Vec<String>,
    pub(crate) fresh: bool,
}

impl Wishes {
    fn of_query(options: &Options) -> Result<Self, ApiError> {
        Ok(Self {
            name: options.one("name")?.map(str::to_owned),
            priority: options
                .parsed("priority", "a whole number from -100 to 100")?
                .unwrap_or(0),
            tags: options.all("tag").map(str::to_owned).collect(),
            after: options.strings("after"),
            fresh: options.flag("fresh")?,
        })
    }

    fn check(&self) -> Result<Priority, ApiError> {
        let is_label = |text: &str| {
            let is_short = (1..=MAX_NAME_CHARS).contains(&text.chars().count());
            is_short && !text.chars().any(char::is_control)
        };
        if self.name.as_deref().is_some_and(|name| !is_label(name)) {
            return Err(ApiError::bad_param(
                "name",
                "a name has 1 to 255 characters and no control characters",
            ));
        }
        if self.tags.len() > MAX_TAGS || !self.tags.iter().all(|tag| is_label(tag)) {
            return Err(ApiError::bad_param(
                "tag",
                "there are at most 64 tags of 1 to 255 characters each",
            ));
        }
        Priority::try_from(self.priority)
            .map_err(|e| ApiError::bad_param("priority", e.to_string()))
    }
}

/// A submission, whichever way it came.
pub(crate) struct Submission {
    pub(crate) id: JobId,
    pub(crate) tool: Arc<Tool>,
    pub(crate) given: Vec<(String, Given)>,
    pub(crate) uploads: Uploads,
    pub(crate) wishes: Wishes,
    pub(crate) key: Option<String>,
}

/// Submit a job: the body is the parameters
#[utoipa::path(post, path = "/api/v1/tools/{tool}/jobs", tag = "jobs",
    params(("tool" = String, Path), ("name" = Option<String>, Query), ("priority" = Option<i32>, Query),
        ("tag" = Option<Vec<String>>, Query), ("after" = Option<Vec<String>>, Query), ("fresh" = Option<bool>, Query),
        ("wait" = Option<u64>, Query), ("Idempotency-Key" = Option<String>, Header)),
    request_body(content((Object = "application/json"), (Object = "multipart/form-data"), (Object = "application/x-www-form-urlencoded"))),
    responses((status = 201, body = JobView), (status = 200, body = JobView, description = "Known by its Idempotency-Key"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn to_tool(
    State(server): State<Server>,
    Path(tool): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let handle = &server.handle;
    let tool = tools::find(handle, &tool)?;
    let options = Options::parse(query.as_deref(), &OPTIONS)?;
    let (wishes, wait) = (
        Wishes::of_query(&options)?,
        options.wait(request.headers())?,
    );
    wishes
        .check()
        .map_err(|error| bad_query(error.into_detail()))?;
    let key = key(request.headers())?;
    let id = handle.new_id();
    let mut uploads = Uploads::new(handle, id);
    let given = parameters(request, &tool, &mut uploads).await?;
    let submission = Submission {
        id,
        tool,
        given,
        uploads,
        wishes,
        key,
    };
    answer(handle, submit(handle, submission).await?, wait).await
}

/// A committed submission, and what is known of it without asking the store again.
pub(crate) struct Taken {
    submitted: Submitted,
    known: Option<Particulars>,
}

/// Submit a job as one JSON object
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs",
    params(("wait" = Option<u64>, Query), ("Idempotency-Key" = Option<String>, Header)), request_body = SubmitBody,
    responses((status = 201, body = JobView), (status = 200, body = JobView, description = "Known by its Idempotency-Key"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn as_object(
    State(server): State<Server>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let handle = &server.handle;
    let wait = Options::parse(query.as_deref(), &["wait"])?.wait(request.headers())?;
    let key = key(request.headers())?;
    let body: SubmitBody = body::json(&body::read(request.into_body()).await?)?;
    let id = handle.new_id();
    let submission = Submission {
        id,
        tool: tools::find(handle, &body.tool)?,
        given: body
            .params
            .into_iter()
            .map(|(name, value)| (name, Given::Json(value)))
            .collect(),
        uploads: Uploads::new(handle, id),
        wishes: Wishes {
            name: body.name,
            priority: body.priority,
            tags: body.tags.into_iter().collect(),
            after: body.after,
            fresh: body.fresh,
        },
        key,
    };
    answer(handle, submit(handle, submission).await?, wait).await
}

async fn parameters(
    request: Request,
    tool: &Tool,
    uploads: &mut Uploads,
) -> Result<Vec<(String, Given)>, ApiError> {
    match Kind::of(request.headers()) {
        Kind::Multipart => {
            let multipart = Multipart::from_request(request, &()).await;
            uploads
                .receive(multipart.map_err(|e| ApiError::new(Code::BadRequest, e.body_text()))?)
                .await
        }
        Kind::Form => {
            let body = body::read(request.into_body()).await?;
            let pairs = body::form(&body)?;
            curl::check(&body, &pairs, tool.sequence_param().unwrap_or("query"))?;
            Ok(pairs
                .into_iter()
                .map(|(name, value)| (name, Given::Text(value)))
                .collect())
        }
        Kind::Json => {
            let Pairs(pairs) = body::json(&body::read(request.into_body()).await?)?;
            Ok(pairs
                .into_iter()
                .map(|(name, value)| (name, Given::Json(value)))
                .collect())
        }
        Kind::Other => Err(ApiError::new(
            Code::UnsupportedType,
            "parameters come as multipart/form-data, application/x-www-form-urlencoded or application/json",
        )),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| {
        (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|b| (b' '..=b'~').contains(&b))
    });
    let bad = || {
        ApiError::new(
            Code::BadIdempotencyKey,
            "an Idempotency-Key has 1 to 255 printable ASCII characters",
        )
    };
    key.map(|key| Some(key.to_owned())).ok_or_else(bad)
}

/// Checks a submission and commits it.
pub(crate) async fn submit(handle: &Handle, submission: Submission) -> Result<Taken, ApiError> {
    let Submission {
        id,
        tool,
        given,
        uploads,
        wishes,
        key,
    } = submission;
    let priority = wishes.check()?;
    let accepted = accept(
        Arc::clone(&tool),
        given,
        wishes.name.as_deref().unwrap_or("query"),
    )
    .await?;
    let idempotency = key.map(|key| Idempotency {
        request_hash: request_hash(&tool.name, &accepted, &wishes),
        key,
    });
    if let Some(idempotency) = &idempotency
        && let Some(job) = handle.replay(OWNER, idempotency).await?
    {
        let replayed = true;
        return Ok(Taken {
            submitted: Submitted { job, replayed },
            known: None,
        });
    }
    let after = earlier_jobs(handle, &wishes.after).await?;
    uploads.settle(&accepted.files).await?;
    let known = Particulars {
        params: accepted.params.clone(),
        notes: accepted.notes.clone(),
        last_attempt: None,
    };
    let new = NewJob {
        id,
        owner: OWNER.to_owned(),
        tool: tool.name.clone(),
        definition: tool.hash().to_owned(),
        name: wishes.name,
        tags: wishes.tags.into_iter().collect(),
        priority,
        after,
        digest: accepted.digest,
        input: JobInput {
            params: accepted.params,
            files: accepted.files.into_iter().map(input_file).collect(),
            notes: accepted.notes,
        },
        idempotency,
        created_at: handle.now(),
    };
    let submitted = if uploads.are_none() {
        handle.submit(new).await?
    } else {
        // A task of its own: a client that hangs up now must not part a committed job from its files.
        let committed = tokio::spawn(commit(handle.clone(), new, uploads)).await;
        committed.map_err(ApiError::internal)??
    };
    let known = (!submitted.replayed).then_some(known);
    Ok(Taken { submitted, known })
}

async fn commit(handle: Handle, new: NewJob, uploads: Uploads) -> Result<Submitted, EngineError> {
    let result = handle.submit(new).await;
    match &result {
        Ok(submitted) if !submitted.replayed => uploads.keep(),
        // Whether it was committed is not known: the files stay, and the sweep finds them if it was not.
        Err(EngineError::Broken(_) | EngineError::Stopping) => uploads.keep(),
        _ => drop(uploads),
    }
    result
}

async fn accept(
    tool: Arc<Tool>,
    given: Vec<(String, Given)>,
    record_id: &str,
) -> Result<Accepted, ApiError> {
    // A hop to another thread takes longer than the check of a small input.
    if tool.accepts_at_once(&given, AT_ONCE_BYTES) {
        return Ok(tool.accept(given, record_id)?);
    }
    let record_id = record_id.to_owned();
    let accepted = tokio::task::spawn_blocking(move || tool.accept(given, &record_id)).await;
    Ok(accepted.map_err(ApiError::internal)??)
}

async fn earlier_jobs(handle: &Handle, after: &[String]) -> Result<Vec<JobId>, ApiError> {
    let mut ids = Vec::new();
    for text in after {
        let found = find::job(handle, text).await;
        let job = found.map_err(|_| {
            ApiError::bad_param("after", format!("there is no job `{text}` to come after"))
        })?;
        ids.push(job.id);
    }
    Ok(ids)
}

fn input_file(file: AcceptedFile) -> InputFile {
    InputFile {
        param: file.param,
        file: file.file,
        content: match file.content {
            AcceptedContent::Inline(text) => InputContent::Inline(text),
            AcceptedContent::Upload(path) => InputContent::Upload(path),
        },
    }
}

/// Hash of tool, parameters, files (by the digest) and options: what makes two requests the same.
fn request_hash(tool: &str, accepted: &Accepted, wishes: &Wishes) -> String {
    let request = serde_json::json!([tool, accepted.params, accepted.digest, wishes]);
    let mut hex = String::new();
    for byte in Sha256::digest(request.to_string()) {
        // Writing to a string can't fail.
        write!(hex, "{byte:02x}").ok();
    }
    hex
}

async fn answer(handle: &Handle, taken: Taken, wait: Duration) -> Result<Response, ApiError> {
    let Taken { submitted, known } = taken;
    let Submitted { mut job, replayed } = submitted;
    let view = match known {
        Some(known) if wait.is_zero() => view::with(handle, &job, known),
        _ => {
            if !wait.is_zero() && !view::has_ended(&job) {
                job = handle.wait(job.id, wait).await?;
            }
            view::job(handle, &job).await?
        }
    };
    let status = if replayed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let location = [(header::LOCATION, view::path(job.id))];
    Ok((status, location, Json(view)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_printable_and_bounded() {
        let of = |text: &str| {
            key(
                &[("idempotency-key".parse().unwrap(), text.parse().unwrap())]
                    .into_iter()
                    .collect(),
            )
        };
        assert_eq!(of("abc-1").unwrap().as_deref(), Some("abc-1"));
        assert!(of("").is_err() && of(&"x".repeat(256)).is_err() && of("é").is_err());
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn names_tags_and_priorities_have_limits() {
        let named = |name: &str| Wishes {
            name: Some(name.into()),
            ..Wishes::default()
        };
        assert!(named("a b").check().is_ok());
        assert!(named("").check().is_err() && named("a\nb").check().is_err());
        assert!(
            Wishes {
                priority: 101,
                ..Wishes::default()
            }
            .check()
            .is_err()
        );
    }
}
