use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads an amount of bytes: a whole number, alone or with `K`, `M`, `G` or `T`, each 1,024 times the one before.
///
/// `8G`, `8GiB` and `8g` are all 8 · 2³⁰. `8GB` is refused, because half of its readers expect 8 · 10⁹.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let refused = || format!("`{text}` is not an amount of memory such as `512M` or `8G`");
    let power = unit_power(unit.trim()).ok_or_else(refused)?;
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number
        .checked_mul(1 << power)
        .ok_or_else(|| format!("`{text}` is more bytes than can be counted"))
}

fn unit_power(unit: &str) -> Option<u32> {
    match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    }
}

/// An amount of bytes in the tools file: text as above, or a plain number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub(crate) u64);

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of memory such as `8G`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        parse_bytes(text).map(Bytes).map_err(E::custom)
    }

    /// What a stored definition holds.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Bytes, E> {
        Ok(Bytes(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes, E> {
        let negative = |_| E::custom(format!("`{number}` is not an amount of memory"));
        u64::try_from(number).map(Bytes).map_err(negative)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("1K", 1 << 10),
            ("512M", 512 << 20),
            ("8G", 8 << 30),
            (" 8 gib ", 8 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_unclear_or_too_much_is_refused() {
        for text in [
            "",
            "G",
            "8GB",
            "1.5G",
            "-1G",
            "8 apples",
            "99999999999T",
            "8G8",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
