//! UTF-8, one byte at a time: a character may be split between two reads.

/// What one more byte amounts to.
pub(crate) enum Decoded {
    /// The character isn't complete yet.
    Partial,
    /// A complete character.
    Char(char),
    /// A byte that can't be there; with `again` the byte just given is still to be decoded.
    Bad { byte: u8, again: bool },
}

/// The bytes of a character begun and not complete.
#[derive(Default)]
pub(crate) struct Decoder {
    bytes: [u8; 4],
    len: usize,
}

impl Decoder {
    pub(crate) fn push(&mut self, byte: u8) -> Decoded {
        if self.len == 0 && byte.is_ascii() {
            return Decoded::Char(char::from(byte));
        }
        self.bytes[self.len] = byte;
        self.len += 1;
        self.decode()
    }

    /// Whether no character is begun.
    pub(crate) fn is_idle(&self) -> bool {
        self.len == 0
    }

    /// The first byte of a character that the end of the input cut off.
    pub(crate) fn cut_off(&mut self) -> Option<u8> {
        let begun = self.len > 0;
        self.len = 0;
        begun.then_some(self.bytes[0])
    }

    fn decode(&mut self) -> Decoded {
        match std::str::from_utf8(&self.bytes[..self.len]) {
            Err(error) if error.error_len().is_none() => Decoded::Partial,
            Err(_) => {
                // What was held so far was a good beginning, so it is the newest byte that breaks
                // the character; unless it stands alone it may well begin the next one.
                let again = self.len > 1;
                self.len = 0;
                Decoded::Bad {
                    byte: self.bytes[0],
                    again,
                }
            }
            Ok(text) => {
                let decoded = text.chars().next().map_or(Decoded::Partial, Decoded::Char);
                self.len = 0;
                decoded
            }
        }
    }
}

/// A character as people can see it: itself, or its code point.
pub(crate) fn printable(c: char) -> String {
    let quoted = matches!(c, '"' | '\'' | '\\');
    if c.is_whitespace() || (c.escape_debug().count() > 1 && !quoted) {
        format!("U+{:04X}", u32::from(c))
    } else {
        c.to_string()
    }
}
