use std::fmt::Write;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use onelane_core::Job;
use onelane_engine::JobFilter;
use onelane_tools::{Param, ToolDefinition};
use serde_json::Value;

use crate::problem::ApiError;
use crate::{Server, view};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const NEWEST: usize = 20;

/// A page for a browser, a short text for everybody else
#[utoipa::path(get, path = "/", tag = "starting point", responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn index(
    State(server): State<Server>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let vary = [(header::VARY, "accept")];
    if !accepts.contains("text/html") {
        return Ok((vary, plain(&server)).into_response());
    }
    let newest = JobFilter {
        limit: NEWEST,
        ..JobFilter::default()
    };
    let jobs = server.handle.jobs(newest).await?;
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    Ok((vary, policy, Html(page(&server, &jobs))).into_response())
}

fn plain(server: &Server) -> String {
    let mut text = format!(
        "Onelane {}: {}.\n\nTools:\n",
        server.config.version,
        backlog(server)
    );
    for tool in server.handle.tools() {
        line(
            &mut text,
            format_args!(
                "  {}: curl {} http://{}/api/v1/tools/{}/jobs\n",
                tool.name,
                fields(&tool),
                server.config.listen,
                tool.name
            ),
        );
    }
    text.push_str(
        "\nAll calls: /docs (a page), /openapi.json. Jobs: /api/v1/jobs. Queue: /api/v1/queue.\n",
    );
    text
}

fn backlog(server: &Server) -> String {
    match server.handle.backlog() {
        1 => "1 job in the backlog".to_owned(),
        count => format!("{count} jobs in the backlog"),
    }
}

/// What curl has to send: all that the tool can't do without.
fn fields(tool: &ToolDefinition) -> String {
    let required = tool.params.iter().filter(|(_, param)| param.is_required());
    let fields: Vec<_> = required
        .map(|(name, param)| format!("-F {name}={}", sample(param)))
        .collect();
    if fields.is_empty() {
        return "-X POST".to_owned();
    }
    fields.join(" ")
}

/// A value to be replaced, or the tool's own example where it needs no quoting.
fn sample(param: &Param) -> String {
    let file = |extensions: &[String]| {
        let name = |extension: &String| format!("@file.{extension}");
        extensions.first().map_or_else(|| "@file".to_owned(), name)
    };
    match param {
        Param::Fasta(_) => "@query.fasta".to_owned(),
        Param::Fastq(_) => "@reads.fastq".to_owned(),
        Param::File(given) => file(&given.extension),
        Param::Files(given) => file(&given.extension),
        Param::Json(_) => "@value.json".to_owned(),
        other => match other.example() {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) if text.chars().all(char::is_alphanumeric) => text.clone(),
            _ => "VALUE".to_owned(),
        },
    }
}

fn page(server: &Server, jobs: &[Job]) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Onelane</title><style>body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}\
         textarea,input,select{font:inherit;width:100%;box-sizing:border-box}textarea{font-family:monospace}\
         td,th{text-align:left;padding:.1rem .8rem .1rem 0}label{display:block;margin:.6rem 0}</style><h1>Onelane</h1>",
    );
    line(
        &mut html,
        format_args!("<p>{}. <a href=/docs>All calls</a>", backlog(server)),
    );
    if let Some(tool) = server.handle.default_tool() {
        form(&mut html, &tool);
    }
    table(&mut html, jobs);
    html
}

fn table(html: &mut String, jobs: &[Job]) {
    html.push_str("<h2>Newest jobs</h2><table><tr><th>Job<th>Tool<th>State<th>Accepted");
    for job in jobs {
        let (path, name) = (
            view::path(job.id),
            job.name.clone().unwrap_or_else(|| job.id.to_string()),
        );
        line(
            html,
            format_args!(
                "<tr><td><a href='{path}'>{}</a><td>{}<td>{}<td>{}",
                escape(&name),
                escape(&job.tool),
                view::state(job).as_str(),
                job.created_at
            ),
        );
    }
    html.push_str("</table>");
}

fn form(html: &mut String, tool: &ToolDefinition) {
    let title = escape(tool.title.as_deref().unwrap_or(&tool.name));
    line(
        html,
        format_args!(
            "<h2>{title}</h2><form method=post enctype='multipart/form-data' action='/api/v1/tools/{}/jobs'>",
            escape(&tool.name)
        ),
    );
    let schema = tool.schema();
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == name))
    };
    for name in tool.params.keys() {
        let property = &schema["properties"][name.as_str()];
        // A browser sends a field that was left empty as an empty text, which is no number: such fields stay away.
        if required(name) || !property["default"].is_null() {
            let is_sequence = tool.sequence_param() == Some(name);
            field(html, name, property, is_sequence);
        }
    }
    html.push_str("<p><button>Submit</button></form>");
}

fn field(html: &mut String, name: &str, property: &Value, is_sequence: bool) {
    let escaped = escape(name);
    let default = match &property["default"] {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    };
    line(html, format_args!("<label>{escaped}"));
    if is_sequence {
        line(
            html,
            format_args!("<textarea name='{escaped}' rows=8 required></textarea>"),
        );
    } else if let Some(choices) = property["enum"].as_array() {
        line(html, format_args!("<select name='{escaped}'>"));
        for choice in choices.iter().filter_map(Value::as_str) {
            let selected = if escape(choice) == default {
                " selected"
            } else {
                ""
            };
            line(
                html,
                format_args!("<option{selected}>{}</option>", escape(choice)),
            );
        }
        if choices.is_empty() {
            html.push_str("<option value='' disabled selected>nothing to choose yet</option>");
        }
        html.push_str("</select>");
    } else {
        line(
            html,
            format_args!("<input name='{escaped}' value='{default}'>"),
        );
    }
    html.push_str("</label>");
}

/// Writing to a string can't fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).ok();
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curl_is_told_what_each_tool_needs() {
        let text = "[tools.fold]\ncommand = [\"t\"]\nparams.seq = { type = \"fasta\", alphabet = \"protein\" }\n\
                    params.model = { type = \"file\", extension = [\"hmm\"] }\n\
                    params.seed = { type = \"integer\", example = 7 }\nparams.hits = { type = \"integer\", default = 5 }\n\
                    [tools.now]\ncommand = [\"t\"]\n";
        let file = onelane_tools::parse_tools_file(text, std::path::Path::new("/")).unwrap();
        assert_eq!(
            fields(&file.tools[0]),
            "-F seq=@query.fasta -F model=@file.hmm -F seed=7"
        );
        assert_eq!(fields(&file.tools[1]), "-X POST");
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut html = String::new();
        field(
            &mut html,
            "a'><script>",
            &serde_json::json!({"default": "\"'><b>"}),
            false,
        );
        assert!(
            !html.contains("<script>") && !html.contains("<b>") && !html.contains("'>'"),
            "{html}"
        );
    }
}
