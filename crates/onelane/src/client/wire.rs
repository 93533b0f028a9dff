//! What this client reads of the answers.
//!
//! A tolerant view: unknown fields are let be and most may be missing, so that a client talks to servers a little
//! older or newer than itself. `--json` shows what the server said, not this.

use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde_json::Value;

/// An answer, understood and as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T> {
    /// What we read of it.
    pub(crate) view: T,
    /// All of it.
    pub(crate) raw: Value,
}

impl<T> Deref for Seen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

/// A job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) tool: String,
    pub(crate) state: String,
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) stuck: bool,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    #[serde(default)]
    pub(crate) attempt: u32,
    pub(crate) position: Option<u64>,
    pub(crate) why: Option<String>,
    pub(crate) progress: Option<ProgressView>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) failure: Option<FailureView>,
    pub(crate) usage: Option<UsageView>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

/// How far a running job is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProgressView {
    pub(crate) fraction: Option<f64>,
    pub(crate) message: Option<String>,
}

/// Why a job failed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FailureView {
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// What a job used.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct UsageView {
    pub(crate) wall_s: Option<f64>,
    pub(crate) cpu_s: Option<f64>,
    pub(crate) memory_peak_bytes: Option<u64>,
}

impl JobView {
    /// Whether nothing will change any more.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }

    /// The end of the id: random, so as good as the whole on one server.
    pub(crate) fn short_id(&self) -> &str {
        self.id
            .get(self.id.len().saturating_sub(8)..)
            .unwrap_or(&self.id)
    }

    /// How far it is, from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        if self.is_final() {
            return 1.0;
        }
        self.progress
            .as_ref()
            .and_then(|progress| progress.fraction)
            .unwrap_or(0.0)
    }

    /// Seconds between the recorded start and end.
    pub(crate) fn seconds(&self) -> Option<f64> {
        let moment = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
        Some(
            moment(&self.finished_at)?
                .duration_since(moment(&self.started_at)?)
                .as_secs_f64(),
        )
    }
}

/// A page of jobs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobList {
    pub(crate) jobs: Vec<JobView>,
    pub(crate) next_cursor: Option<String>,
}

/// The queue.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct QueueView {
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) paused: bool,
    #[serde(default)]
    pub(crate) jobs: Vec<JobView>,
}

/// A tool.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ToolView {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) help: Option<String>,
    /// JSON Schema of the parameters.
    #[serde(default, alias = "schema", alias = "parameters")]
    pub(crate) params: Value,
}

/// A job's results.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FileList {
    pub(crate) files: Vec<FileEntry>,
}

/// One result.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) path: String,
    #[serde(alias = "bytes", alias = "size_bytes")]
    pub(crate) size: Option<u64>,
}

/// An error as RFC 9457 gives it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) title: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    #[serde(default)]
    pub(crate) errors: Vec<ProblemError>,
}

/// One thing that is wrong with an input.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProblemError {
    pub(crate) param: Option<String>,
    pub(crate) record: Option<u64>,
    pub(crate) id: Option<String>,
    pub(crate) line: Option<u64>,
    pub(crate) column: Option<u64>,
    pub(crate) message: String,
}

impl Problem {
    /// When all we have is a status.
    pub(crate) fn bare(status: u16) -> Self {
        let detail = Some(format!("the server answered {status}"));
        Self {
            code: "unknown".to_owned(),
            title: None,
            detail,
            hint: None,
            errors: Vec::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.detail
                .as_ref()
                .or(self.title.as_ref())
                .unwrap_or(&self.code),
        )?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl fmt::Display for ProblemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |word: &str, value: Option<u64>| value.map(|value| format!("{word} {value}"));
        let id = self.id.as_ref().map(|id| format!("`{id}`"));
        let places = [
            self.param.clone(),
            number("record", self.record),
            id,
            number("line", self.line),
            number("column", self.column),
        ];
        let place: Vec<String> = places.into_iter().flatten().collect();
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_names_the_place_of_each_error() {
        let problem: Problem = serde_json::from_value(json!({
            "type": "about:blank", "status": 422, "code": "bad_input", "detail": "the input was refused",
            "errors": [{"param": "query", "record": 2, "line": 5, "column": 7, "message": "`!` is not a residue"}],
        })).unwrap();
        assert_eq!(
            problem.to_string(),
            "the input was refused\n  query, record 2, line 5, column 7: `!` is not a residue"
        );
    }

    #[test]
    fn what_does_not_exist_yet_is_null_or_missing() {
        let job: JobView = serde_json::from_value(json!({
            "id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "tool": "search", "state": "queued", "created_at": "2026-01-31T12:00:00.000Z", "position": 3,
        })).unwrap();
        assert_eq!(
            (job.short_id(), job.is_final(), job.seconds()),
            ("2e3f4a5b", false, None)
        );
    }
}
