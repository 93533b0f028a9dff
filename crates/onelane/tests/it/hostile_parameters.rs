//! Whatever a client sends, the program gets it as one inert argument, or nobody does.

use std::fs;
use std::io::Write;

use onelane_testkit::TestServer;
use serde_json::{Value, json};

use crate::BINARY;

/// A tool that writes down its arguments, each ended by a NUL, and what it reads.
const ECHO: &str = r#"
[tools.echo]
command = ["sh", "-c", 'for a in "$@"; do printf "%s\0" "$a"; done > "$ONELANE_OUTPUT/args"; cat > "$ONELANE_OUTPUT/stdin"', "echo",
           "first", "{text}", "--text={text}", "{number}", "{integer}", "{choice}", "{keys}", "{flag}", { each = "files", args = ["{files}"] },
           "{query}", "{reads}", "{upload}", "{json}", "{name}", "last"]
stdin = "{text}"
[tools.echo.params]
text = { type = "text", optional = true }
number = { type = "number", optional = true }
integer = { type = "integer", optional = true }
choice = { type = "choice", choices = { a = "A" }, optional = true }
keys = { type = "choices", choices = { a = "A" }, optional = true }
flag = { type = "flag" }
query = { type = "fasta", optional = true }
reads = { type = "fastq", optional = true }
upload = { type = "file", optional = true }
files = { type = "files", optional = true }
json = { type = "json", optional = true }
"#;

fn evil() -> Vec<String> {
    let texts = [
        "; rm -rf /",
        "$(touch /tmp/onelane-owned)",
        "`id`",
        "-out /etc/x",
        "--out=/etc/x",
        "a\nb",
        "a\r\n-x",
        "../../etc/passwd",
        "/etc/passwd",
        "'; drop table job; --",
        "\"",
        "{text}",
        "{{",
        "%s%n",
        "*",
        "~root",
        "a\u{202e}b",
        "\u{7}",
        "| sh",
        "&& x",
        "> /etc/x",
        "a\0b",
        "\0",
    ];
    texts
        .map(str::to_owned)
        .into_iter()
        .chain(["x".repeat(1 << 20)])
        .collect()
}

fn arguments(server: &TestServer, id: &str) -> Vec<String> {
    let path = server.job_folder(id).join("attempts/1/output/args");
    let bytes = fs::read(path).unwrap();
    let mut parts: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8(part.to_vec()).unwrap())
        .collect();
    assert_eq!(parts.pop().as_deref(), Some(""));
    parts
}

#[tokio::test]
async fn text_reaches_the_program_as_one_inert_argument_or_is_refused() {
    let server = TestServer::start(BINARY, Some(ECHO));
    let mut passed = 0;
    for text in evil() {
        let (status, job) = server
            .post("/api/v1/tools/echo/jobs", &json!({"text": text}))
            .await;
        let is_refused = text.contains('\0') || text.starts_with('-') || text.len() > 10_000;
        if is_refused {
            assert_eq!(
                (status, &job["errors"][0]["param"]),
                (422, &json!("text")),
                "{text:?}: {job}"
            );
            continue;
        }
        assert_eq!(status, 201, "{text:?}: {job}");
        let id = job["id"].as_str().unwrap();
        assert_eq!(server.wait(id).await["state"], "succeeded", "{text:?}");
        let expected = [
            "first",
            &text,
            &format!("--text={text}"),
            "false",
            "",
            "last",
        ];
        assert_eq!(arguments(&server, id), expected, "{text:?}");
        let stdin = fs::read(server.job_folder(id).join("attempts/1/output/stdin")).unwrap();
        assert_eq!(stdin, text.as_bytes(), "{text:?}");
        passed += 1;
    }
    assert!(passed >= 15 && !std::path::Path::new("/tmp/onelane-owned").exists());
}

