use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io::ErrorKind;

use super::key::Entry;
use super::run::Writer;
use super::*;
use crate::{Alphabet, Check, CheckError, Checked, Duplicates, InputError};

/// The same numbers on every run, spread evenly.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        BuildHasherDefault::<DefaultHasher>::default().hash_one(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn key(&mut self) -> Key {
        Key::new(self.next(), self.next())
    }
}

/// Different seeds give different numbers.
fn seeded(seed: u64) -> Numbers {
    Numbers(seed << 32)
}

fn entries(count: usize, numbers: &mut Numbers) -> Vec<Entry> {
    let mut entries: Vec<_> = (0..count)
        .map(|_| numbers.key().entry(numbers.next()))
        .collect();
    entries.sort_unstable();
    entries
}

#[test]
fn what_went_to_the_files_is_known_as_if_it_were_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    // So small a map fills 800 times, and its runs are merged up to four times over.
    let mut ids = Ids::with_map_of(50, Some(folder.path()));
    let mut known = HashMap::new();
    let mut numbers = seeded(1);
    for line in 1..=60_000_u64 {
        let id = format!("id{}", numbers.below(100_000));
        let key = ids.key(&id);
        let first = known.get(&id).copied();
        assert_eq!(ids.get(key).unwrap(), first, "{id}");
        if first.is_none() {
            ids.set(key, line).unwrap();
            known.insert(id, line);
        }
    }
    assert!(ids.runs.iter().any(|run| run.len() > 12_000));
    assert!(ids.runs.len() <= 3 * 6 && ids.map.len() < 50);
    for number in 0..100_000 {
        let id = format!("id{number}");
        let found = ids.get(ids.key(&id)).unwrap();
        assert_eq!(found, known.get(&id).copied(), "{id}");
    }
}

#[test]
fn a_number_that_grows_is_found_as_it_was_last_and_outlives_merging() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Ids::with_map_of(10, Some(folder.path()));
    let keys: Vec<_> = (0..40).map(|id| ids.key(&format!("{id}"))).collect();
    let mut numbers = seeded(2);
    let mut last = vec![0; keys.len()];
    for _ in 0..5_000 {
        let which = usize::try_from(numbers.below(40)).unwrap();
        last[which] += 1;
        ids.set(keys[which], last[which]).unwrap();
        assert_eq!(ids.get(keys[which]).unwrap(), Some(last[which]));
    }
    let merged = Run::merge(folder.path(), &ids.runs).unwrap();
    assert_eq!(merged.len(), 40);
    for (key, last) in keys.iter().zip(last) {
        let newest = ids.map.get(key).copied();
        assert_eq!(newest.or(merged.find(*key).unwrap()), Some(last));
    }
}

#[test]
fn an_entry_is_found_wherever_it_is_in_a_run_and_what_is_between_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1, 2, 255, 256, 257, 20_000] {
        let mut numbers = seeded(3);
        let mut written = entries(count, &mut numbers);
        // The ends of what keys there are.
        written.push(Key::new(0, 0).entry(7));
        written.push(Key::new(u64::MAX, u64::MAX).entry(8));
        written.sort_unstable();
        let run = Run::write(folder.path(), &written).unwrap();
        for entry in &written {
            assert_eq!(run.find(entry.key()).unwrap(), Some(entry.number()));
        }
        for _ in 0..2_000 {
            assert_eq!(run.find(numbers.key()).unwrap(), None);
        }
    }
}

#[test]
fn of_a_large_run_a_page_or_two_are_read_for_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = seeded(5);
    let run = Run::write(folder.path(), &entries(200_000, &mut numbers)).unwrap();
    let mut pages = 0;
    for _ in 0..1_000 {
        let (key, mut within) = (numbers.key(), run.bounds());
        while !within.is_empty() {
            pages += 1;
            if run.look(key, &mut within).unwrap().is_some() {
                break;
            }
        }
    }

    assert!(pages < 2_000, "{pages}");
}

