//! Warm workers: one process for many jobs, and what happens on each fault (docs/warm-workers.md).

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onelane_testkit::{LONG, TestServer, processes_with};
use serde_json::{Value, json};

use crate::BINARY;
use crate::levels::{levels, pid_of};

/// A tools file with this warm tool, and with `more`.
fn tools(keys: &str, more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/warm_worker.py");
    format!(
        r#"
[tools.warm]
worker = ["python3", "{script}"]
{keys}
[tools.warm.params]
do = {{ type = "text", default = "echo" }}
code = {{ type = "integer", optional = true }}
seconds = {{ type = "number", optional = true }}
query = {{ type = "fasta", alphabet = "protein", optional = true }}
mode = {{ type = "choice", choices = {{ fast = "model-a" }}, optional = true }}
any = {{ type = "json", optional = true }}

{more}
"#
    )
}

fn server(keys: &str) -> TestServer {
    TestServer::start(BINARY, Some(&tools(keys, "")))
}

async fn run(server: &TestServer, params: Value) -> Value {
    let id = server.submit("warm", &params).await;
    server.wait(&id).await
}

/// The worker that a job ran in, by its own word.
async fn worker_of(server: &TestServer) -> String {
    let job = run(server, json!({})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    identity(&result_of(server, &job))
}

/// In a pid namespace every worker has the same number, so its id counts as well.
fn identity(result: &Value) -> String {
    format!("{} {}", result["worker"].as_str().unwrap(), result["pid"])
}

fn result_of(server: &TestServer, job: &Value) -> Value {
    let path = format!("attempts/{}/output/result.json", job["attempt"]);
    server.read_json(job["id"].as_str().unwrap(), &path)
}

fn exit_of(server: &TestServer, job: &Value) -> Value {
    let path = format!("attempts/{}/exit.json", job["attempt"]);
    server.read_json(job["id"].as_str().unwrap(), &path)
}

fn log_of(server: &TestServer, job: &Value, stream: &str) -> String {
    let folder = server.job_folder(job["id"].as_str().unwrap());
    let path = format!("attempts/{}/{stream}.log", job["attempt"]);
    std::fs::read_to_string(folder.join(path)).unwrap()
}

/// Worker processes of this server, which have its data folder in their environment.
fn workers_of(server: &TestServer) -> Vec<u32> {
    let workers = server.data().join("workers");
    let Ok(entries) = std::fs::read_dir(workers) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| {
            let id = entry.file_name().to_string_lossy().into_owned();
            processes_with(&format!("ONELANE_WORKER_ID={id}"))
        })
        .collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited too long until {what}");
}

#[tokio::test]
async fn a_thousand_small_jobs_go_through_one_worker_one_by_one() {
    let server = server("");
    let nothing = json!({});
    let mut ids = Vec::new();
    for _ in 0..1000 {
        ids.push(server.submit("warm", &nothing).await);
    }
    let mut pids = BTreeSet::new();
    let mut times = Vec::new();
    for id in &ids {
        let job = server.wait(id).await;
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!("succeeded"), &json!(1)),
            "{job}"
        );
        pids.insert(identity(&result_of(&server, &job)));
        let time = |key: &str| job[key].as_str().unwrap().to_owned();
        times.push((time("started_at"), time("finished_at")));
        assert!(
            log_of(&server, &job, "stdout").starts_with(&format!("job {id} ")),
            "each job's output is in its own log"
        );
    }
    assert_eq!(pids.len(), 1, "one process for all: {pids:?}");
    for pair in times.windows(2) {
        assert!(
            pair[0].1 <= pair[1].0,
            "one by one, in their order: {pair:?}"
        );
    }
}

