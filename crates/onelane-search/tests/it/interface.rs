//! Files, messages and exit codes.

use std::fs;

use crate::support::{Bench, Row, noise, reverse_complement, run, sample};

const QUICK: [&str; 2] = ["--threads", "2"];

fn proteins() -> Bench {
    let bench = Bench::new();
    bench.file("q.fa", onelane_search::SAMPLE_QUERIES);
    let related = |record: &String| {
        ["|HBB_", "|KAD_", "|PGK_"]
            .iter()
            .any(|name| record.contains(name))
    };
    bench.file(
        "l.fa",
        sample().into_iter().filter(related).collect::<String>(),
    );
    bench
}

#[test]
fn hits_are_in_order_and_add_up() {
    let bench = proteins();
    let outcome = bench.search(
        "out",
        &[&QUICK[..], &["--max-hits", "4", "--min-score", "30"]].concat(),
    );
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let rows = bench.rows("out");
    let of = |query: &str| {
        rows.iter()
            .filter(|row| row.text("query") == query)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("sp|P02135|HBB_LITCT").len(), 4);
    assert!(
        of("sp|P02135|HBB_LITCT")[0]
            .text("subject")
            .contains("HBB_")
    );
    let same = |pair: &[Row]| pair[0].text("query") == pair[1].text("query");
    assert!(
        rows.windows(2)
            .filter(|pair| same(pair))
            .all(|pair| pair[0].number("score") >= pair[1].number("score"))
    );
    for row in &rows {
        assert!(row.number("score") >= 30);
        let (query, subject) = (span(row, "qstart", "qend"), span(row, "sstart", "send"));
        assert_eq!(
            query + subject + row.number("gaps"),
            2 * row.number("length")
        );
        let identical = row.number("length") - row.number("mismatches") - row.number("gaps");
        let identity: f64 = row.text("identity").parse().unwrap();
        let expected = f64::from(i32::try_from(identical).unwrap()) * 100.0
            / row.text("length").parse::<f64>().unwrap();
        assert!((identity - expected).abs() < 0.006, "{identity} {expected}");
    }
}

fn span(row: &Row, start: &str, end: &str) -> i64 {
    (row.number(end) - row.number(start)).abs() + 1
}

#[test]
fn alignments_are_shown_in_blocks_of_sixty() {
    let bench = Bench::new();
    let (left, right) = (
        noise(3, b"ACDEFGHIKLMNPQRSTVWY", 50),
        noise(4, b"ACDEFGHIKLMNPQRSTVWY", 40),
    );
    bench.file("q.fa", format!(">q one\n{left}{right}\n"));
    bench.file(
        "l.fa",
        format!(">s a\tb\nMK{}GG{right}\n", left.to_lowercase()),
    );
    assert_eq!(bench.search("out", &QUICK).code, 0);
    let text = fs::read_to_string(bench.path("out/alignments.txt")).unwrap();
    assert!(
        text.contains(&format!("Query         1 {left}--{} 58", &right[..8])),
        "{text}"
    );
    assert!(
        text.contains(&format!("Subject       3 {left}GG{} 62", &right[..8])),
        "{text}"
    );
    assert!(
        text.contains(&format!("Query        59 {} 90", &right[8..])),
        "{text}"
    );
    assert!(
        text.contains("identity 90/92 (97.83 %), gaps 2/92"),
        "{text}"
    );
    let row = &bench.rows("out")[0];
    assert_eq!(
        (
            row.text("description"),
            row.number("gaps"),
            row.number("mismatches")
        ),
        ("a b", 2, 0)
    );
}

#[test]
fn a_hit_on_the_other_strand_counts_query_positions_down() {
    let bench = Bench::new();
    let query = noise(9, b"ACGT", 100);
    bench.file("q.fa", format!(">q\n{query}\n"));
    bench.file(
        "l.fa",
        format!(">s\nTT{}\n", reverse_complement(&query[10..90])),
    );
    assert_eq!(
        bench
            .search("out", &["--threads", "1", "--mode", "nucleotide"])
            .code,
        0
    );
    let row = &bench.rows("out")[0];
    let place = ["score", "qstart", "qend", "sstart", "send"].map(|column| row.number(column));
    assert_eq!(place, [160, 90, 11, 3, 82]);
}

