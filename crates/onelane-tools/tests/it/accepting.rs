use std::fs;

use onelane_tools::{
    Accepted, AcceptedContent, Given, MAX_ERRORS, ParamError, Refusal, ToolDefinition,
};
use serde_json::{Value, json};

use crate::{errors_of, tool};

fn sample() -> ToolDefinition {
    tool(
        r#"
[tools.t]
command = ["t"]
[tools.t.params.query]
type = "fasta"
alphabet = "protein"
max_records = 2
[tools.t.params.second]
type = "fasta"
optional = true
[tools.t.params.label]
type = "text"
optional = true
min_length = 2
max_length = 5
[tools.t.params.evalue]
type = "number"
default = 1e-3
min = 0
max = 100
[tools.t.params.hits]
type = "integer"
default = 50
min = 1
[tools.t.params.db]
type = "choice"
choices = { small = "/s", large = "/l" }
default = "small"
[tools.t.params.fast]
type = "flag"
"#,
    )
}

fn accept_with(extra: &[(&str, Given)]) -> Result<Accepted, Vec<ParamError>> {
    let mut given = vec![("query".to_owned(), Given::Text(">a\nMKV\n".to_owned()))];
    given.extend(
        extra
            .iter()
            .map(|(name, g)| ((*name).to_owned(), g.clone())),
    );
    sample().accept(given, "mine").map_err(errors_of)
}

fn text(text: &str) -> Given {
    Given::Text(text.to_owned())
}

#[test]
fn defaults_are_filled_in_and_absent_optionals_stay_absent() {
    let accepted = accept_with(&[]).unwrap();
    assert_eq!(
        Value::Object(accepted.params),
        json!({
            "query": {"file": "query.fasta", "records": 1, "residues": 3},
            "evalue": 0.001, "hits": 50, "db": "small", "fast": false,
        })
    );
    assert_eq!(accepted.first_record_id.as_deref(), Some("a"));
    assert_eq!(accepted.files[0].param, "query");
    assert_eq!(accepted.files[0].file, "query.fasta");
    let content = AcceptedContent::Inline(">a\nMKV\n".to_owned());
    assert_eq!(accepted.files[0].content, content);
}

#[test]
fn a_value_may_come_as_text_or_as_json() {
    let cases: &[(&str, Given, Value)] = &[
        ("evalue", text("1e-5"), json!(1e-5)),
        ("evalue", text(" 10.0 "), json!(10)),
        ("evalue", Given::Json(json!(7)), json!(7)),
        ("evalue", Given::Json(json!("0.5")), json!(0.5)),
        ("evalue", Given::Json(json!(-0.0)), json!(0)),
        ("evalue", text(""), json!(0.001)),
        ("evalue", Given::Json(Value::Null), json!(0.001)),
        ("hits", text("7"), json!(7)),
        ("hits", Given::Json(json!(7.0)), json!(7)),
        ("db", text("large"), json!("large")),
        ("fast", text("on"), json!(true)),
        ("fast", text("NO"), json!(false)),
        ("fast", Given::Json(json!(true)), json!(true)),
        ("fast", Given::Json(json!(1)), json!(true)),
        ("label", text("a b"), json!("a b")),
    ];
    for (name, given, expected) in cases {
        let accepted = accept_with(&[(name, given.clone())]).unwrap();
        assert_eq!(accepted.params[*name], *expected, "{name} {given:?}");
    }
}

