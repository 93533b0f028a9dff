//! Tables of inputs and what becomes of them.

use std::io::{self, Read, Write};

use super::*;

fn check(alphabet: Alphabet) -> Check<'static> {
    Check::new(alphabet, "query")
}

fn accepted(alphabet: Alphabet, body: &[u8]) -> (String, Checked) {
    let (output, checked) = check_bytes(&check(alphabet), body).unwrap();
    (String::from_utf8(output).unwrap(), checked)
}

fn refused_by(check: &Check<'_>, body: &[u8]) -> Vec<InputError> {
    match check_bytes(check, body) {
        Err(CheckError::Invalid(errors)) => errors,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(body)),
    }
}

fn refused(body: &[u8]) -> Vec<InputError> {
    refused_by(&check(Alphabet::Dna), body)
}

const NONE: Stripped = Stripped {
    byte_order_mark: 0,
    cr_line_ends: 0,
    blank_lines: 0,
    spaces: 0,
    digits: 0,
    final_stars: 0,
    header_added: 0,
    ids_renamed: 0,
};
const BARE: Stripped = Stripped {
    header_added: 1,
    ..NONE
};

/// Input, output, what was stripped.
const FORGIVEN: &[(&[u8], &str, Stripped)] = &[
    (b">a\nACGT\n", ">a\nACGT\n", NONE),
    (b">a\nACGT", ">a\nACGT\n", NONE),
    (b">a x y\nAC\nGT\n", ">a x y\nACGT\n", NONE),
    (
        b">a\r\nAC\r\nGT\r\n",
        ">a\nACGT\n",
        Stripped {
            cr_line_ends: 3,
            ..NONE
        },
    ),
    (
        b">a\rAC\r>b\rGT",
        ">a\nAC\n>b\nGT\n",
        Stripped {
            cr_line_ends: 3,
            ..NONE
        },
    ),
    (
        b"\xEF\xBB\xBF>a\nAC\n",
        ">a\nAC\n",
        Stripped {
            byte_order_mark: 1,
            ..NONE
        },
    ),
    (
        b"\xEF\xBB\xBFAC\n",
        ">query\nAC\n",
        Stripped {
            byte_order_mark: 1,
            ..BARE
        },
    ),
    (b">a\nacGTn\n", ">a\nacGTn\n", NONE),
    (
        b"\n \n>a\n\nAC\n\t\nGT\n\n",
        ">a\nACGT\n",
        Stripped {
            blank_lines: 5,
            ..NONE
        },
    ),
    (
        b">a\nAC\n  ",
        ">a\nAC\n",
        Stripped {
            blank_lines: 1,
            ..NONE
        },
    ),
    (
        b">a\nAC GT\tA \n",
        ">a\nACGTA\n",
        Stripped { spaces: 3, ..NONE },
    ),
    (
        b"  >a z \t\nAC\n",
        ">a z\nAC\n",
        Stripped { spaces: 4, ..NONE },
    ),
    (
        b"        1 acgt acgt\n",
        ">query\nacgtacgt\n",
        Stripped {
            spaces: 10,
            digits: 1,
            ..BARE
        },
    ),
    (
        b">a\n  10  20\nACGT\n",
        ">a\nACGT\n",
        Stripped {
            spaces: 4,
            digits: 4,
            ..NONE
        },
    ),
    (
        b">a\nACGT*\n>b\nA\n*\n \n",
        ">a\nACGT\n>b\nA\n",
        Stripped {
            final_stars: 2,
            blank_lines: 1,
            ..NONE
        },
    ),
    (
        b">a\nAC* 2\n",
        ">a\nAC\n",
        Stripped {
            final_stars: 1,
            spaces: 1,
            digits: 1,
            ..NONE
        },
    ),
    (b"ACGT", ">query\nACGT\n", BARE),
    (b">a>b @1\nAC\n", ">a>b @1\nAC\n", NONE),
    (">é ü\u{1}x\nAC\n".as_bytes(), ">é ü\u{1}x\nAC\n", NONE),
];

