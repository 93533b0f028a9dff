//! Scores of residue pairs, gap costs and the statistics that go with them.
//!
//! # Letters
//!
//! Case does not matter. All pairs score as in `ssearch36` (36.3.8i, Debian `fasta3`), which a test checks letter by
//! letter:
//!
//! * Proteins take BLOSUM62 (Henikoff & Henikoff 1992, doi:10.1073/pnas.89.22.10915), including its rows B (D or N),
//!   Z (E or Q) and X (any). J stands for I or L with a row of its own. U (selenocysteine) scores as C and O
//!   (pyrrolysine) as K. The stop `*` scores as X against residues and 6 against itself, where BLAST has -4 and 1.
//!   Four pairs that no real sequence aligns by choice follow `ssearch36` and not these rules: J–U, J–O and O–U score
//!   0, U–`*` scores 6.
//! * Nucleotides score +2 for a match and -3 for a mismatch; U is T. An IUPAC ambiguity code scores 0 or -1, N and X
//!   always -1.

use std::fmt;

/// Rows of a matrix: more than any alphabet has letters, and a power of two.
pub(crate) const CODES: usize = 32;

/// The code behind a sequence's end, which matches nothing.
pub(crate) const PADDING: u8 = 31;

const PADDING_SCORE: i16 = -1_000;
const UNKNOWN: u8 = u8::MAX;

const PROTEIN_LETTERS: &[u8; 27] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ*";
const NUCLEOTIDE_LETTERS: &[u8; 16] = b"ACGTRYSWKMBDHVNX";
const COMPLEMENTS: &[u8; 16] = b"TGCAYRSWMKVHDBNX";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Alphabet {
    Protein,
    Nucleotide,
}

impl fmt::Display for Alphabet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Protein => "protein",
            Self::Nucleotide => "nucleotide",
        })
    }
}

/// How pairs and gaps score.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub(crate) alphabet: Alphabet,
    codes: [u8; 256],
    matrix: [[i16; CODES]; CODES],
    /// Cost of a gap's first residue: opening and extension.
    pub(crate) first: i16,
    /// Cost of each further residue.
    pub(crate) extend: i16,
    lambda: f64,
    k: f64,
}

impl Scheme {
    /// BLOSUM62, 11 + k for a gap of k; lambda and K as in NCBI BLAST's table for gapped BLOSUM62 11/1.
    pub(crate) fn protein() -> Self {
        Self {
            alphabet: Alphabet::Protein,
            codes: codes(PROTEIN_LETTERS),
            matrix: matrix(&PROTEIN_SCORES),
            first: 12,
            extend: 1,
            lambda: 0.267,
            k: 0.041,
        }
    }

    /// +2/-3, 5 + 2k for a gap of k; lambda and K as in NCBI BLAST's table for these values.
    pub(crate) fn nucleotide() -> Self {
        let mut codes = codes(NUCLEOTIDE_LETTERS);
        codes[usize::from(b'U')] = codes[usize::from(b'T')];
        Self {
            alphabet: Alphabet::Nucleotide,
            codes,
            matrix: matrix(&NUCLEOTIDE_SCORES),
            first: 7,
            extend: 2,
            lambda: 0.625,
            k: 0.41,
        }
    }

    /// The matrix row of an upper-case letter, if it is one of the alphabet.
    pub(crate) fn code(&self, letter: u8) -> Option<u8> {
        Some(self.codes[usize::from(letter)]).filter(|&code| code != UNKNOWN)
    }

    /// Scores of a residue against every code.
    pub(crate) fn row(&self, code: u8) -> &[i16; CODES] {
        &self.matrix[usize::from(code) % CODES]
    }

    /// The letter opposite to a nucleotide's.
    pub(crate) fn complement(&self, letter: u8) -> u8 {
        let code = usize::from(self.codes[usize::from(letter)]);
        COMPLEMENTS.get(code).copied().unwrap_or(letter)
    }

