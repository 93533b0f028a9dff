//! Every type of parameter: what it takes, what it refuses, and what its JSON Schema says of that.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use onelane_tools::{AcceptedContent, Given, ParamError, ToolDefinition};
use serde_json::{Value, json};

use crate::{errors_of, tool};

fn with(declaration: &str) -> ToolDefinition {
    tool(&format!(
        "[tools.t]\ncommand = [\"t\"]\nparams.p = {{ {declaration} }}"
    ))
}

fn value(tool: &ToolDefinition, given: Given) -> Result<Value, Vec<ParamError>> {
    let accepted = tool
        .accept(vec![("p".to_owned(), given)], "x")
        .map_err(errors_of)?;
    Ok(accepted.params["p"].clone())
}

fn refused(declaration: &str, given: Given) -> String {
    let errors = value(&with(declaration), given).unwrap_err();
    assert_eq!(errors[0].param.as_deref(), Some("p"), "{errors:?}");
    errors[0].message.clone()
}

fn named(text: &str, file_name: &str) -> Given {
    Given::TextFile {
        text: text.to_owned(),
        file_name: file_name.to_owned(),
    }
}

fn upload(folder: &Path, name: &str, bytes: &[u8]) -> Given {
    let path = folder.join("0");
    fs::write(&path, bytes).unwrap();
    Given::Upload {
        path,
        relative: "id/0".into(),
        file_name: Some(name.to_owned()),
    }
}

