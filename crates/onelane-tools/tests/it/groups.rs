//! Arguments that depend, standard input, environment, success: what a tools file can say beyond a plain command.

use std::fs;
use std::path::Path;

use onelane_tools::{
    Accepted, Given, Places, Stdin, ToolDefinition, Workdir, load_tools_file, parse_tools_file,
};
use serde_json::{Value, json};

use crate::{HARDWARE, errors_of, tool};

fn places() -> Places<'static> {
    Places {
        input: Path::new("/in"),
        output: Path::new("/out"),
        work: Path::new("/work"),
        cpus: 4,
        memory_bytes: 1024,
        job_id: "0190".to_owned(),
        name: "n".to_owned(),
    }
}

fn accept(tool: &ToolDefinition, params: &Value) -> Result<Accepted, String> {
    let given = params.as_object().unwrap().iter();
    let given = given.map(|(name, value)| (name.clone(), Given::Json(value.clone())));
    tool.accept(given.collect(), "x").map_err(|refusal| {
        let told: Vec<_> = errors_of(refusal)
            .into_iter()
            .map(|error| error.message)
            .collect();
        told.join("; ")
    })
}

fn line(tool: &ToolDefinition, params: &Value) -> Vec<String> {
    let accepted = accept(tool, params).unwrap();
    tool.command_line(&accepted.params, &places()).unwrap()
}

fn grouped() -> ToolDefinition {
    tool(
        r#"
[tools.t]
command = ["t", { when = "db", args = ["-db", "{db}"] }, { when = { mode = "fast", level = 1 }, args = ["--fast"] },
           { when = "quiet", args = ["-q"] }, { each = "files", args = ["--in", "{files}", "-o", "{output}/x"] },
           { when = "keys", args = ["--keys={keys}"] }, { when = { keys = "a" }, args = ["--has-a"] },
           { each = "keys", args = ["-k", "{keys}"] }]
[tools.t.params]
db = { type = "choice", choices = { x = "/db/x" }, optional = true }
mode = { type = "choice", choices = ["fast", "slow"], default = "slow" }
level = { type = "number", default = 1.0 }
quiet = { type = "flag" }
files = { type = "files", extension = ["txt", "md"], optional = true, max_count = 3 }
keys = { type = "choices", choices = { a = "/k/a", b = "B", c = "C" }, optional = true, max_count = 2 }
"#,
    )
}

#[test]
fn a_group_is_there_when_its_condition_holds() {
    let tool = grouped();
    assert_eq!(line(&tool, &json!({})), ["t"]);
    assert_eq!(
        line(&tool, &json!({"db": "x", "quiet": true})),
        ["t", "-db", "/db/x", "-q"]
    );
    assert_eq!(line(&tool, &json!({"mode": "fast"})), ["t", "--fast"]);
    assert_eq!(line(&tool, &json!({"mode": "fast", "level": 2})), ["t"]);
    assert_eq!(
        line(&tool, &json!({"quiet": false, "files": [], "keys": []})),
        ["t"]
    );
}

#[test]
fn a_group_is_there_once_for_each_member() {
    let tool = grouped();
    assert_eq!(
        line(&tool, &json!({"files": ["one", "two"]})),
        [
            "t",
            "--in",
            "/in/files.1.txt",
            "-o",
            "/out/x",
            "--in",
            "/in/files.2.txt",
            "-o",
            "/out/x"
        ]
    );
    assert_eq!(
        line(&tool, &json!({"keys": ["b", "a"]})),
        ["t", "--keys=B,/k/a", "--has-a", "-k", "B", "-k", "/k/a"]
    );
    assert!(
        accept(&tool, &json!({"files": ["1", "2", "3", "4"]}))
            .unwrap_err()
            .contains("1 to 3")
    );
    assert!(
        accept(&tool, &json!({"keys": ["a", "b", "c"]}))
            .unwrap_err()
            .contains("at most 2")
    );
    assert!(
        accept(&tool, &json!({"keys": ["a", "a"]}))
            .unwrap_err()
            .contains("twice")
    );
    assert!(
        accept(&tool, &json!({"keys": ["d"]}))
            .unwrap_err()
            .contains("one of `a`")
    );
}

#[test]
fn a_definition_survives_the_store() {
    let tool = grouped();
    let json = serde_json::to_string(&tool).unwrap();
    let read: ToolDefinition = serde_json::from_str(&json).unwrap();
    assert_eq!(read, tool);
    assert_eq!(read.hash(), tool.hash());
}

#[test]
fn standard_input_is_a_parameters_file_or_a_text() {
    let text = "[tools.t]\ncommand = [\"t\"]\nstdin = \"STDIN\"\n[tools.t.params]\n\
                query = { type = \"fasta\", optional = true }\nword = { type = \"text\", optional = true }";
    let stdin = |template: &str, params: &Value| {
        let tool = tool(&text.replace("STDIN", template));
        let accepted = accept(&tool, params).unwrap();
        tool.stdin_for(&accepted.params, &places()).unwrap()
    };
    let file = Stdin::File("/in/query.fasta".into());
    assert_eq!(stdin("{query}", &json!({"query": ">a\nAC\n"})), Some(file));
    let text = Stdin::Text("say: a\n{b}".to_owned());
    assert_eq!(stdin("say: {word}", &json!({"word": "a\n{b}"})), Some(text));
    assert_eq!(stdin("{query}", &json!({})), None);
}

