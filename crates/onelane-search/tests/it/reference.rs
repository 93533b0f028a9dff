//! Scores against `ssearch36` (FASTA) and bit scores against `blastp`/`blastn` (NCBI BLAST+).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::support::{Bench, has, noise, output_of, reverse_complement, sample};

type Scores = BTreeMap<(String, String), i64>;

const ALL: [&str; 4] = ["--threads", "2", "--max-hits", "100000"];

fn ours(bench: &Bench, options: &[&str]) -> Scores {
    let outcome = bench.search("out", &[&ALL, options].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    bench
        .rows("out")
        .iter()
        .map(|row| (row.pair(), row.number("score")))
        .collect()
}

/// Best score of every pair with one, from the `-m 10` listing; further alignments of a pair and the weaker strand
/// come second.
fn ssearch(bench: &Bench, options: &str) -> Scores {
    let listing = format!("-q {options} -z -1 -m 10 -b 100000 -d 100000 -E 1e9 q.fa l.fa");
    let text = output_of(&bench.path("."), "ssearch36", &listing);
    let (mut scores, mut query, mut subject) = (Scores::new(), String::new(), String::new());
    let first = |text: &str| text.split([' ', ',']).next().unwrap().to_owned();
    for line in text.lines() {
        if let Some(rest) = line
            .strip_prefix(">>>")
            .filter(|rest| !rest.starts_with('<'))
        {
            query = first(rest);
        } else if let Some(rest) = line
            .strip_prefix(">>")
            .filter(|rest| !rest.starts_with(['>', '<']))
        {
            subject = first(rest);
        } else if let Some(rest) = line.strip_prefix("; sw_score:") {
            let score = rest.trim().parse().unwrap();
            let best = scores
                .entry((query.clone(), subject.clone()))
                .or_insert(score);
            *best = score.max(*best);
        }
    }
    scores.retain(|_, score| *score > 0);
    scores
}

fn assert_same(ours: &Scores, theirs: &Scores, at_least: usize) {
    let differing: Vec<_> = theirs
        .iter()
        .filter(|(pair, score)| ours.get(pair) != Some(score))
        .take(20)
        .collect();
    assert!(
        differing.is_empty(),
        "ssearch36 says otherwise: {differing:?}"
    );
    assert_eq!(ours.len(), theirs.len());
    assert!(theirs.len() >= at_least, "{} pairs", theirs.len());
}

/// Queries, their relatives, and every twentieth other entry; all of the sample when the code is optimised.
fn real_data(bench: &Bench) {
    let queries = std::str::from_utf8(onelane_search::SAMPLE_QUERIES).unwrap();
    let related = ["|HB", "|KAD", "|SRC", "|NADK", "|HEM3", "|PGK"];
    let chosen = |(index, record): &(usize, String)| {
        !cfg!(debug_assertions)
            || index % 20 == 0
            || related.iter().any(|name| record.contains(name))
    };
    let library: String = sample()
        .into_iter()
        .enumerate()
        .filter(chosen)
        .map(|(_, record)| record)
        .collect();
    bench.file("q.fa", queries);
    // The queries themselves under other names: identical pairs.
    bench.file("l.fa", library + &queries.replace(">sp|", ">self|"));
}

#[test]
fn scores_equal_ssearch36() {
    if !has("ssearch36") {
        return;
    }
    let bench = Bench::new();
    real_data(&bench);
    let theirs = ssearch(&bench, "-p -s BL62 -f -11 -g -1");
    assert_same(&ours(&bench, &[]), &theirs, 600);
}

#[test]
fn every_protein_letter_scores_as_in_ssearch36() {
    if !has("ssearch36") {
        return;
    }
    let bench = Bench::new();
    let pairs = ('A'..='Z')
        .chain(['*'])
        .fold(String::new(), |mut text, letter| {
            writeln!(
                text,
                ">s{}\nWWHWWCWWHWW{letter}WWHWWCWWHWW",
                u32::from(letter)
            )
            .unwrap();
            text
        });
    bench.file("q.fa", &pairs);
    bench.file("l.fa", pairs.to_lowercase());
    let theirs = ssearch(&bench, "-p -s BL62 -f -11 -g -1");
    assert_same(&ours(&bench, &[]), &theirs, 27 * 27);
}

#[test]
fn every_nucleotide_letter_scores_as_in_ssearch36() {
    if !has("ssearch36") {
        return;
    }
    let bench = Bench::new();
    let flank = "ACGTTGCAAGCTTAGCCATG";
    let pairs = "ACGTURYSWKMBDHVNX"
        .chars()
        .fold(String::new(), |mut text, letter| {
            writeln!(text, ">s{letter}\n{flank}{letter}{flank}").unwrap();
            text
        });
    bench.file("q.fa", &pairs);
    bench.file("l.fa", pairs);
    let theirs = ssearch(&bench, "-n -r +2/-3 -f -5 -g -2");
    assert_same(&ours(&bench, &["--mode", "nucleotide"]), &theirs, 17 * 17);
}

/// Queries with pieces of themselves, gapped, ambiguous and reversed, among noise.
fn nucleotides(bench: &Bench) {
    let (mut queries, mut library) = (String::new(), String::new());
    for seed in 1..=4 {
        let query = noise(seed, b"ACGT", 400);
        let (left, right) = (&query[20..180], &query[191..380]);
        let around = |seed: u64| noise(seed + 50, b"ACGT", 150);
        writeln!(queries, ">q{seed}\n{query}").unwrap();
        writeln!(library, ">copy{seed}\n{}{left}{right}", around(seed)).unwrap();
        writeln!(
            library,
            ">long{seed}\n{left}ACGGTCA{right}NNRYN{}",
            around(seed)
        )
        .unwrap();
        writeln!(
            library,
            ">back{seed}\n{}",
            reverse_complement(&(left.to_owned() + "NNRYN" + right))
        )
        .unwrap();
        for n in 0..10 {
            writeln!(
                library,
                ">n{seed}.{n}\n{}",
                noise(seed * 100 + n, b"ACGTRYN", 300)
            )
            .unwrap();
        }
    }
    bench.file("q.fa", queries);
    bench.file("l.fa", library);
}

#[test]
fn nucleotide_scores_on_both_strands_equal_ssearch36() {
    if !has("ssearch36") {
        return;
    }
    let bench = Bench::new();
    nucleotides(&bench);
    let theirs = ssearch(&bench, "-n -r +2/-3 -f -5 -g -2");
    assert_same(
        &ours(&bench, &["--mode", "nucleotide"]),
        &theirs,
        4 * 33 * 4,
    );
}

/// BLAST is heuristic: only alignments of the same raw score say something about our bit score.
fn assert_bits(bench: &Bench, blast: &str, at_least: usize) {
    let bits: BTreeMap<_, f64> = bench
        .rows("out")
        .iter()
        .map(|row| {
            (
                (row.pair(), row.number("score")),
                row.text("bit_score").parse().unwrap(),
            )
        })
        .collect();
    let mut compared = 0;
    for line in blast.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let key = (
            (fields[0].to_owned(), fields[1].to_owned()),
            fields[2].parse().unwrap(),
        );
        let theirs: f64 = fields[3].parse().unwrap();
        // BLAST prints whole bits from 100 on.
        let tolerance = if theirs < 99.0 { 0.11 } else { 1.0 };
        let Some(ours) = bits.get(&key) else { continue };
        assert!((ours - theirs).abs() < tolerance, "{line}: {ours}");
        compared += 1;
    }
    assert!(compared >= at_least, "{compared} alignments compared");
}

