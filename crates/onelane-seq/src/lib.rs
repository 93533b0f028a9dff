//! Biological sequence input: checks pasted or uploaded FASTA and writes it normalised.
//!
//! The scanner is our own. A FASTA library reads what is already well formed: none reports the
//! line and column of a wrong letter, and none forgives what people paste (position numbers,
//! old line ends, a sequence without a header). Here both matter more than anything else.
//!
//! Input of any size passes through in constant memory, however it is cut into lines: what is
//! kept is one header, fixed buffers, and, to find duplicates, hashes of the ids seen so far. Those
//! of many go to files, where [`Check::scratch`] names a folder for them.
//!
//! ```
//! use onelane_seq::{Alphabet, Check, check_bytes};
//!
//! let check = Check::new(Alphabet::Dna, "query");
//! let (fasta, checked) = check_bytes(&check, b"  1 acgt acgt\r\n").unwrap();
//! assert_eq!(fasta, b">query\nacgtacgt\n");
//! assert_eq!(checked.residues, 8);
//! ```

mod alphabet;
mod check;
mod decode;
mod fastq;
mod ids;
mod report;
mod scan;
mod sniff;
mod wrap;

#[cfg(test)]
mod tests;

pub use alphabet::Alphabet;
pub use check::{Check, Duplicates, Limits, check_bytes, looks_like_nucleotides};
pub use report::{CheckError, Checked, InputError, Stripped};
