//! Between rows and types: the one place that knows how a state is spread over columns.

use std::str::FromStr;

use onelane_core::{
    Failure, FailureKind, Job, JobId, JobState, OrderKey, Priority, StateWord, StopReason,
    Timestamp,
};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Result as SqlResult, Row};

use super::fault::Outcome;
use crate::{AttemptRecord, JobInput, ShimProcess, Usage};

/// All that [`job`] reads, for a query over `job`.
macro_rules! job_columns {
    () => {
        "job.*,
         (SELECT hash FROM tool_definition WHERE key = job.definition) AS definition_hash,
         (SELECT json_group_array(tag ORDER BY tag) FROM job_tag WHERE job_tag.job = job.seq) AS tags"
    };
}
pub(super) use job_columns;

/// Reads a job from [`job_columns`].
pub(super) fn job(row: &Row<'_>) -> SqlResult<Job> {
    Ok(Job {
        id: id(row, "id")?,
        seq: row.get("seq")?,
        owner: row.get("owner")?,
        tool: row.get("tool")?,
        definition: row.get("definition_hash")?,
        name: row.get("name")?,
        tags: tags(row)?,
        priority: priority(row)?,
        order_key: OrderKey::from_i64(row.get("order_key")?),
        state: state(row)?,
        attempt: row.get("attempt")?,
        stop_reason: stop_reason(row)?,
        digest: row.get("digest")?,
        result_of: row
            .get::<_, Option<[u8; 16]>>("result_of")?
            .map(JobId::from_bytes),
        created_at: time(row, "created_at")?,
        changed_seq: row.get("changed_seq")?,
    })
}

/// Reads an id.
pub(super) fn id(row: &Row<'_>, column: &str) -> SqlResult<JobId> {
    row.get(column).map(JobId::from_bytes)
}

fn time(row: &Row<'_>, column: &str) -> SqlResult<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

fn time_or_none(row: &Row<'_>, column: &str) -> SqlResult<Option<Timestamp>> {
    let millis: Option<i64> = row.get(column)?;
    Ok(millis.map(Timestamp::from_millis))
}

fn tags(row: &Row<'_>) -> SqlResult<Vec<String>> {
    let text = row.get_ref("tags")?.as_str()?;
    serde_json::from_str(text).map_err(|e| damaged(e.into()))
}

fn priority(row: &Row<'_>) -> SqlResult<Priority> {
    let number: i32 = row.get("priority")?;
    Priority::try_from(number).map_err(|e| damaged(e.into()))
}

fn stop_reason(row: &Row<'_>) -> SqlResult<Option<StopReason>> {
    let word: Option<String> = row.get("stop_reason")?;
    word.map(|word| StopReason::from_word(&word).ok_or_else(|| unknown_word(&word)))
        .transpose()
}

fn state(row: &Row<'_>) -> SqlResult<JobState> {
    let word = StateWord::from_str(row.get_ref("state")?.as_str()?);
    Ok(match word.map_err(|e| damaged(e.into()))? {
        StateWord::Queued => JobState::Queued {
            ready_at: time(row, "ready_at")?,
        },
        StateWord::Starting => JobState::Starting {
            claimed_at: time(row, "claimed_at")?,
        },
        StateWord::Running => JobState::Running {
            started_at: time(row, "started_at")?,
            stuck: row.get("stuck")?,
        },
        StateWord::Succeeded => JobState::Succeeded {
            started_at: time(row, "started_at")?,
            finished_at: time(row, "finished_at")?,
        },
        StateWord::Failed => JobState::Failed {
            started_at: time_or_none(row, "started_at")?,
            finished_at: time(row, "finished_at")?,
            failure: failure(row)?,
        },
        StateWord::Cancelled => JobState::Cancelled {
            started_at: time_or_none(row, "started_at")?,
            finished_at: time(row, "finished_at")?,
        },
    })
}

fn failure(row: &Row<'_>) -> SqlResult<Failure> {
    let word: String = row.get("failure_kind")?;
    let kind = match word.as_str() {
        "exit" => FailureKind::Exit {
            code: row.get("failure_code")?,
        },
        "signal" => FailureKind::Signal {
            signal: row.get("failure_code")?,
        },
        "timed_out" => FailureKind::TimedOut,
        "out_of_memory" => FailureKind::OutOfMemory,
        "output_limit" => FailureKind::OutputLimit,
        "start_failed" => FailureKind::StartFailed,
        "interrupted" => FailureKind::Interrupted,
        "node_failed" => FailureKind::NodeFailed,
        "preempted" => FailureKind::Preempted,
        "unknown" => FailureKind::Unknown,
        _ => return Err(unknown_word(&word)),
    };
    let message: String = row.get("failure_message")?;
    Ok(Failure { kind, message })
}

/// The `CHECK`s keep such rows out, so only a damaged file has one.
fn unknown_word(word: &str) -> rusqlite::Error {
    damaged(FromSqlError::Other(format!("unknown word `{word}`").into()).into())
}

fn damaged(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error)
}

/// A state spread over its columns; what a state doesn't have is null.
#[derive(Debug, Default)]
pub(super) struct StateColumns<'s> {
    pub(super) word: &'static str,
    pub(super) ready_at: Option<i64>,
    pub(super) claimed_at: Option<i64>,
    pub(super) started_at: Option<i64>,
    pub(super) stuck: bool,
    pub(super) finished_at: Option<i64>,
    pub(super) failure_kind: Option<&'static str>,
    pub(super) failure_code: Option<i32>,
    pub(super) failure_message: Option<&'s str>,
}

