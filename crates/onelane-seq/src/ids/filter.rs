//! A Bloom filter whose bits for one key share a cache line (Putze, Sanders & Singler 2007, "Cache-, hash- and
//! space-efficient Bloom filters").

use super::key::Key;

/// Words of 64 bits in a line.
const WORDS: usize = 8;
/// Bits set for a key, each named by so many bits of the key.
const BITS_OF_KEY: u32 = 4;
const NAME_BITS: u32 = 9;
/// 12.8 bits a key: about one new key in a hundred is taken for a known one.
const KEYS_IN_LINE: u64 = 40;
/// 32 MiB, wide enough for 21 million keys. With more of them it errs more often, which costs time and nothing else.
const MOST_LINES: u64 = 1 << 19;

pub(super) struct Filter {
    lines: Vec<[u64; WORDS]>,
}

impl Filter {
    /// An empty one, with room for twice as many keys.
    pub(super) fn twice_as_wide_as(count: u64) -> Self {
        let lines = (2 * count / KEYS_IN_LINE).clamp(1, MOST_LINES);
        let lines = usize::try_from(lines).unwrap_or(1);
        Self {
            lines: vec![[0; WORDS]; lines],
        }
    }

    pub(super) fn is_wide_enough_for(&self, count: u64) -> bool {
        let lines = self.lines.len() as u64;
        lines == MOST_LINES || count <= lines * KEYS_IN_LINE
    }

    pub(super) fn add(&mut self, key: Key) {
        let line = self.line(key);
        for (word, bit) in places(key) {
            self.lines[line][word] |= bit;
        }
    }

    pub(super) fn may_have(&self, key: Key) -> bool {
        let line = &self.lines[self.line(key)];
        places(key).all(|(word, bit)| line[word] & bit != 0)
    }

    /// The line is told by the key's first bits, its places there by the last.
    fn line(&self, key: Key) -> usize {
        let share = u128::from(key.bits()) * self.lines.len() as u128;
        usize::try_from(share >> 64).unwrap_or(0)
    }
}

fn places(key: Key) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS_OF_KEY).map(move |nth| {
        let name = key.bits() >> (nth * NAME_BITS) & ((1 << NAME_BITS) - 1);
        let word = usize::try_from(name / 64).unwrap_or(0);
        (word, 1 << (name % 64))
    })
}
