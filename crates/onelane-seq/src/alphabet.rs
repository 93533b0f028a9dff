//! Which letters a sequence may hold.

use serde::{Deserialize, Serialize};

/// The kind of residues an input is allowed to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alphabet {
    /// Amino acids, with the ambiguity codes B, Z, X, J and the rare U and O.
    Protein,
    /// DNA with the IUPAC ambiguity codes.
    Dna,
    /// RNA with the IUPAC ambiguity codes.
    Rna,
    /// DNA or RNA with the IUPAC ambiguity codes.
    Nucleotide,
    /// Any letter.
    Any,
}

impl Alphabet {
    /// The letters allowed, in upper case; lower case is allowed just the same.
    pub fn letters(self) -> &'static str {
        match self {
            Self::Protein => "ACDEFGHIKLMNPQRSTVWYBZXUOJ",
            Self::Dna => "ACGTRYSWKMBDHVN",
            Self::Rna => "ACGURYSWKMBDHVN",
            Self::Nucleotide => "ACGTURYSWKMBDHVN",
            Self::Any => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        }
    }

    /// How messages name a sequence of this kind, with its article.
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Protein => "a protein sequence",
            Self::Dna => "a DNA sequence",
            Self::Rna => "an RNA sequence",
            Self::Nucleotide => "a nucleotide sequence",
            Self::Any => "a sequence",
        }
    }

    /// A lookup by ASCII code: asking [`letters`](Self::letters) per residue is too slow for GBs.
    pub(crate) fn table(self) -> [bool; 128] {
        let mut table = [false; 128];
        for letter in self.letters().bytes() {
            table[usize::from(letter)] = true;
            table[usize::from(letter.to_ascii_lowercase())] = true;
        }
        table
    }
}