#[test]
fn forgives_what_people_paste() {
    for (body, expected, stripped) in FORGIVEN {
        let (output, checked) = accepted(Alphabet::Dna, body);
        assert_eq!(&output, expected);
        assert_eq!(
            &checked.stripped,
            stripped,
            "{:?}",
            String::from_utf8_lossy(body)
        );
        assert_eq!(stripped.is_empty(), stripped.sentences().is_empty());
    }
}

#[test]
fn counts() {
    let (_, checked) = accepted(Alphabet::Protein, b">one x\nMKV*\n>two\nAA\n");
    assert_eq!((checked.records, checked.residues), (2, 5));
    assert_eq!(checked.first_id.as_deref(), Some("one"));
    assert_eq!(
        accepted(Alphabet::Any, b"ACGT").1.first_id.as_deref(),
        Some("query")
    );
}

#[test]
fn wraps_at_60() {
    for (length, lines) in [(59, 1), (60, 1), (61, 2), (120, 2), (121, 3)] {
        let (output, _) = accepted(Alphabet::Dna, "a".repeat(length).as_bytes());
        let widths: Vec<usize> = output.lines().skip(1).map(str::len).collect();
        assert_eq!((widths.len(), widths.iter().sum()), (lines, length));
        assert!(widths[..lines - 1].iter().all(|width| *width == 60));
    }
}

