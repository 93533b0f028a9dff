use serde::{Deserialize, Serialize};

use crate::Priority;

/// A job's place in the queue: smaller starts earlier.
///
/// First by priority, then by `seq`: `(100 − priority) · 2⁵⁴ + seq`, which leaves room for 10¹⁶ jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderKey(i64);

const SEQ_BITS: u32 = 54;

impl OrderKey {
    /// The place of a job of this priority with this `seq`.
    pub fn new(priority: Priority, seq: i64) -> Self {
        let rank = i64::from(Priority::MAX - i32::from(priority));
        Self((rank << SEQ_BITS) + seq)
    }

    /// As the store keeps it.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// From the store.
    pub const fn from_i64(value: i64) -> Self {
        Self(value)
    }
}

/// A sorted collection that also tells how many keys are smaller than one: positions without counting rows.
///
/// Sorted runs of bounded length; with n keys, an insertion, a removal and a rank each touch one run and the list of
/// runs, which for a million keys are about a thousand each.
#[derive(Clone, Debug)]
pub struct OrderStatistic<V> {
    runs: Vec<Vec<(OrderKey, V)>>,
    len: usize,
}

const RUN: usize = 1024;

impl<V> Default for OrderStatistic<V> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<V> OrderStatistic<V> {
    /// How many keys there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many keys are smaller than `key`, whether or not `key` itself is here.
    pub fn rank(&self, key: OrderKey) -> usize {
        let at = self.run_of(key);
        let before: usize = self.runs[..at].iter().map(Vec::len).sum();
        before
            + self
                .runs
                .get(at)
                .map_or(0, |run| run.partition_point(|(k, _)| *k < key))
    }

    /// Puts a value at its key; gives back the value that was there.
    pub fn insert(&mut self, key: OrderKey, value: V) -> Option<V> {
        if self.runs.is_empty() {
            self.runs.push(Vec::new());
        }
        // A key above all others belongs to the last run.
        let at = self.run_of(key).min(self.runs.len() - 1);
        let run = &mut self.runs[at];
        match run.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(place) => return Some(std::mem::replace(&mut run[place].1, value)),
            Err(place) => run.insert(place, (key, value)),
        }
        self.len += 1;
        self.split_if_full(at);
        None
    }

    /// Takes the value at a key.
    pub fn remove(&mut self, key: OrderKey) -> Option<V> {
        let at = self.run_of(key);
        let run = self.runs.get_mut(at)?;
        let place = run.binary_search_by_key(&key, |(k, _)| *k).ok()?;
        let (_, value) = run.remove(place);
        if run.is_empty() {
            self.runs.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// The value at a key.
    pub fn get(&self, key: OrderKey) -> Option<&V> {
        let run = self.runs.get(self.run_of(key))?;
        let place = run.binary_search_by_key(&key, |(k, _)| *k).ok()?;
        run.get(place).map(|(_, value)| value)
    }

    /// All of them, smallest key first.
    pub fn iter(&self) -> impl Iterator<Item = (OrderKey, &V)> {
        self.runs.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// The first run whose last key is not below `key`.
    fn run_of(&self, key: OrderKey) -> usize {
        self.runs
            .partition_point(|run| run.last().is_none_or(|(last, _)| *last < key))
    }

    fn split_if_full(&mut self, at: usize) {
        let full = self.runs[at].len() > RUN;
        if full {
            // New jobs mostly come last: splitting off a short tail keeps the earlier runs full.
            let is_last = at + 1 == self.runs.len();
            let cut = if is_last { RUN } else { RUN / 2 };
            let tail = self.runs[at].split_off(cut);
            self.runs.insert(at + 1, tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(priority: i32, seq: i64) -> OrderKey {
        OrderKey::new(Priority::try_from(priority).unwrap(), seq)
    }

    #[test]
    fn higher_priority_first_then_first_in_first_out() {
        let mut keys = vec![key(0, 2), key(-100, 1), key(0, 1), key(100, 9)];
        keys.sort();
        assert_eq!(keys, vec![key(100, 9), key(0, 1), key(0, 2), key(-100, 1)]);
    }

    /// A small generator (xorshift) so that the test needs no crate and is the same each time.
    fn numbers(count: usize) -> impl Iterator<Item = u64> {
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        })
        .take(count)
    }

    #[test]
    fn it_agrees_with_a_sorted_map_over_random_operations() {
        let (mut ours, mut model) = (OrderStatistic::default(), BTreeMap::new());
        for n in numbers(30_000) {
            let key = key(0, i64::try_from(n % 5_000).unwrap());
            if n & 0x3000 == 0 {
                assert_eq!(ours.remove(key), model.remove(&key));
            } else {
                assert_eq!(ours.insert(key, n), model.insert(key, n));
            }
            assert_eq!(ours.len(), model.len());
            if n % 97 == 0 {
                assert_eq!(ours.rank(key), model.range(..key).count());
                assert_eq!(ours.get(key), model.get(&key));
            }
        }
        assert!(ours.iter().map(|(k, v)| (k, *v)).eq(model));
    }
}
