//! Properties of the whole check, over made-up inputs, and a second opinion on its output.

use std::io::Read;

use noodles_fasta as fasta;
use onelane_seq::{
    Alphabet, Check, CheckError, Checked, Duplicates, InputError, Limits, check_bytes,
};

const CHECK: Check<'static> = Check {
    letters: "",
    duplicates: Duplicates::Refuse,
    refuse_nucleotides: false,
    alphabet: Alphabet::Nucleotide,
    limits: Limits {
        max_records: Some(9),
        max_residues: Some(500),
        max_header_bytes: 40,
    },
    default_id: "query",
    scratch: None,
};

/// Pieces that meet in all the ways that matter, good and bad.
const PIECES: [&[u8]; 26] = [
    b">a\n",
    b">b two words \n",
    b"\n>c\r\n",
    b"\r>d\r",
    b"\n  >e\t\n",
    b"\n>\n",
    b">",
    b"ACGT",
    b"acgun\n",
    b"RYK\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b"  10",
    b"60\n",
    b"*",
    b"*\n",
    b"-",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xC3",
    b"\xE2\x82",
    b"\xC3\xA9",
    b"ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGT",
    b"E",
];

/// A generator good enough to mix pieces, the same on every run.
struct Mixer(u64);

impl Mixer {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }

    /// A body; half of them hold only what is accepted, or few would pass.
    fn body(&mut self) -> Vec<u8> {
        let tame = self.below(2) == 0;
        let mut body = if tame {
            b"\n>first one\n".to_vec()
        } else {
            Vec::new()
        };
        for _ in 0..self.below(14) {
            let index = if tame {
                7 + self.below(9)
            } else {
                self.below(PIECES.len())
            };
            body.extend_from_slice(PIECES[index]);
        }
        body
    }
}

/// Gives the bytes in reads of 1 to 7.
struct Drip<'a> {
    bytes: &'a [u8],
    turn: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.turn = self.turn % 7 + 1;
        let most = self.turn.min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

type Outcome = Result<(Vec<u8>, Checked), Vec<InputError>>;

fn outcome(result: Result<(Vec<u8>, Checked), CheckError>) -> Outcome {
    result.map_err(|error| match error {
        CheckError::Invalid(errors) => errors,
        CheckError::Io(error) => vec![InputError {
            message: error.to_string(),
            ..InputError::default()
        }],
    })
}

fn whole(body: &[u8]) -> Outcome {
    outcome(check_bytes(&CHECK, body))
}

fn dripped(body: &[u8], turn: usize) -> Outcome {
    let mut output = Vec::new();
    let result = CHECK.run(Drip { bytes: body, turn }, &mut output);
    outcome(result.map(|checked| (output, checked)))
}

fn bodies() -> impl Iterator<Item = Vec<u8>> {
    let mut mixer = Mixer(7);
    (0..4000).map(move |_| mixer.body())
}

#[test]
fn the_size_of_reads_makes_no_difference() {
    for body in bodies() {
        let expected = whole(&body);
        for turn in 0..7 {
            assert_eq!(
                dripped(&body, turn),
                expected,
                "{:?}",
                String::from_utf8_lossy(&body)
            );
        }
    }
}

#[test]
fn normalising_twice_changes_nothing() {
    let mut passed = 0;
    for (output, checked) in bodies().filter_map(|body| whole(&body).ok()) {
        let (again, second) = whole(&output).unwrap();
        assert_eq!(again, output);
        assert!(
            second.stripped.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&output)
        );
        assert_eq!(
            (second.records, second.residues),
            (checked.records, checked.residues)
        );
        assert_eq!(second.first_id, checked.first_id);
        passed += 1;
    }
    assert!(passed > 500, "only {passed} bodies passed");
}

#[test]
fn errors_come_in_order_and_are_few() {
    for errors in bodies().filter_map(|body| whole(&body).err()) {
        assert!((1..=20).contains(&errors.len()));
        assert!(
            errors.is_sorted_by_key(|error| (error.line, error.column)),
            "{errors:?}"
        );
    }
}

#[test]
fn noodles_reads_the_same_sequences() {
    for (output, checked) in bodies().filter_map(|body| whole(&body).ok()) {
        let mut reader = fasta::io::Reader::new(&output[..]);
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        let lengths: usize = records.iter().map(|record| record.sequence().len()).sum();
        assert_eq!(
            (records.len() as u64, lengths as u64),
            (checked.records, checked.residues)
        );
    }
}

#[test]
fn noodles_reads_the_same_ids_and_lengths() {
    let body = b"\xEF\xBB\xBF>sp|P1|X Some protein \r\n  10\r\nACGTNNacgt\r\n\r\n>b\r\n1 acgu 5 acg*\r\n>c\tx\r\nA";
    let (output, _) = check_bytes(&CHECK, body).unwrap();
    let mut reader = fasta::io::Reader::new(&output[..]);
    let read: Vec<_> = reader.records().map(Result::unwrap).collect();
    let expected: [(&[u8], usize); 3] = [(b"sp|P1|X", 10), (b"b", 7), (b"c", 1)];
    assert_eq!(read.len(), expected.len());
    for (record, (id, length)) in read.iter().zip(expected) {
        assert_eq!(AsRef::<[u8]>::as_ref(record.name()), id);
        assert_eq!(record.sequence().len(), length);
    }
}

#[test]
fn one_long_line_passes() {
    let limits = Limits::default();
    let input = b">long\n".chain(std::io::repeat(b'a').take(20_000_000));
    let checked = Check { limits, ..CHECK }
        .run(input, std::io::sink())
        .unwrap();
    assert_eq!(checked.residues, 20_000_000);
}
