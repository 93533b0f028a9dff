//! Sorted entries in a nameless file.

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

    /// The number of a key. Keys are spread evenly, so that it is near where its share of all keys says: a page or two
    /// are read.
    pub(super) fn find(&self, key: Key) -> io::Result<Option<u64>> {
        let mut bytes = [0; PAGE_BYTES];
        let (mut low, mut high) = (0, self.len);
        let (mut low_bits, mut high_bits) = (0, u64::MAX);
        while low < high {
            let share = u128::from(key.bits() - low_bits) * u128::from(high - low);
            let guess =
                low + u64::try_from(share / (u128::from(high_bits - low_bits) + 1)).unwrap_or(0);
            let last = high.saturating_sub(PAGE_ENTRIES).max(low);
            let start = guess.saturating_sub(PAGE_ENTRIES / 2).clamp(low, last);
            let end = high.min(start + PAGE_ENTRIES);
            let page = self.page(start, end, &mut bytes)?;
            let at = page.partition_point(|bytes| Entry::from_bytes(*bytes).key() < key);
            let at_least = page.get(at).map(|bytes| Entry::from_bytes(*bytes));
            match at_least {
                Some(entry) if entry.key() == key => return Ok(Some(entry.number())),
                // The first of the page comes after the key: so may others before the page.
                Some(entry) if at == 0 => (high, high_bits) = (start, entry.key().bits()),
                Some(_) => return Ok(None),
                None => {
                    low = end;
                    low_bits = page.last().map_or(low_bits, bits_of);
                }
            }
        }
        Ok(None)
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

fn bits_of(bytes: &[u8; Entry::BYTES]) -> u64 {
    Entry::from_bytes(*bytes).key().bits()
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