type Row = (
    &'static [u8],
    Option<u64>,
    Option<&'static str>,
    (u64, u64),
    Option<&'static str>,
    &'static str,
);
/// Input with one error; its record, id, line and column, character, words of the message.
const REFUSED: &[Row] = &[
    (
        b">a\n>b\nAC\n",
        Some(1),
        Some("a"),
        (1, 1),
        None,
        "header without residues",
    ),
    (
        b">a\nAC\n>b\n",
        Some(2),
        Some("b"),
        (3, 1),
        None,
        "header without residues",
    ),
    (
        b">a\n\n \n",
        Some(1),
        Some("a"),
        (1, 1),
        None,
        "header without residues",
    ),
    (
        b"42",
        Some(1),
        Some("query"),
        (1, 1),
        None,
        "only digits, no residues",
    ),
    (
        b">a\n 10 20\n",
        Some(1),
        Some("a"),
        (1, 1),
        None,
        "only digits, no residues",
    ),
    (b">a\n*\n", Some(1), Some("a"), (1, 1), None, "only a '*'"),
    (
        b">a\n1 *\n",
        Some(1),
        Some("a"),
        (1, 1),
        None,
        "only digits and a '*'",
    ),
    (
        b">a\nAC\nGeT\n",
        Some(1),
        Some("a"),
        (3, 2),
        Some("e"),
        "allowed are ACGTRYSWKMBDHVN",
    ),
    (
        b">a\r\nAC\rG\nE\n",
        Some(1),
        Some("a"),
        (4, 1),
        Some("E"),
        "a DNA sequence",
    ),
    (
        b">a\nAC-GT\n",
        Some(1),
        Some("a"),
        (2, 3),
        Some("-"),
        "gaps",
    ),
    (
        b">a\nAC>b\n",
        Some(1),
        Some("a"),
        (2, 3),
        Some(">"),
        "a header must begin its own line",
    ),
    (
        ">a\nA\u{a0}C\n".as_bytes(),
        Some(1),
        Some("a"),
        (2, 2),
        Some("U+00A0"),
        "U+00A0",
    ),
    (
        ">a\n  é\n".as_bytes(),
        Some(1),
        Some("a"),
        (2, 3),
        Some("é"),
        "'é' isn't allowed",
    ),
    (
        b">a\nAC\n>b\nA\n>a x\nG\n",
        Some(3),
        Some("a"),
        (5, 1),
        None,
        "already used on line 1",
    ),
    (b">\nAC\n", Some(1), None, (1, 1), None, "no id"),
    (b"> a\nAC\n", Some(1), None, (1, 1), None, "no id"),
    (
        b">a\nA\0C\n",
        Some(1),
        Some("a"),
        (2, 2),
        Some("U+0000"),
        "NUL",
    ),
    (
        b">a b\0\nAC\n",
        Some(1),
        Some("a"),
        (1, 5),
        Some("U+0000"),
        "NUL",
    ),
    (
        b">a\nA\xE9C\n",
        Some(1),
        Some("a"),
        (2, 2),
        Some("0xE9"),
        "byte 0xE9 isn't valid UTF-8",
    ),
    (
        b">a \xC3\xA9\xFF\nAC\n",
        Some(1),
        Some("a"),
        (1, 5),
        Some("0xFF"),
        "0xFF",
    ),
    (
        b">a b\xE2\x82\nAC\n",
        Some(1),
        Some("a"),
        (1, 5),
        Some("0xE2"),
        "0xE2",
    ),
    (
        b">a\nAC\xC3",
        Some(1),
        Some("a"),
        (2, 3),
        Some("0xC3"),
        "0xC3",
    ),
    (
        b">a\nA*C\n",
        Some(1),
        Some("a"),
        (2, 2),
        Some("*"),
        "only at the end",
    ),
    (
        b">a\nAC**\n",
        Some(1),
        Some("a"),
        (2, 3),
        Some("*"),
        "only at the end",
    ),
    (
        b">a\n*AC\n",
        Some(1),
        Some("a"),
        (2, 1),
        Some("*"),
        "only at the end",
    ),
    (
        b"\nAC\n>b\nAC\n",
        Some(1),
        Some("query"),
        (2, 1),
        None,
        "before the first header",
    ),
    (
        b"\n @r1\nACGT\n+\nIIII\n",
        None,
        None,
        (2, 2),
        None,
        "FASTQ",
    ),
    (
        b"LOCUS       X 12 bp\n",
        None,
        None,
        (1, 1),
        None,
        "GenBank",
    ),
    (
        b"\xEF\xBB\xBFID   X; SV 1\n",
        None,
        None,
        (1, 1),
        None,
        "EMBL or Swiss-Prot",
    ),
    (b"\x1f\x8b\x08\0\0", None, None, (1, 1), None, "gzip"),
    (b"PK\x03\x04\x14\0", None, None, (1, 1), None, "zip archive"),
    (
        b"BZh91AY&SY\xe7*&E\0\x0b\x0b",
        None,
        None,
        (1, 1),
        None,
        "compressed by bzip2",
    ),
    (
        b"BZh11AY&SY\xe7*&E\0\x0b\x0b",
        None,
        None,
        (1, 1),
        None,
        "compressed by bzip2",
    ),
    (
        b"BZh9\x17rE8P\x90\0\0\0\0",
        None,
        None,
        (1, 1),
        None,
        "compressed by bzip2",
    ),
    (
        b"\xfd7zXZ\0\0\x04\x0b\x0b",
        None,
        None,
        (1, 1),
        None,
        "compressed by xz",
    ),
    (
        b"\x28\xb5\x2f\xfd\x04\x58\x0b\x0b",
        None,
        None,
        (1, 1),
        None,
        "compressed by zstd",
    ),
    (b"\xff\xfe>\0a\0", None, None, (1, 1), None, "UTF-16"),
];

#[test]
fn refuses_with_place_and_reason() {
    for (body, record, id, (line, column), character, message) in REFUSED {
        let errors = refused(body);
        let shown = format!("{:?}: {errors:?}", String::from_utf8_lossy(body));
        assert_eq!(errors.len(), 1, "{shown}");
        let error = &errors[0];
        assert_eq!(
            (error.record, error.id.as_deref()),
            (*record, *id),
            "{shown}"
        );
        assert_eq!(
            (error.line, error.column),
            (Some(*line), Some(*column)),
            "{shown}"
        );
        assert_eq!(error.character.as_deref(), *character, "{shown}");
        assert!(error.message.contains(message), "{shown}");
    }
}

