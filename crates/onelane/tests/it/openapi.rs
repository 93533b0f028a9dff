//! The description of the interface, and the pages that show it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use onelane_testkit::TestServer;
use serde_json::Value;

use crate::BINARY;

/// The native calls, as the design lists them.
const CALLS: &[(&str, &str)] = &[
    ("post", "/api/v1/tools/{tool}/jobs"),
    ("post", "/api/v1/jobs"),
    ("get", "/api/v1/jobs"),
    ("get", "/api/v1/jobs/{id}"),
    ("delete", "/api/v1/jobs/{id}"),
    ("post", "/api/v1/jobs/{id}/cancel"),
    ("get", "/api/v1/jobs/{id}/logs/{log}"),
    ("get", "/api/v1/jobs/{id}/attempts"),
    ("get", "/api/v1/jobs/{id}/attempts/{attempt}/logs/{log}"),
    ("get", "/api/v1/jobs/{id}/events"),
    ("get", "/api/v1/jobs/{id}/files"),
    ("get", "/api/v1/jobs/{id}/files/{path}"),
    ("get", "/api/v1/jobs/{id}/archive.zip"),
    ("get", "/api/v1/queue"),
    ("post", "/api/v1/queue/pause"),
    ("post", "/api/v1/queue/resume"),
    ("get", "/api/v1/tools"),
    ("get", "/api/v1/tools/{tool}"),
    ("post", "/api/v1/tools/reload"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("post", "/"),
    ("get", "/backlog"),
];

fn skip(what: &str) {
    assert!(
        std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
        "this test needs {what}"
    );
    eprintln!("SKIPPED: this test needs {what}");
}

#[tokio::test]
async fn the_description_names_every_call_and_is_valid() {
    let server = TestServer::start(BINARY, None);
    let description = server.get("/openapi.json").await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    for (method, path) in CALLS {
        let call = &description["paths"][path][method];
        assert!(call["responses"].is_object(), "{method} {path}: {call}");
        assert!(call["summary"].is_string(), "{method} {path}: {call}");
    }
    let Ok(python) = std::env::var("ONELANE_TEST_PYTHON") else {
        return skip("ONELANE_TEST_PYTHON, a Python with openapi-spec-validator");
    };
    let file = server.folder().join("openapi.json");
    std::fs::write(&file, description.to_string()).unwrap();
    let output = Command::new(python)
        .args(["-m", "openapi_spec_validator"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the text loads: the values of `src` and `href`.
fn assets(html: &str) -> BTreeSet<String> {
    let values = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1));
    values
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

#[tokio::test]
async fn the_pages_need_nothing_from_elsewhere() {
    let server = TestServer::start(BINARY, None);
    let base = reqwest::Url::parse(&server.url("/docs/")).unwrap();
    let page = server.http.get(server.url("/docs")).send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.url()), (200, &base));
    let html = page.text().await.unwrap();
    let assets = assets(&html);
    assert!(assets.len() >= 3, "{html}");
    for asset in &assets {
        let url = base.join(asset).unwrap();
        assert_eq!(url.origin(), base.origin(), "{asset}");
        assert_eq!(
            server.http.get(url).send().await.unwrap().status(),
            200,
            "{asset}"
        );
    }
    let script = server
        .http
        .get(server.url("/docs/swagger-initializer.js"))
        .send()
        .await
        .unwrap();
    let script = script.text().await.unwrap();
    assert!(
        script.contains("/openapi.json") && !script.contains("://"),
        "{script}"
    );
}

#[tokio::test]
async fn a_real_browser_shows_the_calls() {
    let is_there = Command::new("chromium")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if is_there.is_err() {
        return skip("chromium");
    }
    let server = TestServer::start(BINARY, None);
    let mut browser = Command::new("timeout");
    browser.args([
        "-k",
        "5",
        "90",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ]);
    browser.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]);
    browser.arg(format!(
        "--user-data-dir={}",
        server.folder().join("browser").display()
    ));
    browser.args([
        "--virtual-time-budget=8000",
        "--dump-dom",
        &server.url("/docs/"),
    ]);
    let output = tokio::task::spawn_blocking(move || browser.output())
        .await
        .unwrap()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(dom.contains("/api/v1/queue"), "{dom}\n{said}");
    let description: Value = server.get("/openapi.json").await;
    assert!(dom.contains(description["info"]["title"].as_str().unwrap()));
}
