use std::time::Duration;

use onelane_testkit::{LONG, processes_with};
use serde_json::{Value, json};

use crate::scripts;

#[tokio::test]
async fn a_killed_server_finds_its_running_job_in_the_same_process_and_its_queue_complete() {
    let mut server = scripts();
    let running = server.submit("sleep", &json!({"seconds": 4})).await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(server.submit("sleep", &json!({"seconds": 0.1})).await);
    }
    server.until(&running, "running").await;
    let before = server.read_json(&running, "attempts/1/shim.json");
    server.kill();
    let tool = processes_with(&format!("ONELANE_JOB_ID={running}"));
    assert!(!tool.is_empty(), "the job must outlive its server");
    server.restart();
    let job = server.get(&format!("/api/v1/jobs/{running}")).await;
    assert_eq!(job["state"], "running", "{job}");
    // The shell may have started its `sleep` since.
    let now = processes_with(&format!("ONELANE_JOB_ID={running}"));
    assert!(tool.iter().all(|pid| now.contains(pid)), "{tool:?} {now:?}");
    for id in std::iter::once(&running).chain(&queued) {
        let job = server.wait(id).await;
        assert_eq!(
            (job["state"].as_str(), job["attempt"].as_u64()),
            (Some("succeeded"), Some(1)),
            "{job}"
        );
        assert!(
            server
                .job_folder(id)
                .join("attempts/1/output/done.txt")
                .exists()
        );
        assert!(!server.job_folder(id).join("attempts/2").exists());
    }
    assert_eq!(server.read_json(&running, "attempts/1/shim.json"), before);
}

#[tokio::test]
async fn a_job_that_ended_while_no_server_was_there_is_finished_by_the_next_one() {
    let mut server = scripts();
    let id = server.submit("sleep", &json!({"seconds": 0.5})).await;
    server.until(&id, "running").await;
    let took = server.terminate();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let exit = server.job_folder(&id).join("attempts/1/exit.json");
    let waited = tokio::time::timeout(LONG, async {
        while !exit.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited
        .await
        .expect("the shim writes the end without a server");
    server.restart();
    let job = server.wait(&id).await;
    assert_eq!(
        (job["state"].as_str(), job["attempt"].as_u64()),
        (Some("succeeded"), Some(1)),
        "{job}"
    );
}

#[tokio::test]
async fn the_same_key_gives_the_same_job_also_after_kill_9() {
    let mut server = scripts();
    let submit = |server: &onelane_testkit::TestServer, seconds: f64| {
        let request = server
            .http
            .post(server.url("/api/v1/tools/sleep/jobs"))
            .header("Idempotency-Key", "k-1");
        request.json(&json!({"seconds": seconds})).send()
    };
    let first = submit(&server, 0.1).await.unwrap();
    assert_eq!(first.status(), 201);
    let first: Value = first.json().await.unwrap();
    // The client that never saw its answer: the request is sent, and the server is killed under it.
    let request = server
        .http
        .post(server.url("/api/v1/tools/sleep/jobs"))
        .header("Idempotency-Key", "k-2");
    let unseen = tokio::spawn(request.json(&json!({"seconds": 0.2})).send());
    tokio::time::sleep(Duration::from_millis(3)).await;
    server.kill();
    unseen.await.unwrap().ok();
    server.restart();
    let again = submit(&server, 0.1).await.unwrap();
    assert_eq!(again.status(), 200, "a replay");
    assert_eq!(again.json::<Value>().await.unwrap()["id"], first["id"]);
    let other = submit(&server, 0.3).await.unwrap();
    assert_eq!(other.status(), 422, "the same key with another request");
    for _ in 0..2 {
        let request = server
            .http
            .post(server.url("/api/v1/tools/sleep/jobs"))
            .header("Idempotency-Key", "k-2");
        assert!(
            request
                .json(&json!({"seconds": 0.2}))
                .send()
                .await
                .unwrap()
                .status()
                .is_success()
        );
    }
    let jobs = server.get("/api/v1/jobs").await;
    assert_eq!(
        jobs["jobs"].as_array().unwrap().len(),
        2,
        "one job a key: {jobs}"
    );
}

#[test]
fn a_second_server_on_the_same_folder_refuses_and_names_the_first() {
    let server = scripts();
    let mut second = std::process::Command::new(crate::BINARY);
    second
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.data())
        .current_dir("/");
    let output = second.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&server.pid().to_string()),
        "{said}"
    );
}

/// What a killed server was starting has its socket until the program begins: a process between fork and exec.
#[test]
fn an_address_that_becomes_free_soon_is_waited_for() {
    let mut server = scripts();
    let address = server.address().to_owned();
    server.kill();
    let taken = std::net::TcpListener::bind(&address).unwrap();
    let lines = server.launch();
    std::thread::sleep(Duration::from_millis(100));
    drop(taken);
    assert!(server.listens(lines));
}
