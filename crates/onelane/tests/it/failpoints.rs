//! A process ends itself at each of the fail points; the next server keeps every promise.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use onelane_testkit::{LONG, TestServer, fail_points, hostile_child, is_final, processes_with};
use reqwest::Method;
use serde_json::{Value, json};

use crate::BINARY;

/// A server that is started again, without the fail point, whenever it has died.
struct Story {
    server: TestServer,
    point: &'static str,
    deaths: u32,
}

impl Story {
    fn begin(point: &'static str) -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().unwrap();
        let (child, here) = (hostile_child::beside(BINARY), folder.path().display());
        let child = child.display();
        let tools = format!(
            r#"
            [tools.mark]
            command = ["{child}", "mark", "{here}", "{{ms}}", "{{kind}}"]
            params.ms = {{ type = "integer" }}
            params.kind = {{ type = "text", default = "escapes" }}
            [tools.warm]
            worker = ["{child}", "warm", "{here}"]
            keep = "100ms"
            params.ms = {{ type = "integer" }}
            params.kind = {{ type = "text", default = "plain" }}
            [tools.upload]
            command = ["{child}", "mark", "{here}", "10", "plain", "{{data}}"]
            params.data = {{ type = "fasta", alphabet = "protein" }}
            "#
        );
        let token = folder.path().join("token");
        std::fs::write(&token, point).unwrap();
        let mut server = TestServer::in_folder(BINARY, Some(&tools), folder.path());
        server.env = vec![
            ("ONELANE_FAILPOINT".into(), point.into()),
            (
                "ONELANE_FAILPOINT_TOKEN".into(),
                token.display().to_string(),
            ),
        ];
        server.restart();
        let story = Self {
            server,
            point,
            deaths: 0,
        };
        (folder, story)
    }

