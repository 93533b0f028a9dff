//! Running the tool, and reading what it wrote.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run of the tool left.
pub(crate) struct Outcome {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A directory with the inputs of one test.
pub(crate) struct Bench(tempfile::TempDir);

/// A row of hits.tsv by column.
pub(crate) struct Row(Vec<String>);

impl Row {
    pub(crate) fn text(&self, column: &str) -> &str {
        let index = COLUMNS.iter().position(|name| *name == column).unwrap();
        &self.0[index]
    }

    pub(crate) fn number(&self, column: &str) -> i64 {
        self.text(column).parse().unwrap()
    }

    pub(crate) fn pair(&self) -> (String, String) {
        (
            self.text("query").to_owned(),
            self.text("subject").to_owned(),
        )
    }
}

pub(crate) const COLUMNS: [&str; 13] = [
    "query",
    "subject",
    "description",
    "score",
    "bit_score",
    "identity",
    "length",
    "mismatches",
    "gaps",
    "qstart",
    "qend",
    "sstart",
    "send",
];

impl Bench {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs the tool on the files `q.fa` and `l.fa` into the directory `output`.
    pub(crate) fn search(&self, output: &str, options: &[&str]) -> Outcome {
        let files = [
            ("--query", "q.fa"),
            ("--library", "l.fa"),
            ("--output", output),
        ];
        let mut args: Vec<OsString> = files
            .iter()
            .flat_map(|(name, file)| [OsString::from(*name), self.path(file).into()])
            .collect();
        args.extend(options.iter().map(OsString::from));
        run(args)
    }

    pub(crate) fn rows(&self, output: &str) -> Vec<Row> {
        let text = fs::read_to_string(self.path(output).join("hits.tsv")).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap(), COLUMNS.join("\t"));
        let rows: Vec<Row> = lines
            .map(|line| Row(line.split('\t').map(str::to_owned).collect()))
            .collect();
        assert!(rows.iter().all(|row| row.0.len() == COLUMNS.len()));
        rows
    }
}

pub(crate) fn run(args: Vec<OsString>) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = onelane_search::run(args.into_iter(), &mut out, &mut err);
    Outcome {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// Whether the test can go on; loud when it cannot.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-h").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
            "{program} is required and missing"
        );
        writeln!(io::stderr(), "SKIPPED: {program} is not installed").unwrap();
    }
    found
}

/// Standard output of a program run in `dir`, which must succeed.
pub(crate) fn output_of(dir: &Path, program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The built-in sample's records as FASTA text; headers may hold a `>` of their own ("C->U-editing").
pub(crate) fn sample() -> Vec<String> {
    let text = std::str::from_utf8(onelane_search::SAMPLE_LIBRARY).unwrap();
    let records = text.trim().trim_start_matches('>').split("\n>");
    records.map(|record| format!(">{record}\n")).collect()
}

/// Letters that look random and are the same every time.
pub(crate) fn noise(seed: u64, alphabet: &[u8], length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    (0..length)
        .map(|_| char::from(alphabet[next() % alphabet.len()]))
        .collect()
}

pub(crate) fn reverse_complement(text: &str) -> String {
    let opposite = |letter| match letter {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        'T' => 'A',
        'R' => 'Y',
        'Y' => 'R',
        other => other,
    };
    text.chars().rev().map(opposite).collect()
}
