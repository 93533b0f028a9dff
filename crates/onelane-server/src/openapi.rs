//! All routes, and their description that is made of the same list.

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::{PathItem, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::Server;
use crate::api::{events, files, health, jobs, logs, queue, submit, tools};
use crate::dialects::starting_point;
use crate::pages::index;

#[derive(OpenApi)]
#[openapi(
    info(title = "Onelane", description = "Runs sequence analyses one at a time.", license(name = "MIT OR Apache-2.0")),
    // Its route has a wildcard, which axum and OpenAPI write differently.
    paths(files::get)
)]
struct Description;

fn described() -> OpenApiRouter<Server> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(index::index, starting_point::submit))
        .routes(routes!(starting_point::backlog))
        .routes(routes!(submit::to_tool))
        .routes(routes!(jobs::list, submit::as_object))
        .routes(routes!(jobs::show, jobs::remove))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::attempts))
        .routes(routes!(logs::newest))
        .routes(routes!(logs::of_attempt))
        .routes(routes!(events::events))
        .routes(routes!(files::list))
        .routes(routes!(files::archive))
        .routes(routes!(queue::show))
        .routes(routes!(queue::pause))
        .routes(routes!(queue::resume))
        .routes(routes!(tools::list))
        .routes(routes!(tools::show))
        .routes(routes!(tools::reload))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::errors))
}

/// `OpenAPI` demands a description of every answer; one that has none of its own gets its status's name.
fn describe_answers(item: &mut PathItem) {
    let calls = [&mut item.get, &mut item.post, &mut item.delete];
    for call in calls.into_iter().flatten() {
        for (status, answer) in &mut call.responses.responses {
            let RefOr::T(answer) = answer else { continue };
            if answer.description.is_empty() {
                let name = status
                    .parse::<StatusCode>()
                    .ok()
                    .and_then(|s| s.canonical_reason());
                name.unwrap_or("What went wrong")
                    .clone_into(&mut answer.description);
            }
        }
    }
}

pub(crate) fn routes(version: &str) -> Router<Server> {
    let (router, mut description) = described().split_for_parts();
    version.clone_into(&mut description.info.version);
    description
        .paths
        .paths
        .values_mut()
        .for_each(describe_answers);
    let pages = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    router
        .route("/backlog/", get(starting_point::backlog))
        .route("/api/v1/jobs/{id}/files/{*path}", get(files::get))
        .route("/openapi.json", get(async move || Json(description)))
        .merge(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_openapi_3_1_and_names_the_calls() {
        let (_, description) = described().split_for_parts();
        let json = serde_json::to_value(&description).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
        for (path, method) in [
            ("/", "post"),
            ("/api/v1/jobs", "post"),
            ("/api/v1/jobs/{id}", "delete"),
            ("/api/v1/jobs/{id}/files/{path}", "get"),
            ("/api/v1/tools/{tool}/jobs", "post"),
        ] {
            assert!(json["paths"][path][method].is_object(), "{method} {path}");
        }
        assert!(json["components"]["schemas"]["JobView"].is_object());
    }

    #[test]
    fn no_two_routes_collide() {
        drop(routes("0"));
    }
}
