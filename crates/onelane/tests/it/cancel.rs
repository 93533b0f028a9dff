use std::time::{Duration, Instant};

use onelane_testkit::{TestServer, processes_with};
use serde_json::{Value, json};

use crate::scripts;

async fn cancel(server: &TestServer, id: &str) -> Value {
    let since = Instant::now();
    let (status, job) = server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(status, 200, "{job}");
    assert!(
        since.elapsed() < Duration::from_secs(9),
        "a cancellation is answered, not waited for"
    );
    job
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let server = scripts();
    server.post("/api/v1/queue/pause", &json!({})).await;
    let id = server.submit("sleep", &json!({})).await;
    let job = cancel(&server, &id).await;
    assert_eq!(
        (job["state"].as_str(), job["attempt"].as_u64()),
        (Some("cancelled"), Some(0)),
        "{job}"
    );
    assert_eq!(server.get("/api/v1/queue").await["queued"], 0);
}

#[tokio::test]
async fn a_starting_job_is_cancelled_and_its_tool_never_runs() {
    let server = scripts();
    let id = server.submit("slowversion", &json!({})).await;
    server.until(&id, "starting").await;
    cancel(&server, &id).await;
    let job = server.wait(&id).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    assert_eq!(
        processes_with(&format!("ONELANE_JOB_ID={id}")),
        Vec::<u32>::new()
    );
}

#[tokio::test]
async fn a_running_tree_that_ignores_the_polite_signal_is_gone_after_its_grace_time() {
    let server = scripts();
    let id = server.submit("tree", &json!({})).await;
    server.until(&id, "running").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(processes_with(&format!("ONELANE_JOB_ID={id}")).len() >= 3);
    let job = cancel(&server, &id).await;
    assert_eq!(job["state"], "cancelling", "{job}");
    let job = server.wait(&id).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    assert_eq!(
        processes_with(&format!("ONELANE_JOB_ID={id}")),
        Vec::<u32>::new()
    );
    let exit = server.read_json(&id, "attempts/1/exit.json");
    assert_eq!(
        (exit["proof"].as_str(), exit["stopped"].as_str()),
        (Some("echild"), Some("cancel")),
        "{exit}"
    );
}

#[tokio::test]
async fn a_job_that_has_ended_answers_with_its_end() {
    let server = scripts();
    let id = server.submit("sleep", &json!({"seconds": 0})).await;
    server.wait(&id).await;
    assert_eq!(cancel(&server, &id).await["state"], "succeeded");
}

#[tokio::test]
async fn cancelling_around_the_end_of_a_job_never_hangs() {
    let server = scripts();
    for delay in 0..12 {
        let id = server.submit("sleep", &json!({"seconds": 0.05})).await;
        tokio::time::sleep(Duration::from_millis(delay * 10)).await;
        cancel(&server, &id).await;
        let job = server.wait(&id).await;
        assert!(
            matches!(job["state"].as_str(), Some("cancelled" | "succeeded")),
            "{job}"
        );
        assert_eq!(
            processes_with(&format!("ONELANE_JOB_ID={id}")),
            Vec::<u32>::new()
        );
    }
}
