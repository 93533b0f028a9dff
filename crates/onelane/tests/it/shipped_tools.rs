//! Every shipped tool through a real server on real sequences, compared with the same program run directly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onelane_testkit::TestServer;
use serde_json::{Value, json};

use crate::BINARY;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data");
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools.d");
const HMMER: &str = "/usr/share/doc/hmmer/tutorial";
const MMSEQS: &str = "/usr/share/doc/mmseqs2/example-data";
const MINIMAP: &str = "/usr/share/doc/minimap2/test";
const PROGRAMS: [&str; 9] = [
    "blastp", "hmmscan", "mmseqs", "diamond", "mafft", "muscle", "clustalo", "minimap2", "seqkit",
];

/// False, and said, where a program is missing; in CI that is a failure.
fn all_are_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let missing = PROGRAMS
        .iter()
        .find(|program| !folders.iter().any(|folder| folder.join(program).is_file()));
    let files = [
        format!("{HMMER}/globins4.hmm"),
        format!("{MMSEQS}/QUERY.fasta.gz"),
    ];
    let missing = missing
        .map(|program| (*program).to_owned())
        .or_else(|| files.into_iter().find(|file| !Path::new(file).is_file()));
    let Some(missing) = missing else { return true };
    assert!(
        std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
        "this test needs {missing}"
    );
    eprintln!("SKIPPED: this test needs {missing}");
    false
}

fn sh(folder: &Path, script: &str) {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
}

/// Databases in `db/`, inputs in `in/`, the shipped files with their folder of databases replaced in `tools.d/`.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir db in out tools.d; cp {DATA}/swissprot-sample.fasta db/swissprot.fasta; cp {HMMER}/globins4.hmm db/
         gzip -dc {MINIMAP}/MT-human.fa.gz {MINIMAP}/MT-orang.fa.gz > db/mito.fna; cp {HMMER}/dna_target.fa db/target.fna
         cp {DATA}/queries.fasta in/; cp {HMMER}/MADE1.hmm {HMMER}/fn3.hmm in/
         sed 's/ *$//' {HMMER}/globins45.fa > in/globins45.fa # aligners keep the blanks after a header, we don't
         gzip -dc {MINIMAP}/MT-human.fa.gz > in/human.fa; gzip -dc {MINIMAP}/MT-orang.fa.gz > in/orang.fa
         gzip -dc {MMSEQS}/QUERY.fasta.gz | head -n 400 > in/examples.fasta; head -n 60 in/globins45.fa > in/few.fa
         cd db; hmmpress globins4.hmm; makeblastdb -in swissprot.fasta -dbtype prot -out swissprot
         makeblastdb -in mito.fna -dbtype nucl -out mito; diamond makedb --in swissprot.fasta --db swissprot
         mmseqs createdb swissprot.fasta swissprot"
    );
    sh(folder.path(), &script);
    for entry in fs::read_dir(SHIPPED).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let db = format!("\"{}/db/", folder.path().display());
        let target = folder
            .path()
            .join("tools.d")
            .join(path.file_name().unwrap());
        fs::write(target, text.replace("\"/db/", &db)).unwrap();
    }
    folder
}

/// What is submitted, and the command that says the same, run in the workshop. Results go to `out/`.
struct Case {
    tool: &'static str,
    params: &'static [(&'static str, &'static str)],
    direct: &'static str,
    results: &'static [&'static str],
}

