use std::process::Command;

use onelane_testkit::TestServer;
use serde_json::Value;

use crate::BINARY;

/// Python with httpx, in a virtual environment of its own, made once by the test command.
fn python() -> Option<String> {
    let python = std::env::var("ONELANE_TEST_PYTHON")
        .ok()
        .filter(|path| std::path::Path::new(path).exists());
    if python.is_none() {
        assert!(
            std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
            "ONELANE_TEST_PYTHON must name a Python with httpx"
        );
        eprintln!(
            "SKIPPED: no Python with httpx; run the README's test command, which installs it"
        );
    }
    python
}

fn run_python(script: &str, arguments: &[&str]) {
    let Some(python) = python() else { return };
    let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn example() -> TestServer {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fastapi");
    let tools = std::fs::read_to_string(format!("{folder}/onelane.toml")).unwrap();
    TestServer::start(
        BINARY,
        Some(&tools.replace("\"./", &format!("\"{folder}/"))),
    )
}

#[test]
fn the_starting_points_own_client_gets_its_answers_byte_for_byte() {
    let server = example();
    run_python("starting_point.py", &[&server.url("")]);
}

#[test]
fn the_users_own_fastapi_server_works_before_and_after() {
    let server = example();
    run_python(
        "fastapi_app.py",
        &[
            &server.url(""),
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fastapi"),
        ],
    );
}

#[tokio::test]
async fn on_a_plain_server_the_same_call_runs_search_and_42_is_refused() {
    let server = TestServer::start(BINARY, None);
    let post = |body: &'static str| server.http.post(server.url("/")).body(body).send();
    let good = post("query_name=foo&query_sequence=MGLVFLGPPGSGKGTISKIISNEFKYQHISTGDLFRENILNSTALGQEIKKIVERGELVP").await.unwrap();
    assert_eq!(good.status(), 200);
    let good: Value = good.json().await.unwrap();
    let id = good["Query ID"].as_str().unwrap();
    assert_eq!(server.wait(id).await["state"], "succeeded");
    let bad = post("query_name=foo&query_sequence=42").await.unwrap();
    assert_eq!(bad.status(), 422);
    let bad = bad.text().await.unwrap();
    assert!(bad.contains("digits"), "{bad}");
}
