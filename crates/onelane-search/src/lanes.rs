//! Scores of one query against sixteen subjects at once.
//!
//! Every lane of a vector belongs to another subject, so no lane waits for another and the recurrence needs no
//! correction step (Rognes 2011). The arrays are plain; LLVM turns the loops over them into vector instructions.

use crate::scheme::{CODES, PADDING, Scheme};
use crate::trace;

/// Subjects scored together.
pub(crate) const LANES: usize = 16;

type Lanes = [i16; LANES];

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
        if score == i16::MAX {
            trace::best_end(query, subject, scheme).score
        } else {
            i32::from(score)
        }
    };
    best.iter().zip(subjects).map(exact).collect()
}

fn score_lanes(query: &[u8], subjects: &[&[u8]], scheme: &Scheme) -> Lanes {
    let mut column = vec![
        Cell {
            best: [0; LANES],
            gap: [0; LANES]
        };
        query.len()
    ];
    let longest = subjects
        .iter()
        .map(|subject| subject.len())
        .max()
        .unwrap_or(0);
    let mut table = [[0; LANES]; CODES];
    let mut best = [0; LANES];
    for position in 0..longest {
        fill_table(&mut table, subjects, position, scheme);
        next_column(&mut column, query, &table, scheme, &mut best);
    }
    best
}

/// For every query letter, its score against each lane's residue at `position`.
fn fill_table(table: &mut [Lanes; CODES], subjects: &[&[u8]], position: usize, scheme: &Scheme) {
    for (lane, subject) in subjects.iter().enumerate() {
        let residue = subject.get(position).copied().unwrap_or(PADDING);
        let row = scheme.row(residue);
        for (letter, &score) in table.iter_mut().zip(row) {
            letter[lane] = score;
        }
    }
}

/// Gotoh's recurrence down one column, keeping the best score of each lane in `top`. A gap score below zero never wins
/// against an empty alignment, so zero serves as the start value of both gap states.
fn next_column(
    column: &mut [Cell],
    query: &[u8],
    table: &[Lanes; CODES],
    scheme: &Scheme,
    top: &mut Lanes,
) {
    let (first, extend) = (scheme.first, scheme.extend);
    let (mut diagonal, mut down, mut best) = ([0; LANES], [0; LANES], *top);
    for (cell, &letter) in column.iter_mut().zip(query) {
        let scores = &table[usize::from(letter) % CODES];
        let Cell { best: before, gap } = *cell;
        for lane in 0..LANES {
            let matched = scores[lane].saturating_add(diagonal[lane]);
            let score = matched.max(gap[lane]).max(down[lane]).max(0);
            let opened = score.saturating_sub(first);
            best[lane] = best[lane].max(score);
            cell.best[lane] = score;
            cell.gap[lane] = gap[lane].saturating_sub(extend).max(opened);
            down[lane] = down[lane].saturating_sub(extend).max(opened);
        }
        diagonal = before;
    }
    *top = best;
}

#[cfg(test)]
mod tests {
    use super::scores;
    use crate::scheme::Scheme;

    #[test]
    fn scores_beyond_sixteen_bits_are_exact() {
        // Titin against itself scores so much; a steep matrix does it in ten residues.
        let scheme = Scheme::protein().times(500);
        let codes = |text: &[u8]| -> Vec<u8> {
            text.iter()
                .filter_map(|&letter| scheme.code(letter))
                .collect()
        };
        let (query, short) = (codes(b"WWWWWWWWWW"), codes(b"AWW"));
        assert_eq!(scores(&query, &[&query, &short], &scheme), [55_000, 11_000]);
    }
}
