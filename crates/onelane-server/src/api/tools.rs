use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use onelane_api::{Problem, ResultView, ToolLinks, ToolList, ToolReload, ToolView};
use onelane_engine::Handle;
use onelane_tools::{ResultFile, Tool, ToolDefinition};

use crate::Server;
use crate::path::Path;
use crate::problem::{ApiError, Code};

pub(crate) fn find(handle: &Handle, name: &str) -> Result<Arc<Tool>, ApiError> {
    handle.tool(name).ok_or_else(|| {
        let tools = handle.tools();
        let known: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
        let shown: String = name.chars().take(64).collect();
        ApiError::new(
            Code::UnknownTool,
            format!(
                "there is no tool `{shown}`; there are: {}",
                known.join(", ")
            ),
        )
    })
}

fn result_view(name: &str, result: &ResultFile) -> ResultView {
    ResultView {
        name: name.to_owned(),
        file: result.file.clone(),
        title: result.title.clone(),
        view: view_word(result),
        columns: result.columns.clone(),
        required: result.required,
    }
}

/// How a page shows a result, as the tools file says it.
pub(crate) fn view_word(result: &ResultFile) -> Option<String> {
    result.view.map(|view| view.word().to_owned())
}

fn view(tool: &ToolDefinition) -> ToolView {
    let this = format!("/api/v1/tools/{}", tool.name);
    ToolView {
        name: tool.name.clone(),
        title: tool.title.clone(),
        help: tool.help.clone(),
        params: tool.schema(),
        results: tool
            .results
            .iter()
            .map(|(name, result)| result_view(name, result))
            .collect(),
        example: tool.example.as_ref().map(|example| example.params.clone()),
        links: ToolLinks {
            submit: format!("{this}/jobs"),
            this,
        },
    }
}

/// All tools, each with the JSON Schema of its parameters
#[utoipa::path(get, path = "/api/v1/tools", operation_id = "list_tools", tag = "tools", responses((status = 200, body = ToolList)))]
pub(crate) async fn list(State(server): State<Server>) -> Json<ToolList> {
    Json(ToolList {
        tools: server
            .handle
            .tools()
            .iter()
            .map(|tool| view(tool))
            .collect(),
        default_tool: server.handle.default_tool().map(|tool| tool.name.clone()),
    })
}

/// One tool
#[utoipa::path(get, path = "/api/v1/tools/{tool}", operation_id = "show_tool", tag = "tools", params(("tool" = String, Path)),
    responses((status = 200, body = ToolView), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(server): State<Server>,
    Path(name): Path<String>,
) -> Result<Json<ToolView>, ApiError> {
    Ok(Json(view(&*find(&server.handle, &name)?)))
}

/// Read the tools file again
#[utoipa::path(post, path = "/api/v1/tools/reload", operation_id = "reload_tools", tag = "tools",
    responses((status = 200, body = ToolReload), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn reload(State(server): State<Server>) -> Result<Json<ToolReload>, ApiError> {
    let reloaded = crate::reload::reload(&server.handle, &server.config.tools).await?;
    Ok(Json(reloaded))
}
