//! The ids seen so far, each with a number, in constant memory however many they are.
//!
//! The latest are in a map. When that is full they go to a file, sorted, as a [`Run`]; a few runs of one size become one,
//! so that there are never many, and all files are written and read in their order. An id that is new, as nearly all are,
//! needs no look at the runs: a [`Filter`] in memory knows it.

mod filter;
mod key;
mod run;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use self::filter::Filter;
pub(crate) use self::key::Key;
use self::run::Run;

/// Ids kept in the map, in less than 3 MiB.
const MOST_IN_MAP: usize = 50_000;

/// The ids seen so far.
pub(crate) struct Ids<'a> {
    hashers: [RandomState; 2],
    /// Where the files are made; without a folder all ids stay in the map.
    scratch: Option<&'a Path>,
    most_in_map: usize,
    map: HashMap<Key, u64>,
    filter: Filter,
    /// The largest first: most of what isn't in the map is found at once.
    runs: Vec<Run>,
}

impl<'a> Ids<'a> {
    pub(crate) fn new(scratch: Option<&'a Path>) -> Self {
        Self::with_map_of(MOST_IN_MAP, scratch)
    }

    pub(crate) fn with_map_of(most_in_map: usize, scratch: Option<&'a Path>) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            scratch,
            most_in_map,
            map: HashMap::new(),
            filter: Filter::twice_as_wide_as(0),
            runs: Vec::new(),
        }
    }

    pub(crate) fn key(&self, id: &str) -> Key {
        let [first, second] = &self.hashers;
        Key::new(first.hash_one(id), second.hash_one(id))
    }

    /// The last number that an id was given: the latest runs come last.
    pub(crate) fn get(&self, key: Key) -> io::Result<Option<u64>> {
        if let Some(number) = self.map.get(&key) {
            return Ok(Some(*number));
        }
        if !self.filter.may_have(key) {
            return Ok(None);
        }
        let mut runs = self.runs.iter().rev();
        runs.find_map(|run| run.find(key).transpose()).transpose()
    }

    /// Remembers an id, or gives it a larger number: 2⁴⁰ − 1 stands for all that are larger still.
    pub(crate) fn set(&mut self, key: Key, number: u64) -> io::Result<()> {
        self.map.insert(key, number);
        match self.scratch {
            Some(folder) if self.map.len() >= self.most_in_map => self.spill(folder),
            _ => Ok(()),
        }
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        let latest = self.map.drain().map(|(key, number)| key.entry(number));
        let mut latest: Vec<_> = latest.collect();
        latest.sort_unstable();
        for entry in &latest {
            self.filter.add(entry.key());
        }
        self.runs.push(Run::write(folder, &latest)?);
        while let Some(first) = run::first_to_merge(&self.runs) {
            let merged = Run::merge(folder, &self.runs[first..])?;
            self.runs.truncate(first);
            self.runs.push(merged);
        }
        self.widen_filter()
    }

    fn widen_filter(&mut self) -> io::Result<()> {
        let ids = self.runs.iter().map(Run::len).sum();
        if self.filter.is_wide_enough_for(ids) {
            return Ok(());
        }
        self.filter = Filter::twice_as_wide_as(ids);
        for run in &self.runs {
            let mut entries = run.entries()?;
            while let Some(entry) = entries.next()? {
                self.filter.add(entry.key());
            }
        }
        Ok(())
    }
}
