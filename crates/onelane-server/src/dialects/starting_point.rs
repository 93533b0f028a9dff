//! The interface of the program that Onelane started from, byte for byte for its HTTP clients.

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request, State};
use onelane_api::Problem;
use onelane_tools::{Given, ToolDefinition};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::submit::{self, Submission, Wishes};
use crate::body::{self, BODY_LIMIT_BYTES, Kind, Pairs};
use crate::problem::{ApiError, Code};
use crate::uploads::{self, Uploads};
use crate::{Server, curl};

const NAME: &str = "query_name";
const SEQUENCE: &str = "query_sequence";

#[derive(Serialize, ToSchema)]
pub(crate) struct Created {
    #[serde(rename = "Query created")]
    query: Query,
    #[serde(rename = "Query ID")]
    id: String,
    #[serde(rename = "Backlog Length")]
    backlog: u64,
}

#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "these are the names on the wire")]
struct Query {
    query_name: String,
    query_sequence: String,
    experiment_id: String,
    status: &'static str,
    experiment_dir: String,
}

/// Submit to the default tool: `query_name` and `query_sequence` as form fields
#[utoipa::path(post, path = "/", operation_id = "submit_to_default_tool", tag = "starting point",
    request_body(content((Object = "application/x-www-form-urlencoded"), (Object = "multipart/form-data"), (Object = "application/json"))),
    responses((status = 200, body = Created), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn submit(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Created>, ApiError> {
    let handle = &server.handle;
    let no_tool = || {
        ApiError::new(
            Code::UnknownTool,
            "there is no default tool: set `default_tool` in `[server]`",
        )
    };
    let tool = handle.default_tool().ok_or_else(no_tool)?;
    let fields = fields(request).await?;
    let (name, sequence) = (one(&fields, NAME)?, one(&fields, SEQUENCE)?);
    let id = handle.new_id();
    let submission = Submission {
        id,
        given: given(&tool, fields)?,
        tool,
        uploads: Uploads::new(handle, id),
        wishes: Wishes {
            name: Some(name.clone()).filter(|n| !n.is_empty()),
            ..Wishes::default()
        },
        key: None,
    };
    let sequence_param = sequence_param(&submission.tool)?;
    let submitted = submit::submit(handle, submission).await;
    submitted.map_err(|e| e.with_param_renamed(&sequence_param, SEQUENCE))?;
    let folder = handle.prepare_folder(id).await.unwrap_or_else(|error| {
        // The job is committed: the client must learn its id, and the engine makes the folder when the job starts.
        tracing::error!(%error, job = %id, "a job's folder could not be made early: {error}");
        handle.paths(id).job
    });
    Ok(Json(Created {
        query: Query {
            query_name: name,
            query_sequence: sequence,
            experiment_id: id.to_string(),
            status: "pending",
            experiment_dir: folder.display().to_string(),
        },
        id: id.to_string(),
        backlog: handle.backlog(),
    }))
}

/// How many jobs are queued or running
#[utoipa::path(get, path = "/backlog", tag = "starting point", responses((status = 200, body = Vec<String>)))]
pub(crate) async fn backlog(State(server): State<Server>) -> Json<[String; 1]> {
    Json([sentence(server.handle.backlog())])
}

fn sentence(count: u64) -> String {
    format!("Currently {count} jobs in the backlog.")
}

/// The fields, read as a form whatever the type says; multipart and JSON as such.
async fn fields(request: Request) -> Result<Vec<(String, String)>, ApiError> {
    match Kind::of(request.headers()) {
        Kind::Multipart => multipart(request).await,
        Kind::Json => {
            let Pairs(pairs) = body::json(&body::read(request.into_body()).await?)?;
            pairs.into_iter().map(text).collect()
        }
        Kind::Form | Kind::Other => {
            let body = body::read(request.into_body()).await?;
            let pairs = body::form(&body)?;
            curl::check(&body, &pairs, SEQUENCE)?;
            Ok(pairs)
        }
    }
}

async fn multipart(request: Request) -> Result<Vec<(String, String)>, ApiError> {
    let multipart = Multipart::from_request(request, &()).await;
    let mut multipart = multipart.map_err(|e| ApiError::new(Code::BadRequest, e.body_text()))?;
    let (mut fields, mut left) = (Vec::new(), BODY_LIMIT_BYTES);
    while let Some(field) = multipart
        .next_field()
        .await
        .map_err(|e| uploads::broken(&e))?
    {
        let name = field.name().unwrap_or_default().to_owned();
        fields.push((name, uploads::text(field, &mut left).await?));
    }
    Ok(fields)
}

fn text((name, value): (String, Value)) -> Result<(String, String), ApiError> {
    match value {
        Value::String(text) => Ok((name, text)),
        _ => Err(ApiError::bad_param(
            &name,
            format!("`{name}` must be a string"),
        )),
    }
}

fn one(fields: &[(String, String)], key: &str) -> Result<String, ApiError> {
    let mut values = fields.iter().filter(|(name, _)| name == key);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value.clone()),
        (None, _) => Err(ApiError::bad_param(key, format!("`{key}` is missing"))),
        (_, Some(_)) => Err(ApiError::bad_param(
            key,
            format!("`{key}` is given more than once"),
        )),
    }
}

/// The tool's name for the sequence.
fn sequence_param(tool: &ToolDefinition) -> Result<String, ApiError> {
    if tool.params.contains_key(SEQUENCE) {
        return Ok(SEQUENCE.to_owned());
    }
    tool.sequence_param().map(str::to_owned).ok_or_else(|| {
        let detail = format!(
            "tool `{}` has no parameter that takes the sequence",
            tool.name
        );
        ApiError::bad_param(SEQUENCE, detail)
    })
}

/// The two fields under the names that the tool has for them; all others as they are.
fn given(
    tool: &ToolDefinition,
    fields: Vec<(String, String)>,
) -> Result<Vec<(String, Given)>, ApiError> {
    let mut given = Vec::new();
    for (name, value) in fields {
        let param = match name.as_str() {
            NAME if !tool.params.contains_key(NAME) => continue,
            SEQUENCE => sequence_param(tool)?,
            _ => name,
        };
        given.push((param, Given::Text(value)));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_the_bytes_that_clients_know() {
        let created = Created {
            query: Query {
                query_name: "q1".into(),
                query_sequence: "MKÉ\n".into(),
                experiment_id: "x".into(),
                status: "pending",
                experiment_dir: "/d/x".into(),
            },
            id: "x".into(),
            backlog: 2,
        };
        assert_eq!(
            serde_json::to_string(&created).unwrap(),
            r#"{"Query created":{"query_name":"q1","query_sequence":"MKÉ\n","experiment_id":"x","status":"pending","experiment_dir":"/d/x"},"Query ID":"x","Backlog Length":2}"#
        );
        let answer = serde_json::to_string(&[sentence(0)]).unwrap();
        assert_eq!(answer, r#"["Currently 0 jobs in the backlog."]"#);
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = one(&[(NAME.into(), "x".into())], SEQUENCE).unwrap_err();
        assert!(error.detail().contains("query_sequence"));
    }
}