/// The parameters' values that begin with `@` are files of the workshop.
const CASES: &[Case] = &[
    Case {
        tool: "blastp",
        params: &[("query", "@in/queries.fasta"), ("db", "swissprot")],
        direct: "blastp -query in/queries.fasta -db db/swissprot -evalue 0.001 -outfmt 6 -out out/hits.tsv",
        results: &["hits.tsv"],
    },
    Case {
        tool: "blastn",
        params: &[
            ("query", "@in/orang.fa"),
            ("db", "mito"),
            ("task", "blastn"),
        ],
        direct: "blastn -task blastn -query in/orang.fa -db db/mito -evalue 0.001 -outfmt 6 -out out/hits.tsv",
        results: &["hits.tsv"],
    },
    Case {
        tool: "blastx",
        params: &[
            ("query", "@in/human.fa"),
            ("db", "swissprot"),
            ("genetic_code", "2"),
            ("evalue", "1"),
        ],
        direct: "blastx -query in/human.fa -db db/swissprot -query_gencode 2 -evalue 1 -outfmt 6 -out out/hits.tsv",
        results: &["hits.tsv"],
    },
    Case {
        tool: "makeblastdb",
        params: &[
            ("sequences", "@db/swissprot.fasta"),
            ("title", "a; title"),
            ("parse_ids", "true"),
        ],
        direct: "makeblastdb -in db/swissprot.fasta -dbtype prot -title 'a; title' -parse_seqids -out out/database",
        results: &["database.psq", "database.phr"],
    },
    Case {
        tool: "phmmer",
        params: &[("query", "@in/queries.fasta"), ("db", "swissprot")],
        direct: "phmmer --noali --tblout out/hits.tbl -o out/report.txt in/queries.fasta db/swissprot.fasta",
        results: &["hits.tbl", "report.txt"],
    },
    Case {
        tool: "hmmsearch",
        params: &[
            ("query", "@in/fn3.hmm"),
            ("db", "swissprot"),
            ("evalue", "1000"),
        ],
        direct: "hmmsearch -E 1000 --noali --tblout out/hits.tbl -o out/report.txt in/fn3.hmm db/swissprot.fasta",
        results: &["hits.tbl", "report.txt"],
    },
    Case {
        tool: "hmmscan",
        params: &[("query", "@in/globins45.fa"), ("db", "globins4.hmm")],
        direct: "hmmscan --noali --tblout out/hits.tbl -o out/report.txt db/globins4.hmm in/globins45.fa",
        results: &["hits.tbl", "report.txt"],
    },
    Case {
        tool: "nhmmer",
        params: &[("query", "@in/MADE1.hmm"), ("db", "target")],
        direct: "nhmmer --noali --tblout out/hits.tbl -o out/report.txt in/MADE1.hmm db/target.fna",
        results: &["hits.tbl", "report.txt"],
    },
    Case {
        tool: "mmseqs-search",
        params: &[("query", "@in/queries.fasta"), ("db", "swissprot")],
        direct: "mmseqs easy-search in/queries.fasta db/swissprot out/hits.m8 tmp",
        results: &["hits.m8"],
    },
    Case {
        tool: "mmseqs-cluster",
        params: &[("sequences", "@in/examples.fasta"), ("identity", "0.3")],
        direct: "mmseqs easy-cluster in/examples.fasta out/result tmp --min-seq-id 0.3 -c 0.8",
        results: &["result_cluster.tsv"],
    },
    Case {
        tool: "diamond-blastp",
        params: &[("query", "@in/examples.fasta"), ("db", "swissprot")],
        direct: "diamond blastp --sensitive --query in/examples.fasta --db db/swissprot.dmnd --outfmt 6 --out out/hits.tsv",
        results: &["hits.tsv"],
    },
    Case {
        tool: "mafft",
        params: &[("sequences", "@in/globins45.fa")],
        direct: "mafft --auto in/globins45.fa > out/alignment.fasta",
        results: &["alignment.fasta"],
    },
    Case {
        tool: "muscle",
        params: &[("sequences", "@in/few.fa")],
        direct: "muscle -align in/few.fa -output out/alignment.fasta",
        results: &["alignment.fasta"],
    },
    Case {
        tool: "clustalo",
        params: &[("sequences", "@in/globins45.fa")],
        direct: "clustalo --infile in/globins45.fa --outfile out/alignment.fasta",
        results: &["alignment.fasta"],
    },
    Case {
        tool: "minimap2",
        params: &[
            ("reference", "@in/human.fa"),
            ("query", "@in/orang.fa"),
            ("preset", "assembly"),
        ],
        direct: "minimap2 -x asm20 -c in/human.fa in/orang.fa > out/alignments.paf",
        results: &["alignments.paf"],
    },
    Case {
        tool: "seqkit-stats",
        params: &[("sequences", "@in/globins45.fa")],
        direct: "seqkit stats --tabular --all in/globins45.fa > out/stats.tsv",
        results: &["stats.tsv"],
    },
];

/// What must differ and nothing else: HMMER's comments name paths, options, dates and times; `SeqKit`'s first column is the
/// path; what `MMseqs2`'s threads find comes in any order.
fn normalised(tool: &str, text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    match tool {
        "phmmer" | "hmmsearch" | "hmmscan" | "nhmmer" => {
            lines.filter(|line| !line.starts_with(b"#")).collect()
        }
        "seqkit-stats" => {
            let after_path = |line: Vec<u8>| {
                line.splitn(2, |byte| *byte == b'\t')
                    .last()
                    .unwrap_or_default()
                    .to_vec()
            };
            lines.map(after_path).collect()
        }
        "mmseqs-cluster" | "mmseqs-search" => {
            let mut lines: Vec<_> = lines.collect();
            lines.sort();
            lines
        }
        _ => lines.collect(),
    }
}