#[test]
fn unevenly_spread_keys_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let crowds = [0, 1 << 63, u64::MAX - 3_000].map(|from| (from..from + 3_000).step_by(3));
    let equal = (0..2_000).map(|second| Key::new(5, second << 41));
    let keys = crowds.into_iter().flatten().map(|bits| Key::new(bits, 0));
    let mut written: Vec<_> = keys.chain(equal).map(|key| key.entry(1)).collect();
    written.sort_unstable();
    let run = Run::write(folder.path(), &written).unwrap();
    for entry in &written {
        let key = entry.key();
        assert_eq!(run.find(key).unwrap(), Some(1));
        let absent = Key::new(key.bits() + 1, 1 << 40);
        assert_eq!(run.find(absent).unwrap(), None);
    }
}

#[test]
fn the_filter_knows_all_that_was_added_and_little_else() {
    let mut numbers = seeded(4);
    let mut filter = Filter::twice_as_wide_as(10_000);
    assert!(filter.is_wide_enough_for(19_000) && !filter.is_wide_enough_for(21_000));
    let keys: Vec<_> = (0..20_000).map(|_| numbers.key()).collect();
    for key in &keys {
        filter.add(*key);
    }
    assert!(keys.iter().all(|key| filter.may_have(*key)));
    let wrong = (0..100_000).filter(|_| filter.may_have(numbers.key()));
    let wrong = wrong.count();
    assert!(wrong < 2_000, "{wrong}");
}

#[test]
fn a_number_too_large_for_an_entry_becomes_the_largest() {
    let key = Key::new(3, u64::MAX);
    let entry = key.entry(u64::MAX);
    assert_eq!((entry.key(), entry.number()), (key, (1 << 40) - 1));
    assert_eq!(Entry::from_bytes(entry.to_bytes()), entry);
}