    /// Bit score S' = (λS − ln K) / ln 2 (Karlin & Altschul 1990, doi:10.1073/pnas.87.6.2264; Altschul et al. 1997,
    /// doi:10.1093/nar/25.17.3389).
    pub(crate) fn bits(&self, score: i32) -> f64 {
        (self.lambda * f64::from(score) - self.k.ln()) / std::f64::consts::LN_2
    }
}

#[cfg(test)]
impl Scheme {
    /// The same scheme with pairs that score more.
    pub(crate) fn times(mut self, factor: i16) -> Self {
        for score in self.matrix.as_flattened_mut() {
            *score = score.saturating_mul(factor);
        }
        self
    }
}

fn codes(letters: &[u8]) -> [u8; 256] {
    let mut codes = [UNKNOWN; 256];
    for (code, &letter) in (0..).zip(letters) {
        codes[usize::from(letter)] = code;
    }
    codes
}

fn matrix<const N: usize>(scores: &[[i16; N]; N]) -> [[i16; CODES]; CODES] {
    let mut matrix = [[PADDING_SCORE; CODES]; CODES];
    for (row, scores) in matrix.iter_mut().zip(scores) {
        row[..N].copy_from_slice(scores);
    }
    matrix
}

#[rustfmt::skip]
const PROTEIN_SCORES: [[i16; 27]; 27] = [
    [4, -2, 0, -2, -1, -2, 0, -2, -1, -1, -1, -1, -1, -2, -1, -1, -1, -1, 1, 0, 0, 0, -3, 0, -2, -1, 0],
    [-2, 4, -3, 4, 1, -3, -1, 0, -3, -3, 0, -4, -3, 3, 0, -2, 0, -1, 0, -1, -3, -3, -4, -1, -3, 1, -1],
    [0, -3, 9, -3, -4, -2, -3, -3, -1, -1, -3, -1, -1, -3, -3, -3, -3, -3, -1, -1, 9, -1, -2, -2, -2, -3, -2],
    [-2, 4, -3, 6, 2, -3, -1, -1, -3, -3, -1, -4, -3, 1, -1, -1, 0, -2, 0, -1, -3, -3, -4, -1, -3, 1, -1],
    [-1, 1, -4, 2, 5, -3, -2, 0, -3, -3, 1, -3, -2, 0, 1, -1, 2, 0, 0, -1, -4, -2, -3, -1, -2, 4, -1],
    [-2, -3, -2, -3, -3, 6, -3, -1, 0, 0, -3, 0, 0, -3, -3, -4, -3, -3, -2, -2, -2, -1, 1, -1, 3, -3, -1],
    [0, -1, -3, -1, -2, -3, 6, -2, -4, -4, -2, -4, -3, 0, -2, -2, -2, -2, 0, -2, -3, -3, -2, -1, -3, -2, -1],
    [-2, 0, -3, -1, 0, -1, -2, 8, -3, -3, -1, -3, -2, 1, -1, -2, 0, 0, -1, -2, -3, -3, -2, -1, 2, 0, -1],
    [-1, -3, -1, -3, -3, 0, -4, -3, 4, 4, -3, 2, 1, -3, -3, -3, -3, -3, -2, -1, -1, 3, -3, -1, -1, -3, -1],
    [-1, -3, -1, -3, -3, 0, -4, -3, 4, 4, -2, 4, 2, -3, 0, -3, -2, -2, -2, -1, 0, 3, -2, -1, -1, -3, -1],
    [-1, 0, -3, -1, 1, -3, -2, -1, -3, -2, 5, -2, -1, 0, 5, -1, 1, 2, 0, -1, -3, -2, -3, -1, -2, 1, -1],
    [-1, -4, -1, -4, -3, 0, -4, -3, 2, 4, -2, 4, 2, -3, -2, -3, -2, -2, -2, -1, -1, 1, -2, -1, -1, -3, -1],
    [-1, -3, -1, -3, -2, 0, -3, -2, 1, 2, -1, 2, 5, -2, -1, -2, 0, -1, -1, -1, -1, 1, -1, -1, -1, -1, -1],
    [-2, 3, -3, 1, 0, -3, 0, 1, -3, -3, 0, -3, -2, 6, 0, -2, 0, 0, 1, 0, -3, -3, -4, -1, -2, 0, -1],
    [-1, 0, -3, -1, 1, -3, -2, -1, -3, 0, 5, -2, -1, 0, 5, -1, 1, 2, 0, -1, 0, -2, -3, -1, -2, 1, -1],
    [-1, -2, -3, -1, -1, -4, -2, -2, -3, -3, -1, -3, -2, -2, -1, 7, -1, -2, -1, -1, -3, -2, -4, -2, -3, -1, -2],
    [-1, 0, -3, 0, 2, -3, -2, 0, -3, -2, 1, -2, 0, 0, 1, -1, 5, 1, 0, -1, -3, -2, -2, -1, -1, 3, -1],
    [-1, -1, -3, -2, 0, -3, -2, 0, -3, -2, 2, -2, -1, 0, 2, -2, 1, 5, -1, -1, -3, -3, -3, -1, -2, 0, -1],
    [1, 0, -1, 0, 0, -2, 0, -1, -2, -2, 0, -2, -1, 1, 0, -1, 0, -1, 4, 1, -1, -2, -3, 0, -2, 0, 0],
    [0, -1, -1, -1, -1, -2, -2, -2, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, 1, 5, -1, 0, -2, 0, -2, -1, 0],
    [0, -3, 9, -3, -4, -2, -3, -3, -1, 0, -3, -1, -1, -3, 0, -3, -3, -3, -1, -1, 9, -1, -2, -2, -2, -3, 6],
    [0, -3, -1, -3, -2, -1, -3, -3, 3, 3, -2, 1, 1, -3, -2, -2, -2, -3, -2, 0, -1, 4, -3, -1, -1, -2, -1],
    [-3, -4, -2, -4, -3, 1, -2, -2, -3, -2, -3, -2, -1, -4, -3, -4, -2, -3, -3, -2, -2, -3, 11, -2, 2, -3, -2],
    [0, -1, -2, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, -1, -1, 0, 0, -2, -1, -2, -1, -1, -1, -1],
    [-2, -3, -2, -3, -2, 3, -3, 2, -1, -1, -2, -1, -1, -2, -2, -3, -1, -2, -2, -2, -2, -1, 2, -1, 7, -2, -1],
    [-1, 1, -3, 1, 4, -3, -2, 0, -3, -3, 1, -3, -1, 0, 1, -1, 3, 0, 0, -1, -3, -2, -3, -1, -2, 4, -1],
    [0, -1, -2, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, -1, -1, 0, 0, 6, -1, -2, -1, -1, -1, 6],
];

