//! Full, read-only and damaged disks, on small real file systems.

use std::path::Path;
use std::time::Duration;

use onelane_testkit::{LONG, SmallDisk, TestServer};
use serde_json::{Value, json};

use crate::BINARY;

const MIB: u64 = 1 << 20;

const TOOLS: &str = r#"
[tools.quick]
command = ["sh", "-c", "echo done > \"$ONELANE_OUTPUT/done.txt\""]
[tools.gated]
command = ["sh", "-c", "while [ ! -e \"$0\" ]; do sleep 0.02; done; head -c 300000 /dev/zero; echo done > \"$1/done.txt\" || exit 3", "{gate}", "{keep}"]
[tools.gated.params.gate]
type = "text"
[tools.gated.params.keep]
type = "text"
[tools.reads]
command = ["wc", "-c", "{input}"]
[tools.reads.params.input]
type = "file"
"#;

/// A server whose data folder is a file system of its own; `server` is dropped before `disk`.
struct OnSmallDisk {
    server: TestServer,
    disk: SmallDisk,
}

impl OnSmallDisk {
    fn start(bytes: u64, server_section: &str) -> Option<Self> {
        let mut disk = None;
        let tools = format!("[server]\n{server_section}\n{TOOLS}");
        let mut skipped = false;
        let server = TestServer::start_on(BINARY, Some(&tools), |folder| {
            disk = SmallDisk::mount(&folder.join("data"), bytes);
            skipped = disk.is_none();
        });
        Some(Self {
            server,
            disk: disk?,
        })
    }

    async fn submit_raw(&self) -> reqwest::Response {
        let url = self.server.url("/api/v1/tools/quick/jobs");
        let request = self.server.http.post(url).json(&json!({}));
        request.timeout(LONG).send().await.unwrap()
    }
}