#[test]
fn one_thread_and_two_write_the_same() {
    let bench = proteins();
    assert_eq!(bench.search("one", &["--threads", "1"]).code, 0);
    assert_eq!(bench.search("two", &["--threads", "2"]).code, 0);
    for file in ["hits.tsv", "alignments.txt"] {
        let read = |dir: &str| fs::read(bench.path(dir).join(file)).unwrap();
        assert!(read("one") == read("two"), "{file} differs");
    }
}

#[test]
fn progress_never_falls_and_ends_at_one() {
    let bench = proteins();
    let path = bench.path("progress");
    let outcome = bench.search(
        "out",
        &["--threads", "2", "--progress", path.to_str().unwrap()],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let text = fs::read_to_string(path).unwrap();
    let fraction = |line: &str| line.split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(text.lines().map(fraction).is_sorted(), "{text}");
    assert!(
        text.starts_with("0.") && text.contains(" aligning query "),
        "{text}"
    );
    assert!(text.ends_with("\n1.00 done\n"), "{text}");
}

#[test]
fn the_sample_is_named_as_such() {
    let bench = Bench::new();
    let query = bench.file("q.fa", ">q\nMVLSPADKTNVKAAWGKVGA\n");
    let words = [
        "--query".into(),
        query.into(),
        "--output".into(),
        bench.path("out").into(),
    ];
    let outcome = run(words
        .into_iter()
        .chain(["--threads".into(), "2".into()])
        .collect());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(
        outcome
            .out
            .contains("demonstration sample of 2,000 Swiss-Prot proteins"),
        "{}",
        outcome.out
    );
    assert_eq!(sample().len(), 2_000);
    assert_eq!(bench.rows("out").len(), 50);
}

#[test]
fn bad_input_exits_with_two_and_says_where() {
    let cases = [
        ("", "holds no sequences"),
        ("ACDE\n", "not readable as FASTA"),
        (">empty\n>next\nACD\n", "sequence empty is empty"),
        (
            ">q\nACD1F\n",
            "sequence q: '1' at position 4 is no protein letter",
        ),
    ];
    for (text, expected) in cases {
        let bench = Bench::new();
        bench.file("q.fa", text);
        bench.file("l.fa", ">s\nACD\n");
        let outcome = bench.search("out", &QUICK);
        assert_eq!(outcome.code, 2, "{text}");
        assert!(
            outcome.err.contains("q.fa: ") && outcome.err.contains(expected),
            "{}",
            outcome.err
        );
    }
}

#[test]
fn bad_arguments_exit_with_two_and_help_with_zero() {
    let words = |text: &str| text.split(' ').map(Into::into).collect();
    let outcome = run(words(
        "--query /nowhere/q.fa --output /nowhere/out --threads 1",
    ));
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("/nowhere/q.fa"), "{}", outcome.err);
    assert_eq!(run(words("--threads 0")).code, 2);
    let help = run(words("--help"));
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("onelane tool search"), "{}", help.out);
}

#[test]
fn nucleotide_mode_wants_a_library() {
    let bench = Bench::new();
    let query = bench.file("q.fa", ">q\nACGT\n");
    let words = [
        "--query".into(),
        query.into(),
        "--output".into(),
        bench.path("out").into(),
    ];
    let rest = ["--threads", "1", "--mode", "nucleotide"].map(Into::into);
    let outcome = run(words.into_iter().chain(rest).collect());
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("--library"), "{}", outcome.err);
}

#[test]
fn an_output_that_cannot_be_made_exits_with_one() {
    let bench = proteins();
    bench.file("taken", "");
    let outcome = bench.search("taken", &QUICK);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("cannot write"), "{}", outcome.err);
}
