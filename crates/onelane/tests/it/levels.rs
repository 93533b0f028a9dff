//! What holds a tree together, at each level: nothing is left, and a proof of death is found where there is one.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onelane_testkit::{LONG, TestServer, processes_with};
use serde_json::{Value, json};

use crate::{BINARY, SCRIPTS};

/// The levels that work on this machine. In CI, as root, that must be all of them.
pub(crate) fn levels() -> Vec<&'static str> {
    let works = |level: &&str| {
        let server = std::panic::catch_unwind(|| {
            TestServer::start_with(BINARY, Some(SCRIPTS), &["--process-control", level])
        });
        server.is_ok()
    };
    let found: Vec<&str> = ["cgroup", "namespace", "guard"]
        .into_iter()
        .filter(works)
        .collect();
    if found.len() < 3 {
        eprintln!("SKIPPED: only {found:?} of the three levels work here");
        assert!(
            std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
            "CI needs all levels"
        );
    }
    found
}

fn server(level: &str) -> TestServer {
    TestServer::start_with(BINARY, Some(SCRIPTS), &["--process-control", level])
}

pub(crate) fn pid_of(shim: &Value) -> i32 {
    i32::try_from(shim["pid"].as_i64().unwrap()).unwrap()
}

/// Stopped first, so that neither sees the other die.
fn kill_both_supervisors(shim: &Value) {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for record in [shim, &shim["guard"]] {
            kill(Pid::from_raw(pid_of(record)), signal).unwrap();
        }
    }
}

