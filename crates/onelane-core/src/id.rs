use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// A job's id for ever: a UUID version 7 (RFC 9562), so that ids made later sort later.
///
/// Ids sort by the clock that made them, and clocks go back: order in the queue is `seq`, never the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Builds an id from a moment and ten random bytes, both of which the caller brings.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The sixteen bytes, as the store keeps them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From sixteen bytes of the store.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The last two hexadecimal digits: the folder that holds the job's folder.
    pub fn shard(&self) -> String {
        format!("{:02x}", self.0.as_bytes()[15])
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a job id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a job id (a UUID such as 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b)")]
pub struct ParseJobIdError(String);

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape_is_plain = text.len() == 36;
        match Uuid::try_parse(text) {
            Ok(uuid) if shape_is_plain => Ok(Self(uuid)),
            _ => Err(ParseJobIdError(text.chars().take(64).collect())),
        }
    }
}

/// Which run of a job, counted from 1; 0 means that there was none yet. The number fences every update.
pub type AttemptNo = u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_7_uuid_that_survives_text_and_bytes() {
        let id = JobId::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        let text = id.to_string();
        assert_eq!(&text[14..15], "7");
        assert_eq!(text.parse::<JobId>().unwrap(), id);
        assert_eq!(JobId::from_bytes(*id.as_bytes()), id);
        assert_eq!(id.shard(), text[34..]);
    }

    #[test]
    fn other_spellings_of_a_uuid_are_refused() {
        for text in [
            "",
            "42",
            "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
            "{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
            "../../etc/passwd",
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
