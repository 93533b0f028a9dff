use serde_json::json;

use crate::scripts;

#[tokio::test]
async fn a_finished_jobs_folder_tells_its_story_without_the_server() {
    let mut server = scripts();
    let query = ">a first\nACDE\nfghi\n";
    let id = server.submit("report", &json!({"query": query})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    server.terminate();

    let job = server.read_json(&id, "job.json");
    assert_eq!(
        (job["tool"].as_str(), job["params"]["code"].as_i64()),
        (Some("report"), Some(0)),
        "{job}"
    );
    assert!(
        job["created_at"].is_string()
            && job["digest"].is_string()
            && job["definition"]["command"].is_array()
    );
    let exit = server.read_json(&id, "attempts/1/exit.json");
    assert_eq!(exit["command"][0], "sh");
    assert_eq!(exit["tool_version"], "report 1.2.3");
    assert_eq!(exit["outcome"], json!({"how": "exit", "code": 0}));
    assert!(exit["started_at"].is_string() && exit["finished_at"].is_string());
    assert!(
        exit["usage"]["memory_peak_bytes"].as_u64().unwrap() > 100_000,
        "{exit}"
    );
    let read = |path: &str| std::fs::read_to_string(server.job_folder(&id).join(path)).unwrap();
    assert_eq!(read("attempts/1/stdout.log"), "hello\n");
    assert_eq!(read("attempts/1/stderr.log"), "trouble\n");
    assert_eq!(read("input/query.fasta"), ">a first\nACDEfghi\n");
    assert_eq!(read("attempts/1/output/copy.fasta"), ">a first\nACDEfghi\n");
    server.restart();
}

#[tokio::test]
async fn a_failure_says_its_code_and_the_tools_own_sentence() {
    let server = scripts();
    let id = server
        .submit("report", &json!({"query": ">a\nAC\n", "code": 4}))
        .await;
    let job = server.wait(&id).await;
    assert_eq!(
        (job["state"].as_str(), job["exit_code"].as_i64()),
        (Some("failed"), Some(4)),
        "{job}"
    );
    assert_eq!(job["failure"]["kind"], "exit");
    assert_eq!(
        job["failure"]["message"],
        "exit code 4: ran out of something"
    );
}