async fn submit(server: &TestServer, folder: &Path, case: &Case) -> String {
    let mut form = reqwest::multipart::Form::new();
    for (name, value) in case.params {
        form = match value.strip_prefix('@') {
            Some(path) => form.file(*name, folder.join(path)).await.unwrap(),
            None => form.text(*name, *value),
        };
    }
    let url = server.url(&format!("/api/v1/tools/{}/jobs", case.tool));
    let answer = server.http.post(url).multipart(form).send().await.unwrap();
    let job: Value = answer.json().await.unwrap();
    let id = job["id"].as_str();
    id.unwrap_or_else(|| panic!("{}: {job}", case.tool))
        .to_owned()
}

/// Runs the cases of these tools, through a server and directly.
async fn compare(wanted: &[&str]) {
    if !all_are_there() {
        return;
    }
    let workshop = workshop();
    let folder = workshop.path();
    let include = format!("include = \"{}/tools.d/*.toml\"", folder.display());
    let server = TestServer::start(BINARY, Some(&include));
    let tools = server.get("/api/v1/tools").await;
    let names = tools["tools"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|tool| tool["name"].as_str().unwrap()).collect();
    let mut tested: Vec<_> = CASES.iter().map(|case| case.tool).collect();
    tested.sort_unstable();
    assert_eq!(names, tested, "each shipped tool has a case");
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| wanted.contains(&case.tool))
        .collect();
    assert_eq!(cases.len(), wanted.len());
    for case in cases {
        let id = submit(&server, folder, case).await;
        let job = server.wait(&id).await;
        let stderr = fs::read_to_string(server.job_folder(&id).join("attempts/1/stderr.log"));
        assert_eq!(job["state"], "succeeded", "{job}\n{stderr:?}");
        sh(
            folder,
            &format!("rm -rf out tmp; mkdir out; {}", case.direct),
        );
        for result in case.results {
            let through = fs::read(
                server
                    .job_folder(&id)
                    .join("attempts/1/output")
                    .join(result),
            )
            .unwrap();
            let direct = fs::read(folder.join("out").join(result)).unwrap();
            assert!(direct.len() > 50, "{}: {result} says nothing", case.tool);
            let (through, direct) = (
                normalised(case.tool, &through),
                normalised(case.tool, &direct),
            );
            assert!(
                through == direct,
                "{}: {result} differs\n{}\n---\n{}",
                case.tool,
                String::from_utf8_lossy(&through.join(&b'\n')),
                String::from_utf8_lossy(&direct.join(&b'\n'))
            );
        }
    }
}

#[tokio::test]
async fn the_shipped_blast_tools_give_what_the_programs_give_directly() {
    compare(&["blastp", "blastn", "blastx", "makeblastdb"]).await;
}

#[tokio::test]
async fn the_shipped_hmmer_tools_give_what_the_programs_give_directly() {
    compare(&["phmmer", "hmmsearch", "hmmscan", "nhmmer"]).await;
}

#[tokio::test]
async fn the_shipped_search_and_cluster_tools_give_what_the_programs_give_directly() {
    compare(&["mmseqs-search", "mmseqs-cluster", "diamond-blastp"]).await;
}

#[tokio::test]
async fn the_shipped_alignment_tools_give_what_the_programs_give_directly() {
    compare(&["mafft", "muscle", "clustalo", "minimap2", "seqkit-stats"]).await;
}

#[test]
fn every_shipped_tool_passes_its_own_check_and_a_broken_one_does_not() {
    if !all_are_there() {
        return;
    }
    let workshop = workshop();
    let folder = workshop.path();
    fs::write(folder.join("onelane.toml"), "include = \"tools.d/*.toml\"").unwrap();
    let check = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args(["tools", "check"])
            .args(arguments)
            .current_dir(folder)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.matches("gives the declared result").count(),
        CASES.len(),
        "{said}"
    );
    let blastp = folder.join("tools.d/blastp.toml");
    let text = fs::read_to_string(&blastp).unwrap();
    for (from, to, expected) in [
        (
            "\"blastp\", \"-query\"",
            "\"blastpp\", \"-query\"",
            "there is no program `blastpp`",
        ),
        (
            "sp|O51378|KAD_BORBU\\t100",
            "sp|NOBODY\\t100",
            "doesn't contain `sp|O51378|KAD_BORBU\\tsp|NOBODY",
        ),
        (
            "\"-evalue\", \"{evalue}\"",
            "\"-evalu\", \"{evalue}\"",
            "exit status: 1",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&blastp, text.replace(from, to)).unwrap();
        let (code, said) = check(&["blastp"]);
        assert!(code == Some(7) && said.contains("FAILED"), "{to}: {said}");
        assert!(
            said.contains(&expected.replace("\\t", "\t")),
            "{to}: {said}"
        );
    }
}

