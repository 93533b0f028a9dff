//! What `config check`, `tools check`, the server's start and a reload make of a tools file that this machine lacks
//! something for.

use std::fs;
use std::path::Path;
use std::process::Command;

use onelane_testkit::TestServer;
use serde_json::{Value, json};

use crate::BINARY;

/// One tool whose database may be missing, and one that needs none.
const TWO: &str = "[tools.blastn]\ncommand = [\"echo\", \"{db}\"]\nparams.db = { type = \"choice\", choices_from = \"db/*.ndb\" }\n\
                   [tools.stats]\ncommand = [\"true\"]";

/// Exit code, standard output and standard error of a command in this folder.
fn said(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("onelane.toml"), text).unwrap();
    folder
}

#[test]
fn a_missing_database_is_a_warning_and_fails_the_check_of_its_tool_alone() {
    let folder = folder_with(TWO);
    let folder = folder.path();
    let (code, out, err) = said(folder, &["config", "check"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("2 tools, no mistakes, 1 warning"), "{out}");
    assert!(
        err.contains("line 3, column 47: warning: no file is there that matches"),
        "{err}"
    );
    let (code, out, _) = said(folder, &["config", "check", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["errors"]), (Some(0), &json!([])), "{answer}");
    assert_eq!(answer["warnings"][0]["line"], 3, "{answer}");
    let (code, out, err) = said(folder, &["tools", "check", "stats"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = said(folder, &["tools", "check", "blastn"]);
    assert_eq!(code, Some(7), "{out}{err}");
    assert!(
        out.contains("FAILED") && out.contains("no file matches"),
        "{out}"
    );
    assert!(!out.contains("stats"), "{out}");
}

#[tokio::test]
async fn a_server_without_a_database_starts_and_refuses_only_what_needs_it() {
    let server = TestServer::start(BINARY, Some(TWO));
    let tools = server.get("/api/v1/tools").await;
    assert_eq!(tools["tools"].as_array().unwrap().len(), 2, "{tools}");
    let sound = server.submit("stats", &json!({})).await;
    assert_eq!(server.wait(&sound).await["state"], "succeeded");
    for params in [json!({}), json!({"db": "nt"})] {
        let (status, problem) = server.post("/api/v1/tools/blastn/jobs", &params).await;
        assert_eq!(status, 422, "{problem}");
        let error = &problem["errors"][0];
        assert_eq!(error["param"], "db", "{problem}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("no file matches"), "{problem}");
    }
    let database = server.folder().join("db");
    fs::create_dir(&database).unwrap();
    fs::write(database.join("nt.ndb"), "").unwrap();
    let (status, report) = server.post("/api/v1/tools/reload", &json!({})).await;
    assert_eq!((status, &report["warnings"]), (200, &json!([])), "{report}");
    let id = server.submit("blastn", &json!({"db": "nt"})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    fs::remove_dir_all(&database).unwrap();
    let (status, report) = server.post("/api/v1/tools/reload", &json!({})).await;
    assert_eq!((status, &report["changed"]), (200, &json!(["blastn"])));
    assert_eq!(report["warnings"][0]["line"], 3, "{report}");
    let message = report["warnings"][0]["message"].as_str().unwrap();
    assert!(message.contains("no file is there"), "{report}");
}

#[tokio::test]
async fn the_form_of_a_tool_without_a_database_says_that_there_is_nothing_to_choose() {
    let text = format!("[server]\ndefault_tool = \"blastn\"\n{TWO}");
    let server = TestServer::start(BINARY, Some(&text));
    let page = server
        .http
        .get(server.url("/"))
        .header("Accept", "text/html");
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<select name='db'><option value='' disabled selected>nothing to choose yet</option></select>"), "{page}");
}

#[test]
fn mistakes_and_warnings_are_told_together_and_apart() {
    let folder = folder_with(&TWO.replace("[tools.stats]", "[tools.stats]\ntitel = \"x\""));
    let (code, out, err) = said(folder.path(), &["config", "check"]);
    assert_eq!((code, out.as_str()), (Some(7), ""));
    assert!(
        err.contains("unknown key `titel`") && err.contains("warning: no file"),
        "{err}"
    );
    let (code, out, _) = said(folder.path(), &["config", "check", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    let lines = |kind: &str| {
        let told = answer[kind].as_array().unwrap().iter();
        told.map(|one| one["line"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (code, lines("errors"), lines("warnings")),
        (Some(7), vec![5], vec![3])
    );
}