#[test]
fn the_files_have_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Ids::with_map_of(2, Some(folder.path()));
    for id in 0..100 {
        ids.set(ids.key(&id.to_string()), 1).unwrap();
    }
    assert!(!ids.runs.is_empty());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn without_a_folder_all_stays_in_memory() {
    let mut ids = Ids::with_map_of(2, None);
    for id in 0..100 {
        ids.set(ids.key(&id.to_string()), 1).unwrap();
    }
    assert_eq!((ids.map.len(), ids.runs.len()), (100, 0));
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let mut ids = Ids::with_map_of(2, Some(&gone));
    ids.set(ids.key("a"), 1).unwrap();
    let error = ids.set(ids.key("b"), 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_full_disk_is_an_error_even_if_it_shows_at_the_last_write_only() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut writer = Writer::over(full);
    writer.push(Key::new(1, 2).entry(3)).unwrap();
    let error = writer.finish(0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

/// Records with these ids, of one to three lines, and the line of each header.
fn fasta(ids: &[String], numbers: &mut Numbers) -> (String, Vec<u64>) {
    let (mut body, mut lines, mut line) = (String::new(), Vec::new(), 1);
    for id in ids {
        let sequence = "ACGT\n".repeat(usize::try_from(1 + numbers.below(3)).unwrap());
        lines.push(line);
        line += 1 + sequence.lines().count() as u64;
        body.extend([">", id, " some words\n", &sequence]);
    }
    (body, lines)
}

/// Checks with a map so small that most ids are in files.
fn run(check: &Check<'_>, body: &str, most_in_map: usize) -> (Result<Checked, CheckError>, String) {
    let folder = tempfile::tempdir().unwrap();
    let ids = Ids::with_map_of(most_in_map, Some(folder.path()));
    let mut output = Vec::new();
    let result = check.run_with(ids, body.as_bytes(), &mut output);
    (result, String::from_utf8(output).unwrap())
}

/// What a plain map finds, up to twenty errors.
fn repeated(ids: &[String], lines: &[u64]) -> Vec<InputError> {
    let (mut seen, mut errors) = (HashMap::new(), Vec::new());
    for (record, (id, line)) in (1..).zip(ids.iter().zip(lines)) {
        if let Some(earlier) = seen.get(id) {
            errors.push(InputError {
                record: Some(record),
                id: Some(id.clone()),
                line: Some(*line),
                column: Some(1),
                character: None,
                message: format!(
                    "the id '{id}' was already used on line {earlier}; ids must differ"
                ),
            });
        } else {
            seen.insert(id, *line);
        }
    }
    errors.truncate(20);
    errors
}

#[test]
fn repeated_ids_are_refused_with_the_earlier_line_wherever_that_is_kept() {
    for seed in 0..12 {
        let mut numbers = seeded(100 + seed);
        // From no repeat to far more than are reported.
        let bound = 10_u64.pow(u32::try_from(3 + seed % 5).unwrap());
        let ids: Vec<_> = (0..3_000)
            .map(|_| format!("id{}", numbers.below(bound)))
            .collect();
        let (body, lines) = fasta(&ids, &mut numbers);
        let expected = repeated(&ids, &lines);
        for most_in_map in [7, 500, 10_000] {
            let check = Check::new(Alphabet::Dna, "query");
            match run(&check, &body, most_in_map).0 {
                Ok(checked) => assert!(expected.is_empty() && checked.records == 3_000),
                Err(CheckError::Invalid(errors)) => assert_eq!(errors, expected),
                Err(CheckError::Io(error)) => panic!("{error}"),
            }
        }
    }
}

/// What a plain set makes of repeated ids.
fn renamed(ids: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (record, id) in (1_u64..).zip(ids) {
        let mut numbers = (2..100).chain(record..);
        let mut new = id.clone();
        while seen.contains(&new) {
            new = format!("{id}_{}", numbers.next().unwrap());
        }
        seen.insert(new.clone());
        all.push(new);
    }
    all
}

#[test]
fn repeated_ids_are_renamed_to_the_same_names_wherever_the_earlier_are_kept() {
    let check = Check {
        duplicates: Duplicates::Rename,
        ..Check::new(Alphabet::Dna, "query")
    };
    for seed in 0..8 {
        let mut numbers = seeded(200 + seed);
        // Few ids, some of them in the form of renamed ones, so that names collide; the last seeds repeat each very often.
        let bound = [2_000, 300, 20, 2][usize::try_from(seed / 2).unwrap()];
        let ids: Vec<_> = (0..2_000)
            .map(|_| match numbers.below(4) {
                0 => format!("id{}_{}", numbers.below(bound), 2 + numbers.below(3)),
                _ => format!("id{}", numbers.below(bound)),
            })
            .collect();
        let (body, _) = fasta(&ids, &mut numbers);
        let expected = renamed(&ids);
        let repeats = ids.iter().zip(&expected).filter(|(id, new)| id != new);
        let repeats = repeats.count() as u64;
        for most_in_map in [7, 300, 10_000] {
            let (result, output) = run(&check, &body, most_in_map);
            let headers = output.lines().filter_map(|line| line.strip_prefix('>'));
            let written: Vec<_> = headers
                .map(|text| text.split(' ').next().unwrap())
                .collect();
            assert_eq!(written, expected, "seed {seed}, {most_in_map} in the map");
            assert_eq!(result.unwrap().stripped.ids_renamed, repeats);
        }
    }
}

#[test]
fn ids_that_find_no_place_fail_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let check = Check {
        scratch: Some(&gone),
        ..Check::new(Alphabet::Dna, "query")
    };
    let ids = |count| (0..count).flat_map(|id| [format!(">{id}"), "\nA\n".to_owned()]);
    let few: String = ids(MOST_IN_MAP - 1).collect();
    assert!(check.run(few.as_bytes(), std::io::sink()).is_ok());
    let many: String = ids(MOST_IN_MAP).collect();
    match check.run(many.as_bytes(), std::io::sink()) {
        Err(CheckError::Io(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
}
