//! Everything that people and programs get wrong: each mistake has its documented answer and leaves nothing behind.

use std::collections::BTreeSet;

use onelane_testkit::TestServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::BINARY;

const TOOLS: &str = r#"
[server]
default_tool = "strict"

[tools.strict]
command = ["sh", "-c", "echo hello; echo x > \"$ONELANE_OUTPUT/hits.tsv\"", "{query}", "{evalue}", "{hits}", "{label}", "{db}", "{quick}"]
[tools.strict.params]
query = { type = "fasta", alphabet = "protein", max_records = 2, max_residues = 20 }
evalue = { type = "number", default = 0.001, min = 0, max = 10 }
hits = { type = "integer", default = 5, min = 1, max = 100 }
label = { type = "text", default = "x", max_length = 10 }
db = { type = "choice", default = "a", choices = ["a", "b"] }
quick = { type = "flag" }

[tools.sleep]
command = ["sleep", "1000"]
"#;

const STRICT: &str = "/api/v1/tools/strict/jobs";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=XX";
const LIMIT: usize = 64 << 20;

/// A request and the only right answer to it.
struct Row {
    what: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    param: Option<&'static str>,
    /// Record, line, column.
    place: [Option<u64>; 3],
}

impl Row {
    fn new(
        what: &'static str,
        method: &'static str,
        path: impl Into<String>,
        status: u16,
        code: &'static str,
    ) -> Self {
        Self {
            what,
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            status,
            code,
            param: None,
            place: [None; 3],
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    fn at(mut self, record: u64, line: u64, column: u64) -> Self {
        // 0 stands for "does not apply".
        self.place = [record, line, column].map(|n| (n > 0).then_some(n));
        self
    }
}

fn get(what: &'static str, path: impl Into<String>, status: u16, code: &'static str) -> Row {
    Row::new(what, "GET", path, status, code)
}

/// A submission to the strict tool that is refused for one of its parameters.
fn refused(what: &'static str, kind: &'static str, body: &str, param: &'static str) -> Row {
    let row = Row::new(what, "POST", STRICT, 422, "bad_input");
    row.body(kind, body).param(param)
}

fn part(head: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn file(content: &[u8]) -> Vec<u8> {
    part("name=\"query\"; filename=\"q.fa\"", content)
}

fn multipart(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), b"--XX--\r\n".to_vec()].concat()
}

/// What, content, record, line, column (0: none).
type Bad = (&'static str, &'static [u8], u64, u64, u64);

/// Sent both as a JSON text (where it is UTF-8) and as an uploaded file.
const SEQUENCES: &[Bad] = &[
    ("digits only", b"42", 1, 1, 1),
    ("blanks only", b" \n\n", 0, 0, 0),
    ("an empty record", b">a\n>b\nMK\n", 1, 1, 1),
    ("an empty last record", b">a\nMK\n>b\n", 2, 3, 1),
    ("an illegal letter", b">a\nMK!V\n", 1, 2, 3),
    (
        "an illegal letter in record 2",
        b">a\nMK\n>b\nMKV\nM1M?\n",
        2,
        5,
        4,
    ),
    (
        "an illegal letter after CRLF",
        b">a\r\nMK\r\nM~\r\n",
        1,
        3,
        2,
    ),
    (
        "an illegal letter after a BOM",
        b"\xef\xbb\xbf>a\nMK#\n",
        1,
        2,
        3,
    ),
    (
        "an illegal letter after old-Mac lines",
        b">a\rMK\rM$\r",
        1,
        3,
        2,
    ),
    ("a gap", b">a\nMK-V\n", 1, 2, 3),
    ("a star in the middle", b">a\nMK*V\n", 1, 2, 3),
    ("a letter beyond ASCII", ">a\nMÜV\n".as_bytes(), 1, 2, 2),
    ("duplicate ids", b">a\nMK\n>a\nMK\n", 2, 3, 1),
    ("a NUL byte", b">a\nM\0K\n", 1, 2, 2),
    ("a NUL byte in a header", b">a\0b\nMK\n", 1, 1, 3),
    ("invalid UTF-8", b">a\nM\xffK\n", 1, 2, 2),
    ("a header without an id", b"> a\nMK\n", 1, 1, 1),
    ("a bare header", b">\nMK\n", 1, 1, 1),
    ("sequence before the first header", b"MK\n>a\nMK\n", 1, 1, 1),
    ("FASTQ", b"@r1\nMK\n+\nII\n", 0, 1, 1),
    (
        "GenBank",
        b"LOCUS       X 4 aa\nORIGIN\n 1 mkva\n//\n",
        0,
        1,
        1,
    ),
    ("damaged gzip", b"\x1f\x8b\x08\0\0\0\0\0", 0, 0, 0),
    ("UTF-16", b"\xff\xfe>\0a\0", 0, 1, 1),
    ("too many records", b">a\nMK\n>b\nMK\n>c\nMK\n", 3, 5, 1),
    (
        "too many residues",
        b">a\nMKVLAMKVLAMKVLAMKVLAM\n",
        1,
        2,
        21,
    ),
];

fn sequences() -> Vec<Row> {
    let row = |bad: &Bad, kind, body: Vec<u8>| {
        let row = Row::new(bad.0, "POST", STRICT, 422, "bad_input");
        row.body(kind, body).param("query").at(bad.2, bad.3, bad.4)
    };
    let mut rows = Vec::new();
    for bad in SEQUENCES {
        rows.push(row(bad, MULTIPART, multipart(&[file(bad.1)])));
        if let Ok(text) = std::str::from_utf8(bad.1) {
            let body = json!({"query": text}).to_string();
            rows.push(row(bad, JSON, body.into_bytes()));
        }
    }
    rows
}

fn guards() -> Vec<Row> {
    let origin = |value: &str| {
        let row = Row::new("a foreign Origin", "POST", STRICT, 403, "foreign_origin");
        row.header("Origin", value).body(FORM, "query=MK")
    };
    let host = |value: &str| {
        get("an unknown Host", "/api/v1/jobs", 403, "unknown_host").header("Host", value)
    };
    vec![
        origin("https://evil.example"),
        origin("null"),
        origin("http://127.0.0.1:1"),
        get("a cross-site fetch", "/api/v1/queue", 403, "foreign_origin")
            .header("Sec-Fetch-Site", "cross-site"),
        Row::new("a cross-site form", "POST", "/", 403, "foreign_origin")
            .header("Sec-Fetch-Site", "cross-site")
            .body(FORM, "query_name=a&query_sequence=MK"),
        host("evil.example"),
        host("127.0.0.1.evil.example"),
        host(""),
    ]
}

fn curl() -> Vec<Row> {
    let row = |what, path, body: &str| {
        Row::new(what, "POST", path, 422, "curl_data_file").body(FORM, body)
    };
    let stripped = ">sp|P1|X OS=Human\nMKVLA\r\nAGG\n".replace(['\r', '\n'], "");
    vec![
        row("curl -d @q.fa", STRICT, &stripped),
        row("curl -d @q.fa to the plain interface", "/", &stripped),
        row("curl -d @bare.txt", STRICT, "MKVLAAGG"),
        row("curl -d 42", STRICT, "42"),
        row("curl -d query=@q.fa", STRICT, "query=@q.fa"),
        row(
            "curl -d query_sequence=@q.fa",
            "/",
            "query_name=a&query_sequence=@q.fa",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn parameters() -> Vec<Row> {
    let twice = multipart(&[file(b">a\nMK\n"), file(b">b\nMK\n")]);
    vec![
        refused("an empty form", FORM, "", "query"),
        refused("an empty object", JSON, "{}", "query"),
        refused("an empty sequence", FORM, "query=", "query").at(0, 0, 0),
        refused("a digit-only sequence", FORM, "query=42", "query").at(1, 1, 1),
        refused(
            "bytes that aren't UTF-8 in a form",
            FORM,
            "query=M%FFK",
            "query",
        )
        .at(1, 1, 2),
        refused("an unknown parameter", FORM, "query=MK&evalu=1", "evalu"),
        refused(
            "an unknown parameter in JSON",
            JSON,
            r#"{"query":"MK","x":1}"#,
            "x",
        ),
        refused("a parameter twice", FORM, "query=MK&hits=1&hits=2", "hits"),
        refused(
            "a parameter twice in JSON",
            JSON,
            r#"{"query":"MK","query":"MV"}"#,
            "query",
        ),
        refused("a file twice", MULTIPART, "", "query").body(MULTIPART, twice),
        refused("a number for a sequence", JSON, r#"{"query":42}"#, "query"),
        refused(
            "a list for a sequence",
            JSON,
            r#"{"query":["MK"]}"#,
            "query",
        ),
        refused("null for a sequence", JSON, r#"{"query":null}"#, "query"),
        refused(
            "a list for a number",
            JSON,
            r#"{"query":"MK","evalue":[1]}"#,
            "evalue",
        ),
        refused(
            "true for a number",
            JSON,
            r#"{"query":"MK","evalue":true}"#,
            "evalue",
        ),
        refused(
            "a number for text",
            JSON,
            r#"{"query":"MK","label":1}"#,
            "label",
        ),
        refused(
            "a number for a choice",
            JSON,
            r#"{"query":"MK","db":1}"#,
            "db",
        ),
        refused("text for a flag", FORM, "query=MK&quick=perhaps", "quick"),
        refused("too small", FORM, "query=MK&evalue=-1", "evalue"),
        refused("too large", FORM, "query=MK&evalue=11", "evalue"),
        refused("NaN", FORM, "query=MK&evalue=NaN", "evalue"),
        refused("infinity", FORM, "query=MK&evalue=inf", "evalue"),
        refused("no number", FORM, "query=MK&evalue=many", "evalue"),
        refused("an integer out of range", FORM, "query=MK&hits=0", "hits"),
        refused(
            "an integer beyond 64 bits",
            FORM,
            "query=MK&hits=99999999999999999999",
            "hits",
        ),
        refused(
            "a fraction for an integer",
            JSON,
            r#"{"query":"MK","hits":1.5}"#,
            "hits",
        ),
        refused(
            "text like an option",
            FORM,
            "query=MK&label=--help",
            "label",
        ),
        refused("text too long", FORM, "query=MK&label=12345678901", "label"),
        refused("a NUL in text", FORM, "query=MK&label=a%00b", "label"),
        refused("an unknown choice", FORM, "query=MK&db=nr", "db"),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn bodies() -> Vec<Row> {
    let row = |what, kind, body: &[u8], status, code| {
        Row::new(what, "POST", STRICT, status, code).body(kind, body)
    };
    let bad = |what, kind, body| row(what, kind, body, 400, "bad_request");
    let cut = [file(b">a\nMK\n"), b"--X".to_vec()].concat();
    let in_a_file =
        b"--XX\r\nContent-Disposition: form-data; name=\"query\"; filename=\"q\"\r\n\r\n>a\nMKV";
    let not_text = multipart(&[part("name=\"label\"", b"\xff"), file(b">a\nMK\n")]);
    vec![
        bad("JSON syntax", JSON, b"{\"query\": "),
        bad("an empty JSON body", JSON, b""),
        bad("NaN in JSON", JSON, b"{\"query\":\"MK\",\"evalue\":NaN}"),
        bad("JSON that is not UTF-8", JSON, b"{\"query\":\"M\xff\"}"),
        bad("text after the JSON", JSON, b"{\"query\":\"MK\"} x"),
        row("a JSON array", JSON, b"[1]", 422, "bad_input").at(0, 1, 0),
        row("a JSON text", JSON, b"\"MK\"", 422, "bad_input").at(0, 1, 0),
        bad(
            "multipart without a boundary",
            "multipart/form-data",
            b"--XX\r\n",
        ),
        bad("multipart cut off", MULTIPART, &cut),
        bad("multipart cut off in a file", MULTIPART, in_a_file),
        bad("multipart of nothing", MULTIPART, b""),
        bad("multipart that isn't", MULTIPART, b"query=MK"),
        row(
            "a text part that isn't text",
            MULTIPART,
            &not_text,
            422,
            "bad_input",
        )
        .param("label"),
        row(
            "a part without a name",
            MULTIPART,
            &multipart(&[part("x=1", b"MK"), file(b"MK")]),
            422,
            "bad_input",
        ),
        row(
            "plain text",
            "text/plain",
            b">a\nMK\n",
            415,
            "unsupported_type",
        ),
        row("XML", "application/xml", b"<a/>", 415, "unsupported_type"),
        row(
            "a form over 64 MiB",
            FORM,
            &vec![0; LIMIT + 1],
            413,
            "body_too_large",
        ),
        row(
            "JSON over 64 MiB",
            JSON,
            &vec![b' '; LIMIT + 1],
            413,
            "body_too_large",
        ),
        row(
            "a text part over 64 MiB",
            MULTIPART,
            &multipart(&[
                file(b">a\nMK\n"),
                part("name=\"label\"", &vec![0; LIMIT + 1]),
            ]),
            413,
            "body_too_large",
        ),
    ]
}

/// `POST /api/v1/jobs`.
fn objects() -> Vec<Row> {
    let row = |what, body: Value, status, code| {
        Row::new(what, "POST", "/api/v1/jobs", status, code).body(JSON, body.to_string())
    };
    let with = |what, key: &str, value: Value| {
        let mut body = json!({"tool": "strict", "params": {"query": "MK"}});
        body[key] = value;
        row(what, body, 422, "bad_input")
    };
    vec![
        row(
            "an unknown tool",
            json!({"tool": "none"}),
            404,
            "unknown_tool",
        ),
        row("no tool", json!({"params": {}}), 422, "bad_input"),
        row("no object", json!([]), 422, "bad_input"),
        row("no parameters", json!({"tool": "strict"}), 422, "bad_input").param("query"),
        with("an unknown field", "prio", json!(1)).at(0, 1, 0),
        with("parameters in a list", "params", json!(["MK"])),
        with("a priority in words", "priority", json!("high")),
        with("a priority out of range", "priority", json!(101)).param("priority"),
        with("an empty name", "name", json!("")).param("name"),
        with("a line end in a name", "name", json!("a\nb")).param("name"),
        with("an empty tag", "tags", json!([""])).param("tag"),
        with(
            "a job to come after that isn't there",
            "after",
            json!(["ffffffff"]),
        )
        .param("after"),
        Row::new("broken JSON", "POST", "/api/v1/jobs", 400, "bad_request").body(JSON, "{"),
    ]
}

fn options() -> Vec<Row> {
    let submit = |what, query: &str| {
        let row = Row::new(what, "POST", format!("{STRICT}?{query}"), 400, "bad_query");
        row.body(FORM, "query=MK")
    };
    let list = |query: &str| {
        get(
            "a bad list option",
            format!("/api/v1/jobs?{query}"),
            400,
            "bad_query",
        )
    };
    let key = |value: &str| {
        let row = Row::new("a bad key", "POST", STRICT, 400, "bad_idempotency_key");
        row.header("Idempotency-Key", value).body(FORM, "query=MK")
    };
    vec![
        submit("priority=999", "priority=999"),
        submit("priority=x", "priority=x"),
        submit("priority twice", "priority=1&priority=2"),
        submit("an empty name in the query", "name="),
        submit("a control character in a tag", "tag=a%00"),
        submit("an unknown option", "prio=1"),
        submit("fresh=perhaps", "fresh=perhaps"),
        submit("wait=x", "wait=x"),
        submit("wait=-1", "wait=-1"),
        Row::new(
            "after=junk",
            "POST",
            format!("{STRICT}?after=junk"),
            422,
            "bad_input",
        )
        .body(FORM, "query=MK")
        .param("after"),
        list("limit=0"),
        list("limit=1001"),
        list("limit=x"),
        list("cursor=junk"),
        list("cursor=-1"),
        list("state=canceled"),
        list("id=42"),
        list("stat=queued"),
        key(""),
        key(&"k".repeat(256)),
        key("schlüssel"),
        Row::new(
            "a key's other request",
            "POST",
            STRICT,
            422,
            "idempotency_key_reused",
        )
        .header("Idempotency-Key", "used")
        .body(FORM, "query=MKV"),
        Row::new(
            "a key's other file",
            "POST",
            STRICT,
            422,
            "idempotency_key_reused",
        )
        .header("Idempotency-Key", "used")
        .body(MULTIPART, multipart(&[file(b">a\nMKVV\n")])),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn places(done: &str, running: &str, queued: &str) -> Vec<Row> {
    let of = |id: &str, rest: &str| format!("/api/v1/jobs/{id}{rest}");
    let missing = |what, rest: &str| get(what, of(done, rest), 404, "unknown_file");
    let method =
        |method, path: &str| Row::new("a wrong method", method, path, 405, "method_not_allowed");
    let alive = |what, method, path: String| Row::new(what, method, path, 409, "job_alive");
    vec![
        get("an unknown path", "/api/v2/jobs", 404, "not_found"),
        get("an unknown tool", "/api/v1/tools/none", 404, "unknown_tool"),
        Row::new(
            "a job for an unknown tool",
            "POST",
            "/api/v1/tools/none/jobs",
            404,
            "unknown_tool",
        ),
        get(
            "an unknown job",
            of("0197a000-0000-7000-8000-000000000000", ""),
            404,
            "unknown_job",
        ),
        get("a malformed id", of("zzz", ""), 404, "unknown_job"),
        get("a short end of an id", of("ab", ""), 404, "unknown_job"),
        get("an id that isn't UTF-8", of("%ff", ""), 404, "not_found"),
        get(
            "a file that isn't UTF-8",
            of(done, "/files/%ff"),
            404,
            "not_found",
        ),
        Row::new(
            "cancelling an unknown job",
            "POST",
            of("zzz", "/cancel"),
            404,
            "unknown_job",
        ),
        Row::new(
            "deleting an unknown job",
            "DELETE",
            of("zzz", ""),
            404,
            "unknown_job",
        ),
        get("an unknown log", of(done, "/logs/stdin"), 404, "not_found"),
        get(
            "an unknown attempt",
            of(done, "/attempts/9/logs/stdout"),
            404,
            "unknown_attempt",
        ),
        get(
            "attempt 0",
            of(done, "/attempts/0/logs/stdout"),
            404,
            "unknown_attempt",
        ),
        get(
            "follow=perhaps",
            of(done, "/logs/stdout?follow=perhaps"),
            400,
            "bad_query",
        ),
        get("wait=x on a job", of(done, "?wait=x"), 400, "bad_query"),
        get(
            "an unknown option on a job",
            of(done, "?wiat=1"),
            400,
            "bad_query",
        ),
        missing("an unknown file", "/files/none.tsv"),
        missing("a way out", "/files/..%2f..%2f..%2fjob.json"),
        missing("a plain way out", "/files/../stdout.log"),
        missing("a dotted way out", "/files/%2e%2e/stdout.log"),
        missing("an absolute path", "/files/%2fetc%2fpasswd"),
        missing("a NUL in a path", "/files/hits.tsv%00"),
        get(
            "a range outside a file",
            of(done, "/files/hits.tsv"),
            416,
            "bad_range",
        )
        .header("Range", "bytes=99-"),
        get(
            "a range outside a log",
            of(done, "/logs/stdout"),
            416,
            "bad_range",
        )
        .header("Range", "bytes=6-"),
        alive("files of a queued job", "GET", of(queued, "/files")),
        alive(
            "a file of a running job",
            "GET",
            of(running, "/files/hits.tsv"),
        ),
        alive(
            "an archive of a running job",
            "GET",
            of(running, "/archive.zip"),
        ),
        alive("deleting a running job", "DELETE", of(running, "")),
        alive(
            "deleting a queued job",
            "DELETE",
            of(queued, "?cancel=false"),
        ),
        Row::new(
            "cancel=perhaps",
            "DELETE",
            of(queued, "?cancel=perhaps"),
            400,
            "bad_query",
        ),
        method("PUT", "/api/v1/jobs"),
        method("DELETE", "/api/v1/queue"),
        method("GET", "/api/v1/queue/pause"),
        method("PATCH", "/"),
        method("POST", "/backlog"),
    ]
}

fn starting_point() -> Vec<Row> {
    let row =
        |what, kind, body: &str| Row::new(what, "POST", "/", 422, "bad_input").body(kind, body);
    let form = |what, body| row(what, FORM, body);
    vec![
        form("nothing", "").param("query_name"),
        form("no sequence", "query_name=a").param("query_sequence"),
        form("no name", "query_sequence=MK").param("query_name"),
        form("42", "query_name=a&query_sequence=42")
            .param("query_sequence")
            .at(1, 1, 1),
        form("an empty sequence", "query_name=a&query_sequence=").param("query_sequence"),
        form(
            "a name twice",
            "query_name=a&query_name=b&query_sequence=MK",
        )
        .param("query_name"),
        form("an unknown field", "query_name=a&query_sequence=MK&x=1").param("x"),
        form(
            "a control character in the name",
            "query_name=a%01&query_sequence=MK",
        )
        .param("name"),
        row(
            "a number as JSON",
            JSON,
            r#"{"query_name":"a","query_sequence":42}"#,
        )
        .param("query_sequence"),
        Row::new("broken JSON", "POST", "/", 400, "bad_request").body(JSON, "{"),
        Row::new("broken multipart", "POST", "/", 400, "bad_request").body(MULTIPART, "--XX\r\n"),
    ]
}

/// One request on a connection of its own, byte by byte as written here.
async fn ask(server: &TestServer, row: &Row) -> (u16, String, Vec<u8>) {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nConnection: close\r\n",
        row.method, row.path
    );
    if row.headers.iter().all(|(name, _)| *name != "Host") {
        head.extend(["Host: ", server.address(), "\r\n"]);
    }
    for (name, value) in &row.headers {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    let length = row.body.len().to_string();
    head.extend(["Content-Length: ", &length, "\r\n\r\n"]);
    let (mut from, mut to) = TcpStream::connect(server.address())
        .await
        .unwrap()
        .into_split();
    let request = [head.as_bytes(), &row.body].concat();
    let write = async {
        // A refusal may come, and the connection end, before everything was read.
        to.write_all(&request).await.ok();
    };
    let mut answer = Vec::new();
    let read = async {
        from.read_to_end(&mut answer).await.ok();
    };
    let both = async { tokio::join!(write, read) };
    tokio::time::timeout(onelane_testkit::LONG, both)
        .await
        .unwrap_or_else(|_| panic!("{}: no answer", row.what));
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("{}: no head", row.what));
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    (head[9..12].parse().unwrap(), head, body)
}

fn wrong(
    row: &Row,
    documented: &str,
    (status, head, body): (u16, String, Vec<u8>),
) -> Option<String> {
    let problem: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let error = &problem["errors"][0];
    let place = ["record", "line", "column"].map(|key| error[key].as_u64());
    let fits = |(want, got): (&Option<u64>, Option<u64>)| want.is_none() || *want == got;
    let is_right = status == row.status
        && problem["code"] == row.code
        && problem["status"] == row.status
        && head.contains("content-type: application/problem+json")
        && documented.contains(&format!("\n## {} ({})\n", row.code, row.status))
        && row.param.is_none_or(|param| error["param"] == param)
        && row.place.iter().zip(place).all(fits)
        && (status != 405 || head.contains("\nallow: "));
    let shown = String::from_utf8_lossy(&body);
    (!is_right).then(|| {
        format!(
            "{} ({} {}): {status} {shown}; expected {} {} {:?} {:?}\n",
            row.what, row.method, row.path, row.status, row.code, row.param, row.place
        )
    })
}

fn names(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[tokio::test]
async fn every_mistake_has_its_answer_and_leaves_nothing_behind() {
    let server = TestServer::start(BINARY, Some(TOOLS));
    let first = server
        .http
        .post(server.url(STRICT))
        .header("Idempotency-Key", "used");
    let first: Value = first
        .json(&json!({"query": "MK"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let done = first["id"].as_str().unwrap().to_owned();
    assert_eq!(server.wait(&done).await["state"], "succeeded");
    let running = server.submit("sleep", &json!({})).await;
    server.until(&running, "running").await;
    let queued = server.submit("sleep", &json!({})).await;

    let groups = [
        guards(),
        curl(),
        sequences(),
        parameters(),
        bodies(),
        objects(),
        options(),
        starting_point(),
    ];
    let rows: Vec<Row> = groups
        .into_iter()
        .flatten()
        .chain(places(&done, &running, &queued))
        .collect();
    let documented = include_str!("../../../../docs/errors.md");
    let mut failures = String::new();
    for row in &rows {
        let answer = ask(&server, row).await;
        failures.extend(wrong(row, documented, answer));
    }
    eprintln!("{} malformed requests", rows.len());
    assert!(rows.len() >= 80);
    assert!(failures.is_empty(), "{failures}");

    let ours = BTreeSet::from([done, running, queued]);
    let jobs = server.get("/api/v1/jobs").await;
    let listed: BTreeSet<_> = jobs["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|j| j["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ours);
    assert_eq!(
        names(&server.data().join("uploads")),
        Vec::<std::path::PathBuf>::new()
    );
    for folder in names(&server.data().join("jobs"))
        .iter()
        .flat_map(|shard| names(shard))
    {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(ours.contains(name), "{}", folder.display());
    }
}