impl<'s> StateColumns<'s> {
    pub(super) fn of(state: &'s JobState) -> Self {
        let mut columns = Self {
            word: state.word().as_str(),
            started_at: state.started_at().map(Timestamp::as_millis),
            finished_at: state.finished_at().map(Timestamp::as_millis),
            ..Self::default()
        };
        match state {
            JobState::Queued { ready_at } => columns.ready_at = Some(ready_at.as_millis()),
            JobState::Starting { claimed_at } => columns.claimed_at = Some(claimed_at.as_millis()),
            JobState::Running { stuck, .. } => columns.stuck = *stuck,
            JobState::Failed { failure, .. } => columns.set_failure(failure),
            JobState::Succeeded { .. } | JobState::Cancelled { .. } => {}
        }
        columns
    }

    fn set_failure(&mut self, failure: &'s Failure) {
        self.failure_kind = Some(failure.kind.word());
        self.failure_message = Some(&failure.message);
        self.failure_code = match failure.kind {
            FailureKind::Exit { code } => Some(code),
            FailureKind::Signal { signal } => Some(signal),
            _ => None,
        };
    }
}

/// A submission's parameters and files as JSON.
#[derive(Debug)]
pub(super) struct InputColumns {
    pub(super) params: String,
    pub(super) files: String,
    pub(super) notes: String,
}

impl InputColumns {
    pub(super) fn of(input: &JobInput) -> Outcome<Self> {
        Ok(Self {
            params: serde_json::to_string(&input.params)?,
            files: serde_json::to_string(&input.files)?,
            notes: serde_json::to_string(&input.notes)?,
        })
    }

    pub(super) fn into_input(self) -> Outcome<JobInput> {
        Ok(JobInput {
            params: serde_json::from_str(&self.params)?,
            files: serde_json::from_str(&self.files)?,
            notes: serde_json::from_str(&self.notes)?,
        })
    }

    pub(super) const fn bytes(&self) -> usize {
        self.params.len() + self.files.len() + self.notes.len()
    }
}

/// Reads an attempt of this job.
pub(super) fn attempt(job: JobId, row: &Row<'_>) -> SqlResult<AttemptRecord> {
    Ok(AttemptRecord {
        job,
        attempt: row.get("attempt")?,
        claimed_at: time(row, "claimed_at")?,
        boot_id: row.get("claimed_boot_id")?,
        started_at: time_or_none(row, "started_at")?,
        finished_at: time_or_none(row, "finished_at")?,
        shim: shim(row)?,
        tool_version: row.get("tool_version")?,
        outcome: row.get("outcome")?,
        exit_code: row.get("exit_code")?,
        usage: usage(row)?,
        process_control: row.get("process_control")?,
    })
}

fn shim(row: &Row<'_>) -> SqlResult<Option<ShimProcess>> {
    let Some(pid) = row.get("pid")? else {
        return Ok(None);
    };
    Ok(Some(ShimProcess {
        pid,
        start_time: row.get("start_time")?,
        boot_id: row.get("boot_id")?,
        pid_namespace: row.get("pid_namespace")?,
    }))
}

fn usage(row: &Row<'_>) -> SqlResult<Option<Usage>> {
    let Some(wall_s) = row.get("wall_s")? else {
        return Ok(None);
    };
    Ok(Some(Usage {
        wall_s,
        cpu_s: row.get("cpu_s")?,
        memory_peak_bytes: row.get("memory_peak_bytes")?,
    }))
}

/// How many digits of an id's end are in `id_tail`.
pub(super) const TAIL_DIGITS: usize = 8;

/// The column `id_tail`: the id's last eight hexadecimal digits, the very last one weighing most.
pub(super) fn id_tail(id: JobId) -> i64 {
    let bytes = id.as_bytes();
    let tail = bytes[12..].iter().rev();
    tail.fold(0, |number, byte| {
        (number << 8) | i64::from(byte.rotate_left(4))
    })
}

/// The first `id_tail` and the number of them that end with these digits (at most eight count); none if they are no
/// hexadecimal digits.
pub(super) fn tail_range(suffix: &str) -> Option<(i64, i64)> {
    let mut first = 0;
    let mut width = 1 << (4 * TAIL_DIGITS);
    for digit in suffix.chars().rev().take(TAIL_DIGITS) {
        width >>= 4;
        first += i64::from(digit.to_digit(16)?) * width;
    }
    Some((first, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lies_in_the_range_of_each_of_its_suffixes_and_of_no_other() {
        let id = JobId::new(
            Timestamp::from_millis(1),
            [1, 2, 3, 4, 5, 6, 0x1a, 0x2b, 0x3c, 0x4d],
        );
        let text = id.to_string();
        for length in 0..=12 {
            let (first, width) = tail_range(&text[36 - length..]).unwrap();
            assert!((first..first + width).contains(&id_tail(id)), "{length}");
        }
        let (first, width) = tail_range("e").unwrap();
        assert!(!(first..first + width).contains(&id_tail(id)));
        assert_eq!(tail_range("xyz"), None);
    }
}