#[test]
fn a_secret_is_read_at_the_start_and_stands_nowhere_in_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "swordfish\n").unwrap();
    let text = "[tools.t]\ncommand = [\"t\"]\nworkdir = \"./here\"\n[tools.t.env]\nPLAIN = \"yes\"\nTOKEN = { file = \"token\" }";
    let tool = parse_tools_file(text, folder.path())
        .unwrap()
        .tools
        .remove(0);
    assert_eq!(
        tool.workdir,
        Some(Workdir::Folder(folder.path().join("here")))
    );
    let environment = tool.environment().unwrap();
    assert_eq!(environment["PLAIN"], "yes");
    assert_eq!(environment["TOKEN"], "swordfish");
    assert!(!serde_json::to_string(&tool).unwrap().contains("swordfish"));
    fs::write(folder.path().join("token"), "sword\0fish").unwrap();
    let why = tool.environment().unwrap_err();
    assert!(
        why.contains("TOKEN") && why.contains("NUL") && !why.contains("sword"),
        "{why}"
    );
    fs::remove_file(folder.path().join("token")).unwrap();
    assert!(tool.environment().unwrap_err().contains("can't be read"));
}

#[test]
fn success_may_have_other_codes_and_required_files() {
    let tool = tool(
        "[tools.t]\ncommand = [\"t\"]\nsuccess = { exit_codes = [0, 1], file = \"a/b.tsv\" }\n\
         results.hits = { file = \"hits.tsv\", required = true }\nresults.more = { file = \"more.tsv\" }",
    );
    assert!(tool.is_success(1) && !tool.is_success(2));
    assert_eq!(
        tool.required_files().collect::<Vec<_>>(),
        ["hits.tsv", "a/b.tsv"]
    );
}

#[test]
fn files_are_included_with_their_own_folder_and_their_own_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "onelane.toml",
        "include = [\"tools.d/*.toml\"]\n[server]\ndefault_tool = \"b\"\n[tools.a]\ncommand = [\"a\"]",
    );
    write("tools.d/b.toml", "[tools.b]\ncommand = [\"./run.sh\"]");
    write("tools.d/c.toml", "[tools.c]\ncommand = [\"c\"]");
    let file = load_tools_file(&folder.path().join("onelane.toml"), "onelane", HARDWARE).unwrap();
    let names: Vec<_> = file.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let run = folder.path().join("tools.d/run.sh");
    assert_eq!(file.tools[1].command, [run.to_str().unwrap()]);

    write(
        "tools.d/c.toml",
        "[server]\n[tools.c]\ncomand = [\"c\"]\n[tools.a]\ncommand = [\"x\"]",
    );
    write("tools.d/d.toml", "[tools.d\n");
    let errors =
        load_tools_file(&folder.path().join("onelane.toml"), "onelane", HARDWARE).unwrap_err();
    let told: Vec<_> = errors
        .iter()
        .map(|error| {
            let file = error
                .file
                .as_ref()
                .map(|file| file.file_name().unwrap().to_str().unwrap());
            (file, error.line)
        })
        .collect();
    let expected = [
        (None, 1),
        (Some("c.toml"), 1),
        (Some("c.toml"), 3),
        (Some("d.toml"), 1),
    ];
    assert_eq!(told, expected, "{errors:#?}");
    assert!(errors[0].message.contains("tool `a`"), "{errors:#?}");
}

#[test]
fn databases_are_found_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[tools.t]\ncommand = [\"t\", \"{db}\"]\nparams.db = { type = \"choice\", choices_from = \"db/*.pin\", default = \"big\" }";
    fs::create_dir(folder.path().join("db")).unwrap();
    for name in ["small.pin", "small.phr", "big.v2.pin"] {
        fs::write(folder.path().join("db").join(name), "").unwrap();
    }
    let tool = parse_tools_file(text, folder.path())
        .unwrap()
        .tools
        .remove(0);
    assert_eq!(
        tool.schema()["properties"]["db"]["enum"],
        json!(["big.v2", "small"])
    );
    let path = folder.path().join("db/small").to_str().unwrap().to_owned();
    assert_eq!(line(&tool, &json!({"db": "small"})), ["t".to_owned(), path]);
    let refused = accept(&tool, &json!({})).unwrap_err();
    assert!(refused.contains("its default must be one of"), "{refused}");
}

