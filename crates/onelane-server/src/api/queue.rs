use axum::Json;
use axum::extract::State;
use onelane_api::{Problem, QueueView};

use crate::problem::ApiError;
use crate::{Server, view};

async fn shown(server: &Server) -> Result<Json<QueueView>, ApiError> {
    let queue = server.handle.queue();
    let mut jobs = Vec::new();
    for id in queue.running_ids.iter().chain(&queue.next_ids) {
        // A job may have been deleted since the engine was asked.
        jobs.extend(server.handle.job(*id).await?);
    }
    Ok(Json(QueueView {
        queued: queue.queued,
        running: queue.running,
        backlog: server.handle.backlog(),
        paused: queue.paused,
        process_control: server.config.process_control.clone(),
        jobs: view::jobs(&server.handle, &jobs).await?,
    }))
}

/// The queue: counts, the running jobs and the next ones
#[utoipa::path(get, path = "/api/v1/queue", operation_id = "show_queue", tag = "queue",
    responses((status = 200, body = QueueView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(server): State<Server>) -> Result<Json<QueueView>, ApiError> {
    shown(&server).await
}

/// Start nothing new until it is resumed; what runs goes on
#[utoipa::path(post, path = "/api/v1/queue/pause", tag = "queue",
    responses((status = 200, body = QueueView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn pause(State(server): State<Server>) -> Result<Json<QueueView>, ApiError> {
    server.handle.pause().await?;
    shown(&server).await
}

/// Start jobs again
#[utoipa::path(post, path = "/api/v1/queue/resume", tag = "queue",
    responses((status = 200, body = QueueView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn resume(State(server): State<Server>) -> Result<Json<QueueView>, ApiError> {
    server.handle.resume().await?;
    shown(&server).await
}
