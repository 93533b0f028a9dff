//! Limits end the whole tree, whatever holds it together, and the job says which one it was.

use std::time::Duration;

use onelane_testkit::{TestServer, processes_with};
use serde_json::{Value, json};

use crate::BINARY;
use crate::levels::levels;

const TOOLS: &str = r#"
[tools.slow]
command = ["sh", "-c", "trap '' TERM; setsid sleep 1000 & while :; do sleep 0.1; done"]
limits = { time = "1s" }
grace = "300ms"

[tools.eater]
command = ["python3", "-c", "import time\nkept = []\nfor i in range(200):\n    kept.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.05)"]
limits = { memory = "96M" }

[tools.eaters_child]
command = ["sh", "-c", "python3 -c \"import time\nkept = []\nfor i in range(200):\n    kept.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.05)\"; exit 3"]
limits = { memory = "96M" }

[tools.many]
command = ["sh", "-c", "for i in $(seq 60); do sleep 5 & done; wait; exit 0"]
limits = { processes = 20 }

[tools.chatty]
command = ["sh", "-c", "echo the head; i=0; while [ $i -lt 40 ]; do head -c 65536 /dev/zero | tr '\\0' 'x'; i=$((i+1)); done; echo; echo the tail; sleep \"$0\"", "{seconds}"]
limits = { log = "256K" }
[tools.chatty.params.seconds]
type = "number"
default = 0

[tools.writer]
command = ["sh", "-c", "i=0; while [ $i -lt 400 ]; do head -c 1048576 /dev/zero > \"$ONELANE_OUTPUT/$i\"; i=$((i+1)); sleep 0.03; done"]
limits = { output = "16M" }
grace = "300ms"

[tools.crash]
command = ["sh", "-c", "kill -SEGV $$"]

[tools.killed]
command = ["sh", "-c", "kill -KILL $$"]

[tools.busy]
command = ["python3", "-c", "x = bytearray(b'x' * (64 << 20))\nimport time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"]

[tools.manners]
command = ["sh", "-c", "cat /proc/self/oom_score_adj; nice; cat /proc/self/cgroup"]

[tools.manners_normal]
cpu_priority = "normal"
command = ["sh", "-c", "cat /proc/self/oom_score_adj; nice; cat /proc/self/cgroup"]
"#;

fn server(level: &str) -> TestServer {
    TestServer::start_with(BINARY, Some(TOOLS), &["--process-control", level])
}

async fn failure_of(server: &TestServer, tool: &str) -> (String, Value) {
    let id = server.submit(tool, &json!({})).await;
    let job = server.wait(&id).await;
    assert_eq!(
        processes_with(&format!("ONELANE_JOB_ID={id}")),
        Vec::<u32>::new(),
        "{tool}"
    );
    (id, job["failure"].clone())
}

#[tokio::test]
async fn the_time_limit_ends_a_tree_that_resists() {
    for level in levels() {
        let (_, failure) = failure_of(&server(level), "slow").await;
        assert_eq!(failure["kind"], "timed_out", "{level}: {failure}");
        assert_eq!(
            failure["message"],
            "the tool's time limit of 1 s was reached"
        );
    }
}

