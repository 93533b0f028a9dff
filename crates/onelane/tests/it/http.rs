//! The native interface, as clients use it.

use std::time::{Duration, Instant};

use onelane_testkit::{LONG, TestServer, is_final};
use reqwest::Response;
use serde_json::{Value, json};

use crate::{BINARY, scripts};

const TOOLS: &str = r#"
[tools.echo]
command = ["printf", "%s", "{text}"]
[tools.echo.params.text]
type = "text"

[tools.talk]
command = ["sh", "-c", "echo one; sleep 1.5; echo two"]

[tools.write]
command = ["sh", "-c", "cd \"$ONELANE_OUTPUT\"; mkdir sub; printf 0123456789 > digits.txt; echo deep > 'sub/a b.tsv'"]
"#;

fn tools() -> TestServer {
    TestServer::start(BINARY, Some(TOOLS))
}

async fn get(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = server.http.get(server.url(path)).timeout(LONG);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<String> {
    let jobs = list["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["id"].as_str().unwrap().to_owned())
        .collect()
}

/// What was pasted, the tool's input file, what the job's notes say of it.
const MESSY: &[(&str, &str, &str)] = &[
    (
        ">a x\r\nMK\r\nVL\r\n",
        ">a x\nMKVL\n",
        "3 carriage return line ends",
    ),
    (
        ">a\rMK\r>b\rVL\r",
        ">a\nMK\n>b\nVL\n",
        "4 carriage return line ends",
    ),
    ("\u{feff}>a\nMK\n", ">a\nMK\n", "byte order mark"),
    (">a\nmkVl\n", ">a\nmkVl\n", ""),
    ("\n>a\n\nMK\n\n", ">a\nMK\n", "3 blank lines"),
    (
        ">a\n   1 mkvla agg\n  61 mk\n",
        ">a\nmkvlaaggmk\n",
        "position numbers",
    ),
    (">a\nMK*\n", ">a\nMK\n", "final '*'"),
    ("MKVLA", ">query\nMKVLA\n", "header added"),
];

#[tokio::test]
async fn messy_sequences_reach_the_tool_clean_and_the_job_says_what_was_changed() {
    let server = scripts();
    for (pasted, file, note) in MESSY {
        let id = server.submit("report", &json!({"query": pasted})).await;
        let job = server.wait(&id).await;
        assert_eq!(job["state"], "succeeded", "{pasted:?}: {job}");
        let input =
            std::fs::read_to_string(server.job_folder(&id).join("input/query.fasta")).unwrap();
        assert_eq!(&input, file, "{pasted:?}");
        let notes = job["notes"].to_string();
        assert_eq!(notes == "[]", note.is_empty(), "{pasted:?}: {notes}");
        assert!(notes.contains(note), "{pasted:?}: {notes}");
    }
}

#[tokio::test]
async fn an_uploaded_file_is_cleaned_in_the_same_way() {
    let server = scripts();
    let part = reqwest::multipart::Part::bytes(MESSY[0].0.as_bytes()).file_name("q.fa");
    let form = reqwest::multipart::Form::new()
        .part("query", part)
        .text("code", "0");
    let request = server
        .http
        .post(server.url("/api/v1/tools/report/jobs?wait=30"))
        .multipart(form);
    let job: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(job["state"], "succeeded", "{job}");
    let input = server
        .job_folder(job["id"].as_str().unwrap())
        .join("input/query.fasta");
    assert_eq!(std::fs::read_to_string(input).unwrap(), MESSY[0].1);
}

#[tokio::test]
async fn a_form_is_decoded_as_browsers_encode_it() {
    let server = tools();
    let request = server
        .http
        .post(server.url("/api/v1/tools/echo/jobs?wait=30"));
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let response = request
        .body("text=a%20b+c%2Bd%3De=f%26%C3%A9")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let location = header(&response, "location");
    let job: Value = response.json().await.unwrap();
    assert_eq!(
        (job["state"].as_str(), job["params"]["text"].as_str()),
        (Some("succeeded"), Some("a b c+d=e=f&é")),
        "{job}"
    );
    assert_eq!(location, job["links"]["self"].as_str().unwrap());
    let log = get(&server, job["links"]["stdout"].as_str().unwrap(), &[]).await;
    assert_eq!(log.text().await.unwrap(), "a b c+d=e=f&é");
}

#[tokio::test]
async fn a_log_is_followed_to_its_end_and_read_in_ranges() {
    let server = tools();
    let id = server.submit("talk", &json!({})).await;
    let path = format!("/api/v1/jobs/{id}/logs/stdout");
    let mut follow = get(&server, &format!("{path}?follow=true"), &[]).await;
    let first = follow.chunk().await.unwrap().unwrap();
    assert_eq!(&first[..], b"one\n");
    assert!(
        !is_final(&server.get(&format!("/api/v1/jobs/{id}")).await),
        "the first line comes while the job runs"
    );
    let mut rest = Vec::new();
    while let Some(chunk) = follow.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    assert_eq!(rest, b"two\n");
    assert!(
        is_final(&server.get(&format!("/api/v1/jobs/{id}")).await),
        "the stream ends with the job"
    );
    for (range, part, shown) in [
        ("bytes=4-6", "two", "bytes 4-6/8"),
        ("bytes=-4", "two\n", "bytes 4-7/8"),
        ("bytes=4-", "two\n", "bytes 4-7/8"),
    ] {
        let response = get(&server, &path, &[("Range", range)]).await;
        assert_eq!(
            (
                response.status().as_u16(),
                header(&response, "content-range").as_str()
            ),
            (206, shown)
        );
        assert_eq!(response.text().await.unwrap(), part);
    }
    let whole = get(
        &server,
        &format!("/api/v1/jobs/{id}/attempts/1/logs/stdout"),
        &[],
    )
    .await;
    assert_eq!(header(&whole, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(whole.text().await.unwrap(), "one\ntwo\n");
}

/// Name, id, data.
fn parse_events(text: &str) -> Vec<(String, i64, Value)> {
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let field = |block: &str, name: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {block}"))
            .trim()
            .to_owned()
    };
    blocks
        .map(|b| {
            (
                field(b, "event"),
                field(b, "id").parse().unwrap(),
                serde_json::from_str(&field(b, "data")).unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn events_tell_a_job_to_its_end_and_go_on_after_the_last_one_seen() {
    let server = tools();
    let id = server.submit("talk", &json!({})).await;
    let path = format!("/api/v1/jobs/{id}/events");
    let response = get(&server, &path, &[]).await;
    assert_eq!(header(&response, "content-type"), "text/event-stream");
    let events = parse_events(&response.text().await.unwrap());
    let names: Vec<_> = events.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(
        names.contains(&"state") && names.iter().filter(|n| **n == "end").count() == 1,
        "{names:?}"
    );
    assert!(events.is_sorted_by_key(|(_, id, _)| *id));
    let (name, last, job) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), job["state"].as_str()),
        ("end", Some("succeeded")),
        "{job}"
    );

    let seen = events[0].1.to_string();
    let again = parse_events(
        &get(&server, &path, &[("Last-Event-ID", &seen)])
            .await
            .text()
            .await
            .unwrap(),
    );
    assert_eq!(again, [events.last().unwrap().clone()]);
    let over = get(&server, &path, &[("Last-Event-ID", &last.to_string())]).await;
    assert_eq!(over.status(), 204);
}

#[tokio::test]
async fn events_resume_on_a_living_job() {
    let server = tools();
    let id = server.submit("talk", &json!({})).await;
    let path = format!("/api/v1/jobs/{id}/events");
    server.until(&id, "running").await;
    let mut broken_off = get(&server, &path, &[]).await;
    let first = broken_off.chunk().await.unwrap().unwrap();
    let first = parse_events(std::str::from_utf8(&first).unwrap()).remove(0);
    drop(broken_off);
    let rest = get(&server, &path, &[("Last-Event-ID", &first.1.to_string())]).await;
    let rest = parse_events(&rest.text().await.unwrap());
    assert!(
        rest.iter()
            .all(|(name, id, _)| *id > first.1 || name == "progress"),
        "{rest:?}"
    );
    assert_eq!(rest.last().unwrap().0, "end");
}

#[tokio::test]
async fn results_are_listed_cached_cut_and_packed() {
    let server = tools();
    let id = server.submit("write", &json!({})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    let base = format!("/api/v1/jobs/{id}");
    let listed = server.get(&format!("{base}/files")).await;
    let files: Vec<_> = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            (
                f["path"].as_str().unwrap(),
                f["size_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(files, [("digits.txt", 10), ("sub/a b.tsv", 5)]);
    let deep = get(&server, listed["files"][1]["link"].as_str().unwrap(), &[]).await;
    assert_eq!(deep.text().await.unwrap(), "deep\n");

    let path = format!("{base}/files/digits.txt");
    let whole = get(&server, &path, &[]).await;
    let etag = header(&whole, "etag");
    assert_eq!(whole.text().await.unwrap(), "0123456789");
    for (tag, status) in [(etag.as_str(), 304), ("*", 304), ("\"other\"", 200)] {
        assert_eq!(
            get(&server, &path, &[("If-None-Match", tag)])
                .await
                .status(),
            status,
            "{tag}"
        );
    }
    let part = get(&server, &path, &[("Range", "bytes=2-4")]).await;
    assert_eq!(
        (part.status().as_u16(), part.text().await.unwrap().as_str()),
        (206, "234")
    );

    let zip = get(&server, &format!("{base}/archive.zip"), &[]).await;
    assert_eq!(header(&zip, "content-type"), "application/zip");
    let bytes = zip.bytes().await.unwrap();
    assert!(bytes.starts_with(b"PK"));
    for name in ["digits.txt", "sub/a b.tsv"] {
        assert!(
            bytes.windows(name.len()).any(|w| w == name.as_bytes()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_list_is_filtered_and_paged() {
    let server = tools();
    server.post("/api/v1/queue/pause", &json!({})).await;
    let mut all = Vec::new();
    for n in 0..5 {
        let tool = if n == 4 { "talk" } else { "echo" };
        let params = if n == 4 {
            json!({})
        } else {
            json!({"text": "x"})
        };
        let tags: Vec<_> = if n % 2 == 0 { vec!["even"] } else { vec![] };
        let body = json!({"tool": tool, "params": params, "name": format!("n{n}"), "tags": tags});
        let (status, job) = server.post("/api/v1/jobs", &body).await;
        assert_eq!(status, 201, "{job}");
        all.insert(0, job["id"].as_str().unwrap().to_owned());
    }
    server
        .post(&format!("/api/v1/jobs/{}/cancel", all[4]), &json!({}))
        .await;
    let both = format!("id={}&id={}", all[0], all[3]);
    for (query, expected) in [
        ("", vec![0, 1, 2, 3, 4]),
        ("tag=even", vec![0, 2, 4]),
        ("tool=talk", vec![0]),
        ("tool=talk&tool=echo&tag=even", vec![0, 2, 4]),
        ("name=n1&name=n3", vec![1, 3]),
        ("state=cancelled", vec![4]),
        ("state=queued&state=cancelled&limit=2", vec![0, 1]),
        ("owner=nobody", vec![]),
        (&both, vec![0, 3]),
    ] {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|n: usize| all[n].clone())
            .collect();
        assert_eq!(
            ids(&server.get(&format!("/api/v1/jobs?{query}")).await),
            expected,
            "{query}"
        );
    }
    let (mut paged, mut path) = (Vec::new(), "/api/v1/jobs?limit=2".to_owned());
    for page in 1..=3 {
        let list = server.get(&path).await;
        paged.extend(ids(&list));
        assert_eq!(list["next_cursor"].is_null(), page == 3, "{list}");
        path = format!(
            "/api/v1/jobs?limit=2&cursor={}",
            list["next_cursor"].as_str().unwrap_or_default()
        );
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn a_client_is_held_until_the_end_or_as_long_as_it_asked() {
    let server = scripts();
    let (status, job) = server
        .post("/api/v1/tools/sleep/jobs?wait=30", &json!({"seconds": 0.3}))
        .await;
    assert_eq!(
        (status, job["state"].as_str()),
        (201, Some("succeeded")),
        "{job}"
    );
    let id = server.submit("sleep", &json!({"seconds": 0.3})).await;
    let held = get(
        &server,
        &format!("/api/v1/jobs/{id}"),
        &[("Prefer", "wait=30")],
    )
    .await;
    assert_eq!(held.json::<Value>().await.unwrap()["state"], "succeeded");
    let id = server.submit("sleep", &json!({"seconds": 100})).await;
    let since = Instant::now();
    let job = server.get(&format!("/api/v1/jobs/{id}?wait=1")).await;
    assert!(
        !is_final(&job) && since.elapsed() >= Duration::from_millis(950),
        "{job}"
    );
    assert!(since.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_running_job_is_cancelled_and_deleted_in_one_call() {
    let server = scripts();
    let id = server.submit("sleep", &json!({"seconds": 1000})).await;
    server.until(&id, "running").await;
    let path = format!("/api/v1/jobs/{id}");
    let gone = server
        .http
        .delete(server.url(&format!("{path}?cancel=true")))
        .timeout(LONG)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(get(&server, &path, &[]).await.status(), 404);
    assert!(!server.job_folder(&id).exists());
    assert!(onelane_testkit::processes_with(&format!("ONELANE_JOB_ID={id}")).is_empty());
}

#[tokio::test]
async fn a_job_is_found_by_the_end_of_its_id_and_as_the_last_one() {
    let server = tools();
    assert_eq!(get(&server, "/api/v1/jobs/last", &[]).await.status(), 404);
    server.submit("echo", &json!({"text": "x"})).await;
    let id = server.submit("echo", &json!({"text": "y"})).await;
    for text in ["last", &id[24..], &id[24..].to_uppercase(), &id] {
        assert_eq!(
            server.get(&format!("/api/v1/jobs/{text}")).await["id"],
            *id,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_repeated_key_gives_the_first_job_again() {
    let server = tools();
    let mut seen = Vec::new();
    for status in [201, 200, 200] {
        let request = server
            .http
            .post(server.url("/api/v1/tools/echo/jobs"))
            .header("Idempotency-Key", "once");
        let response = request.json(&json!({"text": "x"})).send().await.unwrap();
        assert_eq!(response.status(), status);
        seen.push(response.json::<Value>().await.unwrap()["id"].clone());
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
    assert_eq!(ids(&server.get("/api/v1/jobs").await).len(), 1);
}

/// The answer is made from what was sent, what is asked for later from the store, and the tool has the latter.
#[tokio::test]
async fn a_number_is_the_same_in_the_answer_in_the_store_and_for_the_tool() {
    let tools = "[tools.echo]\ncommand = [\"echo\", \"{x}\"]\nparams.x = { type = \"number\" }\n";
    let server = TestServer::start(BINARY, Some(tools));
    // Read back by a quick algorithm instead of an exact one, the last digit of each is another.
    for x in [0.915_944_811_730_981_1_f64, 46_923.233_761_902_164] {
        let (status, job) = server
            .post("/api/v1/tools/echo/jobs", &json!({ "x": x }))
            .await;
        assert_eq!(status, 201, "{job}");
        let id = job["id"].as_str().unwrap();
        let ended = server.wait(id).await;
        assert_eq!(ended["params"], job["params"]);
        let log = server.job_folder(id).join("attempts/1/stdout.log");
        let printed: f64 = std::fs::read_to_string(log)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(printed.to_bits(), x.to_bits());
    }
}
