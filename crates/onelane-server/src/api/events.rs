use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use onelane_api::Problem;
use onelane_core::{Job, JobId};
use onelane_engine::Handle;
use tokio::sync::watch;

use crate::path::Path;
use crate::problem::ApiError;
use crate::{Server, find, view};

/// What happens to a job, as Server-Sent Events: `state`, `progress`, `end`, each with the job
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path), ("Last-Event-ID" = Option<i64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 204, description = "The end was seen already"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn events(
    State(server): State<Server>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = find::job(&server.handle, &id).await?;
    let last = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok()?.parse::<i64>().ok());
    if view::has_ended(&job) && last == Some(job.changed_seq) {
        // A browser's EventSource comes back after every end of stream, unless it is told that there is nothing more.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follow = Follow {
        watch: server.handle.watch(job.id),
        handle: server.handle,
        id: job.id,
        seen: last,
        sent: String::new(),
        ended: false,
    };
    Ok(Sse::new(stream::unfold(follow, Follow::next))
        .keep_alive(KeepAlive::default())
        .into_response())
}

struct Follow {
    handle: Handle,
    id: JobId,
    watch: watch::Receiver<u64>,
    /// The newest change that the client knows.
    seen: Option<i64>,
    sent: String,
    ended: bool,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while !self.ended {
            // Before the question, so that a change after it wakes us up.
            self.watch.mark_unchanged();
            let (job, known) = self.handle.shown(self.id).await.ok()??;
            let view = view::with(&self.handle, &job, known);
            let text = serde_json::to_string(&view).ok()?;
            self.ended = view.state.is_final();
            if let Some(event) = self.event(&job, text) {
                return Some((Ok(event), self));
            }
            self.watch.changed().await.ok()?;
        }
        None
    }

    fn event(&mut self, job: &Job, text: String) -> Option<Event> {
        let is_change = self.seen.is_none_or(|seen| seen < job.changed_seq);
        let name = match () {
            () if self.ended => "end",
            () if is_change => "state",
            () if text != self.sent => "progress",
            () => return None,
        };
        self.seen = Some(job.changed_seq);
        self.sent.clone_from(&text);
        let event = Event::default().event(name);
        Some(event.id(job.changed_seq.to_string()).data(text))
    }
}
