//! Scores of one query against sixteen subjects at once.
//!
//! Every lane of a vector belongs to another subject, so no lane waits for another and the recurrence needs no
//! correction step (Rognes 2011). The arrays are plain; LLVM turns the loops over them into vector instructions.

use crate::scheme::{CODES, PADDING, Scheme};
use crate::trace;

/// Subjects scored together.
pub(crate) const LANES: usize = 16;

#[derive(Clone, Copy)]
struct Lanes([i16; LANES]);

impl Lanes {
    const ZERO: Self = Self([0; LANES]);

    #[inline]
    fn zip(self, other: Self, combine: impl Fn(i16, i16) -> i16) -> Self {
        let mut out = Self::ZERO;
        for lane in 0..LANES {
            out.0[lane] = combine(self.0[lane], other.0[lane]);
        }
        out
    }

    #[inline]
    fn max(self, other: Self) -> Self {
        self.zip(other, i16::max)
    }

    #[inline]
    fn add(self, other: Self) -> Self {
        self.zip(other, i16::saturating_add)
    }

    #[inline]
    fn sub(self, cost: i16) -> Self {
        self.zip(Self([cost; LANES]), i16::saturating_sub)
    }
}

/// One query position of the column before: the best score ending there, and with a gap in the query.
#[derive(Clone, Copy)]
struct Cell {
    best: Lanes,
    gap: Lanes,
}

/// Best local score of `query` against each of at most [`LANES`] subjects.
pub(crate) fn scores(query: &[u8], subjects: &[&[u8]], scheme: &Scheme) -> Vec<i32> {
    let best = score_lanes(query, subjects, scheme);
    let exact = |(&score, subject): (&i16, &&[u8])| {
        // A saturated lane says only that the score is large.
        if score == i16::MAX { trace::best_end(query, subject, scheme).score } else { i32::from(score) }
    };
    best.0.iter().zip(subjects).map(exact).collect()
}

fn score_lanes(query: &[u8], subjects: &[&[u8]], scheme: &Scheme) -> Lanes {
    let mut column = vec![Cell { best: Lanes::ZERO, gap: Lanes::ZERO }; query.len()];
    let longest = subjects.iter().map(|subject| subject.len()).max().unwrap_or(0);
    let mut table = [Lanes::ZERO; CODES];
    let mut best = Lanes::ZERO;
    for position in 0..longest {
        fill_table(&mut table, subjects, position, scheme);
        best = best.max(next_column(&mut column, query, &table, scheme));
    }
    best
}

/// For every query letter, its score against each lane's residue at `position`.
fn fill_table(table: &mut [Lanes; CODES], subjects: &[&[u8]], position: usize, scheme: &Scheme) {
    for (lane, subject) in subjects.iter().enumerate() {
        let residue = subject.get(position).copied().unwrap_or(PADDING);
        let row = scheme.row(residue);
        for (letter, &score) in table.iter_mut().zip(row) {
            letter.0[lane] = score;
        }
    }
}

/// Gotoh's recurrence down one column. A gap score below zero never wins against an empty alignment, so zero serves as
/// the start value of both gap states.
fn next_column(column: &mut [Cell], query: &[u8], table: &[Lanes; CODES], scheme: &Scheme) -> Lanes {
    let (first, extend) = (scheme.first, scheme.extend);
    let (mut diagonal, mut down, mut top) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    for (cell, &letter) in column.iter_mut().zip(query) {
        let matched = diagonal.add(table[usize::from(letter) % CODES]);
        let best = matched.max(cell.gap).max(down).max(Lanes::ZERO);
        diagonal = cell.best;
        top = top.max(best);
        let opened = best.sub(first);
        *cell = Cell { best, gap: cell.gap.sub(extend).max(opened) };
        down = down.sub(extend).max(opened);
    }
    top
}
