//! The search: scores of all pairs over all threads, then alignments of the hits.

use std::cmp::Reverse;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cli::{Arguments, Mode};
use crate::failure::Failure;
use crate::lanes::{self, LANES};
use crate::progress::Progress;
use crate::records::{self, Record};
use crate::report;
use crate::scheme::Scheme;
use crate::trace::{self, Alignment};

/// A query in one orientation.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Index of the query record.
    pub(crate) query: usize,
    /// Whether letters and codes are the reverse complement of the record's.
    pub(crate) reverse: bool,
    pub(crate) letters: Vec<u8>,
    pub(crate) codes: Vec<u8>,
}

/// A pair with its score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) query: usize,
    pub(crate) probe: usize,
    pub(crate) subject: usize,
    pub(crate) score: i32,
}

/// Everything the search reads.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) scheme: Scheme,
    pub(crate) queries: Vec<Record>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) library: Vec<Record>,
}

/// Searches as the arguments say and writes the results.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let input = read_input(arguments, out)?;
    let progress = Progress::open(
        arguments.progress.as_deref(),
        input.cells(),
        input.queries.len(),
    )?;
    fs::create_dir_all(&arguments.output).map_err(Failure::output(&arguments.output))?;
    let hits = best(score_all(&input, arguments, &progress), arguments.max_hits);
    progress.tracing();
    let alignments = align_all(&input, &hits, arguments.threads)?;
    report::write(&arguments.output, &input, &hits, &alignments)?;
    progress.done();
    say(
        out,
        &format!(
            "{} hits of {} queries among {} sequences",
            hits.len(),
            input.queries.len(),
            input.library.len()
        ),
    );
    Ok(())
}

/// What goes to standard output is a courtesy: results are files, so a closed pipe is no failure.
fn say(out: &mut dyn Write, message: &str) {
    drop(writeln!(out, "{message}"));
}

fn read_input(arguments: &Arguments, out: &mut dyn Write) -> Result<Input, Failure> {
    let scheme = match arguments.mode {
        Mode::Protein => Scheme::protein(),
        Mode::Nucleotide => Scheme::nucleotide(),
    };
    let queries = records::read_file(&arguments.query, &scheme)?;
    let library = match (&arguments.library, arguments.mode) {
        (Some(path), _) => records::read_file(path, &scheme)?,
        (None, Mode::Protein) => sample(&scheme, out)?,
        (None, Mode::Nucleotide) => {
            return Err(Failure::BadInput(
                "nucleotide mode needs --library: the built-in sample holds proteins".into(),
            ));
        }
    };
    let probes = probes(&queries, &scheme, arguments.mode);
    Ok(Input {
        scheme,
        queries,
        probes,
        library,
    })
}

fn sample(scheme: &Scheme, out: &mut dyn Write) -> Result<Vec<Record>, Failure> {
    say(
        out,
        "No --library given: this searches a demonstration sample of 2,000 Swiss-Prot proteins (UniProt, CC BY 4.0), \
         not the whole database.",
    );
    records::read(io::Cursor::new(crate::SAMPLE_LIBRARY), scheme).map_err(Failure::BadInput)
}

fn probes(queries: &[Record], scheme: &Scheme, mode: Mode) -> Vec<Probe> {
    let strands: &[bool] = if mode == Mode::Nucleotide {
        &[false, true]
    } else {
        &[false]
    };
    let both = |(query, record)| {
        strands
            .iter()
            .map(move |&reverse| probe(query, record, reverse, scheme))
    };
    queries.iter().enumerate().flat_map(both).collect()
}

fn probe(query: usize, record: &Record, reverse: bool, scheme: &Scheme) -> Probe {
    if !reverse {
        return Probe {
            query,
            reverse,
            letters: record.letters.clone(),
            codes: record.codes.clone(),
        };
    }
    let letters: Vec<u8> = record
        .letters
        .iter()
        .rev()
        .map(|&letter| scheme.complement(letter))
        .collect();
    let codes = letters
        .iter()
        .filter_map(|&letter| scheme.code(letter))
        .collect();
    Probe {
        query,
        reverse,
        letters,
        codes,
    }
}

