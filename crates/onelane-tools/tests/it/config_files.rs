use std::path::Path;

use onelane_core::OnInterrupt;
use onelane_tools::{Param, ToolDefinition, View, builtin_search, parse_tools_file};
use serde_json::json;

use crate::tool;

const BLASTP: &str = r#"
[server]
listen = "127.0.0.1:8000"
data   = "data"
jobs   = "/srv/jobs"
default_tool = "blastp"
hosts = ["blast.example.org"]
disk_floor = "2G"

[machine]
cpus = 16
memory = "64G"
gpus = [0, 1]

[tools.blastp]
title   = "BLASTP"
command = ["blastp", "-query", "{query}", "-db", "{db}", "-evalue", "{evalue}",
           "-num_threads", "{cpus}", "-outfmt", "6", "-out", "{output}/hits.tsv"]
version = ["blastp", "-version"]
needs   = { cpus = 4, memory = "8G" }
limits  = { time = "2h", output = "1G" }
on_interrupt = "fail"

[tools.blastp.params.query]
type = "fasta"
alphabet = "protein"
max_records = 100
max_residues = 1_000_000

[tools.blastp.params.db]
type = "choice"
choices = { swissprot = "/db/swissprot", local = "./db/local" }

[tools.blastp.params.evalue]
type = "number"
default = 1e-3
min = 0

[tools.blastp.results.hits]
file = "hits.tsv"
view = "table"
columns = ["query", "subject"]

[tools.blastp.exit_codes]
4 = "ran out of memory"
"#;

#[test]
fn the_designs_example_without_cache_is_read() {
    let file = parse_tools_file(BLASTP, Path::new("/etc/onelane")).unwrap();
    assert_eq!(file.server.listen.as_deref(), Some("127.0.0.1:8000"));
    assert_eq!(
        file.server.data.as_deref(),
        Some(Path::new("/etc/onelane/data"))
    );
    assert_eq!(file.server.jobs.as_deref(), Some(Path::new("/srv/jobs")));
    assert_eq!(file.server.default_tool.as_deref(), Some("blastp"));
    assert_eq!(file.server.hosts, ["blast.example.org"]);
    assert_eq!(file.server.disk_floor_bytes, Some(2 << 30));
    assert_eq!(file.machine.cpus, Some(16));
    assert_eq!(file.machine.memory_bytes, Some(64 << 30));
    assert_eq!(file.machine.gpus, Some(vec![0, 1]));
    let blastp = &file.tools[0];
    assert_eq!(blastp.name, "blastp");
    assert_eq!(blastp.needs.cpus, Some(4));
    assert_eq!(blastp.needs.memory_bytes, Some(8 << 30));
    assert_eq!(blastp.on_interrupt, OnInterrupt::Fail);
    assert_eq!(
        blastp.params.keys().collect::<Vec<_>>(),
        ["query", "db", "evalue"]
    );
    assert_eq!(blastp.results["hits"].view, Some(View::Table));
    assert_eq!(blastp.exit_sentence(4), Some("ran out of memory"));
    assert_eq!(blastp.exit_sentence(5), None);
    assert_eq!(blastp.sequence_param(), Some("query"));
}

#[test]
fn limits_grace_time_and_priority_are_read() {
    let tool = tool(
        r#"
[tools.a]
command = ["a"]
limits = { time = "2h", memory = "8G", processes = 100, log = "1M", output = "1G" }
grace = "500ms"
cpu_priority = "normal"
"#,
    );
    let limits = onelane_core::Limits {
        time_ms: Some(7_200_000),
        memory_bytes: Some(8 << 30),
        processes: Some(100),
        log_bytes: Some(1 << 20),
        output_bytes: Some(1 << 30),
    };
    assert_eq!(tool.limits, limits);
    assert_eq!(tool.grace_ms(), 500);
    assert_eq!(tool.cpu_priority, onelane_core::CpuPriority::Normal);
}

#[test]
fn a_definition_survives_its_json_and_keeps_its_hash() {
    let blastp = tool(BLASTP);
    let text = serde_json::to_string(&blastp).unwrap();
    let again: ToolDefinition = serde_json::from_str(&text).unwrap();
    assert_eq!(again, blastp);
    assert_eq!(again.hash(), blastp.hash());
    let order: Vec<_> = again.params.keys().collect();
    assert_eq!(order, ["query", "db", "evalue"]);
    let other = tool(&BLASTP.replace("1e-3", "1e-4"));
    assert_ne!(other.hash(), blastp.hash());
}