    /// Asks until there is an answer.
    async fn insist(&mut self, method: Method, path: &str, body: Body<'_>) -> (u16, Value) {
        let since = Instant::now();
        while since.elapsed() < LONG {
            let url = self.server.url(&format!("/api/v1{path}"));
            let request = self.server.http.request(method.clone(), url);
            let request = match body {
                Body::None => request,
                Body::Job(key, params) => request.header("Idempotency-Key", key).json(params),
                Body::Upload(key) => request.header("Idempotency-Key", key).multipart(upload()),
            };
            if let Ok(response) = request.send().await
                && let Ok(bytes) = {
                    let status = response.status().as_u16();
                    response.bytes().await.map(|bytes| (status, bytes))
                }
            {
                return (
                    bytes.0,
                    serde_json::from_slice(&bytes.1).unwrap_or_default(),
                );
            }
            if self.server.has_died().is_some() {
                self.deaths += 1;
                self.server.env.clear();
                self.server.restart();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{}: {method} {path}: no answer", self.point);
    }

    async fn submit(&mut self, key: &str, params: &Value) -> String {
        let body = Body::Job(key, params);
        let (status, job) = self.insist(Method::POST, "/tools/mark/jobs", body).await;
        assert!(matches!(status, 200 | 201), "{}: {job}", self.point);
        job["id"].as_str().unwrap().to_owned()
    }

    async fn until(&mut self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let path = format!("/jobs/{id}");
            let (_, job) = self.insist(Method::GET, &path, Body::None).await;
            if wanted(&job) {
                return job;
            }
            assert!(since.elapsed() < LONG, "{}: {job}", self.point);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One of everything: a job, an upload, a job whose shim is killed, a cancellation, a deletion.
    async fn tell(&mut self) {
        let first = self.submit("first", &json!({"ms": 20})).await;
        let upload = Body::Upload("upload");
        let (_, upload) = self
            .insist(Method::POST, "/tools/upload/jobs", upload)
            .await;
        let upload = upload["id"].as_str().unwrap().to_owned();
        for id in [&first, &upload] {
            let job = self.until(id, is_final).await;
            assert_eq!(job["state"], "succeeded", "{}: {job}", self.point);
        }
        let params = json!({"ms": 20});
        let warm = Body::Job("warm", &params);
        let (_, warm) = self.insist(Method::POST, "/tools/warm/jobs", warm).await;
        let warm = warm["id"].as_str().unwrap().to_owned();
        let job = self.until(&warm, is_final).await;
        assert_eq!(job["state"], "succeeded", "{}: {job}", self.point);
        let struck = self.submit("struck", &json!({"ms": 600})).await;
        self.until(&struck, |job| job["state"] == "running").await;
        self.kill_shim(&struck);
        let job = self.until(&struck, is_final).await;
        assert_eq!(job["state"], "succeeded", "{}: {job}", self.point);
        assert!(job["attempt"].as_u64() >= Some(2), "{}: {job}", self.point);
        let long = self.submit("long", &json!({"ms": 600_000})).await;
        self.until(&long, |job| job["state"] == "running").await;
        let path = format!("/jobs/{long}/cancel");
        self.insist(Method::POST, &path, Body::None).await;
        let job = self.until(&long, is_final).await;
        assert_eq!(job["state"], "cancelled", "{}: {job}", self.point);
        let path = format!("/jobs/{first}");
        let (status, _) = self.insist(Method::DELETE, &path, Body::None).await;
        assert!(matches!(status, 204 | 404), "{}: {status}", self.point);
        for id in [first, upload, struck, long] {
            let left = processes_with(&format!("ONELANE_JOB_ID={id}"));
            assert_eq!(left, Vec::<u32>::new(), "{}", self.point);
        }
    }

    fn kill_shim(&self, id: &str) {
        let attempts = self.server.job_folder(id).join("attempts");
        let newest = std::fs::read_dir(attempts).unwrap().count();
        let shim = self
            .server
            .read_json(id, &format!("attempts/{newest}/shim.json"));
        let pid = i32::try_from(shim["pid"].as_i64().unwrap()).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid);
        // It may have gone by itself, at its fail point.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
    }
}

#[derive(Clone, Copy)]
enum Body<'a> {
    None,
    Job(&'a str, &'a Value),
    Upload(&'a str),
}

fn upload() -> reqwest::multipart::Form {
    let sequence = format!(">long\n{}\n", "MKVLWA".repeat(50 * 1024));
    let part = reqwest::multipart::Part::text(sequence).file_name("data.fasta");
    reqwest::multipart::Form::new().part("data", part)
}

async fn survive(points: &[&'static str]) {
    for point in points {
        let (folder, mut story) = Story::begin(point);
        story.tell().await;
        // An idle worker goes after a while.
        let since = Instant::now();
        while folder.path().join("token").exists() && since.elapsed() < LONG / 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            !folder.path().join("token").exists(),
            "{point} was not reached: is the name right?"
        );
        let deaths = u32::from(!fail_points::is_supervisors(point));
        assert_eq!(story.deaths, deaths, "{point}: deaths of the server");
        let marks = std::fs::read_to_string(folder.path().join("marks")).unwrap();
        let starts: Vec<&str> = marks
            .lines()
            .filter(|line| !line.starts_with("end"))
            .map(|line| line.rsplitn(3, ' ').last().unwrap())
            .collect();
        assert!(
            starts.iter().all(|start| start.starts_with("start")),
            "{point}: two jobs were alive at once: {marks}"
        );
        let different: BTreeSet<_> = starts.iter().collect();
        assert_eq!(different.len(), starts.len(), "{point}: {marks}");
        // One job a key.
        let (_, list) = story.insist(Method::GET, "/jobs", Body::None).await;
        assert_eq!(list["jobs"].as_array().unwrap().len(), 4, "{point}: {list}");
    }
}

#[tokio::test]
async fn a_server_that_dies_while_it_takes_and_starts_a_job_loses_nothing() {
    survive(&fail_points::SERVER[..8]).await;
}

#[tokio::test]
async fn a_server_that_dies_while_it_ends_a_job_loses_nothing() {
    survive(&fail_points::SERVER[8..]).await;
}

#[tokio::test]
async fn a_shim_that_dies_anywhere_leaves_nothing_and_nothing_stuck() {
    survive(&fail_points::SHIM).await;
}

#[tokio::test]
async fn a_guard_that_dies_anywhere_leaves_nothing_and_nothing_stuck() {
    survive(&fail_points::GUARD).await;
}

#[tokio::test]
async fn a_record_that_is_half_written_is_never_believed() {
    survive(&fail_points::FILES).await;
}

#[tokio::test]
async fn a_warm_workers_shim_that_dies_anywhere_leaves_nothing_and_nothing_stuck() {
    survive(&fail_points::WORKER).await;
}
