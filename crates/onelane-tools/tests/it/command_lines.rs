use std::path::Path;

use onelane_tools::{Given, Places, ToolDefinition, builtin_search};
use serde_json::{Value, json};

use crate::tool;

fn places(name: &str) -> Places<'static> {
    Places {
        input: Path::new("/jobs/1/input"),
        output: Path::new("/jobs/1/attempts/1/output"),
        work: Path::new("/jobs/1/attempts/1/work"),
        cpus: 4,
        memory_bytes: 1024,
        job_id: "0190".to_owned(),
        name: name.to_owned(),
    }
}

fn line(tool: &ToolDefinition, params: Value) -> Result<Vec<String>, String> {
    let Value::Object(params) = params else {
        panic!("{params}");
    };
    tool.command_line(&params, &places("my job"))
}

fn every_kind() -> ToolDefinition {
    tool(
        r#"
[tools.t]
command = ["t", "{query}", "{label}", "--label={label}", "[{label}|{label}]", "{evalue}", "{hits}", "{db}",
           "{fast}", "{quiet}", "{{label}}", "{output}/{name}.tsv", "{work}", "{cpus}", "{memory_bytes}", "{job_id}"]
[tools.t.params]
query = { type = "fasta" }
label = { type = "text", optional = true }
evalue = { type = "number", default = 1e-3 }
hits = { type = "integer", default = 5 }
db = { type = "choice", choices = { small = "/db/small set" } }
fast = { type = "flag", argument = "--fast" }
quiet = { type = "flag" }
"#,
    )
}

fn values(label: &str, fast: bool) -> Value {
    json!({
        "query": {"file": "query.fasta", "records": 1, "residues": 3},
        "label": label, "evalue": 0.001, "hits": 5, "db": "small", "fast": fast, "quiet": fast,
    })
}

#[test]
fn every_kind_of_placeholder_is_filled() {
    assert_eq!(
        line(&every_kind(), values("x", true)).unwrap(),
        [
            "t",
            "/jobs/1/input/query.fasta",
            "x",
            "--label=x",
            "[x|x]",
            "0.001",
            "5",
            "/db/small set",
            "--fast",
            "true",
            "{label}",
            "/jobs/1/attempts/1/output/my job.tsv",
            "/jobs/1/attempts/1/work",
            "4",
            "1024",
            "0190",
        ]
    );
}

#[test]
fn whatever_a_value_contains_it_fills_exactly_one_argument() {
    let usual = line(&every_kind(), values("x", true)).unwrap();
    for label in [
        "",
        " ",
        "a b",
        "\"",
        "'",
        "$(rm -rf /)",
        "`id`",
        "a\nb\r\n",
        "{query}",
        "{{",
        "}",
        "{}",
        "*",
        "é漢🧬",
        ";",
        "|",
        "&&",
        "\\",
        "%s",
        "--",
        "a\tb",
    ] {
        let line = line(&every_kind(), values(label, true)).unwrap();
        assert_eq!(line.len(), usual.len(), "{label:?}");
        assert_eq!(line[2], label);
        assert_eq!(line[3], format!("--label={label}"));
        assert_eq!(line[4], format!("[{label}|{label}]"));
        for (i, (now, then)) in line.iter().zip(&usual).enumerate() {
            assert!(
                (2..=4).contains(&i) || now == then,
                "{label:?} changed argument {i}"
            );
        }
    }
}

/// A small generator (xorshift), so that the test is the same each time.
fn texts(count: usize) -> impl Iterator<Item = String> {
    const LETTERS: &[char] = &[
        '{', '}', '"', '\'', ' ', '\n', '-', '$', 'a', 'é', '\\', '/',
    ];
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        usize::try_from(x >> 33).unwrap()
    };
    std::iter::repeat_with(move || {
        let length = next() % 12;
        (0..length)
            .map(|_| LETTERS[next() % LETTERS.len()])
            .collect()
    })
    .take(count)
}

#[test]
fn accepted_text_reaches_the_tool_unchanged_for_any_text() {
    let tool = tool(
        "[tools.t]\ncommand = [\"t\", \"<{a}{b}>\", \"{a}\", \"{b}\"]\n\
         params.a = { type = \"text\", allow_dash = true }\nparams.b = { type = \"text\", allow_dash = true }",
    );
    for (a, b) in texts(2_000).zip(texts(2_001).skip(1)) {
        let given = |name: &str, text: &str| (name.to_owned(), Given::Text(text.to_owned()));
        let accepted = tool
            .accept(vec![given("a", &a), given("b", &b)], "x")
            .unwrap();
        let line = tool.command_line(&accepted.params, &places("n")).unwrap();
        assert_eq!(line, ["t".to_owned(), format!("<{a}{b}>"), a, b]);
    }
}

#[test]
fn an_optional_parameter_that_is_not_given_takes_its_arguments_along() {
    let mut params = values("x", false);
    params["label"] = Value::Null;
    let line = line(&every_kind(), params).unwrap();
    assert_eq!(line[..3], ["t", "/jobs/1/input/query.fasta", "0.001"]);
    assert!(!line.contains(&"--fast".to_owned()));
    assert!(line.contains(&"false".to_owned()));
}

#[test]
fn a_jobs_name_never_becomes_an_option() {
    let tool = tool("[tools.t]\ncommand = [\"t\", \"{name}\"]");
    let line = tool.command_line(&serde_json::Map::new(), &places("--help"));
    assert_eq!(line.unwrap(), ["t", "_-help"]);
}

#[test]
fn values_that_acceptance_would_not_have_made_are_refused() {
    for (param, value) in [
        ("query", json!({"file": "../../etc/passwd"})),
        ("query", json!({"file": "a/b"})),
        ("query", json!({})),
        ("db", json!("large")),
        ("hits", json!("5")),
        ("label", json!("a\0b")),
    ] {
        let mut params = values("x", true);
        params[param] = value;
        assert!(line(&every_kind(), params).is_err(), "{param}");
    }
}

#[test]
fn the_built_in_search_becomes_a_command_of_this_program() {
    let search = builtin_search("/opt/onelane", Some(Path::new("/db/{x} y.fasta")));
    let given = vec![("query".to_owned(), Given::Text(">a\nMKV\n".to_owned()))];
    let accepted = search.accept(given, "a").unwrap();
    let line = search.command_line(&accepted.params, &places("n")).unwrap();
    let expected = "/opt/onelane tool search --query /jobs/1/input/query.fasta --output \
                    /jobs/1/attempts/1/output --threads 4 --max-hits 50 --library";
    assert_eq!(line[..12].join(" "), expected);
    assert_eq!(line[12], "/db/{x} y.fasta");
}
