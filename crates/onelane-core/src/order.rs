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
/// runs, which for a million keys are about a thousand each. Keys that come in order fill their runs to the last place,
/// and a place takes the bytes of its key and value and no more.
#[derive(Clone, Debug)]
pub struct OrderStatistic<V> {
    runs: Vec<Run<V>>,
    len: usize,
}

/// Keys and values apart: no bytes are lost between them, and a search reads keys alone.
#[derive(Clone, Debug)]
struct Run<V> {
    keys: Vec<OrderKey>,
    values: Vec<V>,
}

const RUN: usize = 1024;
/// The first run of a short queue grows; a long queue's runs have their full length from the start.
const FIRST: usize = 16;

impl<V> Default for OrderStatistic<V> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<V> Run<V> {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            keys: Vec::with_capacity(capacity),
            values: Vec::with_capacity(capacity),
        }
    }

    fn insert(&mut self, place: usize, key: OrderKey, value: V) {
        self.keys.insert(place, key);
        self.values.insert(place, value);
    }

    /// The upper half, as a run of its own.
    fn split(&mut self) -> Self {
        let mut upper = Self::with_capacity(RUN);
        let cut = self.keys.len() / 2;
        upper.keys.extend(self.keys.drain(cut..));
        upper.values.extend(self.values.drain(cut..));
        upper
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
        let before: usize = self.runs[..at].iter().map(|run| run.keys.len()).sum();
        before
            + self
                .runs
                .get(at)
                .map_or(0, |run| run.keys.partition_point(|k| *k < key))
    }

    /// Puts a value at its key; gives back the value that was there.
    pub fn insert(&mut self, key: OrderKey, value: V) -> Option<V> {
        let at = self.run_of(key);
        let Some(run) = self.runs.get_mut(at) else {
            self.push(key, value);
            return None;
        };
        match run.keys.binary_search(&key) {
            Ok(place) => return Some(std::mem::replace(&mut run.values[place], value)),
            Err(place) if run.keys.len() < RUN => run.insert(place, key, value),
            Err(place) => {
                let mut upper = run.split();
                match place.checked_sub(run.keys.len()) {
                    Some(place) => upper.insert(place, key, value),
                    None => run.insert(place, key, value),
                }
                self.runs.insert(at + 1, upper);
            }
        }
        self.len += 1;
        None
    }

    /// A key above all others, as most are.
    fn push(&mut self, key: OrderKey, value: V) {
        if self.runs.last().is_none_or(|run| run.keys.len() >= RUN) {
            let capacity = if self.runs.is_empty() { FIRST } else { RUN };
            self.runs.push(Run::with_capacity(capacity));
        }
        if let Some(run) = self.runs.last_mut() {
            run.keys.push(key);
            run.values.push(value);
            self.len += 1;
        }
    }

    /// Takes the value at a key.
    pub fn remove(&mut self, key: OrderKey) -> Option<V> {
        let at = self.run_of(key);
        let run = self.runs.get_mut(at)?;
        let place = run.keys.binary_search(&key).ok()?;
        run.keys.remove(place);
        let value = run.values.remove(place);
        if run.keys.is_empty() {
            self.runs.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// The value at a key.
    pub fn get(&self, key: OrderKey) -> Option<&V> {
        let run = self.runs.get(self.run_of(key))?;
        run.values.get(run.keys.binary_search(&key).ok()?)
    }

    /// All of them, smallest key first.
    pub fn iter(&self) -> impl Iterator<Item = (OrderKey, &V)> {
        let runs = self.runs.iter();
        runs.flat_map(|run| run.keys.iter().copied().zip(&run.values))
    }

    /// The first run whose last key is not below `key`.
    fn run_of(&self, key: OrderKey) -> usize {
        if self
            .runs
            .last()
            .is_none_or(|run| run.keys.last().is_none_or(|last| *last < key))
        {
            return self.runs.len();
        }
        self.runs
            .partition_point(|run| run.keys.last().is_none_or(|last| *last < key))
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

    #[test]
    fn keys_that_come_in_order_fill_their_runs_and_keep_no_room_besides() {
        let mut queue = OrderStatistic::default();
        for seq in 0..100_000 {
            queue.insert(key(0, seq), seq);
        }
        let room = |run: &Run<i64>| run.keys.capacity().max(run.values.capacity());
        let rooms: usize = queue.runs.iter().map(room).sum();
        assert!(rooms < queue.len() + 2 * RUN, "{rooms}");
        assert_eq!(queue.rank(key(0, 77_777)), 77_777);
    }

    #[test]
    fn keys_that_come_in_any_order_keep_their_runs_bounded() {
        let mut queue = OrderStatistic::default();
        for n in numbers(50_000) {
            queue.insert(key(0, i64::try_from(n % 1_000_000).unwrap()), n);
        }
        let longest = queue.runs.iter().map(|run| run.keys.len()).max();
        assert!(longest <= Some(RUN));
        assert!(
            queue.runs.len() < 4 * queue.len() / RUN,
            "{}",
            queue.runs.len()
        );
        assert!(queue.iter().is_sorted_by_key(|(key, _)| key));
    }
}