#[test]
fn a_file_has_an_extension_a_size_and_a_beginning() {
    let declaration = r#"type = "file", extension = ["pdb", "cif"], max_size = "1K", magic = ["HEADER", "hex:00ff"]"#;
    let tool = with(declaration);
    assert_eq!(
        value(&tool, named("HEADER x", "../My Model.PDB")).unwrap(),
        json!({"file": "p.pdb", "bytes": 8, "name": "My Model.PDB"})
    );
    assert_eq!(
        value(&tool, Given::Text("HEADER".into())).unwrap(),
        json!({"file": "p.pdb", "bytes": 6})
    );
    let folder = tempfile::tempdir().unwrap();
    let accepted = tool
        .accept(
            vec![("p".to_owned(), upload(folder.path(), "a.cif", b"\0\xff."))],
            "x",
        )
        .unwrap();
    assert_eq!(accepted.files[0].file, "p.cif");
    assert_eq!(
        accepted.files[0].content,
        AcceptedContent::Upload("id/0".into())
    );
    assert!(refused(declaration, named("HEADER", "a.txt")).contains("`.pdb`, `.cif`"));
    assert!(refused(declaration, named("HEAD", "a.pdb")).contains("does not begin with"));
    assert!(refused(declaration, named(&"HEADER".repeat(200), "a.pdb")).contains("at most 1024"));
    assert!(refused(declaration, Given::Json(json!(1))).contains("a file or its content"));
    // Whatever a client calls its file, the name under `input/` is ours.
    let any = with(r#"type = "file""#);
    for (name, file) in [
        ("x.tar.gz", "p.gz"),
        ("../../etc/x", "p"),
        ("a.b/c", "p"),
        ("a.so;rm", "p"),
    ] {
        assert_eq!(
            value(&any, named("x", name)).unwrap()["file"],
            file,
            "{name}"
        );
    }
}

#[test]
fn text_may_have_to_match_a_pattern_as_a_whole() {
    let declaration = r#"type = "text", pattern = "[a-z]+|[0-9]{2}", example = "abc""#;
    let tool = with(declaration);
    for text in ["abc", "12"] {
        assert_eq!(value(&tool, Given::Text(text.into())).unwrap(), text);
    }
    for text in ["abc1", "1", "abc\n", "", "ABC"] {
        assert!(
            refused(declaration, Given::Text(text.into())).contains("must match"),
            "{text:?}"
        );
    }
}

#[test]
fn json_is_taken_as_a_value_or_as_text() {
    let declaration = r#"type = "json", max_size = 40, default = { a = [1, 2] }"#;
    let tool = with(declaration);
    let content = |given: Vec<(String, Given)>| {
        let accepted = tool.accept(given, "x").unwrap();
        assert_eq!(accepted.files[0].file, "p.json");
        match accepted.files[0].content.clone() {
            AcceptedContent::Inline(text) => text,
            AcceptedContent::Upload(_) => panic!("inline"),
        }
    };
    let of = |given| content(vec![("p".to_owned(), given)]);
    assert_eq!(content(vec![]), r#"{"a":[1,2]}"#);
    assert_eq!(of(Given::Json(json!({"b": 1}))), r#"{"b":1}"#);
    assert_eq!(of(Given::Json(json!("[1]"))), "[1]");
    assert_eq!(of(Given::Text(" {\"c\": 1}".into())), " {\"c\": 1}");
    assert!(refused(declaration, Given::Text("{".into())).contains("line 1 column"));
    assert!(refused(declaration, Given::Json(json!("x".repeat(50)))).contains("well-formed"));
    assert!(refused(declaration, Given::Json(json!(["x".repeat(50)]))).contains("at most 40"));
}

#[test]
fn fastq_is_checked_with_places() {
    let tool = with(r#"type = "fastq", max_records = 1"#);
    let good = value(&tool, Given::Text("@r\nACGT\n+\nIIII\n".into())).unwrap();
    assert_eq!(
        good,
        json!({"file": "p.fastq", "records": 1, "residues": 4})
    );
    let errors = value(&tool, Given::Text("@r\nACGT\n+\nIII\n".into())).unwrap_err();
    assert_eq!((errors[0].record, errors[0].line), (Some(1), Some(4)));
}

#[test]
fn nucleotides_are_refused_where_proteins_are_expected_unless_allowed() {
    let gene = Given::Text(format!(">a\n{}\n", "ACGT".repeat(10)));
    let message = refused(r#"type = "fasta", alphabet = "protein""#, gene.clone());
    assert!(
        message.contains("looks like nucleotides") && message.contains("allow_nucleotides"),
        "{message}"
    );
    let allowed = r#"type = "fasta", alphabet = "protein", allow_nucleotides = true"#;
    assert!(value(&with(allowed), gene).is_ok());
}

#[test]
fn sequences_may_come_compressed_but_not_as_a_bomb() {
    let folder = tempfile::tempdir().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let declaration = r#"type = "fasta""#;
    let given = upload(folder.path(), "q.fa.gz", &gzip(b">a\nACDE\n"));
    let accepted = with(declaration)
        .accept(vec![("p".to_owned(), given)], "x")
        .unwrap();
    assert_eq!(accepted.params["p"]["residues"], 4);
    assert_eq!(
        fs::read(folder.path().join("0.checked")).unwrap(),
        b">a\nACDE\n"
    );
    let mut bomb = b">a\n".to_vec();
    bomb.resize(8 << 20, b'A');
    let bomb = upload(folder.path(), "q.gz", &gzip(&bomb));
    assert!(refused(declaration, bomb).contains("a hundred times"));
    let torn = gzip(&b">a\nACDE\n".repeat(9))[..20].to_vec();
    assert!(refused(declaration, upload(folder.path(), "q.gz", &torn)).contains("damaged"));
}

#[test]
fn a_text_for_a_worker_may_be_longer_than_one_for_a_command() {
    let worker = |declaration: &str| {
        tool(&format!(
            "[tools.t]\nworker = [\"w\"]\nparams.p = {{ type = \"text\"{declaration} }}"
        ))
    };
    let command = |declaration: &str| with(&format!("type = \"text\"{declaration}"));
    let longest = |tool: &ToolDefinition| tool.schema()["properties"]["p"]["maxLength"].clone();
    let takes =
        |tool: &ToolDefinition, length: usize| value(tool, Given::Text("G".repeat(length))).is_ok();
    for (tool, most) in [
        (command(""), 10_000),
        (worker(""), 100_000),
        (worker(", max_length = 1_000_000"), 1_000_000),
        (worker(", max_length = 5"), 5),
    ] {
        assert_eq!(longest(&tool), json!(most));
        assert!(takes(&tool, most) && !takes(&tool, most + 1), "{most}");
    }
    // Two bytes each: within the length, and too long for an argument.
    let letters = || Given::Text("é".repeat(70_000));
    let refused = value(&command(", max_length = 131_071"), letters()).unwrap_err();
    assert!(
        refused[0]
            .message
            .contains("an argument holds at most 131071"),
        "{refused:?}"
    );
    assert!(value(&worker(""), letters()).is_ok());
}

#[test]
fn a_text_longer_than_can_be_passed_on_is_refused_in_the_file() {
    let errors = |line: &str| {
        let text = format!("[tools.t]\n{line}");
        onelane_tools::parse_tools_file(&text, Path::new("/")).unwrap_err()
    };
    let long = "é".repeat(70_000);
    for (line, column, message) in [
        (
            "worker = [\"w\"]\nparams.p = { type = \"text\", max_length = 1_000_001 }".to_owned(),
            42,
            "at most 1000000 characters",
        ),
        (
            "command = [\"c\"]\nparams.p = { type = \"text\", max_length = 131_072 }".to_owned(),
            42,
            "at most 131071 bytes",
        ),
        (
            format!(
                "command = [\"c\"]\nparams.p = {{ type = \"text\", default = \"{long}\", max_length = 131_071 }}"
            ),
            39,
            "at most 131071 bytes",
        ),
    ] {
        let errors = errors(&line);
        assert_eq!(errors.len(), 1, "{message}");
        assert_eq!((errors[0].line, errors[0].column), (3, column), "{message}");
        assert!(
            errors[0].message.contains(message),
            "{:?}",
            errors[0].message
        );
    }
}

#[test]
fn a_list_comes_as_repeated_fields_or_as_a_json_list() {
    let tool = with(r#"type = "choices", choices = ["a", "b"]"#);
    let fields = ["a", "b"].map(|key| ("p".to_owned(), Given::Text(key.to_owned())));
    let accepted = tool.accept(fields.to_vec(), "x").unwrap();
    assert_eq!(accepted.params["p"], json!(["a", "b"]));
    assert_eq!(
        value(&tool, Given::Json(json!(["b"]))).unwrap(),
        json!(["b"])
    );
    let files = with(r#"type = "files", min_count = 2"#);
    let given = ["one.txt", "two.md"].map(|name| ("p".to_owned(), named("x", name)));
    let accepted = files.accept(given.to_vec(), "x").unwrap();
    let names: Vec<_> = accepted
        .files
        .iter()
        .map(|file| file.file.as_str())
        .collect();
    assert_eq!(names, ["p.1.txt", "p.2.md"]);
    // The digest tells files apart, by content and by place.
    let digest = |texts: [&str; 2]| {
        let given = texts.map(|text| ("p".to_owned(), named(text, "a.txt")));
        files.accept(given.to_vec(), "x").unwrap().digest
    };
    assert_ne!(digest(["a", "b"]), digest(["b", "a"]));
}

#[test]
fn the_schema_tells_what_every_type_is() {
    let schema = |declaration: &str| with(declaration).schema()["properties"]["p"].clone();
    let text = schema(
        r#"type = "text", pattern = "a|b", title = "T", help = "H", example = "a", advanced = true"#,
    );
    assert_eq!(text["allOf"][1]["pattern"], "^(?:a|b)$");
    assert_eq!(
        (&text["title"], &text["description"]),
        (&json!("T"), &json!("H"))
    );
    assert_eq!(
        (&text["examples"], &text["x-onelane-advanced"]),
        (&json!(["a"]), &json!(true))
    );
    assert_eq!(schema(r#"type = "fastq""#)["x-onelane-type"], "fastq");
    assert_eq!(
        schema(r#"type = "file", extension = "pdb""#)["x-onelane-extension"],
        json!(["pdb"])
    );
    assert_eq!(schema(r#"type = "files""#)["anyOf"][0]["type"], "array");
    assert_eq!(
        schema(r#"type = "choices", choices = ["a"]"#)["items"]["enum"],
        json!(["a"])
    );
    assert_eq!(schema(r#"type = "json""#)["x-onelane-type"], "json");
}