#[test]
fn a_tool_without_needs_takes_the_whole_machine() {
    assert!(
        tool("[tools.a]\ncommand = [\"true\"]")
            .needs
            .is_whole_machine()
    );
}

#[test]
fn an_empty_file_is_sound() {
    assert_eq!(
        parse_tools_file("", Path::new("/")).unwrap(),
        onelane_tools::ToolsFile::default()
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    for (written, expected) in [
        (r#"["bin/run", "a/b"]"#, vec!["/etc/onelane/bin/run", "a/b"]),
        (
            r#"["./run", "./x", "../y"]"#,
            vec!["/etc/onelane/run", "/etc/onelane/x", "/etc/onelane/../y"],
        ),
        (r#"["/bin/run", "/x"]"#, vec!["/bin/run", "/x"]),
        (
            r#"["run", "./db/{output}"]"#,
            vec!["run", "/etc/onelane/db/{output}"],
        ),
    ] {
        let tool = tool(&format!(
            "[tools.a]\ncommand = {written}\nversion = [\"./v\"]"
        ));
        assert_eq!(tool.command, expected);
        assert_eq!(tool.version.unwrap(), ["/etc/onelane/v"]);
    }
}

#[test]
fn braces_in_the_files_folder_are_no_placeholders() {
    let text = "[tools.a]\ncommand = [\"./run\"]\nversion = [\"./run\"]";
    let file = parse_tools_file(text, Path::new("/srv/{x}")).unwrap();
    assert_eq!(file.tools[0].command, ["/srv/{{x}}/run"]);
    assert_eq!(file.tools[0].version.as_ref().unwrap(), &["/srv/{x}/run"]);
}

#[test]
fn choices_are_a_table_or_a_list() {
    let text = r#"
[tools.a]
command = ["a", "{m}", "{n}"]
[tools.a.params.m]
type = "choice"
choices = ["b", "a"]
[tools.a.params.n]
type = "choice"
choices = { z = "./z", y = "1" }
"#;
    let tool = tool(text);
    let pairs = |name: &str| match &tool.params[name] {
        Param::Choice(choice) => choice.choices.clone().into_iter().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(pairs("m"), [pair("b", "b"), pair("a", "a")]);
    assert_eq!(pairs("n"), [pair("z", "/etc/onelane/z"), pair("y", "1")]);
}

#[test]
fn the_built_in_search_can_be_declared() {
    let text = r#"
[tools.proteins]
builtin = "search"
library = "lib/sprot.fasta"
title = "Proteins"
needs = { cpus = 2 }
"#;
    let declared = tool(text);
    let library = Path::new("/etc/onelane/lib/sprot.fasta");
    let built_in = builtin_search("onelane", Some(library));
    assert_eq!(declared.name, "proteins");
    assert_eq!(declared.title.as_deref(), Some("Proteins"));
    assert_eq!(declared.needs.cpus, Some(2));
    assert_eq!(declared.command, built_in.command);
    assert_eq!(
        declared.command[11..],
        ["--library", "/etc/onelane/lib/sprot.fasta"]
    );
    assert_eq!(declared.params, built_in.params);
}

#[test]
fn the_demonstration_says_that_it_is_one() {
    let demo = builtin_search("/opt/{x}/onelane", None);
    for text in [demo.title, demo.help] {
        let text = text.unwrap();
        assert!(
            text.contains("demonstration") && text.contains("2,000 Swiss-Prot"),
            "{text}"
        );
    }
    assert_eq!(demo.command[0], "/opt/{{x}}/onelane");
    assert_eq!(demo.version.unwrap(), ["/opt/{x}/onelane", "--version"]);
    let real = builtin_search("onelane", Some(Path::new("/db")));
    assert!(!real.title.unwrap().contains("demonstration"));
}

#[test]
fn the_schema_tells_types_limits_and_keys_but_no_paths() {
    let schema = tool(BLASTP).schema();
    let expected = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "title": "BLASTP",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "contentMediaType": "text/x-fasta",
                "x-onelane-type": "fasta",
                "x-onelane-alphabet": "protein",
                "x-onelane-max-records": 100,
                "x-onelane-max-residues": 1_000_000,
            },
            "db": {"type": "string", "enum": ["swissprot", "local"]},
            "evalue": {"type": "number", "minimum": 0.0, "default": 0.001},
        },
        "required": ["query", "db"],
        "additionalProperties": false,
    });
    assert_eq!(schema, expected);
    assert!(!schema.to_string().contains("/db"));
}
