//! What an id is known by.

/// Bits of a number; those of the hashes make the rest of an entry.
const NUMBER_BITS: u32 = 40;
const LARGEST_NUMBER: u64 = (1 << NUMBER_BITS) - 1;

/// 88 bits of two hashes. Nobody knows the hashers' keys, so nobody can make two ids that share one; by chance it happens
/// once in 6·10¹⁰ inputs of a hundred million ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    first: u64,
    /// The number's bits are 0.
    second: u64,
}

impl Key {
    pub(super) fn new(first: u64, second: u64) -> Self {
        let second = second & !LARGEST_NUMBER;
        Self { first, second }
    }

    /// Its bits that are spread evenly: what comes first in order has the smaller ones.
    pub(super) fn bits(self) -> u64 {
        self.first
    }

    pub(super) fn entry(self, number: u64) -> Entry {
        let second = self.second | number.min(LARGEST_NUMBER);
        Entry(self.first, second)
    }
}

/// A key and its number, as it is in a file. The order is that of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64, u64);

impl Entry {
    pub(super) const BYTES: usize = 16;

    pub(super) fn key(self) -> Key {
        Key::new(self.0, self.1)
    }

    pub(super) fn number(self) -> u64 {
        self.1 & LARGEST_NUMBER
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.1.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let half = |from: usize| std::array::from_fn(|at| bytes[from + at]);
        Self(u64::from_le_bytes(half(0)), u64::from_le_bytes(half(8)))
    }
}