#[test]
fn residues_that_begin_as_bzip2_does_are_residues() {
    let body = b"BZhBZh\n";
    let mut out = Vec::new();
    let checked = Check::new(Alphabet::Protein, "x")
        .run(&body[..], &mut out)
        .unwrap();
    assert_eq!(checked.residues, 6);
}

#[test]
fn a_compressed_fastq_is_told_what_it_is() {
    for (body, word) in [
        (&b"BZh91AY&SY\xe7*&E"[..], "bzip2"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "zstd"),
        (b"PK\x03\x04\x14\0", "zip archive"),
    ] {
        let refused = Check::new(Alphabet::Nucleotide, "x").run_fastq(body, Vec::new());
        let Err(CheckError::Invalid(errors)) = refused else {
            panic!("{word}: {refused:?}");
        };
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].message.contains(word) && errors[0].message.contains("gzip"),
            "{errors:?}"
        );
    }
}

#[test]
fn refuses_an_empty_body() {
    for body in [&b""[..], b"\n", b" \r\n\t", b"\xEF\xBB\xBF"] {
        let errors = refused(body);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].message.contains("empty"));
        assert_eq!((errors[0].record, errors[0].line), (None, None));
    }
}

#[test]
fn lists_at_most_20_errors_in_order() {
    assert_eq!(refused("E".repeat(50).as_bytes()).len(), 20);
    let errors = refused(b">a\nAE\n>b\n>a\nA*-E\n>c\n\n>\0\n");
    let places: Vec<_> = errors
        .iter()
        .map(|error| (error.line, error.column))
        .collect();
    assert_eq!(places.len(), 9, "{errors:?}");
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn keeps_limits() {
    let limited = |max_records, max_residues, max_header_bytes| Check {
        limits: Limits {
            max_records,
            max_residues,
            max_header_bytes,
        },
        ..check(Alphabet::Dna)
    };
    let body = b">a bc\nAC\n>b\nGT\n";
    assert!(check_bytes(&limited(Some(2), Some(4), 4), body).is_ok());
    let table = [
        (limited(Some(1), None, 9), (3, 1), "at most 1 are allowed"),
        (limited(None, Some(3), 9), (4, 2), "at most 3 are allowed"),
        (limited(None, None, 3), (1, 5), "at most 3 bytes"),
    ];
    for (check, (line, column), message) in table {
        let errors = refused_by(&check, body);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(
            (errors[0].line, errors[0].column),
            (Some(line), Some(column))
        );
        assert!(errors[0].message.contains(message));
    }
}

#[test]
fn alphabets() {
    use Alphabet::{Any, Dna, Nucleotide, Protein, Rna};
    for (alphabet, name) in [
        (Protein, "protein"),
        (Dna, "dna"),
        (Rna, "rna"),
        (Nucleotide, "nucleotide"),
        (Any, "any"),
    ] {
        assert_eq!(serde_json::to_value(alphabet).unwrap(), name);
        assert_eq!(
            serde_json::from_value::<Alphabet>(name.into()).unwrap(),
            alphabet
        );
        for letter in b'A'..=b'Z' {
            let allowed = alphabet.letters().as_bytes().contains(&letter);
            for case in [letter, letter.to_ascii_lowercase()] {
                assert_eq!(
                    check_bytes(&check(alphabet), &[case]).is_ok(),
                    allowed,
                    "{alphabet:?} {case}"
                );
            }
        }
    }
    assert!(Protein.letters().chars().all(|c| Any.letters().contains(c)));
    assert!(!Dna.letters().contains('U') && !Rna.letters().contains('T'));
    assert!("BZXUOJ".chars().all(|c| Protein.letters().contains(c)));
}

#[test]
fn sentences_read_well() {
    let (_, checked) = accepted(Alphabet::Dna, b"\n\n\n123456 ACGT 123456*\r\n");
    let expected = [
        "1 carriage return line end",
        "3 blank lines",
        "2 spaces or tabs",
        "position numbers (12 digits)",
        "1 final '*'",
        "1 header added",
    ];
    assert_eq!(checked.stripped.sentences(), expected);
}

#[test]
fn a_bad_default_id_cannot_break_the_output() {
    for (default_id, header) in [("", ">sequence\n"), (" a\n>b", ">a\n")] {
        let (output, _) = check_bytes(
            &Check {
                default_id,
                ..check(Alphabet::Dna)
            },
            b"A",
        )
        .unwrap();
        assert!(output.starts_with(header.as_bytes()));
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn passes_io_errors_on() {
    let check = check(Alphabet::Dna);
    assert!(matches!(
        check.run(Broken, Vec::new()),
        Err(CheckError::Io(_))
    ));
    assert!(matches!(
        check.run(&b">a\nAC\n"[..], Broken),
        Err(CheckError::Io(_))
    ));
}

#[test]
fn letters_that_a_tool_allows_besides_are_kept() {
    let check = Check {
        letters: ":*-",
        ..check(Alphabet::Protein)
    };
    let (output, checked) = check_bytes(&check, b">a\nMK:VL-*\n").unwrap();
    assert_eq!(output, b">a\nMK:VL-*\n");
    assert_eq!(checked.residues, 7);
    assert_eq!(refused_by(&check, b">a\nMK.V\n")[0].column, Some(3));
}

#[test]
fn repeated_ids_get_a_number_that_is_new_where_the_tool_wants_it() {
    let check = Check {
        duplicates: Duplicates::Rename,
        ..check(Alphabet::Dna)
    };
    let body = b">a\nA\n>a_2\nC\n>a x y\nG\n>a\nT\n";
    let (output, checked) = check_bytes(&check, body).unwrap();
    assert_eq!(
        String::from_utf8(output).unwrap(),
        ">a\nA\n>a_2\nC\n>a_3 x y\nG\n>a_4\nT\n"
    );
    assert_eq!(checked.stripped.sentences(), ["2 repeated ids renamed"]);
}

#[test]
fn many_equal_ids_are_all_renamed() {
    let check = Check {
        duplicates: Duplicates::Rename,
        ..check(Alphabet::Dna)
    };
    let body = b">a\nA\n".repeat(3_000);
    let (output, _) = check_bytes(&check, &body).unwrap();
    let output = String::from_utf8(output).unwrap();
    let ids: std::collections::HashSet<_> = output.lines().filter(|l| l.starts_with('>')).collect();
    assert_eq!(ids.len(), 3_000);
}

/// Without end, if each of the last looked again at all that the one before it has tried.
#[test]
fn names_that_are_taken_are_tried_once() {
    let check = Check {
        duplicates: Duplicates::Rename,
        ..check(Alphabet::Dna)
    };
    let count = 50_000;
    let taken = (count..2 * count).map(|number| format!(">a_{number}\nA\n"));
    let body = taken.collect::<String>() + &">a\nA\n".repeat(count);
    let (output, _) = check_bytes(&check, body.as_bytes()).unwrap();
    let output = String::from_utf8(output).unwrap();
    let ids: std::collections::HashSet<_> = output.lines().filter(|l| l.starts_with('>')).collect();
    assert_eq!(ids.len(), 2 * count);
}

#[test]
fn nucleotides_for_a_protein_tool_are_named_as_such() {
    let check = Check {
        refuse_nucleotides: true,
        ..check(Alphabet::Protein)
    };
    let body = b">p\nMKVLAAGGTTCCMKVLAAGGTTCC\n>d some gene\nACGTACGTACGTACGTACGTMK\n";
    let errors = refused_by(&check, body);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].record, errors[0].line), (Some(2), Some(3)));
    assert!(
        errors[0].message.contains("90 % of its letters"),
        "{errors:?}"
    );
    assert!(
        errors[0].message.contains("allow_nucleotides"),
        "{errors:?}"
    );
    // Too short to tell, and one letter too few.
    for body in [
        &b">a\nACGTACGTACGTACGTACG\n"[..],
        b">a\nACGTACGTACGTACGTACGMKV\n",
    ] {
        assert!(check_bytes(&check, body).is_ok());
    }
}

