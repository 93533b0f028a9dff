//! The content of parameters' files: read once, never as a whole.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use onelane_seq::{Check, CheckError, Checked};

use crate::digest::{self, HashingWriter};
use crate::param::{FileRules, magic_bytes, quoted};

/// What a compressed file may expand to, as a multiple of its size and a base: sequences are compressed four- to
/// tenfold, a bomb a thousandfold.
const MOST_EXPANSION: u64 = 100;
const EXPANSION_BASE_BYTES: u64 = 4 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// FASTA or FASTQ.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    Fasta,
    Fastq,
}

impl Format {
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Fasta => "fasta",
            Self::Fastq => "fastq",
        }
    }

    pub(crate) fn check(
        self,
        check: &Check<'_>,
        input: impl Read,
        output: impl io::Write,
    ) -> Result<Checked, CheckError> {
        match self {
            Self::Fasta => check.run(input, output),
            Self::Fastq => check.run_fastq(input, output),
        }
    }
}

/// Checks a file of sequences, compressed by gzip or not, and writes it normalised; gives its hash too.
pub(crate) fn check_file(
    format: Format,
    check: &Check<'_>,
    from: &Path,
    to: &Path,
) -> Result<(Checked, String), CheckError> {
    let input = sequences(from)?;
    let mut output = HashingWriter::new(BufWriter::new(File::create(to)?));
    let checked = format.check(check, input, &mut output)?;
    Ok((checked, output.finish()?))
}

fn sequences(path: &Path) -> io::Result<Box<dyn Read>> {
    let head = head(path, GZIP.len())?;
    let file = File::open(path)?;
    if head != GZIP {
        return Ok(Box::new(BufReader::new(file)));
    }
    let most = file.metadata()?.len().saturating_mul(MOST_EXPANSION) + EXPANSION_BASE_BYTES;
    Ok(Box::new(Expanding {
        inner: MultiGzDecoder::new(BufReader::new(file)),
        left: most,
    }))
}

/// A reader that fails once it has given too much.
struct Expanding<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Expanding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(|error| {
            let is_damage = error.raw_os_error().is_none();
            let damaged = || format!("the gzip file is damaged: {error}");
            if is_damage {
                io::Error::new(error.kind(), damaged())
            } else {
                error
            }
        })?;
        let too_much =
            || io::Error::other("the gzip file expands to more than a hundred times its size");
        self.left = self.left.checked_sub(count as u64).ok_or_else(too_much)?;
        Ok(count)
    }
}

fn head(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?
        .take(bytes as u64)
        .read_to_end(&mut head)?;
    Ok(head)
}

/// Where a parameter's file comes from.
pub(crate) enum Source<'a> {
    Text(&'a str),
    File(&'a Path),
}

impl Source<'_> {
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Self::Text(text) => Ok(text.len() as u64),
            Self::File(path) => Ok(path.metadata()?.len()),
        }
    }

    pub(crate) fn hash(&self) -> io::Result<String> {
        match self {
            Self::Text(text) => Ok(digest::sha256_hex(text.as_bytes())),
            Self::File(path) => digest::sha256_of(File::open(path)?),
        }
    }

    fn head(&self, bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.as_bytes()[..bytes.min(text.len())].to_vec()),
            Self::File(path) => head(path, bytes),
        }
    }
}

/// The extension that a file gets under `input/`: one that the tool names, or a plain one of its own.
pub(crate) fn extension(
    rules: FileRules<'_>,
    name: Option<&str>,
) -> Result<Option<String>, String> {
    let Some(name) = name else {
        return Ok(rules.extension.first().cloned());
    };
    let lower = name.to_ascii_lowercase();
    let has =
        |extension: &&String| lower.ends_with(&format!(".{}", extension.to_ascii_lowercase()));
    if let Some(extension) = rules.extension.iter().find(has) {
        return Ok(Some(extension.clone()));
    }
    if !rules.extension.is_empty() {
        let wanted: Vec<_> = rules
            .extension
            .iter()
            .map(|one| format!("`.{one}`"))
            .collect();
        return Err(format!(
            "must be a file named {}, not {}",
            wanted.join(", "),
            quoted(name)
        ));
    }
    let own = lower
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_owned());
    let is_plain = |text: &String| {
        (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    Ok(own.filter(is_plain))
}

/// Size and first bytes, as the tool wants them.
pub(crate) fn check_rules(
    rules: FileRules<'_>,
    source: &Source<'_>,
) -> io::Result<Result<u64, String>> {
    let size = source.size()?;
    if let Some(max) = rules.max_size.filter(|max| size > *max) {
        return Ok(Err(format!(
            "has {size} bytes, but at most {max} are allowed"
        )));
    }
    let magics: Vec<_> = rules
        .magic
        .iter()
        .filter_map(|magic| magic_bytes(magic))
        .collect();
    let longest = magics.iter().map(Vec::len).max().unwrap_or(0);
    let head = source.head(longest)?;
    if !magics.is_empty() && !magics.iter().any(|magic| head.starts_with(magic)) {
        let wanted: Vec<_> = rules.magic.iter().map(|magic| quoted(magic)).collect();
        return Ok(Err(format!("does not begin with {}", wanted.join(" or "))));
    }
    Ok(Ok(size))
}

/// A JSON file that is well-formed is read through, and its value kept nowhere.
pub(crate) fn is_json(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("could not be read: {error}"))?;
    serde_json::from_reader::<_, serde::de::IgnoredAny>(BufReader::new(file))
        .map(|_| ())
        .map_err(|error| format!("is not well-formed JSON: {error}"))
}