async fn why(server: &TestServer, id: &str, wanted: &str) -> Value {
    let waited = tokio::time::timeout(LONG, async {
        loop {
            let job = server.get(&format!("/api/v1/jobs/{id}")).await;
            if job["why"].as_str().is_some_and(|why| why.contains(wanted)) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let waited = waited.await;
    match waited {
        Ok(job) => job,
        Err(_) => panic!(
            "no `{wanted}`: {}",
            server.get(&format!("/api/v1/jobs/{id}")).await
        ),
    }
}

#[tokio::test]
async fn below_its_floor_the_server_takes_nothing_in_says_why_and_goes_on_by_itself() {
    let Some(small) = OnSmallDisk::start(32 * MIB, "disk_floor = \"4M\"") else {
        return;
    };
    assert_eq!(small.submit_raw().await.status(), 201);
    let ballast = small.disk.fill_but(3 * MIB);
    let refused = small.submit_raw().await;
    assert_eq!(refused.status(), 507);
    assert_eq!(refused.headers()["retry-after"], "60");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    let folder = small.server.data().canonicalize().unwrap();
    for part in [&*folder.display().to_string(), "2 MiB free", "below 4 MiB"] {
        assert!(detail.contains(part), "`{part}` in {detail}");
    }
    // An upload is refused before it takes more of the little that is left.
    let part = reqwest::multipart::Part::bytes(vec![0_u8; 1 << 20]).file_name("big.bin");
    let form = reqwest::multipart::Form::new().part("input", part);
    let url = small.server.url("/api/v1/tools/reads/jobs");
    let upload = small.server.http.post(url).multipart(form).send().await;
    assert_eq!(upload.unwrap().status(), 507);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(small.submit_raw().await.status(), 201);
}

#[tokio::test]
async fn on_a_full_disk_no_acknowledged_job_is_lost_and_the_queue_goes_on_once_there_is_room() {
    let Some(mut small) = OnSmallDisk::start(24 * MIB, "disk_floor = 0") else {
        return;
    };
    let gate = small.server.folder().join("gate");
    let params = json!({"gate": gate, "keep": small.server.folder()});
    let running = small.server.submit("gated", &params).await;
    small.server.until(&running, "running").await;
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        acknowledged.push(small.server.submit("quick", &json!({})).await);
    }
    let ballast = small.disk.fill_but(0);
    assert_eq!(small.disk.free(), 0);
    // SQLite's log has some room of its own; then it is full too.
    let mut refused = None;
    for _ in 0..500 {
        let response = small.submit_raw().await;
        if response.status() == 507 {
            refused = Some(response);
            break;
        }
        assert_eq!(response.status(), 201);
        let job: Value = response.json().await.unwrap();
        acknowledged.push(job["id"].as_str().unwrap().to_owned());
    }
    let problem: Value = refused.expect("a full store").json().await.unwrap();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    // The running job ends well, its log could not be kept, and its success is not lost.
    std::fs::write(&gate, "").unwrap();
    let exit = small
        .server
        .job_folder(&running)
        .join("attempts/1/exit.json");
    let waited = tokio::time::timeout(LONG, async {
        while !exit.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("exit.json on a full disk");
    let record = small.server.read_json(&running, "attempts/1/exit.json");
    assert_eq!(record["outcome"], json!({"how": "exit", "code": 0}));
    assert_eq!(record["logs"]["stdout_bytes"], 300_000);
    assert!(
        record["logs"]["dropped_bytes"].as_u64().unwrap() > 0,
        "{record}"
    );
    // What is left of the disk would not do for another attempt either, with the store or without.
    why(&small.server, &acknowledged[0], "full").await;
    small.server.kill();
    std::fs::remove_file(&ballast).unwrap();
    small.server.restart();
    for id in std::iter::once(&running).chain(&acknowledged) {
        let job = small.server.wait(id).await;
        let ended = (job["state"].as_str(), job["attempt"].as_u64());
        assert_eq!(ended, (Some("succeeded"), Some(1)), "{job}");
    }
}

#[tokio::test]
async fn a_job_whose_folder_finds_no_room_waits_says_why_and_starts_once_there_is() {
    let mut disk = None;
    let tools = format!("[server]\njobs = \"small\"\ndisk_floor = 0\n{TOOLS}");
    let server = TestServer::start_on(BINARY, Some(&tools), |folder| {
        disk = SmallDisk::mount(&folder.join("small"), 8 * MIB);
    });
    let Some(disk) = disk else { return };
    for kept_free in [0, 100 * 1024] {
        let ballast = disk.fill_but(kept_free);
        let id = server.submit("quick", &json!({})).await;
        let job = why(&server, &id, "the disk is full").await;
        assert_eq!(job["state"], "starting", "{job}");
        let cancelled = server.submit("quick", &json!({})).await;
        std::fs::remove_file(ballast).unwrap();
        let job = server.wait(&id).await;
        let ended = (job["state"].as_str(), job["attempt"].as_u64());
        assert_eq!(ended, (Some("succeeded"), Some(1)), "{job}");
        assert_eq!(job["why"], Value::Null);
        server.wait(&cancelled).await;
    }
    // One that waits for room can be cancelled.
    let ballast = disk.fill_but(0);
    let id = server.submit("quick", &json!({})).await;
    why(&server, &id, "the disk is full").await;
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    std::fs::remove_file(ballast).unwrap();
    drop(server);
}

#[tokio::test]
async fn a_running_job_can_be_cancelled_on_a_full_disk() {
    let mut disk = None;
    let tools = format!("[server]\njobs = \"small\"\ndisk_floor = 0\n{TOOLS}");
    let server = TestServer::start_on(BINARY, Some(&tools), |folder| {
        disk = SmallDisk::mount(&folder.join("small"), 8 * MIB);
    });
    let Some(disk) = disk else { return };
    let params = json!({"gate": "/nonexistent", "keep": "/nonexistent"});
    let id = server.submit("gated", &params).await;
    server.until(&id, "running").await;
    disk.fill_but(0);
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    drop(server);
}

#[tokio::test]
async fn an_upload_that_finds_no_room_is_refused_and_leaves_nothing() {
    let Some(small) = OnSmallDisk::start(16 * MIB, "disk_floor = 0") else {
        return;
    };
    let part = reqwest::multipart::Part::bytes(vec![0_u8; 20 << 20]).file_name("big.bin");
    let form = reqwest::multipart::Form::new().part("input", part);
    let url = small.server.url("/api/v1/tools/reads/jobs");
    // The server answers before the whole body has arrived; a client may see its connection end instead.
    if let Ok(response) = small.server.http.post(url).multipart(form).send().await {
        assert_eq!(response.status(), 507);
    }
    let uploads = small.server.data().join("uploads");
    let empty = || std::fs::read_dir(&uploads).unwrap().next().is_none();
    let waited = tokio::time::timeout(LONG, async {
        while !empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("the upload is taken back");
    assert_eq!(small.submit_raw().await.status(), 201);
}

#[tokio::test]
async fn jobs_wait_for_a_read_only_disk_to_be_writable_again() {
    let mut disk = None;
    let tools = format!("[server]\njobs = \"small\"\ndisk_floor = 0\n{TOOLS}");
    let server = TestServer::start_on(BINARY, Some(&tools), |folder| {
        disk = SmallDisk::mount(&folder.join("small"), 8 * MIB);
    });
    let Some(disk) = disk else { return };
    assert!(disk.remount("ro"));
    let id = server.submit("quick", &json!({})).await;
    let job = why(&server, &id, "read-only").await;
    assert_eq!(job["state"], "starting", "{job}");
    assert!(disk.remount("rw"));
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    drop(server);
}

#[tokio::test]
async fn a_server_on_a_read_only_folder_refuses_to_start_and_says_why() {
    let Some(mut small) = OnSmallDisk::start(16 * MIB, "disk_floor = 0") else {
        return;
    };
    let id = small.server.submit("quick", &json!({})).await;
    small.server.wait(&id).await;
    small.server.terminate();
    assert!(small.disk.remount("ro"));
    let (code, said) = serve(&small.server.data());
    assert!(code == 9 && said.contains("Read-only"), "{code} {said}");
    assert!(small.disk.remount("rw"));
    small.server.restart();
    assert_eq!(small.server.wait(&id).await["state"], "succeeded");
    assert_eq!(small.submit_raw().await.status(), 201);
}

/// Runs a server that is expected to refuse; gives its exit code and what it said.
fn serve(data: &Path) -> (i32, String) {
    let mut command = std::process::Command::new(BINARY);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    let output = command.arg(data).current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), said)
}