#[tokio::test]
async fn the_memory_limit_is_told_apart_from_other_kills() {
    for level in levels() {
        let server = server(level);
        for tool in ["eater", "eaters_child"] {
            let (_, failure) = failure_of(&server, tool).await;
            assert_eq!(
                failure["kind"], "out_of_memory",
                "{level} {tool}: {failure}"
            );
            assert_eq!(
                failure["message"],
                "the tool's memory limit of 96 MiB was reached"
            );
        }
        let (_, failure) = failure_of(&server, "killed").await;
        assert_eq!(
            (failure["kind"].as_str(), failure["signal"].as_i64()),
            (Some("signal"), Some(9))
        );
        let (_, failure) = failure_of(&server, "crash").await;
        assert!(
            failure["message"].as_str().unwrap().contains("SIGSEGV"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    for level in levels() {
        let server = server(level);
        let (id, failure) = failure_of(&server, "many").await;
        if level == "cgroup" {
            // There the kernel refuses the fork, and the tool sees it.
            let stderr =
                std::fs::read_to_string(server.job_folder(&id).join("attempts/1/stderr.log"));
            assert!(stderr.unwrap().to_lowercase().contains("fork"), "{failure}");
        } else {
            assert!(
                failure["message"]
                    .as_str()
                    .unwrap()
                    .contains("its limit is 20"),
                "{failure}"
            );
        }
    }
}

#[tokio::test]
async fn the_output_limit_ends_a_tool_that_fills_the_disk() {
    let (id, failure) = {
        let server = server("guard");
        failure_of(&server, "writer").await
    };
    assert_eq!(failure["kind"], "output_limit", "{id}: {failure}");
}

#[tokio::test]
async fn a_log_keeps_its_head_and_its_tail_and_says_what_is_left_out() {
    let server = server("guard");
    let id = server.submit("chatty", &json!({})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    let log =
        std::fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap();
    let counts = server.read_json(&id, "attempts/1/exit.json")["logs"].clone();
    let number = |value: &Value| value.as_u64().unwrap();
    let cut = &counts["stdout_cut"];
    assert!(
        log.starts_with("the head\nxxx") && log.ends_with("xxx\nthe tail\n"),
        "{counts}"
    );
    let line = format!("\n[onelane: {} bytes are left out here", cut["bytes"]);
    assert_eq!(
        log.find(&line).unwrap() as u64,
        number(&cut["at"]),
        "{counts}"
    );
    let kept: usize = log
        .lines()
        .filter(|line| !line.starts_with("[onelane"))
        .map(|line| line.len() + 1)
        .sum();
    assert!(kept <= (256 << 10) * 9 / 8 + 8192, "{kept}");
    // One newline more than the tool wrote: the one before our line.
    assert_eq!(
        number(&counts["stdout_bytes"]),
        kept as u64 - 1 + number(&cut["bytes"]),
        "{counts}"
    );
    assert_eq!(counts["dropped_bytes"], 0);
}

#[tokio::test]
async fn a_log_that_is_being_cut_can_be_read_and_takes_little_of_the_disk() {
    use std::os::unix::fs::MetadataExt;
    let server = server("guard");
    let id = server.submit("chatty", &json!({"seconds": 3})).await;
    server.until(&id, "running").await;
    let url = server.url(&format!("/api/v1/jobs/{id}/logs/stdout"));
    let followed = server
        .http
        .get(format!("{url}?follow=true"))
        .send()
        .await
        .unwrap();
    let path = server.job_folder(&id).join("attempts/1/stdout.log");
    let ends =
        |path: &std::path::Path| std::fs::read(path).is_ok_and(|log| log.ends_with(b"the tail\n"));
    while !ends(&path) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 400 << 10);
    let text = server
        .http
        .get(&url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        text.len() < 400 << 10 && text.contains("bytes are left out here") && !text.contains('\0')
    );
    assert!(text.starts_with("the head\n") && text.ends_with("the tail\n"));
    let followed = followed.text().await.unwrap();
    let shown = || {
        followed
            .lines()
            .map(|line| line.chars().take(80).collect::<String>())
            .collect::<Vec<_>>()
    };
    assert!(
        followed.starts_with("the head\n") && followed.ends_with("the tail\n"),
        "{:?}",
        shown()
    );
    assert!(!followed.contains('\0'), "{:?}", shown());
}

#[tokio::test]
async fn what_an_attempt_used_is_written_down() {
    for level in levels() {
        let server = server(level);
        let id = server.submit("busy", &json!({})).await;
        let job = server.wait(&id).await;
        let usage = &job["usage"];
        assert!(usage["cpu_s"].as_f64().unwrap() >= 0.5, "{level}: {job}");
        assert!(usage["wall_s"].as_f64().unwrap() >= 0.5, "{level}: {job}");
        assert!(
            usage["memory_peak_bytes"].as_u64().unwrap() >= 64 << 20,
            "{level}: {job}"
        );
    }
}

#[tokio::test]
async fn a_tool_yields_to_the_server_unless_it_asks_not_to() {
    for level in levels() {
        let server = server(level);
        let output = async |tool: &str| {
            let id = server.submit(tool, &json!({})).await;
            server.wait(&id).await;
            std::fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap()
        };
        let (yields, normal) = (output("manners").await, output("manners_normal").await);
        assert!(
            yields.starts_with("1000\n") && normal.starts_with("1000\n"),
            "{level}: {yields}"
        );
        let niceness = |text: &str| text.lines().nth(1).unwrap().to_owned();
        assert_eq!(niceness(&normal), "0", "{level}");
        if level == "cgroup" {
            assert!(
                yields.contains("-jobs/") && normal.contains("/normal/"),
                "{yields} {normal}"
            );
        } else {
            assert_eq!(niceness(&yields), "19", "{level}");
        }
    }
}