#[test]
fn proteins_for_a_nucleotide_tool_are_guessed_too() {
    let errors = refused_by(&check(Alphabet::Nucleotide), b">a\nACL\n");
    assert!(
        errors[0].message.contains("is this a protein sequence?"),
        "{errors:?}"
    );
}

type Outcome = Result<(String, Checked), Vec<InputError>>;

fn fastq(body: &[u8]) -> Outcome {
    let check = Check {
        limits: Limits {
            max_records: Some(3),
            max_residues: Some(12),
            max_header_bytes: 10,
        },
        ..check(Alphabet::Dna)
    };
    let mut output = Vec::new();
    match check.run_fastq(body, &mut output) {
        Ok(checked) => Ok((String::from_utf8(output).unwrap(), checked)),
        Err(CheckError::Invalid(errors)) => Err(errors),
        Err(CheckError::Io(error)) => panic!("{error}"),
    }
}

#[test]
fn fastq_is_taken_as_it_is_but_for_line_ends() {
    let (output, checked) = fastq(b"@r1 x\r\nACGT\r\n+r1\r\nIIII\r\n@r1\nNN\n+\n@+\n\n").unwrap();
    assert_eq!(output, "@r1 x\nACGT\n+\nIIII\n@r1\nNN\n+\n@+\n");
    assert_eq!((checked.records, checked.residues), (2, 6));
    assert_eq!(checked.first_id.as_deref(), Some("r1"));
}

