//! The schema for editors and the reader know the same keys: each is asked for the other's.

use std::collections::BTreeSet;
use std::path::Path;

use onelane_tools::{parse_tools_file, tools_file_schema};
use serde_json::Value;

fn keys(schema: &Value) -> BTreeSet<String> {
    let properties = schema["properties"].as_object().unwrap();
    properties.keys().cloned().collect()
}

/// The keys that the reader names in its answer to a key that nobody knows.
fn known_to_the_reader(text: &str) -> BTreeSet<String> {
    let errors = parse_tools_file(text, Path::new("/nowhere")).unwrap_err();
    let hint = errors.iter().find_map(|error| {
        let is_it = error.message.contains("qqqqqqqqqqqq");
        is_it.then(|| error.hint.clone().unwrap_or_default())
    });
    let hint = hint.unwrap_or_else(|| panic!("{text}: {errors:#?}"));
    hint.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The hint shows twenty keys at most; each of the schema's must be taken as known beyond those.
fn check(what: &str, schema: &Value, text: &str) {
    let (ours, theirs) = (keys(schema), known_to_the_reader(text));
    if theirs.len() < 20 {
        assert_eq!(ours, theirs, "{what}");
        return;
    }
    assert!(theirs.is_subset(&ours), "{what}: {theirs:?} {ours:?}");
    for key in ours {
        let text = text.replace("qqqqqqqqqqqq", &key);
        let errors = parse_tools_file(&text, Path::new("/nowhere"))
            .err()
            .unwrap_or_default();
        let unknown = errors
            .iter()
            .any(|error| error.message.contains("unknown key"));
        assert!(!unknown, "{what}: {key} {errors:#?}");
    }
}

#[test]
fn the_schema_and_the_reader_know_the_same_keys() {
    let schema = tools_file_schema();
    let defs = &schema["$defs"];
    check("the file", &schema, "qqqqqqqqqqqq = 1");
    check(
        "server",
        &schema["properties"]["server"],
        "[server]\nqqqqqqqqqqqq = 1",
    );
    check(
        "machine",
        &schema["properties"]["machine"],
        "[machine]\nqqqqqqqqqqqq = 1",
    );
    let tool = "[tools.t]\ncommand = [\"t\"]\n";
    check("tool", &defs["tool"], "[tools.t]\nqqqqqqqqqqqq = 1");
    check(
        "result",
        &defs["result"],
        &format!("{tool}results.r = {{ file = \"x\", qqqqqqqqqqqq = 1 }}"),
    );
    for part in ["needs", "limits", "success", "progress", "example"] {
        let text = format!("{tool}{part} = {{ qqqqqqqqqqqq = 1 }}");
        check(part, &defs["tool"]["properties"][part], &text);
    }
    for shape in defs["param"]["oneOf"].as_array().unwrap() {
        let kind = shape["properties"]["type"]["const"].as_str().unwrap();
        let text = format!("{tool}params.p = {{ type = \"{kind}\", qqqqqqqqqqqq = 1 }}");
        let mut theirs = known_to_the_reader(&text);
        theirs.insert("type".to_owned());
        assert_eq!(keys(shape), theirs, "{kind}");
    }
}