#[test]
fn bit_scores_equal_blastp() {
    if !has("blastp") {
        return;
    }
    let bench = Bench::new();
    real_data(&bench);
    ours(&bench, &[]);
    let fixed = "-seg no -comp_based_stats 0 -matrix BLOSUM62 -gapopen 11 -gapextend 1 -evalue 100";
    let listing = ["-query", "q.fa", "-subject", "l.fa"].join(" ") + " " + fixed;
    let text = blast(&bench, "blastp", &listing);
    assert_bits(&bench, &text, 40);
}

#[test]
fn bit_scores_equal_blastn() {
    if !has("blastn") {
        return;
    }
    let bench = Bench::new();
    nucleotides(&bench);
    ours(&bench, &["--mode", "nucleotide"]);
    let fixed = "-task blastn -dust no -reward 2 -penalty -3 -gapopen 5 -gapextend 2 -evalue 1000";
    let text = blast(
        &bench,
        "blastn",
        &format!("-query q.fa -subject l.fa {fixed}"),
    );
    assert_bits(&bench, &text, 4);
}

/// Query, subject, raw score and bit score; the format is one argument with blanks in it.
fn blast(bench: &Bench, program: &str, arguments: &str) -> String {
    let format = "6 qaccver saccver score bitscore";
    let mut command = std::process::Command::new(program);
    command
        .args(arguments.split(' '))
        .args(["-outfmt", format])
        .current_dir(bench.path("."));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