#[rustfmt::skip]
const NUCLEOTIDE_SCORES: [[i16; 16]; 16] = [
    [2, -3, -3, -3, 0, -1, -1, 0, -1, 0, -1, 0, 0, 0, -1, -1],
    [-3, 2, -3, -3, -1, 0, 0, -1, -1, 0, 0, -1, 0, 0, -1, -1],
    [-3, -3, 2, -3, 0, -1, 0, -1, 0, -1, 0, 0, -1, 0, -1, -1],
    [-3, -3, -3, 2, -1, 0, -1, 0, 0, -1, 0, 0, 0, -1, -1, -1],
    [0, -1, 0, -1, 0, -1, 0, 0, 0, -1, -1, 0, -1, 0, -1, -1],
    [-1, 0, -1, 0, -1, 0, 0, 0, 0, -1, 0, -1, 0, -1, -1, -1],
    [-1, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, -1, 0, -1, -1],
    [0, -1, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, -1, -1, -1],
    [-1, -1, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, -1, -1, -1, -1],
    [0, 0, -1, -1, -1, -1, 0, 0, -1, 0, -1, -1, 0, 0, -1, -1],
    [-1, 0, 0, 0, -1, 0, 0, -1, 0, -1, 0, -1, -1, -1, -1, -1],
    [0, -1, 0, 0, 0, -1, -1, 0, 0, -1, -1, 0, -1, -1, -1, -1],
    [0, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, -1, 0, -1, -1, -1],
    [0, 0, 0, -1, 0, -1, 0, -1, -1, 0, -1, -1, -1, 0, -1, -1],
    [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1],
    [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1],
];
