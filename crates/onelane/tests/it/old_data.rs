//! Data folders as earlier releases wrote them (`tests/data/schema-N`, made by `tests/data/make-fixture.sh`) open and go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onelane_testkit::TestServer;
use serde_json::{Value, json};

use crate::BINARY;

fn fixtures() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let entries = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.file_name().unwrap() != ".keep" {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn serve(fixture: &Path) -> TestServer {
    let tools = fs::read_to_string(fixture.join("onelane.toml")).unwrap();
    TestServer::start_on(BINARY, Some(&tools), |folder| {
        let data = folder.join("data");
        copy(&fixture.join("jobs"), &data.join("jobs"));
        fs::copy(fixture.join("instance.json"), data.join("instance.json")).unwrap();
        let store = fs::read_to_string(fixture.join("store.sql")).unwrap();
        let database = rusqlite::Connection::open(data.join("onelane.db")).unwrap();
        database.execute_batch(&store).unwrap();
    })
}

async fn job(server: &TestServer, name: &str) -> Value {
    let list = server
        .get(&format!("/api/v1/jobs?name={name}&tag=fixture"))
        .await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1, "{name}: {list}");
    let id = list["jobs"][0]["id"].as_str().unwrap();
    server.wait(id).await
}

#[test]
fn each_schema_has_its_fixture() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onelane-store/migrations");
    assert_eq!(
        fixtures().len(),
        fs::read_dir(migrations).unwrap().count(),
        "tests/data/make-fixture.sh makes one"
    );
}

#[tokio::test]
async fn the_data_of_each_earlier_schema_opens_and_goes_on() {
    for fixture in fixtures() {
        let server = serve(&fixture);
        let expected = [
            ("succeeded", "succeeded", 1),
            ("failed", "failed", 1),
            ("cancelled", "cancelled", 1),
            // It ran when the power went, and runs again at its old place.
            ("interrupted", "succeeded", 2),
            ("queued-1", "succeeded", 1),
            ("queued-2", "succeeded", 1),
        ];
        for (name, state, attempt) in expected {
            let job = job(&server, name).await;
            let seen = (&job["state"], &job["attempt"]);
            assert_eq!(seen, (&json!(state), &json!(attempt)), "{name}: {job}");
        }
        let failed = job(&server, "failed").await;
        assert_eq!(
            failed["failure"]["message"],
            "exit code 4: ran out of something"
        );
        for (name, sequence) in [("succeeded", ">a\nACDE\n"), ("queued-1", ">b\nFGHI\n")] {
            let id = job(&server, name).await["id"].as_str().unwrap().to_owned();
            let url = server.url(&format!("/api/v1/jobs/{id}/files/copy.fasta"));
            let text = server.http.get(url).send().await.unwrap().text().await;
            assert_eq!(text.unwrap(), sequence);
        }
        its_keys_are_known(&server).await;
        let mut check = Command::new(BINARY);
        check.arg("check").arg("--data").arg(server.data());
        let output = check.current_dir(server.folder()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

/// A request with an `Idempotency-Key` from before is a replay, and the numbers go on.
async fn its_keys_are_known(server: &TestServer) {
    let url = server.url("/api/v1/tools/sleep/jobs?name=queued-2&tag=fixture");
    let request = server.http.post(url).header("Idempotency-Key", "queued-2");
    let replay = request.json(&json!({"seconds": 0})).send().await.unwrap();
    assert_eq!(replay.status(), 200);
    let id = server.submit("sleep", &json!({"seconds": 0})).await;
    assert_eq!(server.wait(&id).await["seq"], 7);
}