#[tokio::test]
async fn no_other_type_lets_hostile_text_into_the_command() {
    let server = TestServer::start(BINARY, Some(ECHO));
    for text in evil() {
        for param in ["number", "integer", "choice", "keys", "flag", "reads"] {
            let (status, answer) = server
                .post("/api/v1/tools/echo/jobs", &json!({param: text}))
                .await;
            assert_eq!(
                (status, &answer["errors"][0]["param"]),
                (422, &json!(param)),
                "{text:?}: {answer}"
            );
        }
        for param in ["query", "json"] {
            let (status, answer) = server
                .post("/api/v1/tools/echo/jobs", &json!({param: text}))
                .await;
            // Letters alone are a sequence, a million of them too.
            let is_fine =
                param == "query" && text.chars().all(|c| c.is_ascii_alphabetic() || c == '\n');
            assert_eq!(
                status,
                if is_fine { 201 } else { 422 },
                "{param} {text:?}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn files_keep_hostile_names_and_contents_out_of_the_command() {
    let server = TestServer::start(BINARY, Some(ECHO));
    for text in evil() {
        let name = text
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect::<String>();
        let part = |name: &str| {
            reqwest::multipart::Part::bytes(text.clone().into_bytes()).file_name(name.to_owned())
        };
        let form = reqwest::multipart::Form::new()
            .part("upload", part(&format!("x{name}")))
            .part("files", part("a.sh"))
            .part("files", part("../../b"));
        let answer = server
            .http
            .post(server.url("/api/v1/tools/echo/jobs?name=--help"))
            .multipart(form)
            .send()
            .await
            .unwrap();
        let job: Value = answer.json().await.unwrap();
        let id = job["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{text:?}: {job}"))
            .to_owned();
        assert_eq!(server.wait(&id).await["state"], "succeeded", "{text:?}");
        let input = server.job_folder(&id).join("input");
        let arguments = arguments(&server, &id);
        let path = |name: &str| input.join(name).to_str().unwrap().to_owned();
        assert_eq!(
            arguments[..4],
            [
                "first".to_owned(),
                "false".to_owned(),
                path("files.1.sh"),
                path("files.2")
            ],
            "{text:?}"
        );
        assert!(
            arguments[4].starts_with(&path("upload")) && !arguments[4].contains(".."),
            "{arguments:?}"
        );
        assert_eq!(arguments[5..], ["_-help", "last"], "{text:?}");
        assert_eq!(
            fs::read(&arguments[4]).unwrap(),
            text.as_bytes(),
            "{text:?}"
        );
        assert_eq!(fs::read_dir(&input).unwrap().count(), 3, "{text:?}");
    }
}

/// Bytes of the server's largest resident size so far (proc(5), `VmHWM`).
fn peak_bytes(server: &TestServer) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Streams so many MB of FASTA in records of so many lines, and gives how much the server's memory grew by it.
async fn growth_of(megabytes: usize, lines: usize) -> u64 {
    let server = TestServer::start(BINARY, Some(ECHO));
    let id = server.submit("echo", &json!({"query": ">a\nACDE\n"})).await;
    server.wait(&id).await;
    let path = server.folder().join("large.fasta");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    let sequence = format!("{}\n", "MKVLAAGDEW".repeat(6)).repeat(lines);
    let mut written = 0;
    for record in 0.. {
        let header = format!(">record{record}\n");
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(sequence.as_bytes()).unwrap();
        written += header.len() + sequence.len();
        if written >= megabytes * 1_000_000 {
            break;
        }
    }
    file.flush().unwrap();
    let before = peak_bytes(&server);
    let form = reqwest::multipart::Form::new()
        .file("query", &path)
        .await
        .unwrap();
    let answer = server
        .http
        .post(server.url("/api/v1/tools/echo/jobs"))
        .multipart(form)
        .send()
        .await
        .unwrap();
    let job: Value = answer.json().await.unwrap();
    assert!(
        job["params"]["query"]["residues"].as_u64().unwrap() > megabytes as u64 * 700_000,
        "{job}"
    );
    server.wait(job["id"].as_str().unwrap()).await;
    let growth = peak_bytes(&server) - before;
    let records = &job["params"]["query"]["records"];
    eprintln!(
        "{megabytes} MB of FASTA, {records} records: the server's memory grew by {} KiB",
        growth >> 10
    );
    growth
}

#[tokio::test]
async fn a_large_fasta_streams_through_with_the_servers_memory_flat() {
    // Records of a protein's length, and five times as many short ones: both are more ids than are kept in memory.
    for (megabytes, lines) in [(100, 16), (40, 1)] {
        assert!(growth_of(megabytes, lines).await < 12 << 20);
    }
}

#[tokio::test]
#[ignore = "writes 6 GB; `cargo xtask large` runs it"]
async fn a_gigabyte_of_fasta_streams_through_with_the_servers_memory_flat() {
    assert!(growth_of(1_000, 16).await < 12 << 20);
    // The filter of the ids is at its widest, of 32 MiB.
    assert!(growth_of(1_000, 1).await < 48 << 20);
}
