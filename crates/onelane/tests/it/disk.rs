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
command = ["wc", "-c", "{query}"]
[tools.reads.params.query]
type = "fasta"
alphabet = "protein"
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
        let server = TestServer::start_on(BINARY, Some(&tools), |folder| {
            disk = SmallDisk::mount(&folder.join("data"), bytes);
        });
        Some(Self {
            server,
            disk: disk?,
        })
    }

    async fn submit_raw(&self) -> reqwest::Response {
        let url = self.server.url("/api/v1/tools/quick/jobs");
        // On a connection of its own: one that an upload was refused on ends with it.
        let request = reqwest::Client::new().post(url).json(&json!({}));
        request.timeout(LONG).send().await.unwrap()
    }
}

async fn upload(server: &TestServer, residues: usize) -> reqwest::Result<reqwest::Response> {
    let text = format!(">a\n{}\n", "W".repeat(residues));
    let part = reqwest::multipart::Part::text(text).file_name("big.fasta");
    let form = reqwest::multipart::Form::new().part("query", part);
    let url = server.url("/api/v1/tools/reads/jobs");
    let request = server.http.post(url).multipart(form);
    request.timeout(LONG).send().await
}

pub(crate) async fn exists(path: &Path) {
    let waited = tokio::time::timeout(LONG, async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap();
}

async fn why(server: &TestServer, id: &str, wanted: &str) -> Value {
    let seen = tokio::time::timeout(LONG, async {
        loop {
            let job = server.get(&format!("/api/v1/jobs/{id}")).await;
            if job["why"].as_str().is_some_and(|why| why.contains(wanted)) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let path = format!("/api/v1/jobs/{id}");
    match seen.await {
        Ok(job) => job,
        Err(error) => panic!("no `{wanted}` ({error}): {}", server.get(&path).await),
    }
}

#[tokio::test]
async fn below_its_floor_the_server_takes_nothing_in_says_why_and_goes_on_by_itself() {
    let Some(small) = OnSmallDisk::start(32 * MIB, "disk_floor = \"4M\"") else {
        return;
    };
    let first: Value = small.submit_raw().await.json().await.unwrap();
    small.server.wait(first["id"].as_str().unwrap()).await;
    // Half a MiB from the next rounding: what the store writes meanwhile is far less.
    let ballast = small.disk.fill_but(5 * MIB / 2);
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
    let upload = upload(&small.server, 1 << 20).await;
    assert_eq!(upload.unwrap().status(), 507);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(small.submit_raw().await.status(), 201);
}

/// The upload finds room, and its normalised form beside it does not.
#[tokio::test]
async fn a_disk_that_fills_up_while_an_upload_is_checked_is_no_fault_of_the_upload() {
    let Some(small) = OnSmallDisk::start(24 * MIB, "disk_floor = 0") else {
        return;
    };
    let ballast = small.disk.fill_but(12 * MIB);
    let refused = upload(&small.server, 8 << 20).await.unwrap();
    assert_eq!(refused.status(), 507);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    // What it had written has gone with it.
    std::fs::remove_file(ballast).unwrap();
    let taken = upload(&small.server, 8 << 20).await.unwrap();
    assert_eq!(taken.status(), 201);
}

#[tokio::test]
async fn on_a_full_disk_no_acknowledged_job_is_lost_and_the_queue_goes_on_once_there_is_room() {
    full_disk(false).await;
}

#[tokio::test]
async fn a_server_that_is_killed_on_a_full_disk_loses_nothing_either() {
    full_disk(true).await;
}

/// A job's end takes fewer pages than a submission, which had no room; a setting takes one.
async fn fill_log(server: &TestServer) {
    for _ in 0..500 {
        for switch in ["/api/v1/queue/pause", "/api/v1/queue/resume"] {
            let (status, _) = server.post(switch, &json!({})).await;
            if status == 507 {
                return;
            }
        }
    }
    panic!("the store's log is never full");
}

async fn full_disk(killed: bool) {
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
    let problem: Value = refused.unwrap().json().await.unwrap();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    fill_log(&small.server).await;
    // The running job ends well, its log could not be kept, and its success is not lost.
    std::fs::write(&gate, "").unwrap();
    let exit = small
        .server
        .job_folder(&running)
        .join("attempts/1/exit.json");
    exists(&exit).await;
    let record = small.server.read_json(&running, "attempts/1/exit.json");
    assert_eq!(record["outcome"], json!({"how": "exit", "code": 0}));
    assert_eq!(record["logs"]["stdout_bytes"], 300_000);
    assert!(
        record["logs"]["dropped_bytes"].as_u64().unwrap() > 0,
        "{record}"
    );
    // Its end waits for room in the store.
    why(&small.server, &running, "the disk is full").await;
    if killed {
        small.server.kill();
    }
    std::fs::remove_file(&ballast).unwrap();
    if killed {
        small.server.restart();
    }
    let resumed = small.server.post("/api/v1/queue/resume", &json!({})).await;
    assert_eq!(resumed.0, 200);
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
        why(&server, &id, "the disk is full").await;
        server.until(&id, "starting").await;
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
    let refused = upload(&small.server, 20 << 20).await.unwrap();
    assert_eq!(refused.status(), 507);
    let uploads = small.server.data().join("uploads");
    let empty = || std::fs::read_dir(&uploads).unwrap().next().is_none();
    let waited = tokio::time::timeout(LONG, async {
        while !empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap();
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
    why(&server, &id, "read-only").await;
    server.until(&id, "starting").await;
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

fn is_unknown(job: &Value, why: &str) {
    let failure = &job["failure"];
    assert_eq!(
        (&job["state"], &failure["kind"]),
        (&json!("failed"), &json!("unknown")),
        "{job}"
    );
    assert!(failure["message"].as_str().unwrap().contains(why), "{job}");
}

async fn paused(server: &TestServer, paused: bool) {
    let verb = if paused { "pause" } else { "resume" };
    server
        .post(&format!("/api/v1/queue/{verb}"), &json!({}))
        .await;
}

#[tokio::test]
async fn a_queued_jobs_folder_may_be_deleted_and_an_ended_ones_files_are_gone() {
    let server = TestServer::start(BINARY, Some(TOOLS));
    paused(&server, true).await;
    let id = server.submit("quick", &json!({})).await;
    let folder = server.job_folder(&id);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    paused(&server, false).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    std::fs::remove_dir_all(&folder).unwrap();
    for path in ["files", "files/done.txt", "archive.zip"] {
        let url = server.url(&format!("/api/v1/jobs/{id}/{path}"));
        let response = server.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 410, "{path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "files_gone");
    }
    assert_eq!(
        server.get(&format!("/api/v1/jobs/{id}")).await["state"],
        "succeeded"
    );
}

/// The folder goes while the tool runs, with the server up or down; then the tool ends, or is cancelled.
#[tokio::test]
async fn a_job_whose_folder_is_deleted_while_it_runs_ends_as_unknown_and_nothing_starts_before_it_is_dead()
 {
    for (restarted, cancelled) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut server = TestServer::start(BINARY, Some(TOOLS));
        let gate = server.folder().join("gate");
        let params = json!({"gate": gate, "keep": server.folder()});
        let id = server.submit("gated", &params).await;
        server.until(&id, "running").await;
        let next = server.submit("quick", &json!({})).await;
        if restarted {
            server.kill();
        }
        std::fs::remove_dir_all(server.job_folder(&id)).unwrap();
        if restarted {
            server.restart();
        }
        let job = server.get(&format!("/api/v1/jobs/{id}")).await;
        assert_eq!(job["state"], "running", "{job}");
        assert_eq!(
            server.get(&format!("/api/v1/jobs/{next}")).await["state"],
            "queued"
        );
        if cancelled {
            server
                .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
                .await;
        } else {
            std::fs::write(&gate, "").unwrap();
        }
        let job = server.wait(&id).await;
        if cancelled {
            assert_eq!(job["state"], "cancelled", "{restarted} {job}");
        } else {
            is_unknown(&job, "folder was deleted");
        }
        assert_eq!(job["attempt"], 1);
        assert!(onelane_testkit::processes_with(&format!("ONELANE_JOB_ID={id}")).is_empty());
        assert_eq!(server.wait(&next).await["state"], "succeeded");
    }
}

/// A job that ended, or lost its supervisors, while no server was there: all that the next one has is the folder.
struct Orphan {
    server: TestServer,
    id: String,
    gate: std::path::PathBuf,
}

impl Orphan {
    async fn new() -> Self {
        let mut server = TestServer::start(BINARY, Some(TOOLS));
        let gate = server.folder().join("gate");
        let params = json!({"gate": gate, "keep": server.folder()});
        let id = server.submit("gated", &params).await;
        server.until(&id, "running").await;
        server.kill();
        Self { server, id, gate }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.server
            .job_folder(&self.id)
            .join("attempts/1")
            .join(name)
    }

    /// What disks, copies and hands do to a file.
    fn damages(&self, name: &str) -> Vec<Vec<u8>> {
        let whole = std::fs::read(self.file(name)).unwrap();
        let mut zeros = whole.clone();
        zeros[10..].fill(0);
        let text = String::from_utf8(whole.clone()).unwrap();
        let other = text.replace(&self.id, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b");
        let newer = text.replace("\"protocol\": 2", "\"protocol\": 999");
        let garbage = b"\xff\x00not JSON".to_vec();
        let half = whole[..whole.len() / 2].to_vec();
        assert!(other != text && newer != text);
        vec![
            Vec::new(),
            half,
            zeros,
            garbage,
            other.into_bytes(),
            newer.into_bytes(),
        ]
    }

    /// The job after the next server had its look, which is killed again.
    async fn seen_by_the_next_server(&mut self) -> Value {
        self.server.restart();
        let job = self.server.get(&format!("/api/v1/jobs/{}", self.id)).await;
        self.server.kill();
        job
    }

    fn kill_supervisors(&self) {
        use nix::sys::signal::{Signal, kill};
        let shim = self.server.read_json(&self.id, "attempts/1/shim.json");
        let pids = [&shim["pid"], &shim["guard"]["pid"]].map(|pid| pid.as_i64().unwrap());
        // Stopped first, so that neither sees the other die.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in pids {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
                kill(pid, signal).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_end_is_never_a_success_and_never_runs_again() {
    for which in 0..6 {
        let mut orphan = Orphan::new().await;
        std::fs::write(&orphan.gate, "").unwrap();
        exists(&orphan.file("exit.json")).await;
        let damage = orphan.damages("exit.json").swap_remove(which);
        std::fs::write(orphan.file("exit.json"), damage).unwrap();
        orphan.server.restart();
        let job = orphan.server.wait(&orphan.id).await;
        is_unknown(&job, "`exit.json` is damaged");
        assert_eq!(job["attempt"], 1, "{job}");
    }
}

#[tokio::test]
async fn a_living_attempt_whose_shim_record_is_damaged_is_watched_and_can_be_cancelled() {
    for cancelled in [false, true] {
        let mut orphan = Orphan::new().await;
        for damage in orphan.damages("shim.json") {
            std::fs::write(orphan.file("shim.json"), damage).unwrap();
            let job = orphan.seen_by_the_next_server().await;
            assert_eq!(
                (&job["state"], &job["stuck"]),
                (&json!("running"), &json!(false)),
                "{job}"
            );
        }
        orphan.server.restart();
        if cancelled {
            let cancel = format!("/api/v1/jobs/{}/cancel", orphan.id);
            orphan.server.post(&cancel, &json!({})).await;
        } else {
            std::fs::write(&orphan.gate, "").unwrap();
        }
        let job = orphan.server.wait(&orphan.id).await;
        let wanted = if cancelled { "cancelled" } else { "succeeded" };
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!(wanted), &json!(1)),
            "{job}"
        );
    }
}

#[tokio::test]
async fn without_supervisors_and_their_record_a_job_is_stuck_until_the_machine_was_restarted() {
    let mut orphan = Orphan::new().await;
    let damages = orphan.damages("shim.json");
    orphan.kill_supervisors();
    for damage in damages {
        std::fs::write(orphan.file("shim.json"), damage).unwrap();
        orphan.server.restart();
        why(&orphan.server, &orphan.id, "`shim.json` is damaged").await;
        let job = orphan
            .server
            .get(&format!("/api/v1/jobs/{}", orphan.id))
            .await;
        assert_eq!(
            (&job["state"], &job["stuck"]),
            (&json!("running"), &json!(true)),
            "{job}"
        );
        orphan.server.kill();
    }
    // The lock's text tells another boot: all that ran then is dead, and the job may run again.
    std::fs::write(orphan.file("attempt.lock"), "another-boot\n").unwrap();
    std::fs::write(&orphan.gate, "").unwrap();
    orphan.server.restart();
    let job = orphan.server.wait(&orphan.id).await;
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("succeeded"), &json!(2)),
        "{job}"
    );
}

#[tokio::test]
async fn a_damaged_wish_to_stop_does_not_keep_a_job_from_being_stopped() {
    let mut orphan = Orphan::new().await;
    std::fs::write(orphan.file("stop.json"), "{\"reason\": \"can").unwrap();
    orphan.server.restart();
    let cancel = format!("/api/v1/jobs/{}/cancel", orphan.id);
    orphan.server.post(&cancel, &json!({})).await;
    let job = orphan.server.wait(&orphan.id).await;
    assert_eq!(job["state"], "cancelled", "{job}");
}