impl Input {
    fn cells(&self) -> u64 {
        let total = |lengths: &mut dyn Iterator<Item = usize>| {
            lengths.map(|length| length as u64).sum::<u64>()
        };
        let queries = total(&mut self.probes.iter().map(|probe| probe.codes.len()));
        queries.saturating_mul(total(
            &mut self.library.iter().map(|record| record.codes.len()),
        ))
    }

    /// Library indices by falling length: a group costs as much as its longest member, and long work goes first.
    fn by_length(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.library.len()).collect();
        order.sort_by_key(|&subject| Reverse(self.library[subject].codes.len()));
        order
    }
}

fn score_all(input: &Input, arguments: &Arguments, progress: &Progress) -> Vec<Hit> {
    let order = input.by_length();
    let groups: Vec<&[usize]> = order.chunks(LANES).collect();
    let units = input.probes.len() * groups.len();
    let score = |unit: usize| {
        let (probe, group) = (unit / groups.len(), groups[unit % groups.len()]);
        let mut hits = score_group(input, probe, group, progress);
        hits.retain(|hit| hit.score >= arguments.min_score);
        hits
    };
    on_threads(arguments.threads, units, score)
        .into_iter()
        .flatten()
        .collect()
}

fn score_group(input: &Input, probe: usize, group: &[usize], progress: &Progress) -> Vec<Hit> {
    let Probe { query, codes, .. } = &input.probes[probe];
    let subjects: Vec<&[u8]> = group
        .iter()
        .map(|&subject| input.library[subject].codes.as_slice())
        .collect();
    let scores = lanes::scores(codes, &subjects, &input.scheme);
    let residues: usize = subjects.iter().map(|subject| subject.len()).sum();
    progress.advance(*query, (residues as u64).saturating_mul(codes.len() as u64));
    let hit = |(&subject, score)| Hit {
        query: *query,
        probe,
        subject,
        score,
    };
    group.iter().zip(scores).map(hit).collect()
}

/// The `most` best hits of each query: by falling score, then in library order. Of two strands the better one stays,
/// the given one on a tie.
fn best(mut hits: Vec<Hit>, most: usize) -> Vec<Hit> {
    hits.sort_unstable_by_key(|hit| (hit.query, hit.subject, Reverse(hit.score), hit.probe));
    hits.dedup_by_key(|hit| (hit.query, hit.subject));
    hits.sort_unstable_by_key(|hit| (hit.query, Reverse(hit.score), hit.subject));
    hits.chunk_by(|one, next| one.query == next.query)
        .flat_map(|query| query.iter().take(most))
        .copied()
        .collect()
}

fn align_all(
    input: &Input,
    hits: &[Hit],
    threads: NonZeroUsize,
) -> Result<Vec<Alignment>, Failure> {
    let align = |index: usize| {
        let hit = &hits[index];
        trace::align(
            &input.probes[hit.probe].codes,
            &input.library[hit.subject].codes,
            &input.scheme,
        )
    };
    on_threads(threads, hits.len(), align).into_iter().collect()
}

/// Results of `work(0..count)` in order, computed by this thread and as many others as make up `threads`.
fn on_threads<T: Send>(
    threads: NonZeroUsize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let share = || -> Vec<(usize, T)> {
        let claim = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&unit| unit < count);
        std::iter::from_fn(claim)
            .map(|unit| (unit, work(unit)))
            .collect()
    };
    let mut done = thread::scope(|scope| {
        // A thread the system refuses is no failure: the others take its share.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, share).ok();
        let helpers: Vec<_> = (1..threads.get().min(count)).filter_map(spawn).collect();
        let mut done = share();
        for helper in helpers {
            done.extend(
                helper
                    .join()
                    .unwrap_or_else(|cause| panic::resume_unwind(cause)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(unit, _)| *unit);
    done.into_iter().map(|(_, result)| result).collect()
}