#[test]
fn what_is_wrong_with_fastq_is_told_with_its_place() {
    type Case = (&'static [u8], (u64, Option<u64>), &'static str);
    let table: [Case; 13] = [
        (b">r\nACGT\n", (1, Some(1)), "looks like FASTA"),
        (b"ACGT\n", (1, Some(1)), "begins with '@'"),
        (b"@r\nACGT\n+\n", (3, None), "cut off"),
        (b"@r\nACXT\n+\nIIII\n", (2, Some(3)), "'X' isn't allowed"),
        (b"@r\nACGT\nACGT\n+\n", (3, Some(1)), "begins with '+'"),
        (
            b"@r\nACGT\n+\nIII\n",
            (4, None),
            "4 residues, but 3 qualities",
        ),
        (b"@r\nACGT\n+\nII I\n", (4, Some(3)), "no quality"),
        (b"@ r\nA\n+\nI\n", (1, Some(1)), "no id"),
        (b"@r\n\n+\n\n", (2, None), "empty"),
        (b"@abcdefghijk\nA\n+\nI\n", (1, None), "at most 10 bytes"),
        (
            b"@r\nACGTACGTACGTA\n+\nIIIIIIIIIIIII\n",
            (4, None),
            "at most 12",
        ),
        (
            b"@a\nA\n+\nI\n@a\nA\n+\nI\n@a\nA\n+\nI\n@a\nA\n+\nI\n",
            (16, None),
            "at most 3",
        ),
        (b"@r\xff\nA\n+\nI\n", (1, None), "UTF-8"),
    ];
    for (body, (line, column), message) in table {
        let errors = fastq(body).unwrap_err();
        let shown = String::from_utf8_lossy(body);
        assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
        assert_eq!(
            (errors[0].line, errors[0].column),
            (Some(line), column),
            "{shown}: {errors:?}"
        );
        assert!(errors[0].message.contains(message), "{shown}: {errors:?}");
    }
    assert!(fastq(b"\n\n").unwrap_err()[0].message.contains("empty"));
}
