//! Tells other file formats by their first bytes, for one clear message instead of a flood.

/// How bzip2 begins, at its level 9, up to the digits of π that mark a block: its first three letters may be residues.
const BZIP2: &[u8] = b"BZh91AY&SY";

/// First bytes and what to say about them.
const KNOWN: [(&[u8], &str); 11] = [
    (
        b"@",
        "this looks like FASTQ ('@' comes first); give the sequences as FASTA, with '>' headers",
    ),
    (
        b"LOCUS ",
        "this looks like a GenBank flat file (LOCUS line); give the sequences as FASTA",
    ),
    (
        b"ID   ",
        "this looks like an EMBL or Swiss-Prot flat file (ID line); give the sequences as FASTA",
    ),
    (
        b"\x1f\x8b",
        "this is compressed with gzip; give the sequences as plain text",
    ),
    (
        b"PK\x03\x04",
        "this is a zip archive or office document; give the sequences as plain text, or as a file compressed by gzip",
    ),
    (
        BZIP2,
        "this is compressed by bzip2; give the sequences as plain text, or as a file compressed by gzip",
    ),
    (
        b"BZh9\x17rE8P\x90",
        "this is compressed by bzip2; give the sequences as plain text, or as a file compressed by gzip",
    ),
    (
        b"\xfd7zXZ\0",
        "this is compressed by xz; give the sequences as plain text, or as a file compressed by gzip",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "this is compressed by zstd; give the sequences as plain text, or as a file compressed by gzip",
    ),
    (
        b"\xff\xfe",
        "this text is encoded as UTF-16; save it as UTF-8",
    ),
    (
        b"\xfe\xff",
        "this text is encoded as UTF-16; save it as UTF-8",
    ),
];

/// A format recognised.
pub(crate) struct Sniffed {
    /// Bytes it took.
    pub(crate) len: u64,
    pub(crate) message: &'static str,
}

/// Looks at the first bytes that aren't blank.
#[derive(Default)]
pub(crate) struct Sniffer {
    head: Vec<u8>,
    done: bool,
}

impl Sniffer {
    /// Whether nothing more is to be seen.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn push(&mut self, byte: u8) -> Option<Sniffed> {
        if self.done || (self.head.is_empty() && skipped(byte)) {
            return None;
        }
        // All levels of bzip2 are told as one.
        let is_level = self.head == BZIP2[..3] && matches!(byte, b'1'..=b'8');
        self.head.push(if is_level { b'9' } else { byte });
        self.done = !KNOWN.iter().any(|(magic, _)| magic.starts_with(&self.head));
        let (magic, message) = KNOWN.iter().find(|(magic, _)| *magic == self.head)?;
        Some(Sniffed {
            len: magic.len() as u64,
            message,
        })
    }
}

/// What to say of a file of FASTQ that is compressed in a form that isn't taken.
pub(crate) fn compressed(head: &[u8]) -> Option<&'static str> {
    let mut sniffer = Sniffer::default();
    let found = head.iter().find_map(|byte| sniffer.push(*byte))?;
    let is_packed = found.message.contains("compressed");
    is_packed.then_some(found.message)
}

/// Blanks and the three bytes of a byte order mark may precede the content.
fn skipped(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF)
}