#[test]
fn a_database_that_is_missing_is_a_warning_and_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("db/*.pin");
    let text = "[tools.t]\ncommand = [\"t\", \"{db}\", \"{more}\"]\n[tools.t.params]\ndb = { type = \"choice\", choices_from = \"db/*.pin\" }\nmore = { type = \"choices\", choices_from = \"db/*.pin\", default = [\"x\"] }";
    let mut file = parse_tools_file(text, folder.path()).unwrap();
    let places: Vec<_> = file.warnings.iter().map(|w| (w.line, w.column)).collect();
    assert_eq!(places, [(4, 40), (5, 43)]);
    let warning = &file.warnings[0];
    assert!(warning.is_warning);
    let told = warning.to_string();
    let expected = format!(
        "line 4, column 40: warning: no file is there that matches `{}`",
        pattern.display()
    );
    assert!(told.starts_with(&expected), "{told}");
    let tool = file.tools.remove(0);
    assert!(tool.params["db"].nothing_to_choose().is_some());
    let why = format!(
        "no file matches `{}`; put a database there",
        pattern.display()
    );
    for given in [json!({}), json!({"db": "a", "more": ["b"]})] {
        let refused = accept(&tool, &given).unwrap_err();
        assert_eq!(refused.matches(&why).count(), 2, "{refused}");
    }
    assert_eq!(tool.schema()["properties"]["db"]["enum"], json!([]));
}

#[test]
fn a_warning_crowds_no_mistake_out() {
    use std::fmt::Write as _;
    let mut text = "[tools.t]\ncommand = [\"t\"]\n[tools.t.params]\n".to_owned();
    for index in 0..60 {
        let db = "{ type = \"choice\", choices_from = \"/nowhere/*.x\" }";
        writeln!(text, "p{index} = {db}").unwrap();
    }
    text.push_str("q = { type = \"txt\" }");
    let errors = parse_tools_file(&text, std::path::Path::new("/")).unwrap_err();
    assert_eq!(errors.len(), 50);
    let mistakes: Vec<_> = errors.iter().filter(|e| !e.is_warning).collect();
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert_eq!(mistakes[0].line, 64);
}

/// A small generator (xorshift), so that the test is the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 16] = [
            "{a}", "{{", "}", "-out", "/", "\n.", ";", "$(id)", "`", "'", "\"", "../", "é", "x",
            "\\", "%s",
        ];
        (0..=self.below(5))
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }
}

/// One made-up job: its values, and which of them are given.
struct Made {
    a: Option<String>,
    b: Option<String>,
    files: usize,
    is_y: bool,
}

/// A random item of a command, and the arguments that it must become.
fn item(dice: &mut Dice, made: &Made) -> (&'static str, Vec<String>) {
    match dice.below(5) {
        0 => {
            let both = made.a.as_ref().zip(made.b.as_ref());
            let argument = both.map(|(a, b)| format!("<{a}|{b}>"));
            ("\"<{a}|{b}>\"", argument.into_iter().collect())
        }
        1 => {
            let argument = made.a.iter().flat_map(|a| ["-a".to_owned(), a.clone()]);
            (
                "{ when = \"a\", args = [\"-a\", \"{a}\"] }",
                argument.collect(),
            )
        }
        2 => {
            let of = |number| std::iter::once(format!("/in/f.{number}.txt")).chain(made.b.clone());
            (
                "{ each = \"f\", args = [\"{f}\", \"{b}\"] }",
                (1..=made.files).flat_map(of).collect(),
            )
        }
        3 => ("\"{{a}}{output}\"", vec!["{a}/out".to_owned()]),
        _ => {
            let argument = made.is_y.then(|| "Y $(z)".to_owned());
            (
                "{ when = { k = \"y\" }, args = [\"{k}\"] }",
                argument.into_iter().collect(),
            )
        }
    }
}

#[test]
fn any_command_has_exactly_the_arguments_that_its_items_say() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..1_000 {
        let made = Made {
            a: (dice.below(2) == 0).then(|| dice.text()),
            b: (dice.below(2) == 0).then(|| dice.text()),
            files: dice.below(4),
            is_y: dice.below(2) == 0,
        };
        let (mut items, mut expected) = (vec!["\"t\""], vec!["t".to_owned()]);
        for _ in 0..dice.below(6) {
            let (item, arguments) = item(&mut dice, &made);
            items.push(item);
            expected.extend(arguments);
        }
        let tool = tool(&format!(
            "[tools.t]\ncommand = [{}]\n[tools.t.params]\n\
             a = {{ type = \"text\", optional = true, allow_dash = true }}\n\
             b = {{ type = \"text\", optional = true, allow_dash = true }}\n\
             f = {{ type = \"files\", extension = \"txt\", optional = true }}\n\
             k = {{ type = \"choice\", choices = {{ y = \"Y $(z)\", n = \"N\" }} }}",
            items.join(", ")
        ));
        let key = if made.is_y { "y" } else { "n" };
        let params = json!({"a": made.a, "b": made.b, "k": key, "f": vec!["x"; made.files]});
        assert_eq!(line(&tool, &params), expected, "{items:?} {params}");
    }
}