/// The job once this attempt of it runs.
async fn until_attempt(server: &TestServer, id: &str, attempt: u64) -> Value {
    let running = tokio::time::timeout(LONG, async {
        loop {
            let job = server.get(&format!("/api/v1/jobs/{id}")).await;
            if job["state"] == "running" && job["attempt"] == attempt {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    running.await.unwrap()
}

fn nothing_is_left_of(id: &str) {
    assert_eq!(
        processes_with(&format!("ONELANE_JOB_ID={id}")),
        Vec::<u32>::new()
    );
}

#[tokio::test]
async fn a_tree_that_resists_is_gone_after_its_cancellation() {
    for level in levels() {
        let server = server(level);
        let id = server.submit("tree", &json!({})).await;
        server.until(&id, "running").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        server
            .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
            .await;
        let job = server.wait(&id).await;
        assert_eq!(job["state"], "cancelled", "{level}: {job}");
        assert_eq!(job["process_control"], level, "{job}");
        nothing_is_left_of(&id);
        let exit = server.read_json(&id, "attempts/1/exit.json");
        assert_eq!(
            (exit["level"].as_str(), exit["proof"].as_str()),
            (Some(level), Some("echild"))
        );
        assert_eq!(server.get("/api/v1/queue").await["process_control"], level);
    }
}

#[tokio::test]
async fn one_supervisor_killed_leaves_nothing_and_the_job_runs_again() {
    for level in levels() {
        for victim in ["shim", "guard"] {
            let server = server(level);
            let id = server.submit("tree", &json!({})).await;
            server.until(&id, "running").await;
            let shim = server.read_json(&id, "attempts/1/shim.json");
            server.post("/api/v1/queue/pause", &json!({})).await;
            let record = if victim == "shim" {
                &shim
            } else {
                &shim["guard"]
            };
            kill(Pid::from_raw(pid_of(record)), Signal::SIGKILL).unwrap();
            let job = server.until(&id, "queued").await;
            assert_eq!(job["attempt"], 1, "{level} {victim}: {job}");
            nothing_is_left_of(&id);
        }
    }
}

#[tokio::test]
async fn both_supervisors_killed_is_proved_dead_by_a_group_or_a_namespace() {
    for level in levels().into_iter().filter(|level| *level != "guard") {
        let server = server(level);
        let id = server.submit("tree", &json!({})).await;
        server.until(&id, "running").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.post("/api/v1/queue/pause", &json!({})).await;
        kill_both_supervisors(&server.read_json(&id, "attempts/1/shim.json"));
        let job = server.until(&id, "queued").await;
        assert_eq!(job["attempt"], 1, "{level}: {job}");
        nothing_is_left_of(&id);
        let exit = server.read_json(&id, "attempts/1/exit.json");
        assert_eq!(exit["proof"], level, "{exit}");
    }
}

#[tokio::test]
async fn both_supervisors_killed_without_a_group_or_a_namespace_is_stuck_until_the_machine_is_restarted()
 {
    let mut server = server("guard");
    let id = server.submit("sleep", &json!({"seconds": 1000})).await;
    server.until(&id, "running").await;
    let next = server.submit("sleep", &json!({"seconds": 0})).await;
    kill_both_supervisors(&server.read_json(&id, "attempts/1/shim.json"));
    let stuck = tokio::time::timeout(LONG, async {
        loop {
            let job = server.get(&format!("/api/v1/jobs/{id}")).await;
            if job["stuck"] == true {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let job = stuck.await.expect("the job is stuck");
    assert_eq!(job["state"], "running", "{job}");
    assert!(
        job["why"].as_str().unwrap().contains("supervisors"),
        "{job}"
    );
    let waiting = server.get(&format!("/api/v1/jobs/{next}")).await;
    assert_eq!(waiting["state"], "queued", "better blocked than twice");
    // Another boot, as far as a record can tell.
    server.kill();
    let path = server.job_folder(&id).join("attempts/1/shim.json");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000"),
    )
    .unwrap();
    server.restart();
    let job = until_attempt(&server, &id, 2).await;
    assert_eq!(job["stuck"], false, "{job}");
    assert_eq!(
        server.read_json(&id, "attempts/1/exit.json")["proof"],
        "other_boot"
    );
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&next).await["state"], "succeeded");
}

#[tokio::test]
async fn a_number_that_was_given_to_a_stranger_is_never_signalled() {
    let mut server = server("guard");
    let id = server.submit("sleep", &json!({"seconds": 1000})).await;
    server.until(&id, "running").await;
    let shim = server.read_json(&id, "attempts/1/shim.json");
    server.kill();
    kill_both_supervisors(&shim);
    let mut stranger = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    // The record's number is the stranger's now; its start time is not.
    let path = server.job_folder(&id).join("attempts/1/shim.json");
    let mut record = shim;
    record["pid"] = stranger.id().into();
    record["guard"]["pid"] = stranger.id().into();
    std::fs::write(&path, record.to_string()).unwrap();
    server.restart();
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        matches!(stranger.try_wait(), Ok(None)),
        "the stranger lives"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_copied_data_folder_never_touches_the_originals_job() {
    for level in levels() {
        let original = server(level);
        let id = original.submit("sleep", &json!({"seconds": 6})).await;
        original.until(&id, "running").await;
        let before = processes_with(&format!("ONELANE_JOB_ID={id}"));
        let mut copy = server(level);
        copy.kill();
        std::fs::remove_dir_all(copy.data()).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([original.data(), copy.data()])
            .status();
        assert!(copied.unwrap().success());
        copy.restart();
        until_attempt(&copy, &id, 2).await;
        assert_eq!(
            copy.read_json(&id, "attempts/1/exit.json")["proof"],
            "other_folder"
        );
        copy.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
            .await;
        assert_eq!(copy.wait(&id).await["state"], "cancelled", "{level}");
        let now = processes_with(&format!("ONELANE_JOB_ID={id}"));
        assert!(
            before.iter().all(|pid| now.contains(pid)),
            "{level}: {before:?} {now:?}"
        );
        let job = original.wait(&id).await;
        assert_eq!(
            (job["state"].as_str(), job["attempt"].as_u64()),
            (Some("succeeded"), Some(1)),
            "{job}"
        );
    }
}

#[tokio::test]
async fn a_shim_of_the_previous_release_is_adopted() {
    let mut server = server("guard");
    let id = server.submit("sleep", &json!({"seconds": 2})).await;
    server.until(&id, "running").await;
    server.kill();
    // As protocol 1 wrote it: no level, no groups.
    let path = server.job_folder(&id).join("attempts/1/shim.json");
    let mut record = server.read_json(&id, "attempts/1/shim.json");
    record["protocol"] = 1.into();
    record.as_object_mut().unwrap().remove("level");
    std::fs::write(&path, record.to_string()).unwrap();
    server.restart();
    let job = server.wait(&id).await;
    assert_eq!(
        (job["state"].as_str(), job["attempt"].as_u64()),
        (Some("succeeded"), Some(1)),
        "{job}"
    );
}

#[tokio::test]
async fn a_process_that_does_not_die_makes_its_job_stuck_until_it_has() {
    let freezer = std::path::Path::new("/sys/fs/cgroup/freezer");
    let group = freezer.join(format!("onelane-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() {
        eprintln!("SKIPPED: no freezer of version 1 to hold a process with");
        return;
    }
    let server = TestServer::start_with(
        BINARY,
        Some("[tools.sleep]\ncommand = [\"sleep\", \"1000\"]\ngrace = \"100ms\""),
        &["--process-control", "guard"],
    );
    let id = server.submit("sleep", &json!({})).await;
    server.until(&id, "running").await;
    let tool = processes_with(&format!("ONELANE_JOB_ID={id}"));
    for pid in tool {
        std::fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    std::fs::write(group.join("freezer.state"), "FROZEN").unwrap();
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    let stuck = tokio::time::timeout(LONG, async {
        while server.get(&format!("/api/v1/jobs/{id}")).await["stuck"] != true {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.get(&format!("/api/v1/jobs/{id}")).await
    });
    let stuck = stuck.await;
    std::fs::write(group.join("freezer.state"), "THAWED").unwrap();
    let job = stuck.expect("the job is stuck");
    assert!(job["why"].as_str().unwrap().contains("do not die"), "{job}");
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    std::fs::remove_dir(&group).unwrap();
}

#[tokio::test]
async fn an_ordinary_user_has_the_same_promises() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: all of these tests run as an ordinary user already");
        return;
    }
    let server = TestServer::start_as(BINARY, Some(SCRIPTS), 65534);
    let level = server.get("/api/v1/queue").await["process_control"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = server.submit("tree", &json!({})).await;
    server.until(&id, "running").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.post("/api/v1/queue/pause", &json!({})).await;
    let shim = server.read_json(&id, "attempts/1/shim.json");
    if level == "guard" {
        eprintln!("SKIPPED: user namespaces do not work here for an ordinary user");
        kill(Pid::from_raw(pid_of(&shim)), Signal::SIGKILL).unwrap();
    } else {
        kill_both_supervisors(&shim);
    }
    server.until(&id, "queued").await;
    nothing_is_left_of(&id);
}

/// The shim, guard and waiting process that the server has ready for its next attempt.
async fn spare_of(server: &TestServer) -> [i32; 3] {
    let child = |pid: i32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children
            .split_whitespace()
            .next()
            .map(|pid| pid.parse::<i32>().unwrap())
    };
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let children = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let all: Vec<i32> = children
            .flat_map(|list| {
                list.split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        all
    };
    let found = tokio::time::timeout(LONG, async {
        loop {
            for shim in threads() {
                let guard = child(shim);
                if let (Some(guard), Some(stub)) = (guard, guard.and_then(child)) {
                    return [shim, guard, stub];
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap()
}

#[tokio::test]
async fn a_job_runs_although_its_spare_has_lost_any_of_its_processes() {
    for level in levels() {
        for (victim, name) in ["shim", "guard", "stub"].into_iter().enumerate() {
            let server = server(level);
            let first = server.submit("sleep", &json!({"seconds": 0})).await;
            assert_eq!(server.wait(&first).await["state"], "succeeded");
            let spare = spare_of(&server).await;
            kill(Pid::from_raw(spare[victim]), Signal::SIGKILL).unwrap();
            let id = server.submit("sleep", &json!({"seconds": 0})).await;
            let job = server.wait(&id).await;
            assert_eq!(job["state"], "succeeded", "{level} {name}: {job}");
        }
    }
}

#[tokio::test]
async fn a_spare_guard_has_the_lock_also_when_its_order_is_long() {
    let text = format!(
        "{SCRIPTS}\n[tools.wordy]\ncommand = [\"sh\", \"-c\", \"exec sleep 1000\", \"{}\"]",
        "word ".repeat(20_000)
    );
    let server = TestServer::start_with(BINARY, Some(&text), &["--process-control", "guard"]);
    let first = server.submit("sleep", &json!({"seconds": 0})).await;
    assert_eq!(server.wait(&first).await["state"], "succeeded");
    let [spare, ..] = spare_of(&server).await;
    let id = server.submit("wordy", &json!({})).await;
    server.until(&id, "running").await;
    let shim = server.read_json(&id, "attempts/1/shim.json");
    assert_eq!(pid_of(&shim), spare, "the spare has it");
    kill(Pid::from_raw(spare), Signal::SIGKILL).unwrap();
    // With its lock lost too soon the job would be stuck.
    let job = until_attempt(&server, &id, 2).await;
    assert_eq!(job["stuck"], false, "{job}");
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    nothing_is_left_of(&id);
}