#[tokio::test]
async fn a_job_gets_its_parameters_and_gives_files_progress_and_log() {
    let server = server("");
    let params =
        json!({"do": "files", "query": ">a\nMKV\n", "mode": "fast", "any": {"x": [1, null]}});
    let job = run(&server, params.clone()).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let id = job["id"].as_str().unwrap();
    let hits = server.job_folder(id).join("attempts/1/output/hits.tsv");
    assert_eq!(std::fs::read_to_string(hits).unwrap(), ">A\nMKV\n");
    assert_eq!(log_of(&server, &job, "stderr"), "a line for the log\n");
    let progress = server.job_folder(id).join("attempts/1/progress");
    assert_eq!(std::fs::read_to_string(progress).unwrap(), "0.5 half way\n");
    let exit = exit_of(&server, &job);
    assert_eq!(
        (&exit["proof"], &exit["tool_version"]),
        (&json!("worker"), &json!("7.1"))
    );

    let mut params = params;
    params["do"] = json!("echo");
    let job = run(&server, params).await;
    let got = result_of(&server, &job);
    assert_eq!(got["params"]["mode"], "model-a");
    assert_eq!(got["params"]["any"], json!({"x": [1, null]}));
    assert_eq!(
        got["params"].get("code"),
        None,
        "what was not given is not there"
    );
    assert_eq!(got["tool"], "warm");
    let usage = &exit_of(&server, &job)["usage"];
    assert!(
        usage["memory_peak_bytes"].as_u64().unwrap() > 1 << 20,
        "{usage}"
    );
}