#[test]
fn what_is_wrong_with_a_value_is_told() {
    let upload = Given::Upload {
        path: "/nowhere".into(),
        relative: "nowhere".into(),
        file_name: None,
    };
    let cases: &[(&str, Given, &str)] = &[
        ("evalue", text("abc"), "must be a number, not `abc`"),
        ("evalue", text("inf"), "must be a finite number"),
        ("evalue", text("nan"), "must be a finite number"),
        ("evalue", text("-1"), "must be at least 0, but is -1"),
        (
            "evalue",
            Given::Json(json!(101)),
            "must be at most 100, but is 101",
        ),
        (
            "evalue",
            Given::Json(json!([1])),
            "a number is expected here, not a list",
        ),
        ("hits", text("1.5"), "must be a whole number, not `1.5`"),
        (
            "hits",
            Given::Json(json!(1.5)),
            "must be a whole number, not 1.5",
        ),
        (
            "hits",
            Given::Json(json!(u64::MAX)),
            "must be a whole number",
        ),
        ("hits", text("0"), "must be at least 1"),
        (
            "db",
            text("/l"),
            "must be one of `small`, `large`, not `/l`",
        ),
        (
            "db",
            Given::Json(json!(1)),
            "text, one of the choices, is expected here, not a number",
        ),
        ("fast", text("maybe"), "must be true or false, not `maybe`"),
        ("label", text("-rf"), "must not begin with `-`"),
        ("label", text("a\0b"), "NUL"),
        ("label", text("a"), "at least 2"),
        ("label", text("abcdef"), "at most 5"),
        (
            "label",
            Given::Json(json!({})),
            "text is expected here, not an object",
        ),
        ("label", upload, "text is expected here, not a file"),
        ("evlaue", text("1"), "did you mean `evalue`?"),
        ("query", text("M"), "more than once"),
        (
            "second",
            Given::Json(json!(5)),
            "FASTA as text or as a file is expected here, not a number",
        ),
    ];
    for (name, given, expected) in cases {
        let errors = accept_with(&[(name, given.clone())]).unwrap_err();
        assert_eq!(errors.len(), 1, "{name} {errors:#?}");
        assert_eq!(errors[0].param.as_deref(), Some(*name));
        assert!(errors[0].message.contains(expected), "{errors:#?}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_up_to_a_limit() {
    let errors = accept_with(&[("evalue", text("x")), ("hits", text("y")), ("z", text(""))]);
    assert_eq!(errors.unwrap_err().len(), 3);
    let missing = errors_of(sample().accept(vec![], "mine").unwrap_err());
    assert_eq!(missing[0].message, "is missing");
    let many: Vec<_> = (0..80).map(|n| (format!("x{n}"), text(""))).collect();
    assert_eq!(
        errors_of(sample().accept(many, "mine").unwrap_err()).len(),
        MAX_ERRORS
    );
    let long = vec![("x".repeat(1 << 20), text(""))];
    let long = errors_of(sample().accept(long, "mine").unwrap_err());
    assert!(long.iter().all(|error| error.message.len() < 1_000));
    assert!(
        long.iter()
            .all(|error| error.param.as_ref().unwrap().len() <= 100)
    );
}

/// What takes long is done on another thread: many pairs count, though they hold nothing.
#[test]
fn what_is_accepted_at_once_is_small_with_its_names_and_its_number() {
    let at_once = |pairs: Vec<(String, Given)>| sample().accepts_at_once(&pairs, 10_000);
    assert!(at_once(vec![("query".to_owned(), text(">a\nMKV\n"))]));
    assert!(!at_once(vec![("x".repeat(20_000), text(""))]));
    assert!(!at_once(vec![("x".to_owned(), text("")); 1_000]));
}

#[test]
fn a_mistake_in_a_sequence_has_record_line_and_column() {
    let errors = accept_with(&[("second", text(">b\nMK?V\n"))]).unwrap_err();
    let error = &errors[0];
    assert_eq!(error.param.as_deref(), Some("second"));
    assert_eq!(
        (error.record, error.line, error.column),
        (Some(1), Some(2), Some(3))
    );
    assert_eq!(error.character.as_deref(), Some("?"));
}

#[test]
fn a_bare_sequence_gets_the_name_that_the_server_brings() {
    let given = vec![("query".to_owned(), text("MKV"))];
    let accepted = sample().accept(given, "mine").unwrap();
    assert_eq!(accepted.first_record_id.as_deref(), Some("mine"));
}

#[test]
fn an_upload_is_normalised_beside_the_original_and_counts_like_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-1");
    fs::write(&path, ">a\nMKV\n").unwrap();
    let upload = Given::Upload {
        path,
        relative: "x/part-1".into(),
        file_name: Some("q.fa".to_owned()),
    };
    // A page with both kinds of field sends the empty one too.
    let given = vec![("query".to_owned(), text("")), ("query".to_owned(), upload)];
    let uploaded = sample().accept(given, "mine").unwrap();
    let content = AcceptedContent::Upload("x/part-1.checked".into());
    assert_eq!(uploaded.files[0].content, content);
    let checked = fs::read_to_string(folder.path().join("part-1.checked")).unwrap();
    assert_eq!(checked, ">a\nMKV\n");
    assert_eq!(uploaded.digest, accept_with(&[]).unwrap().digest);
}

#[test]
fn an_upload_that_the_file_system_does_not_give_is_no_fault_of_the_client() {
    let gone = Given::Upload {
        path: "/nonexistent/part-1".into(),
        relative: "x/part-1".into(),
        file_name: None,
    };
    let refused = sample().accept(vec![("query".to_owned(), gone)], "mine");
    assert!(matches!(refused, Err(Refusal::Io(_))), "{refused:?}");
}

#[test]
fn a_refused_upload_leaves_only_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-1");
    fs::write(&path, ">a\nM?V\n").unwrap();
    let upload = Given::Upload {
        path,
        relative: "x/part-1".into(),
        file_name: None,
    };
    assert!(
        sample()
            .accept(vec![("query".to_owned(), upload)], "mine")
            .is_err()
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_digest_follows_meaning_not_spelling() {
    let digest = |extra: &[(&str, Given)]| accept_with(extra).unwrap().digest;
    let plain = digest(&[]);
    assert_eq!(plain.len(), 64);
    assert_eq!(digest(&[("evalue", text("0.001"))]), plain);
    assert_eq!(digest(&[("evalue", Given::Json(json!(1e-3)))]), plain);
    assert_ne!(digest(&[("evalue", text("0.01"))]), plain);
    assert_ne!(digest(&[("second", text(">a\nMKV\n"))]), plain);
    let mut other = sample();
    other.command.push("--new".into());
    let given = vec![("query".to_owned(), text(">a\nMKV\n"))];
    assert_ne!(other.accept(given, "mine").unwrap().digest, plain);
}

#[test]
fn what_the_schema_calls_required_is_what_is_missing() {
    let tool = sample();
    let schema = tool.schema();
    assert_eq!(schema["required"], json!(["query"]));
    let missing = errors_of(tool.accept(vec![], "mine").unwrap_err());
    let names: Vec<_> = missing.iter().filter_map(|e| e.param.clone()).collect();
    assert_eq!(names, ["query"]);
}
