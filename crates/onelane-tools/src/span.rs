use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads a span of time: a number with `ms`, `s`, `m`, `h` or `d`; gives milliseconds.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let refused = || format!("`{text}` is not a span of time such as `90s`, `30m` or `2h`");
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number
        .checked_mul(unit_ms)
        .filter(|millis| *millis > 0)
        .ok_or_else(|| format!("`{text}` is no span that can be waited for"))
}

/// A span of time in the tools file, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) u64);

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span of time such as `90s`, `30m` or `2h`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        parse_span(text).map(Span).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_a_unit() {
        let read = ["500ms", "90s", "30m", "2 h", "1d"].map(|text| parse_span(text).unwrap());
        assert_eq!(read, [500, 90_000, 1_800_000, 7_200_000, 86_400_000]);
    }

    #[test]
    fn a_number_alone_or_nothing_or_no_time_is_refused() {
        for text in ["", "90", "s", "0s", "-1s", "1.5h", "9999999999999999d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