#[tokio::test]
async fn a_worker_that_floods_its_socket_with_progress_fills_no_disk() {
    let server = server("");
    let job = run(&server, json!({"do": "flood"})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let folder = server.job_folder(job["id"].as_str().unwrap());
    let progress = std::fs::read_to_string(folder.join("attempts/1/progress")).unwrap();
    assert!(
        progress.ends_with("1 the last\n"),
        "{}",
        &progress[progress.len() - 100..]
    );
    assert!(
        progress.lines().count() < 20_000,
        "{} lines",
        progress.lines().count()
    );
}

/// What the worker does, how the job ends, and a part of its sentence.
const FAULTS: [(&str, &str, &str); 10] = [
    (r#"{"do": "fail"}"#, "unknown", "no such chain: B"),
    (r#"{"do": "lie"}"#, "unknown", "`hits.tsv` that is not in"),
    (r#"{"do": "exit", "code": 3}"#, "exit", "exit code 3"),
    (
        r#"{"do": "exit", "code": 0}"#,
        "unknown",
        "ended with exit code 0 while the job ran",
    ),
    (r#"{"do": "crash"}"#, "signal", "SIGSEGV"),
    (r#"{"do": "close"}"#, "unknown", "closed its socket"),
    (
        r#"{"do": "garbage"}"#,
        "unknown",
        "no JSON object: `Traceback",
    ),
    (
        r#"{"do": "garbage and die"}"#,
        "unknown",
        "no JSON object: `Traceback",
    ),
    (
        r#"{"do": "another protocol"}"#,
        "unknown",
        "no version of the protocol",
    ),
    (
        r#"{"do": "wait", "seconds": 1}"#,
        "timed_out",
        "time limit of 6 s",
    ),
];

#[tokio::test]
async fn each_fault_fails_its_own_job_and_the_next_one_runs() {
    let server = server("grace = \"1s\"\nlimits = { time = \"6s\" }");
    for (params, kind, sentence) in FAULTS {
        let before = worker_of(&server).await;
        let job = run(&server, serde_json::from_str(params).unwrap()).await;
        assert_eq!(job["failure"]["kind"], kind, "{params}: {job}");
        let message = job["failure"]["message"].as_str().unwrap();
        assert!(message.contains(sentence), "{params}: {message}");
        assert_eq!(job["attempt"], 1, "{params}");
        let lives_on = matches!(sentence, "no such chain: B" | "`hits.tsv` that is not in")
            || kind == "timed_out";
        let after = worker_of(&server).await;
        assert_eq!(before == after, lives_on, "{params}: {before} {after}");
    }
}

#[tokio::test]
async fn a_late_word_about_a_job_ends_no_other() {
    let server = server("");
    let late = server.submit("warm", &json!({"do": "late"})).await;
    let next = json!({"do": "sleep", "seconds": 1});
    let next = server.submit("warm", &next).await;
    assert_eq!(server.wait(&late).await["failure"]["message"], "too early");
    let job = server.wait(&next).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    // Its own end came with a result.
    identity(&result_of(&server, &job));
}

#[tokio::test]
async fn a_worker_that_does_not_answer_a_cancellation_is_ended_with_its_whole_tree() {
    for level in levels() {
        let text = tools("grace = \"1s\"", "");
        let server = TestServer::start_with(BINARY, Some(&text), &["--process-control", level]);
        let before = worker_of(&server).await;
        let id = server.submit("warm", &json!({"do": "hang"})).await;
        server.until(&id, "running").await;
        let worker = server.read_json(&id, "attempts/1/shim.json")["worker"].clone();
        let marker = format!("ONELANE_WORKER_ID={}", worker.as_str().unwrap());
        until("its child is there", || processes_with(&marker).len() >= 2).await;
        let next = server.submit("warm", &json!({})).await;
        server
            .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
            .await;
        let job = server.wait(&id).await;
        assert_eq!(job["state"], "cancelled", "{level}: {job}");
        assert_eq!(processes_with(&marker), Vec::<u32>::new(), "{level}");
        let job = server.wait(&next).await;
        assert_ne!(identity(&result_of(&server, &job)), before, "{level}");
    }
}

#[tokio::test]
async fn a_worker_that_answers_a_cancellation_stays() {
    let server = server("");
    let before = worker_of(&server).await;
    let id = server.submit("warm", &json!({"do": "wait"})).await;
    server.until(&id, "running").await;
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    assert_eq!(worker_of(&server).await, before);
}

#[tokio::test]
async fn a_worker_beyond_its_memory_is_ended_and_the_next_job_runs() {
    for level in levels() {
        let text = tools("limits = { memory = \"200M\" }", "");
        let server = TestServer::start_with(BINARY, Some(&text), &["--process-control", level]);
        let before = worker_of(&server).await;
        let job = run(&server, json!({"do": "eat"})).await;
        assert_eq!(job["failure"]["kind"], "out_of_memory", "{level}: {job}");
        assert_ne!(worker_of(&server).await, before, "{level}");
    }
}

#[tokio::test]
async fn a_warm_job_outlives_its_server_and_the_next_server_keeps_the_worker() {
    let mut server = server("");
    let before = worker_of(&server).await;
    let running = server
        .submit("warm", &json!({"do": "sleep", "seconds": 3}))
        .await;
    let waiting = server.submit("warm", &json!({})).await;
    server.until(&running, "running").await;
    server.kill();
    server.restart();
    let job = server.wait(&running).await;
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("succeeded"), &json!(1)),
        "{job}"
    );
    assert_eq!(identity(&result_of(&server, &job)), before);
    let job = server.wait(&waiting).await;
    assert_eq!(identity(&result_of(&server, &job)), before);

    // Also one that ends while no server is there, and one that is idle.
    let running = server
        .submit("warm", &json!({"do": "sleep", "seconds": 1}))
        .await;
    server.until(&running, "running").await;
    server.kill();
    let exit = server.job_folder(&running).join("attempts/1/exit.json");
    until("the job is over", || exit.exists()).await;
    server.restart();
    assert_eq!(server.wait(&running).await["state"], "succeeded");
    assert_eq!(worker_of(&server).await, before);
}

#[tokio::test]
async fn killed_supervisors_interrupt_the_job_and_it_runs_again_where_death_is_proved() {
    for level in levels() {
        let text = tools("", "");
        let server = TestServer::start_with(BINARY, Some(&text), &["--process-control", level]);
        for victims in [&["shim"][..], &["guard"], &["shim", "guard"]] {
            let id = server
                .submit("warm", &json!({"do": "sleep", "seconds": 1}))
                .await;
            server.until(&id, "running").await;
            let shim = server.read_json(&id, "attempts/1/shim.json");
            let worker = shim["worker"].as_str().unwrap().to_owned();
            let pids: Vec<_> = victims
                .iter()
                .map(|victim| {
                    pid_of(if *victim == "shim" {
                        &shim
                    } else {
                        &shim["guard"]
                    })
                })
                .collect();
            // Stopped first, so that neither sees the other die.
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                for pid in &pids {
                    kill(Pid::from_raw(*pid), signal).unwrap();
                }
            }
            if level == "guard" && victims.len() == 2 {
                let stuck = tokio::time::timeout(LONG, async {
                    while server.get(&format!("/api/v1/jobs/{id}")).await["stuck"] != true {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
                assert!(stuck.await.is_ok(), "without a proof it is stuck");
                continue;
            }
            let job = server.wait(&id).await;
            assert_eq!(
                (&job["state"], &job["attempt"]),
                (&json!("succeeded"), &json!(2)),
                "{level} {victims:?}: {job}"
            );
            let marker = format!("ONELANE_WORKER_ID={worker}");
            assert_eq!(
                processes_with(&marker),
                Vec::<u32>::new(),
                "{level} {victims:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_idle_worker_goes_after_its_time_and_a_stopped_server_leaves_none() {
    let server = server("keep = \"300ms\"");
    worker_of(&server).await;
    until("the idle worker is gone", || workers_of(&server).is_empty()).await;
    let folders = || {
        std::fs::read_dir(server.data().join("workers"))
            .unwrap()
            .count()
    };
    until("its folder is gone", || folders() == 0).await;
    assert_eq!(run(&server, json!({})).await["state"], "succeeded");

    let mut server = self::server("keep = \"always\"");
    until("a worker is there before any job", || {
        !workers_of(&server).is_empty()
    })
    .await;
    let first = workers_of(&server)[0];
    kill(
        Pid::from_raw(i32::try_from(first).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    let is_new = |server: &TestServer| {
        let workers = workers_of(server);
        !workers.is_empty() && !workers.contains(&first)
    };
    until("another one is there", || is_new(&server)).await;
    let workers = workers_of(&server);
    server.terminate();
    until("nothing is left", || {
        workers
            .iter()
            .all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_renewed_after_its_jobs() {
    let server = server("max_jobs = 3");
    let mut pids = Vec::new();
    for _ in 0..7 {
        pids.push(worker_of(&server).await);
    }
    let changes = pids
        .windows(2)
        .map(|pair| pair[0] != pair[1])
        .collect::<Vec<_>>();
    assert_eq!(
        changes,
        [false, false, true, false, false, true],
        "{pids:?}"
    );
}

/// Its program may have changed, though its definition has not.
#[tokio::test]
async fn a_reload_renews_the_workers_and_lets_a_running_job_end() {
    for keep in ["10m", "always"] {
        let server = server(&format!("keep = \"{keep}\""));
        let idle = worker_of(&server).await;
        server.post("/api/v1/tools/reload", &json!({})).await;
        let renewed = worker_of(&server).await;
        assert_ne!(renewed, idle, "{keep}");
        let busy = json!({"do": "sleep", "seconds": 1});
        let busy = server.submit("warm", &busy).await;
        server.until(&busy, "running").await;
        server.post("/api/v1/tools/reload", &json!({})).await;
        let job = server.wait(&busy).await;
        assert_eq!(identity(&result_of(&server, &job)), renewed, "{keep}");
        assert_ne!(worker_of(&server).await, renewed, "{keep}");
    }
    let server = server("keep = \"always\"");
    let workers = || workers_of(&server);
    until("a worker is there", || !workers().is_empty()).await;
    let before = workers();
    server.post("/api/v1/tools/reload", &json!({})).await;
    // Without a job that asks for it.
    until("another is there", || {
        let now = workers();
        !now.is_empty() && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
}

#[tokio::test]
async fn an_idle_worker_makes_room_for_a_job_that_needs_its_memory() {
    let cold = r#"
[machine]
cpus = 2
memory = "1G"
[tools.small]
command = ["true"]
needs = { memory = "300M" }
[tools.large]
command = ["true"]
needs = { memory = "600M" }
"#;
    let text = tools("needs = { cpus = 1, memory = \"600M\" }", cold);
    let server = TestServer::start(BINARY, Some(&text));
    let before = worker_of(&server).await;
    for (tool, stays) in [("small", true), ("large", false)] {
        let id = server.submit(tool, &json!({})).await;
        assert_eq!(server.wait(&id).await["state"], "succeeded");
        assert_eq!(!workers_of(&server).is_empty(), stays, "{tool}");
    }
    assert_ne!(worker_of(&server).await, before);
}

#[tokio::test]
async fn a_worker_that_can_not_load_fails_its_job_with_its_own_words() {
    let server = server("env = { LOAD = \"crash\" }");
    let job = run(&server, json!({})).await;
    assert_eq!(job["failure"]["kind"], "start_failed", "{job}");
    let message = job["failure"]["message"].as_str().unwrap();
    assert!(
        message.contains("exit code 1 before it was ready"),
        "{message}"
    );
    assert!(log_of(&server, &job, "stderr").contains("no model: the file is not there"));

    let server = self::server("env = { LOAD = \"hang\" }");
    let id = server.submit("warm", &json!({})).await;
    server.until(&id, "running").await;
    server
        .post(&format!("/api/v1/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&id).await["state"], "cancelled");
    until("nothing hangs on", || workers_of(&server).is_empty()).await;
}

#[tokio::test]
async fn a_worker_program_that_is_not_there_fails_its_job_with_that() {
    for level in levels() {
        let text = "[tools.warm]\nworker = [\"no-such-worker\"]";
        let server = TestServer::start_with(BINARY, Some(text), &["--process-control", level]);
        let job = run(&server, json!({})).await;
        assert_eq!(job["failure"]["kind"], "start_failed", "{level}: {job}");
        assert_eq!(job["attempt"], 1, "{level}: {job}");
        let message = job["failure"]["message"].as_str().unwrap();
        assert!(
            message.contains("`no-such-worker` could not be started"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_changed_tool_gets_a_new_worker_and_a_removed_one_none() {
    let server = server("");
    let before = worker_of(&server).await;
    let file = server.folder().join("onelane.toml");
    std::fs::write(&file, tools("title = \"Changed\"", "")).unwrap();
    server.post("/api/v1/tools/reload", &json!({})).await;
    until("the old one is gone", || workers_of(&server).is_empty()).await;
    assert_ne!(worker_of(&server).await, before);
}

#[tokio::test]
async fn an_abandoned_worker_ends_when_no_server_comes() {
    let mut server = server("");
    worker_of(&server).await;
    assert_eq!(workers_of(&server).len(), 1);
    server.kill();
    until("the worker has given up", || workers_of(&server).is_empty()).await;
    let folders = || {
        std::fs::read_dir(server.data().join("workers"))
            .unwrap()
            .count()
    };
    until("its folder is gone", || folders() == 0).await;
}

#[tokio::test]
async fn a_data_folder_with_a_long_path_has_workers_too() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a".repeat(100)).join("b".repeat(100));
    std::fs::create_dir_all(&long).unwrap();
    let mut server = TestServer::in_folder(BINARY, Some(&tools("", "")), &long);
    server.restart();
    let before = worker_of(&server).await;
    server.kill();
    server.restart();
    assert_eq!(worker_of(&server).await, before);
}

#[test]
fn the_example_of_a_warm_tool_is_checked_with_its_own_worker() {
    let check = |keys: &str, expect: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("onelane.toml");
        let results = "[tools.warm.results.hits]\nfile = \"hits.tsv\"\n[tools.warm.example]\n";
        let params = "params = { do = \"files\", query = \">a\\nMKV\\n\" }\n";
        std::fs::write(&file, tools(keys, &format!("{results}{params}{expect}"))).unwrap();
        let output = std::process::Command::new(BINARY)
            .args(["tools", "check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said)
    };
    let (good, said) = check("", "expect.hits.contains = \"MKV\"");
    assert!(good && said.contains("gives the declared result"), "{said}");
    let (good, said) = check("", "expect.hits.contains = \"WWW\"");
    assert!(!good && said.contains("doesn't contain `WWW`"), "{said}");
    let (good, said) = check("env = { LOAD = \"crash\" }", "");
    assert!(!good && said.contains("before it was ready"), "{said}");
    assert!(said.contains("no model: the file is not there"), "{said}");
}
