use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// JSON with the keys of every object sorted: one text for one meaning.
///
/// Sorted here rather than trusted to `serde_json`, whose order is a feature that any other crate may switch on.
pub(crate) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => write_object(map, text),
        Value::Array(items) => {
            write_list(items, ['[', ']'], text, write_canonical);
        }
        scalar => push(text, scalar),
    }
}

fn write_object(map: &Map<String, Value>, text: &mut String) {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_unstable_by_key(|(key, _)| *key);
    write_list(pairs, ['{', '}'], text, |(key, value), text| {
        push(text, key);
        text.push(':');
        write_canonical(value, text);
    });
}

fn write_list<T>(
    items: impl IntoIterator<Item = T>,
    [open, close]: [char; 2],
    text: &mut String,
    write: impl Fn(T, &mut String),
) {
    text.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(close);
}

/// A text or a number always has a JSON form.
fn push(text: &mut String, scalar: &impl serde::Serialize) {
    text.push_str(&serde_json::to_string(scalar).unwrap_or_default());
}

/// SHA-256 (FIPS 180-4) of some bytes, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of all that a reader gives, in lower-case hexadecimal.
pub fn sha256_of(mut input: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Writes through, and knows the hash of what was written: a large upload is read once.
pub(crate) struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Flushes, and tells the hash.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        self.inner.flush()?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The digest of a submission: the tool's definition, its parameters, and what is in its files.
///
/// Each part is a fixed-length hash or the last one, so no two submissions can share a text by moving a border.
pub(crate) fn submission(
    definition: &str,
    params: &Map<String, Value>,
    contents: &BTreeMap<String, String>,
) -> String {
    let mut text = String::new();
    write_object(params, &mut text);
    let params = sha256_hex(text.as_bytes());
    let contents = sha256_hex(serde_json::json!(contents).to_string().as_bytes());
    sha256_hex(format!("{definition}\n{params}\n{contents}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256() {
        // NIST's example "abc".
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_hashing_writer_hashes_what_it_wrote() {
        let mut sink = Vec::new();
        let mut writer = HashingWriter::new(&mut sink);
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        assert_eq!(writer.finish().unwrap(), sha256_hex(b"abc"));
        assert_eq!(sink, b"abc");
    }

    #[test]
    fn canonical_json_sorts_the_keys_of_every_object() {
        let value: Value = serde_json::from_str(r#"{"b":[{"z":1,"y":2}],"a":null}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":null,"b":[{"y":2,"z":1}]}"#);
        let value = serde_json::json!({"\"\n": [[], {}, -1.5, true, "é"]});
        assert_eq!(canonical(&value), value.to_string());
    }
}
