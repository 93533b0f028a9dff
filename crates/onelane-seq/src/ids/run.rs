//! Sorted entries in a file that has no name.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::key::{Entry, Key};

/// So many runs of one size become one.
const MERGED: usize = 4;
/// Bytes of a file that are written, or read in order, at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Entries read at once in a search.
const PAGE_ENTRIES: u64 = 256;
const PAGE_BYTES: usize = 256 * Entry::BYTES;

pub(super) struct Run {
    file: File,
    len: u64,
    /// How often its entries were merged: of that is its size.
    merges: u32,
}

/// Where to begin, if the last runs are enough of one size.
pub(super) fn first_to_merge(runs: &[Run]) -> Option<usize> {
    let first = runs.len().checked_sub(MERGED)?;
    let is_even = runs[first].merges == runs.last()?.merges;
    is_even.then_some(first)
}

impl Run {
    /// Entries in their order.
    pub(super) fn write(folder: &Path, entries: &[Entry]) -> io::Result<Self> {
        let mut writer = Writer::over(tempfile::tempfile_in(folder)?);
        for entry in entries {
            writer.push(*entry)?;
        }
        writer.finish(0)
    }

    /// Of a key that is there several times the largest number stays.
    pub(super) fn merge(folder: &Path, runs: &[Self]) -> io::Result<Self> {
        let mut writer = Writer::over(tempfile::tempfile_in(folder)?);
        let mut sources = runs
            .iter()
            .map(Self::entries)
            .collect::<io::Result<Vec<_>>>()?;
        let mut heads = Vec::new();
        for source in &mut sources {
            heads.push(source.next()?);
        }
        let mut last: Option<Entry> = None;
        while let Some((entry, from)) = least(&heads) {
            heads[from] = sources[from].next()?;
            if let Some(last) = last.filter(|last| last.key() != entry.key()) {
                writer.push(last)?;
            }
            last = Some(entry);
        }
        if let Some(last) = last {
            writer.push(last)?;
        }
        let merges = runs.iter().map(|run| run.merges).max().unwrap_or(0);
        writer.finish(merges + 1)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn entries(&self) -> io::Result<Entries<'_>> {
        (&self.file).rewind()?;
        Ok(Entries {
            left: self.len,
            file: BufReader::with_capacity(BUFFER_BYTES, &self.file),
        })
    }

    /// The number of a key.
    pub(super) fn find(&self, key: Key) -> io::Result<Option<u64>> {
        let mut within = self.bounds();
        while !within.is_empty() {
            if let Some(entry) = self.look(key, &mut within)? {
                return Ok((entry.key() == key).then(|| entry.number()));
            }
        }
        Ok(None)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            low: 0,
            high: self.len,
            low_bits: 0,
            high_bits: u64::MAX,
        }
    }

    /// Looks for the first entry that doesn't come before the key, in the page where it most likely is. If it isn't there
    /// the bounds become narrower.
    pub(super) fn look(&self, key: Key, within: &mut Bounds) -> io::Result<Option<Entry>> {
        let mut bytes = [0; PAGE_BYTES];
        let (start, end) = within.page_around(key);
        let page = self.page(start, end, &mut bytes)?;
        let entry_at = |at: usize| page.get(at).map(|bytes| Entry::from_bytes(*bytes));
        let at = page.partition_point(|bytes| Entry::from_bytes(*bytes).key() < key);
        match entry_at(at) {
            Some(first) if at == 0 && first.key() != key => {
                (within.high, within.high_bits) = (start, first.key().bits());
                Ok(None)
            }
            Some(entry) => Ok(Some(entry)),
            None => {
                let last = page.len().checked_sub(1).and_then(entry_at);
                within.low_bits = last.map_or(within.low_bits, |last| last.key().bits());
                within.low = end;
                Ok(None)
            }
        }
    }

    fn page<'b>(
        &self,
        start: u64,
        end: u64,
        bytes: &'b mut [u8; PAGE_BYTES],
    ) -> io::Result<&'b [[u8; Entry::BYTES]]> {
        let count = usize::try_from(end - start).unwrap_or(0);
        let bytes = &mut bytes[..count * Entry::BYTES];
        self.file
            .read_exact_at(bytes, start * Entry::BYTES as u64)?;
        Ok(bytes.as_chunks().0)
    }
}

/// Between which entries a key may be, and the bits of what is there.
pub(super) struct Bounds {
    low: u64,
    high: u64,
    low_bits: u64,
    high_bits: u64,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.low >= self.high
    }

    /// The entries to read. Keys are spread evenly: one is near where its share of all keys says.
    fn page_around(&self, key: Key) -> (u64, u64) {
        let (keys, entries) = (self.high_bits - self.low_bits, self.high - self.low);
        let share = u128::from(key.bits() - self.low_bits) * u128::from(entries);
        let before = u64::try_from(share / (u128::from(keys) + 1)).unwrap_or(0);
        let last_start = self.high.saturating_sub(PAGE_ENTRIES).max(self.low);
        let start = (self.low + before).saturating_sub(PAGE_ENTRIES / 2);
        let start = start.clamp(self.low, last_start);
        (start, self.high.min(start + PAGE_ENTRIES))
    }
}

/// The least of the entries, and which it is.
fn least(heads: &[Option<Entry>]) -> Option<(Entry, usize)> {
    let there = heads.iter().enumerate();
    there
        .filter_map(|(from, head)| head.map(|entry| (entry, from)))
        .min()
}

/// Entries as they are read in order.
pub(super) struct Entries<'a> {
    file: BufReader<&'a File>,
    left: u64,
}

impl Entries<'_> {
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = [0; Entry::BYTES];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(Entry::from_bytes(bytes)))
    }
}

pub(super) struct Writer {
    file: BufWriter<File>,
    len: u64,
}

impl Writer {
    pub(super) fn over(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            len: 0,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.len += 1;
        self.file.write_all(&entry.to_bytes())
    }

    pub(super) fn finish(self, merges: u32) -> io::Result<Run> {
        let file = self.file.into_inner()?;
        Ok(Run {
            file,
            len: self.len,
            merges,
        })
    }
}
