use std::path::Path;

use onelane_tools::{ConfigError, parse_tools_file};

fn errors(text: &str) -> Vec<ConfigError> {
    parse_tools_file(text, Path::new("/etc/onelane")).unwrap_err()
}

/// A file's text, the place of its only mistake, a part of the message and a part of the hint.
type Case = (&'static str, (usize, usize), &'static str, &'static str);

fn check(cases: &[Case]) {
    for (text, place, message, hint) in cases {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        let error = &errors[0];
        assert!(error.message.contains(message), "{text}\n{error:#?}");
        assert_eq!((error.line, error.column), *place, "{text}\n{error:#?}");
        let told = error.hint.as_deref().unwrap_or_default();
        assert!(
            told.contains(hint) && told.is_empty() == hint.is_empty(),
            "{text}\n{error:#?}"
        );
    }
}

const OUTSIDE_OF_PARAMETERS: &[Case] = &[
    (
        "[tools.a]\nworker = []",
        (2, 10),
        "`worker` names no program",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\ncommand = [\"a\"]",
        (3, 1),
        "`command` has no place here",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\nstdin = \"x\"",
        (3, 1),
        "`stdin` has no place here",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\nkeep = \"often\"",
        (3, 8),
        "`often` is not a span of time",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\nmax_jobs = 0",
        (3, 12),
        "a whole number of at least 1",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\nworkdir = \"output\"",
        (3, 11),
        "stays in one folder",
        "",
    ),
    (
        "[tools.a]\nworker = [\"w\"]\nsuccess = { exit_codes = [0, 1] }",
        (3, 11),
        "has no exit code",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nkeep = \"10m\"",
        (3, 1),
        "it belongs to `worker`",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\", { when = \"dbb\", args = [] }]\nparams.db.type = \"text\"",
        (2, 26),
        "no parameter `dbb`",
        "`db`",
    ),
    (
        "[tools.a]\ncommand = [\"a\", { wen = \"db\", args = [] }]",
        (2, 19),
        "unknown key `wen`",
        "`when`",
    ),
    (
        "[tools.a]\ncommand = [\"a\", { each = \"db\", args = [] }]\nparams.db.type = \"text\"",
        (2, 26),
        "`db` is no list",
        "",
    ),
    (
        "[tools.a]\ncommand = [{ when = \"db\", args = [\"x\"] }]\nparams.db.type = \"text\"",
        (2, 12),
        "the program itself",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\", \"{fs}\"]\nparams.fs.type = \"files\"",
        (2, 17),
        "holds several files",
        "each",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nstdin = \"{qury}\"\nparams.query.type = \"fasta\"",
        (3, 9),
        "`{qury}` is not known",
        "`query`",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nenv.ONELANE_X = \"1\"",
        (3, 5),
        "the server's own",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nenv.X = 1",
        (3, 9),
        "not the number `1`",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nenv.X = { fil = \"x\" }",
        (3, 11),
        "unknown key `fil`",
        "`file`",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nworkdir = \"tmp\"",
        (3, 11),
        "no folder to run in",
        "`output`",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nsuccess = { exit_codes = [] }",
        (3, 26),
        "one number or more",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nprogress = { pattern = \"%\" }",
        (3, 12),
        "one group or two",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nexample.params = { x = 1 }",
        (3, 20),
        "no parameter `x`",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nexample.params = {}\nexample.expect.hits.contains = \"x\"",
        (4, 16),
        "no result `hits`",
        "",
    ),
    (
        "include = \"nothing/*.toml\"",
        (1, 11),
        "no file is there",
        "",
    ),
    (
        "[tools.reload]\ncommand = [\"a\"]",
        (1, 8),
        "a meaning of its own",
        "",
    ),
    ("[server\n", (1, 8), "", ""),
    ("[sever]\n", (1, 2), "unknown key `sever`", "`server`"),
    (
        "[server]\nlistn = \"a:1\"",
        (2, 1),
        "unknown key `listn`",
        "`listen`",
    ),
    (
        "[server]\nlisten = \"8000\"",
        (2, 10),
        "no address and port",
        "127.0.0.1:8000",
    ),
    (
        "[server]\ndefault_tool = \"blastp\"",
        (2, 16),
        "no tool `blastp`",
        "`search`",
    ),
    (
        "[server]\nlisten = 8000",
        (2, 10),
        "text is expected here, not the number `8000`",
        "",
    ),
    (
        "[machine]\nmemory = \"64GB\"",
        (2, 10),
        "`64GB` is not an amount",
        "",
    ),
    ("[machine]\ncpus = 0", (2, 8), "at least one processor", ""),
    ("[machine]\ngpus = [1, 0, 1]", (2, 8), "is there twice", ""),
    ("tools = 1", (1, 9), "a table is expected", ""),
    (
        "[tools.BLAST]\ncommand = [\"a\"]",
        (1, 8),
        "`BLAST` can't be",
        "small letters",
    ),
    ("[tools.a]\ntitle = \"A\"", (1, 8), "has no `command`", ""),
    (
        "[tools.a]\ncomand = [\"a\"]",
        (2, 1),
        "unknown key `comand`",
        "`command`",
    ),
    ("[tools.a]\ncommand = []", (2, 11), "names no program", ""),
    (
        "[tools.a]\ncommand = \"a b\"",
        (2, 11),
        "a list is expected here, not the text `a b`",
        "each a text of its own",
    ),
    (
        "[tools.a]\ncommand = [\"ä\", \"{qury}\"]\nparams.query.type = \"fasta\"",
        (2, 17),
        "`{qury}` is not known",
        "`query`",
    ),
    (
        "[tools.a]\ncommand = [\"awk\", \"{\"]",
        (2, 19),
        "no placeholder",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\ncache = true",
        (3, 1),
        "unknown key `cache`",
        "not there yet",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nlimits = { time = \"2 weeks\" }",
        (3, 19),
        "`2 weeks` is not a span of time such as `90s`, `30m` or `2h`",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nlimits = { tim = \"2h\" }",
        (3, 12),
        "unknown key `tim`",
        "`time`",
    ),
    (
        "[server]\nprocess_control = \"cgroups\"\n[tools.a]\ncommand = [\"a\"]",
        (2, 19),
        "`cgroups` is not one of",
        "`cgroup`",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nversion = []",
        (3, 11),
        "names no program",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\non_interrupt = \"restrat\"",
        (3, 16),
        "not one of `restart`, `fail`",
        "`restart`",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nneeds = { cpu = 1 }",
        (3, 11),
        "unknown key `cpu`",
        "`cpus`",
    ),
    (
        "[machine]\ncpus = 2\n[tools.a]\ncommand = [\"a\"]\nneeds = { cpus = 4 }",
        (5, 18),
        "could never start",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nexit_codes = { 0 = \"good\" }",
        (3, 16),
        "not the exit code",
        "1 to 255",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nresults.r = { file = \"../x\" }",
        (3, 22),
        "inside the output folder",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nresults.r = { view = \"text\" }",
        (3, 13),
        "`file` is missing",
        "",
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nlibrary = \"x\"",
        (3, 1),
        "has no place here",
        "",
    ),
    (
        "[tools.a]\nbuiltin = \"search\"\ncommand = [\"a\"]",
        (3, 1),
        "has no place here",
        "",
    ),
    (
        "[tools.a]\nbuiltin = \"serach\"",
        (2, 11),
        "no built-in tool",
        "`search`",
    ),
];

#[test]
fn mistakes_outside_of_parameters_are_told_with_their_place() {
    check(OUTSIDE_OF_PARAMETERS);
}

/// A parameter's name and table, then as above.
type ParamCase = (
    &'static str,
    &'static str,
    (usize, usize),
    &'static str,
    &'static str,
);

const IN_PARAMETERS: &[ParamCase] = &[
    (
        "Query",
        "type = \"fasta\"",
        (3, 17),
        "`Query` can't be",
        "small letters",
    ),
    (
        "output",
        "type = \"text\"",
        (3, 17),
        "meaning of its own",
        "",
    ),
    ("wait", "type = \"text\"", (3, 17), "meaning of its own", ""),
    ("p", "min = 1", (3, 17), "has no `type`", ""),
    (
        "p",
        "type = \"fsta\"",
        (4, 8),
        "`fsta` is no type",
        "`fasta`",
    ),
    (
        "p",
        "type = \"fasta\"\nmax_record = 1",
        (5, 1),
        "unknown key `max_record`",
        "`max_records`",
    ),
    (
        "p",
        "type = \"fasta\"\nmax_records = 0",
        (5, 15),
        "at least 1",
        "",
    ),
    (
        "p",
        "type = \"fasta\"\nalphabet = \"protien\"",
        (5, 12),
        "`protien` is not one of",
        "`protein`",
    ),
    (
        "p",
        "type = \"number\"\nmin = 2\nmax = 1",
        (5, 7),
        "above `max`",
        "",
    ),
    ("p", "type = \"number\"\nmax = inf", (5, 7), "finite", ""),
    (
        "p",
        "type = \"number\"\ndefault = nan",
        (5, 11),
        "the default",
        "",
    ),
    (
        "p",
        "type = \"integer\"\nmin = 1\ndefault = 0",
        (6, 11),
        "the default must be at least 1",
        "",
    ),
    (
        "p",
        "type = \"integer\"\ndefault = 1.5",
        (5, 11),
        "a whole number is expected here, not the number `1.5`",
        "",
    ),
    (
        "p",
        "type = \"text\"\ndefault = \"-x\"",
        (5, 11),
        "must not begin with `-`",
        "",
    ),
    (
        "p",
        "type = \"text\"\nmin_length = 5\nmax_length = 4",
        (5, 14),
        "above `max_length`",
        "",
    ),
    (
        "p",
        "type = \"text\"\nmax_length = 1_000_000",
        (5, 14),
        "131071",
        "",
    ),
    (
        "p",
        "type = \"choice\"\nchoices = []",
        (5, 11),
        "at least one choice",
        "",
    ),
    (
        "p",
        "type = \"choice\"",
        (3, 17),
        "in `choices` or by `choices_from`",
        "",
    ),
    (
        "p",
        "type = \"choice\"\nchoices = [\"a\", \"a\"]",
        (5, 11),
        "is there twice",
        "",
    ),
    (
        "p",
        "type = \"choice\"\nchoices = [\"a\"]\ndefault = \"b\"",
        (6, 11),
        "must be one of `a`",
        "",
    ),
];

#[test]
fn mistakes_in_parameters_are_told_with_their_place() {
    for (name, body, place, message, hint) in IN_PARAMETERS {
        let text = format!("[tools.a]\ncommand = [\"a\"]\n[tools.a.params.{name}]\n{body}");
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        let error = &errors[0];
        assert!(error.message.contains(message), "{text}\n{error:#?}");
        assert_eq!((error.line, error.column), *place, "{text}\n{error:#?}");
        let told = error.hint.as_deref().unwrap_or_default();
        assert!(told.contains(hint), "{text}\n{error:#?}");
    }
}

#[test]
fn only_a_choice_picks_the_program() {
    let of = |kind: &str| {
        format!(
            "[tools.a]\ncommand = [\"{{p}}\"]\nparams.p = {{ type = \"{kind}\"{} }}",
            if kind == "choice" {
                ", choices = [\"x\"]"
            } else {
                ""
            }
        )
    };
    assert!(parse_tools_file(&of("choice"), Path::new("/")).is_ok());
    assert!(
        errors(&of("text"))[0]
            .message
            .contains("can't pick the program")
    );
}

#[test]
fn a_flag_with_an_argument_stands_alone() {
    let text = "[tools.a]\ncommand = [\"a\", \"x{f}\"]\nparams.f = { type = \"flag\", argument = \"--f\" }";
    assert!(
        errors(text)[0]
            .message
            .contains("must be an argument alone")
    );
}

#[test]
fn one_mistake_does_not_hide_the_others() {
    let text = r#"
[server]
listn = "x"
[tools.a]
command = ["a", "{x}", "{p}"]
params.p = { type = "integer", min = 3, max = 2 }
[tools.b]
comand = []
"#;
    let lines: Vec<_> = errors(text).iter().map(|error| error.line).collect();
    assert_eq!(lines, [3, 5, 6, 8]);
}

/// A file's text, and the place and a part of the message of each of its mistakes.
type ManyCase = (&'static str, &'static [((usize, usize), &'static str)]);

const MANY: &[ManyCase] = &[
    (
        "[tools.a]\ncommand = [\"a\"]\n[tools.a.params.p]\ntype = \"fasta\"\nalphabet = \"protien\"\nmax_record = 100\nmax_residues = 0",
        &[
            ((5, 12), "`protien` is not one of"),
            ((6, 1), "unknown key `max_record`"),
            ((7, 16), "at least 1"),
        ],
    ),
    (
        "[tools.a]\ncommand = \"blastp\"\nneeds = { cpus = \"4\", memory = \"16 Gigs\" }\nlimits = { time = 60 }\nstdin = \"{x}\"",
        &[
            ((2, 11), "a list is expected here, not the text `blastp`"),
            ((3, 18), "a whole number is expected here, not the text `4`"),
            ((3, 32), "`16 Gigs` is not an amount of memory"),
            (
                (4, 19),
                "a span of time such as `90s`, `30m` or `2h` is expected here, not the number `60`",
            ),
            ((5, 9), "`{x}` is not known"),
        ],
    ),
    (
        "[server]\nlisten = \"localhost:8000x\"\ndisk_floor = \"lots\"\ndefault_tool = \"nope\"\nprocess_control = \"docker\"",
        &[
            ((2, 10), "no address and port"),
            ((3, 14), "`lots` is not an amount of memory"),
            ((4, 16), "no tool `nope`"),
            ((5, 19), "`docker` is not one of"),
        ],
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\n[tools.a.results.r]\nfile = \"../out.txt\"\nview = \"tabel\"\ncolumns = 3",
        &[
            ((4, 8), "not a path inside"),
            ((5, 8), "`tabel` is not one of"),
            ((6, 11), "a list is expected here, not the number `3`"),
        ],
    ),
    (
        "[tools.a]\ncommand = [\"a\", 5, { when = \"nope\", if = 1, args = [\"{y}\", true] }, { args = [\"{z}\"] }, { when = 1, args = [] }]",
        &[
            ((2, 17), "not the number `5`"),
            ((2, 29), "no parameter `nope`"),
            ((2, 37), "unknown key `if`"),
            ((2, 53), "`{y}` is not known"),
            ((2, 60), "text is expected here, not `true`"),
            ((2, 69), "either `when` or `each`"),
            ((2, 79), "`{z}` is not known"),
            (
                (2, 98),
                "a parameter's name, or a table from names to values, is expected here",
            ),
        ],
    ),
    // What follows from a mistake alone is not told.
    (
        "[tools.a]\ncommand = [5]\nversion = [6]\nsuccess = { exit_codes = [\"x\"], file = \"/x\" }",
        &[
            ((2, 12), "not the number `5`"),
            ((3, 12), "not the number `6`"),
            ((4, 27), "not the text `x`"),
            ((4, 40), "not a path inside"),
        ],
    ),
    (
        "[tools.a]\ncomand = [\"a\"]\nresults.r = { fil = \"x\", columns = [\"a\"] }\nresults.s = { file = 1, columns = [\"a\"] }",
        &[
            ((2, 1), "unknown key `comand`"),
            ((3, 15), "unknown key `fil`"),
            ((3, 36), "`columns` belong"),
            ((4, 22), "not the number `1`"),
            ((4, 35), "`columns` belong"),
        ],
    ),
    (
        "[tools.a]\ncommand = [\"a\", { each = \"p\", args = [\"{p}\"] }]\n[tools.a.params]\np = { type = \"fils\" }\nq = { type = \"choice\", choices = 3, default = \"b\" }\nr = { type = \"text\", max_length = \"9\", min_length = 20_000 }\n[tools.a.example]\nparams = { p = \"x\", s = 1 }",
        &[
            ((4, 14), "`fils` is no type"),
            ((5, 34), "a list of texts, or a table"),
            ((6, 35), "a whole number is expected here, not the text `9`"),
            ((8, 21), "no parameter `s`"),
        ],
    ),
    (
        "[tools.a]\ncommand = [\"a\"]\nneeds.cpus = -1\nneeds.gpus = 1.5\nlimits.processes = 5_000_000_000\ngrace = 1979-05-27\nlimits.log = true\nhelp = [\"x\"]\nprogress = \"([0-9])\"",
        &[
            (
                (3, 14),
                "a whole number of at least 0 is expected here, not the number `-1`",
            ),
            (
                (4, 14),
                "a whole number is expected here, not the number `1.5`",
            ),
            ((5, 20), "whole number"),
            ((6, 9), "not a date or time"),
            ((7, 14), "not `true`"),
            ((8, 8), "text is expected here, not a list"),
            ((9, 12), "a table is expected here, not the text `([0-9])`"),
        ],
    ),
    (
        "[machine]\ncpus = \"all\"\ngpus = [0, \"1\", 0]\n[tools.a]\ncommand = [\"a\"]\ninclude = [\"x.toml\"]",
        &[
            ((2, 8), "not the text `all`"),
            ((3, 12), "not the text `1`"),
            ((6, 1), "unknown key `include`"),
        ],
    ),
];

#[test]
fn every_mistake_of_a_table_is_told_at_its_place_in_words_of_no_programming_language() {
    for (text, expected) in MANY {
        let errors = errors(text);
        let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
        let wanted: Vec<_> = expected.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, wanted, "{text}\n{errors:#?}");
        for (error, (_, message)) in errors.iter().zip(*expected) {
            assert!(error.message.contains(message), "{message}\n{error:#?}");
            for word in [
                "u32", "i64", "sequence", "map", "floating", "string", "struct ",
            ] {
                assert!(!error.message.contains(word), "{error:#?}");
            }
        }
    }
}

#[test]
fn an_include_after_a_table_is_told_where_it_belongs() {
    for text in [
        "[server]\ninclude = [\"x.toml\"]",
        "[tools.a]\ncommand = [\"a\"]\ninclude = [\"x.toml\"]",
        "[tools.a]\ncommand = [\"a\"]\n[tools.a.params.p]\ntype = \"text\"\ninclude = [\"x.toml\"]",
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let hint = "put `include` before the first `[table]`";
        assert_eq!(errors[0].hint.as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn graphics_processors_that_no_machine_section_names_are_none() {
    let tool = "[tools.a]\ncommand = [\"a\"]\nneeds = { cpus = 64, gpus = 2 }";
    for (machine, hint) in [
        ("", true),
        ("[machine]\ncpus = 64", true),
        ("[machine]\ngpus = [0]", false),
    ] {
        let errors = errors(&format!("{tool}\n{machine}"));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert_eq!((errors[0].line, errors[0].column), (3, 29));
        let there = u8::from(!hint);
        let message = format!(
            "could never start: it needs 2 graphics processors, and `[machine]` has {there}"
        );
        assert!(errors[0].message.contains(&message), "{errors:#?}");
        assert_eq!(errors[0].hint.is_some(), hint, "{errors:#?}");
    }
    // Where the section can't be read, that is all that is told.
    for machine in [
        "[machin]\ngpus = [0, 1]",
        "[machine]\ngpu = [0, 1]",
        "[machine]\ngpus = \"two\"",
    ] {
        let errors = errors(&format!("{tool}\n{machine}"));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].line > 3, "{errors:#?}");
    }
    let two = format!("{tool}\n[machine]\ngpus = [0, 1]");
    assert!(parse_tools_file(&two, Path::new("/")).is_ok());
}

#[test]
fn a_tool_that_needs_more_than_the_machine_has_is_a_warning_unless_the_file_says_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("onelane.toml");
    let load = |machine: &str| {
        let text = format!(
            "[tools.a]\ncommand = [\"a\"]\nneeds = {{ cpus = 64, memory = \"2T\" }}\n[tools.b]\ncommand = [\"b\"]\nneeds = {{ cpus = 4, memory = \"8G\" }}\n{machine}"
        );
        std::fs::write(&path, text).unwrap();
        onelane_tools::load_tools_file(&path, "onelane", crate::HARDWARE).unwrap()
    };
    let warnings = load("").warnings;
    let places: Vec<_> = warnings.iter().map(|w| (w.line, w.column)).collect();
    assert_eq!(places, [(3, 18), (3, 31)]);
    for (warning, words) in warnings.iter().zip([
        "needs 64 processors, and this machine has 4: its jobs start only when no other runs, and `{cpus}` is 64",
        "needs 2199023255552 bytes of memory, and this machine has 8589934592",
    ]) {
        assert!(warning.is_warning && warning.message.contains(words), "{warning:#?}");
    }
    let declared = load("[machine]\ncpus = 64");
    assert_eq!(declared.warnings.len(), 1, "{:#?}", declared.warnings);
    assert_eq!(declared.warnings[0].column, 31);
}

#[test]
fn a_key_that_is_there_twice_is_named_with_the_line_of_the_first() {
    for (text, place, message) in [
        (
            "[tools.a]\ncommand = [\"a\"]\ntitle = \"x\"\ntitle = \"y\"",
            (4, 1),
            "key `title` is there already, in line 3",
        ),
        (
            "[tools.a]\ncommand = [\"a\"]\n[tools.b]\ncommand = [\"b\"]\n[tools.a]\ntitle = \"x\"",
            (5, 8),
            "key `a` is there already, in line 1",
        ),
        (
            "[tools.a]\ncommand = [\"a\"]\nneeds = { cpus = 1, cpus = 2 }",
            (3, 21),
            "key `cpus` is there already, in line 3",
        ),
        (
            "[tools.a]\ncommand = [\"a\"]\nenv.A = \"1\"\n[tools.a.env]\nB = \"2\"",
            (4, 10),
            "key `env` is there already, in line 3",
        ),
        (
            "[tools.a]\ncommand = [\"a\"]\nenv.A = \"1\"\nenv.\"A\" = \"2\"",
            (4, 5),
            "is there already, in line 3",
        ),
        (
            "[tools.a]\ncommand = [\"a\", { each = \"fs\", each = \"fs\", args = [] }]\nparams.fs.type = \"files\"",
            (2, 32),
            "key `each` is there already, in line 2",
        ),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        assert_eq!((errors[0].line, errors[0].column), place, "{text}");
        assert!(errors[0].message.contains(message), "{text}\n{errors:#?}");
    }
    // It hides nothing else.
    let errors = errors("[tools.a]\ncommand = [\"a\", \"{x}\"]\nhelp = \"x\"\nhelp = 1");
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 4], "{errors:#?}");
}

#[test]
fn a_file_that_is_no_toml_is_told_one_mistake_a_line() {
    let errors = errors("[server]\nlisten = \"abc\ndata = foo\n[tools.a\ncommand = = 1");
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
    assert_eq!(places, [(2, 14), (3, 8), (4, 9), (5, 11)], "{errors:#?}");
}

#[test]
fn each_pattern_of_include_has_its_own_place() {
    let text = "include = [\"a.toml\", 5,\n  \"b/*.toml\", \"[\"]";
    let errors = errors(text);
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
    assert_eq!(places, [(1, 12), (1, 22), (2, 3), (2, 15)], "{errors:#?}");
    assert!(
        errors[1].message.contains("not the number `5`"),
        "{errors:#?}"
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_told_where() {
    let folder = tempfile::tempdir().unwrap();
    let [main, other] = ["onelane.toml", "other.toml"].map(|name| folder.path().join(name));
    let latin = b"# \xc3\xa9\n[tools.a]\ntitle = \"\xc3\xa9\xe9\"\ncommand = [\"a\"]";
    std::fs::write(&other, latin).unwrap();
    std::fs::write(&main, "include = \"other.toml\"").unwrap();
    for (path, file) in [(&other, None), (&main, Some(&other))] {
        let errors = onelane_tools::load_tools_file(path, "onelane", crate::HARDWARE).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let error = &errors[0];
        assert_eq!(
            (error.line, error.column, error.file.as_ref()),
            (3, 11, file)
        );
        assert!(
            error.message.contains("0xE9") && error.hint.is_some(),
            "{error:#?}"
        );
    }
}

/// Whatever is wrong with a file, it is told, at a place that is there.
#[test]
fn a_file_with_one_character_less_more_or_other_is_read_or_told_what_is_wrong() {
    let whole = "[machine]\ngpus = [0]\n[server]\nlisten = \"x:1\"\nhosts = [\"a\"]\n[tools.a]\ncommand = [\"a\", { when = { q = \"x\" }, args = [\"{p}\"] }, { each = \"r\", args = [] }]\n\
                 needs = { cpus = 1, memory = \"1G\", gpus = 1 }\nsuccess = { exit_codes = [0, 1] }\nenv.A = { file = \"/x\" }\n\
                 [tools.a.params]\np = { type = \"text\", default = \"é\" }\nq.type = \"choice\"\nq.choices = { x = \"y\" }\nr = { type = \"choices\", choices = [\"a\"] }\n\
                 [tools.a.results.out]\nfile = \"o\"\nview = \"table\"\n[tools.a.example]\nparams = { p = \"x\" }\nexpect.out.min_bytes = 1\n";
    assert!(parse_tools_file(whole, Path::new("/")).is_ok());
    let mut refused = 0;
    for (at, character) in whole.char_indices() {
        let (before, after) = (&whole[..at], &whole[at + character.len_utf8()..]);
        for (put, rest) in [
            ("", after),
            ("1", after),
            ("x", after),
            ("\"", &whole[at..]),
            ("=", &whole[at..]),
            ("é", &whole[at..]),
        ] {
            let text = format!("{before}{put}{rest}");
            let Err(errors) = parse_tools_file(&text, Path::new("/")) else {
                continue;
            };
            refused += 1;
            assert!(!errors.is_empty() && errors.len() <= 50, "{text}");
            for error in &errors {
                let line = text.split('\n').nth(error.line - 1).unwrap();
                assert!(
                    (1..=line.chars().count() + 1).contains(&error.column),
                    "{error:#?}\n{text}"
                );
                assert!(!error.is_warning && !error.message.is_empty(), "{error:#?}");
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn a_file_full_of_mistakes_is_told_the_first_fifty() {
    use std::fmt::Write as _;
    let mut text = "[tools.a]\ncommand = [\"a\"]\n".to_owned();
    for key in 0..200 {
        writeln!(text, "key_{key} = 1").unwrap();
    }
    let lines: Vec<_> = errors(&text).iter().map(|error| error.line).collect();
    assert_eq!(lines, (3..53).collect::<Vec<_>>());
}

#[test]
fn an_error_reads_as_a_sentence_with_its_hint() {
    let error = &errors("[sever]")[0];
    assert_eq!(
        error.to_string(),
        "line 1, column 2: unknown key `sever`\nhint: did you mean `server`?"
    );
}
