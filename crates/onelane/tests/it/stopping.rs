//! A server that stops, and a job that does not.

use std::path::PathBuf;
use std::time::Duration;

use onelane_testkit::{TestServer, processes_with};
use serde_json::{Value, json};

use crate::{BINARY, SCRIPTS, scripts};

#[tokio::test]
async fn a_server_that_drains_takes_nothing_new_answers_and_waits_for_what_runs() {
    let mut server = TestServer::start_with(BINARY, Some(SCRIPTS), &["--drain"]);
    let running = server.submit("sleep", &json!({"seconds": 3})).await;
    let waiting = server.submit("sleep", &json!({"seconds": 0})).await;
    server.until(&running, "running").await;
    server.ask_to_stop();
    let refused = async {
        loop {
            let (status, answer) = server.post("/api/v1/tools/sleep/jobs", &json!({})).await;
            if status == 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(refused.await["code"], "stopping");
    assert_eq!(
        server.get(&format!("/api/v1/jobs/{running}")).await["state"],
        "running"
    );
    let ready = server.http.get(server.url("/readyz")).send().await;
    assert_eq!(ready.unwrap().status(), 503);
    let left = server.get(&format!("/api/v1/jobs/{waiting}")).await;
    assert_eq!(
        left["why"],
        "the server is stopping; the next one starts it"
    );
    server.wait_stopped();
    assert_eq!(
        server.read_json(&running, "attempts/1/exit.json")["outcome"],
        json!({"how": "exit", "code": 0})
    );
    assert!(
        !server.job_folder(&waiting).join("attempts").exists(),
        "nothing new was started"
    );
    server.restart();
    assert_eq!(server.wait(&running).await["state"], "succeeded");
    assert_eq!(server.wait(&waiting).await["state"], "succeeded");
}

#[tokio::test]
async fn a_second_signal_ends_the_draining_and_not_the_job() {
    let mut server = TestServer::start_with(BINARY, Some(SCRIPTS), &["--drain"]);
    let id = server.submit("sleep", &json!({"seconds": 1000})).await;
    server.until(&id, "running").await;
    server.ask_to_stop();
    while server.post("/api/v1/tools/sleep/jobs", &json!({})).await.0 != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.ask_to_stop();
    server.wait_stopped();
    assert!(
        !processes_with(&format!("ONELANE_JOB_ID={id}")).is_empty(),
        "the job goes on"
    );
    server.restart();
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
}

/// Another build of the same program, where one is given; otherwise a copy under another name.
fn other_build(server: &TestServer) -> PathBuf {
    if let Some(other) = std::env::var_os("ONELANE_FAILPOINTS_BINARY") {
        return other.into();
    }
    let copy = server.folder().join("onelane-next");
    std::fs::copy(BINARY, &copy).unwrap();
    copy
}

/// `ONELANE_LONG_JOB_SECONDS=600` makes it a job of ten minutes.
#[tokio::test]
async fn a_long_job_outlives_a_kill_an_upgrade_to_another_build_and_ten_restarts() {
    let seconds: u64 =
        std::env::var("ONELANE_LONG_JOB_SECONDS").map_or(12, |text| text.parse().unwrap());
    let tools = format!(
        "[tools.count]\ncommand = [\"python3\", \"-u\", \"-c\", \"import time\\nend = time.monotonic() + {seconds}\\nn = 0\\nwhile time.monotonic() < end:\\n    print(n)\\n    n += 1\\n    time.sleep(0.005)\"]"
    );
    let mut server = TestServer::start(BINARY, Some(&tools));
    let id = server.submit("count", &json!({})).await;
    server.until(&id, "running").await;
    let shim = server.read_json(&id, "attempts/1/shim.json");
    // Once it counts: before that, its interpreter may be a script that is about to become another program.
    let log = server.job_folder(&id).join("attempts/1/stdout.log");
    while std::fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tool = processes_with(&format!("ONELANE_JOB_ID={id}"));
    server.kill();
    server.upgrade(&other_build(&server));
    server.restart();
    server.until(&id, "running").await;
    let pause = Duration::from_millis(seconds * 1000 / 24);
    for round in 0..10 {
        tokio::time::sleep(pause).await;
        if round % 2 == 0 {
            server.kill();
        } else {
            server.terminate();
        }
        server.restart();
        assert_eq!(
            processes_with(&format!("ONELANE_JOB_ID={id}")),
            tool,
            "round {round}"
        );
    }
    let job = loop {
        let job = server.get(&format!("/api/v1/jobs/{id}?wait=30")).await;
        if onelane_testkit::is_final(&job) {
            break job;
        }
    };
    assert_eq!(
        (job["state"].as_str(), job["attempt"].as_u64()),
        (Some("succeeded"), Some(1)),
        "{job}"
    );
    assert_eq!(server.read_json(&id, "attempts/1/shim.json"), shim);
    let log =
        std::fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap();
    let gap = log
        .lines()
        .enumerate()
        .find(|(n, line)| line.parse() != Ok(*n));
    assert_eq!(gap, None, "the log has no gap");
    assert!(log.lines().count() > 10);
    let attempts = server.get(&format!("/api/v1/jobs/{id}/attempts")).await;
    assert_eq!(ends(&attempts), 1, "{attempts}");
}

fn ends(attempts: &Value) -> usize {
    let list = attempts["attempts"]
        .as_array()
        .or(attempts.as_array())
        .unwrap();
    list.iter()
        .filter(|one| one["finished_at"].is_string())
        .count()
}

#[tokio::test]
async fn a_stopped_server_leaves_no_control_groups_behind() {
    let mut server = scripts();
    let id = server.submit("sleep", &json!({"seconds": 0})).await;
    server.wait(&id).await;
    let instance: Value =
        serde_json::from_slice(&std::fs::read(server.data().join("instance.json")).unwrap())
            .unwrap();
    let name = format!("onelane-{}", &instance["id"].as_str().unwrap()[..12]);
    server.terminate();
    let left: Vec<_> = walk("/sys/fs/cgroup".into(), 6)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(&name))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn walk(folder: PathBuf, depth: usize) -> Vec<PathBuf> {
    if depth == 0 {
        return Vec::new();
    }
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = below
        .flat_map(|entry| walk(entry.path(), depth - 1))
        .collect();
    found.push(folder);
    found
}
