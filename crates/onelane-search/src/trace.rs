//! The alignment behind a score, for the hits that are reported.
//!
//! Two passes in linear memory find where the alignment ends and starts, so that the traceback matrix covers the aligned
//! region alone: a gene in a chromosome costs the gene's length squared.

use crate::failure::Failure;
use crate::scheme::Scheme;

/// One column of an alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A residue of each.
    Both,
    /// A query residue against a gap.
    Query,
    /// A subject residue against a gap.
    Subject,
}

/// A local alignment; starts count from zero.
#[derive(Debug)]
pub(crate) struct Alignment {
    pub(crate) query_start: usize,
    pub(crate) subject_start: usize,
    pub(crate) steps: Vec<Step>,
}

/// The best local score and the (exclusive) ends of the alignment that has it first, in subject order, then query order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    pub(crate) score: i32,
    query: usize,
    subject: usize,
}

// Low enough never to win, and far enough from the edge to subtract gap costs from.
const NEVER: i32 = i32::MIN / 2;

const STOP: u8 = 0;
const DIAGONAL: u8 = 1;
const SUBJECT_GAP: u8 = 2;
const QUERY_GAP: u8 = 3;
const SOURCE: u8 = 3;
const EXTEND_SUBJECT: u8 = 4;
const EXTEND_QUERY: u8 = 8;

/// Aligns a pair; both sequences hold scheme codes and the best score must be positive.
pub(crate) fn align(query: &[u8], subject: &[u8], scheme: &Scheme) -> Result<Alignment, Failure> {
    let end = best_end(query, subject, scheme);
    // The end found is the first of the best score, hence the only one in its prefix: going backwards from there,
    // the first end of the best score is a start that belongs to it.
    let backwards = |codes: &[u8]| codes.iter().rev().copied().collect::<Vec<u8>>();
    let reach = best_end(
        &backwards(&query[..end.query]),
        &backwards(&subject[..end.subject]),
        scheme,
    );
    let (query_from, subject_from) = (end.query - reach.query, end.subject - reach.subject);
    let query = &query[query_from..end.query];
    let subject = &subject[subject_from..end.subject];
    let alignment = walk(
        &directions(query, subject, scheme)?,
        query.len(),
        subject.len(),
    );
    Ok(Alignment {
        query_start: query_from + alignment.query_start,
        subject_start: subject_from + alignment.subject_start,
        steps: alignment.steps,
    })
}

/// Exact score in 32 bits, one pair at a time, in memory linear in the query.
pub(crate) fn best_end(query: &[u8], subject: &[u8], scheme: &Scheme) -> End {
    let mut found = End::default();
    sweep(query, subject, scheme, |row, column, score, _| {
        if score > found.score {
            found = End {
                score,
                query: row + 1,
                subject: column + 1,
            };
        }
    });
    found
}

/// One byte per cell, subject-major: where the best score comes from, and whether either gap goes on.
fn directions(query: &[u8], subject: &[u8], scheme: &Scheme) -> Result<Vec<u8>, Failure> {
    let cells = query.len().saturating_mul(subject.len());
    let mut directions = Vec::new();
    directions.try_reserve_exact(cells).map_err(|_| {
        Failure::TooLarge(format!(
            "not enough memory to trace an alignment of {cells} cells"
        ))
    })?;
    sweep(query, subject, scheme, |_, _, _, direction| {
        directions.push(direction);
    });
    Ok(directions)
}

/// Gotoh's recurrence over all cells in subject order: `visit(query position, subject position, score, direction)`.
fn sweep(
    query: &[u8],
    subject: &[u8],
    scheme: &Scheme,
    mut visit: impl FnMut(usize, usize, i32, u8),
) {
    let (first, extend) = (i32::from(scheme.first), i32::from(scheme.extend));
    let mut column = vec![(0, NEVER); query.len()];
    for (position, &residue) in subject.iter().enumerate() {
        let row = scheme.row(residue);
        let (mut diagonal, mut down) = (0, NEVER);
        for (index, (&letter, (best, gap))) in query.iter().zip(&mut column).enumerate() {
            let matched = diagonal + i32::from(row[usize::from(letter)]);
            let score = matched.max(*gap).max(down).max(0);
            let opened = score - first;
            let mut direction = source(score, matched, *gap);
            direction |= if *gap - extend > opened {
                EXTEND_SUBJECT
            } else {
                0
            };
            direction |= if down - extend > opened {
                EXTEND_QUERY
            } else {
                0
            };
            visit(index, position, score, direction);
            diagonal = *best;
            (*best, *gap) = (score, opened.max(*gap - extend));
            down = opened.max(down - extend);
        }
    }
}

/// Which state `score` came from; a match is preferred to a gap.
fn source(score: i32, matched: i32, gap: i32) -> u8 {
    match score {
        0 => STOP,
        _ if score == matched => DIAGONAL,
        _ if score == gap => SUBJECT_GAP,
        _ => QUERY_GAP,
    }
}

/// Follows the directions from the last cell back to the start of the alignment.
fn walk(directions: &[u8], rows: usize, columns: usize) -> Alignment {
    let (mut row, mut column) = (rows, columns);
    let mut steps = Vec::with_capacity(rows + columns);
    let mut state = DIAGONAL;
    while row > 0 && column > 0 {
        let at = |row: usize, column: usize| directions[(column - 1) * rows + row - 1];
        if state == DIAGONAL {
            state = at(row, column) & SOURCE;
        }
        match state {
            STOP => break,
            DIAGONAL => {
                steps.push(Step::Both);
                (row, column) = (row - 1, column - 1);
            }
            SUBJECT_GAP => {
                steps.push(Step::Subject);
                column -= 1;
                state = if at(row, column) & EXTEND_SUBJECT == 0 {
                    DIAGONAL
                } else {
                    SUBJECT_GAP
                };
            }
            _ => {
                steps.push(Step::Query);
                row -= 1;
                state = if at(row, column) & EXTEND_QUERY == 0 {
                    DIAGONAL
                } else {
                    QUERY_GAP
                };
            }
        }
    }
    steps.reverse();
    Alignment {
        query_start: row,
        subject_start: column,
        steps,
    }
}