#[tokio::test]
async fn shipped_files_agree_with_the_schema_and_a_misspelt_key_does_not() {
    let Ok(python) = std::env::var("ONELANE_TEST_PYTHON") else {
        assert!(
            std::env::var_os("ONELANE_REQUIRE_TOOLS").is_none(),
            "this test needs ONELANE_TEST_PYTHON"
        );
        eprintln!("SKIPPED: this test needs ONELANE_TEST_PYTHON, a Python with jsonschema");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let schema = Command::new(BINARY)
        .args(["config", "schema"])
        .output()
        .unwrap();
    fs::write(folder.path().join("schema.json"), &schema.stdout).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(SHIPPED)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let text = fs::read_to_string(&files[0]).unwrap();
    for (index, (from, to)) in [
        ("version =", "versoin ="),
        ("alphabet =", "alphabt ="),
        ("required =", "requird ="),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(text.contains(from), "{from}");
        let wrong = folder.path().join(format!("wrong{index}.toml"));
        fs::write(
            &wrong,
            text.replacen(from, to, 1).replace("\"/db/", "\"/nowhere/"),
        )
        .unwrap();
        let output = Command::new(BINARY)
            .args(["config", "check"])
            .arg(&wrong)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.contains("unknown key"), "{said}");
        files.push(wrong);
    }
    let script = "import json, sys, tomllib, jsonschema\n\
                  schema = json.load(open(sys.argv[1]))\n\
                  jsonschema.Draft202012Validator.check_schema(schema)\n\
                  for path in sys.argv[2:]:\n    \
                      errors = list(jsonschema.Draft202012Validator(schema).iter_errors(tomllib.load(open(path, 'rb'))))\n    \
                      wrong = 'wrong' in path\n    \
                      assert bool(errors) == wrong, (path, errors[:1])\n";
    let output = Command::new(python)
        .args(["-c", script])
        .arg(folder.path().join("schema.json"))
        .args(&files)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the guide's reader would do, done: see `docs/add-a-tool.md`.
#[tokio::test]
async fn the_guide_to_a_tool_of_ones_own_works_step_by_step() {
    let guide = include_str!("../../../../docs/add-a-tool.md");
    let folder = tempfile::tempdir().unwrap();
    let mut parts = guide.split("```");
    let mut server: Option<TestServer> = None;
    let mut steps = 0;
    while let (Some(prose), Some(block)) = (parts.next(), parts.next()) {
        let (kind, body) = block.split_once('\n').unwrap();
        // A block of a file is announced by its name in the line before.
        if let Some(name) = prose
            .trim_end()
            .rsplit('\n')
            .next()
            .and_then(|line| line.strip_prefix("File `"))
        {
            let name = name.split('`').next().unwrap();
            fs::write(folder.path().join(name), body).unwrap();
        } else if kind == "sh" {
            for line in body.lines() {
                steps += 1;
                if line.starts_with("onelane serve") {
                    let text = format!("include = \"{}/onelane.toml\"", folder.path().display());
                    server = Some(TestServer::start(BINARY, Some(&text)));
                } else {
                    guide_step(folder.path(), server.as_ref(), line);
                }
            }
        }
    }
    assert!(steps >= 6, "{steps}");
    let result = fs::read_to_string(folder.path().join("results/counts.tsv")).unwrap();
    assert_eq!(result, "A\t2\nC\t1\nD\t1\n");
}

fn guide_step(folder: &Path, server: Option<&TestServer>, line: &str) {
    let bin = Path::new(BINARY).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .args(["-euc", line])
        .current_dir(folder)
        .env("PATH", path);
    if let Some(server) = server {
        command.env("ONELANE_URL", server.url(""));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{said}");
}

#[test]
fn what_a_tool_leaves_is_declared_as_json_too() {
    let output = Command::new(BINARY)
        .args(["config", "check", "--json"])
        .arg("/nowhere/onelane.toml")
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["errors"][0]["line"], json!(1));
    assert_eq!(output.status.code(), Some(7));
}
