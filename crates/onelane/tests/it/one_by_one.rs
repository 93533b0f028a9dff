use std::time::{Duration, Instant};

use onelane_testkit::{TestServer, is_final};
use serde_json::{Value, json};

use crate::{BINARY, scripts};

fn overlap(jobs: &[Value]) -> Option<(String, String)> {
    let mut spans: Vec<(&str, &str)> = jobs
        .iter()
        .map(|job| {
            (
                job["started_at"].as_str().unwrap(),
                job["finished_at"].as_str().unwrap(),
            )
        })
        .collect();
    spans.sort_unstable();
    let clash = spans.windows(2).find(|pair| pair[1].0 < pair[0].1)?;
    Some((format!("{:?}", clash[0]), format!("{:?}", clash[1])))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hogs_run_one_by_one_while_the_server_answers() {
    let server = scripts();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(server.submit("hog", &json!({})).await);
    }
    let (mut asks, mut submissions) = (Vec::new(), Vec::new());
    let mut extra = Vec::new();
    loop {
        let since = Instant::now();
        let job = server.get(&format!("/api/v1/jobs/{}", ids[9])).await;
        asks.push(since.elapsed());
        if is_final(&job) {
            break;
        }
        if asks.len().is_multiple_of(40) {
            let since = Instant::now();
            extra.push(server.submit("sleep", &json!({"seconds": 0})).await);
            submissions.push(since.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut jobs = Vec::new();
    for id in ids.iter().chain(&extra) {
        jobs.push(server.wait(id).await);
    }
    assert!(
        jobs.iter()
            .all(|job| job["state"] == "succeeded" && job["attempt"] == 1)
    );
    assert_eq!(overlap(&jobs), None);
    assert!(!extra.is_empty(), "nothing was submitted meanwhile");
    for (what, mut times) in [("status", asks), ("submission", submissions)] {
        times.sort_unstable();
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!(
            "{what} under ten hogs: {} answers, median {median:?}, slowest {slowest:?}",
            times.len()
        );
    }
}

#[tokio::test]
async fn a_waiting_job_has_a_position_and_a_reason() {
    let server = scripts();
    let first = server.submit("sleep", &json!({"seconds": 30})).await;
    server.until(&first, "running").await;
    let second = server.submit("sleep", &json!({"seconds": 0})).await;
    let third = server.submit("sleep", &json!({"seconds": 0})).await;
    let (second, third) = (
        server.get(&format!("/api/v1/jobs/{second}")).await,
        server.get(&format!("/api/v1/jobs/{third}")).await,
    );
    assert_eq!(
        (second["position"].as_u64(), third["position"].as_u64()),
        (Some(0), Some(1))
    );
    assert!(second["why"].as_str().unwrap().contains(&first), "{second}");
    assert_eq!(third["why"], "1 job starts before it");
    server
        .post(&format!("/api/v1/jobs/{first}/cancel"), &json!({}))
        .await;
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_also_after_a_restart() {
    let mut server = scripts();
    assert_eq!(server.post("/api/v1/queue/pause", &json!({})).await.0, 200);
    let id = server.submit("sleep", &json!({"seconds": 0})).await;
    server.kill();
    server.restart();
    let job = server.get(&format!("/api/v1/jobs/{id}")).await;
    assert_eq!(
        (job["state"].as_str(), job["why"].as_str()),
        (Some("queued"), Some("the queue is paused"))
    );
    assert_eq!(server.post("/api/v1/queue/resume", &json!({})).await.0, 200);
    assert_eq!(server.wait(&id).await["state"], "succeeded");
}

#[tokio::test]
async fn a_more_urgent_job_starts_first_and_after_is_kept() {
    let server = scripts();
    server.post("/api/v1/queue/pause", &json!({})).await;
    let plain = server.submit("sleep", &json!({"seconds": 0})).await;
    let (status, urgent) = server
        .post(
            "/api/v1/tools/sleep/jobs?priority=5",
            &json!({"seconds": 0}),
        )
        .await;
    assert_eq!(status, 201, "{urgent}");
    let urgent = urgent["id"].as_str().unwrap().to_owned();
    let (status, last) = server
        .post(
            &format!("/api/v1/tools/sleep/jobs?priority=50&after={plain}"),
            &json!({"seconds": 0}),
        )
        .await;
    assert_eq!(status, 201, "{last}");
    server.post("/api/v1/queue/resume", &json!({})).await;
    let last = server.wait(last["id"].as_str().unwrap()).await;
    let (plain, urgent) = (server.wait(&plain).await, server.wait(&urgent).await);
    let started = |job: &Value| job["started_at"].as_str().unwrap().to_owned();
    assert!(
        started(&urgent) < started(&plain) && started(&plain) < started(&last),
        "{urgent} {plain} {last}"
    );
}

#[tokio::test]
async fn the_built_in_search_finds_the_queries_relatives() {
    let server = TestServer::start(BINARY, None);
    let form = reqwest::multipart::Form::new().part(
        "query",
        reqwest::multipart::Part::bytes(include_bytes!("../../../../data/queries.fasta"))
            .file_name("q.fasta"),
    );
    let url = server.url("/api/v1/tools/search/jobs");
    let job: Value = server
        .http
        .post(url)
        .multipart(form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}"));
    let done = server.wait(id).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    let hits = server
        .http
        .get(server.url(&format!("/api/v1/jobs/{id}/files/hits.tsv")))
        .send()
        .await
        .unwrap();
    let hits = hits.text().await.unwrap();
    assert!(
        hits.starts_with("query\t") && hits.contains("HBB_LITCT"),
        "{}",
        &hits[..200.min(hits.len())]
    );
    assert!(hits.lines().count() > 60, "{} lines", hits.lines().count());
}
