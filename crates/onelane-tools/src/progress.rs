//! Progress read off a tool's standard error.

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

/// How to read progress off a tool's standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressPattern {
    /// A regular expression with one group, the number, or with two: how many are done, and of how many.
    pub pattern: String,
    /// The number that means the end, where there is one group: 100 for percent.
    #[serde(default = "one")]
    pub scale: f64,
}

const fn one() -> f64 {
    1.0
}

/// A pattern at work.
#[derive(Clone, Debug)]
pub struct ProgressReader {
    pattern: Regex,
    scale: f64,
}

impl ProgressPattern {
    /// The pattern, ready to read; what is wrong with it otherwise.
    pub fn reader(&self) -> Result<ProgressReader, String> {
        let pattern = Regex::new(&self.pattern).map_err(|error| error.to_string())?;
        let groups = pattern.captures_len() - 1;
        if !(1..=2).contains(&groups) {
            return Err(format!("it needs one group or two, and has {groups}"));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err("`scale` must be above 0".to_owned());
        }
        Ok(ProgressReader {
            pattern,
            scale: self.scale,
        })
    }
}

impl ProgressReader {
    /// The fraction, from 0 to 1, that the last match in this output tells.
    pub fn last_fraction(&self, output: &[u8]) -> Option<f64> {
        let found = self.pattern.captures_iter(output).last()?;
        let number = |group| -> Option<f64> {
            let bytes = found.get(group)?.as_bytes();
            std::str::from_utf8(bytes).ok()?.trim().parse().ok()
        };
        let fraction = match self.pattern.captures_len() {
            3 => number(1)? / number(2)?,
            _ => number(1)? / self.scale,
        };
        (0.0..=1.0).contains(&fraction).then_some(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(pattern: &str, scale: f64, output: &str) -> Option<f64> {
        let pattern = ProgressPattern {
            pattern: pattern.to_owned(),
            scale,
        };
        pattern.reader().unwrap().last_fraction(output.as_bytes())
    }

    #[test]
    fn the_last_match_counts() {
        let bar = "\r[=>   ] 20%\r[===> ] 60.5%\r[=== ";
        assert_eq!(fraction("([0-9.]+)%", 100.0, bar), Some(0.605));
        assert_eq!(fraction("([0-9]+)/([0-9]+)", 1.0, "step 3/4\n"), Some(0.75));
        assert_eq!(fraction("([0-9.]+)%", 100.0, "nothing"), None);
        assert_eq!(fraction("([0-9.]+)%", 100.0, "120%"), None);
        assert_eq!(fraction("([0-9]+)/([0-9]+)", 1.0, "0/0"), None);
        assert_eq!(fraction("([0-9.]+)%", 100.0, "1.2.3%"), None);
    }

    #[test]
    fn a_pattern_that_can_not_tell_is_refused() {
        for (pattern, scale) in [("%", 1.0), ("(", 1.0), ("(a)(b)(c)", 1.0), ("(a)", 0.0)] {
            let pattern = ProgressPattern {
                pattern: pattern.to_owned(),
                scale,
            };
            assert!(pattern.reader().is_err(), "{pattern:?}");
        }
    }
}
