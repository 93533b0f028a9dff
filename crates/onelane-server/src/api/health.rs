use axum::extract::State;
use onelane_api::Problem;
use onelane_engine::JobFilter;

use crate::Server;
use crate::problem::ApiError;

/// The process answers
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store answers too, and jobs are taken in
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = String), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn readyz(State(server): State<Server>) -> Result<&'static str, ApiError> {
    server.handle.check_taking()?;
    let newest = JobFilter {
        limit: 1,
        ..JobFilter::default()
    };
    server.handle.jobs(newest).await?;
    Ok("ready\n")
}

/// What the error codes mean
#[utoipa::path(get, path = "/errors", tag = "health", responses((status = 200, body = String)))]
pub(crate) async fn errors() -> &'static str {
    include_str!("../../../../docs/errors.md")
}
