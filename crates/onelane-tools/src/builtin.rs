use std::path::Path;

use indexmap::IndexMap;
use onelane_core::{Needs, OnInterrupt};
use onelane_seq::Alphabet;
use serde::{Deserialize, Serialize};

use crate::command::CommandItem;
use crate::definition::{ResultFile, ToolDefinition, View};
use crate::param::{FastaParam, IntegerParam, Param};
use crate::template::escape;

/// What kind of sequence the built-in search compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// Protein against protein.
    #[default]
    Protein,
    /// Nucleotide against nucleotide.
    Nucleotide,
}

/// The tool `search`, which is this very program: `exe tool search …`.
///
/// Without a library it searches the demonstration sample that is compiled in.
pub fn builtin_search(exe: &str, library: Option<&Path>) -> ToolDefinition {
    builtin_search_in(exe, library, SearchMode::Protein)
}

/// As [`builtin_search`], for either kind of sequence.
pub fn builtin_search_in(exe: &str, library: Option<&Path>, mode: SearchMode) -> ToolDefinition {
    ToolDefinition {
        name: "search".to_owned(),
        title: Some(title(library)),
        help: Some(help(library)),
        command: command(exe, library, mode),
        version: Some(vec![exe.to_owned(), "--version".to_owned()]),
        needs: Needs::default(),
        limits: onelane_core::Limits::default(),
        grace_ms: None,
        cpu_priority: onelane_core::CpuPriority::default(),
        on_interrupt: OnInterrupt::Restart,
        params: params(mode),
        results: results(),
        exit_codes: [].into(),
        stdin: None,
        workdir: None,
        env: [].into(),
        success: None,
        progress: None,
        example: None,
        warm: None,
    }
}

fn title(library: Option<&Path>) -> String {
    match library {
        Some(_) => "Sequence search".to_owned(),
        None => "Sequence search (demonstration: 2,000 Swiss-Prot proteins)".to_owned(),
    }
}

fn help(library: Option<&Path>) -> String {
    let library = match library {
        Some(_) => "Its library is a file that the operator of this server chose.",
        None => {
            "Its library is a demonstration sample of 2,000 Swiss-Prot proteins, not a database: a sequence without a \
             hit here may well have relatives elsewhere."
        }
    };
    format!(
        "Compares the query with each sequence of a library and aligns the best ones. {library}"
    )
}

fn command(exe: &str, library: Option<&Path>, mode: SearchMode) -> Vec<CommandItem> {
    let mut command = vec![CommandItem::Argument(escape(exe))];
    let fixed =
        "tool search --query {query} --output {output} --threads {cpus} --max-hits {max_hits}";
    command.extend(fixed.split(' ').map(CommandItem::from));
    if let Some(library) = library {
        command.push("--library".into());
        command.push(CommandItem::Argument(escape(&library.to_string_lossy())));
    }
    if mode == SearchMode::Nucleotide {
        command.extend(["--mode", "nucleotide"].map(CommandItem::from));
    }
    command
}

fn params(mode: SearchMode) -> IndexMap<String, Param> {
    let query = FastaParam {
        title: Some("Query".to_owned()),
        help: Some("One sequence or several, as FASTA or bare.".to_owned()),
        alphabet: match mode {
            SearchMode::Protein => Alphabet::Protein,
            SearchMode::Nucleotide => Alphabet::Nucleotide,
        },
        ..FastaParam::default()
    };
    let max_hits = IntegerParam {
        title: Some("Most hits".to_owned()),
        help: Some("How many hits to keep for each query.".to_owned()),
        example: None,
        advanced: false,
        optional: false,
        default: Some(50),
        min: Some(1),
        max: Some(1000),
    };
    [
        ("query".to_owned(), Param::Fasta(query)),
        ("max_hits".to_owned(), Param::Integer(max_hits)),
    ]
    .into()
}

fn results() -> IndexMap<String, ResultFile> {
    [
        ("hits".to_owned(), result("hits.tsv", "Hits", View::Table)),
        (
            "alignments".to_owned(),
            result("alignments.txt", "Alignments", View::Alignment),
        ),
    ]
    .into()
}

fn result(file: &str, title: &str, view: View) -> ResultFile {
    ResultFile {
        file: file.to_owned(),
        title: Some(title.to_owned()),
        view: Some(view),
        columns: Vec::new(),
        required: false,
        media_type: None,
    }
}
