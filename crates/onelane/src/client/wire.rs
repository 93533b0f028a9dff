//! The shared wire types, and what the command line wants to know of them.

use std::ops::Deref;

use serde_json::Value;

pub(crate) use onelane_api::{
    FileEntry, FileList, JobList, JobView, ParamProblem, Problem, QueueView, ToolList, ToolReload,
    ToolView, UsageView, WireState,
};

/// An answer, understood and as it came: `--json` shows what the server said, not what we made of it.
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

/// What a person asks of a job.
pub(crate) trait JobWords {
    /// The end of the id: random, so as good as the whole on one server.
    fn short_id(&self) -> &str;
    /// How far it is, from 0 to 1.
    fn fraction(&self) -> f64;
    /// Seconds between the recorded start and end.
    fn seconds(&self) -> Option<f64>;
}

impl JobWords for JobView {
    fn short_id(&self) -> &str {
        self.id
            .get(self.id.len().saturating_sub(8)..)
            .unwrap_or(&self.id)
    }

    fn fraction(&self) -> f64 {
        if self.state.is_final() {
            return 1.0;
        }
        self.progress
            .as_ref()
            .map_or(0.0, |progress| progress.fraction)
    }

    fn seconds(&self) -> Option<f64> {
        let moment = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
        Some(
            moment(&self.finished_at)?
                .duration_since(moment(&self.started_at)?)
                .as_secs_f64(),
        )
    }
}

/// A problem when all we have is a status.
pub(super) fn bare_problem(status: u16) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: "No reason given".to_owned(),
        status,
        code: "unknown".to_owned(),
        detail: format!("the server answered {status}"),
        errors: Vec::new(),
    }
}

/// A problem in words, with the place of each error.
pub(super) fn problem_words(problem: &Problem) -> String {
    if let [only] = problem.errors.as_slice()
        && problem.detail.ends_with(&only.message)
    {
        return error_words(only);
    }
    let mut lines = vec![problem.detail.clone()];
    lines.extend(
        problem
            .errors
            .iter()
            .map(|error| format!("  {}", error_words(error))),
    );
    lines.join("\n")
}

fn error_words(error: &ParamProblem) -> String {
    let number = |word: &str, value: Option<u64>| value.map(|value| format!("{word} {value}"));
    let id = error.id.as_ref().map(|id| format!("`{id}`"));
    let places = [
        error.param.clone(),
        number("record", error.record),
        id,
        number("line", error.line),
        number("column", error.column),
    ];
    let place: Vec<String> = places.into_iter().flatten().collect();
    if place.is_empty() {
        error.message.clone()
    } else {
        format!("{}: {}", place.join(", "), error.message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A job that succeeded, for tests to change.
    pub(crate) fn a_job(id: &str) -> JobView {
        let links = json!({"self": "", "cancel": "", "events": "", "stdout": "", "stderr": "", "attempts": "", "files": "", "archive": ""});
        serde_json::from_value(json!({
            "id": id, "seq": 1, "tool": "search", "owner": "anonymous", "state": "succeeded", "stuck": false, "priority": 0,
            "created_at": "2026-01-31T12:00:00.000Z", "attempt": 1, "params": {}, "tags": [], "notes": [], "links": links,
        }))
        .unwrap()
    }

    #[test]
    fn a_problem_names_the_place_of_each_error() {
        let place = ParamProblem {
            param: Some("query".to_owned()),
            record: Some(2),
            line: Some(5),
            column: Some(7),
            message: "`!` is not a residue".to_owned(),
            ..ParamProblem::default()
        };
        let problem = Problem {
            detail: "the input was refused".to_owned(),
            errors: vec![place],
            ..bare_problem(422)
        };
        assert_eq!(
            problem_words(&problem),
            "the input was refused\n  query, record 2, line 5, column 7: `!` is not a residue"
        );
        let same = Problem {
            detail: "`query`: `!` is not a residue".to_owned(),
            ..problem
        };
        assert_eq!(
            problem_words(&same),
            "query, record 2, line 5, column 7: `!` is not a residue"
        );
    }

    #[test]
    fn a_job_has_a_short_id_and_a_duration_once_it_ended() {
        let job = a_job("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b");
        assert_eq!((job.short_id(), job.seconds()), ("2e3f4a5b", None));
        let ended = JobView {
            started_at: Some("2026-01-31T12:00:01.000Z".to_owned()),
            finished_at: Some("2026-01-31T12:00:02.500Z".to_owned()),
            ..job
        };
        assert_eq!(ended.seconds(), Some(1.5));
    }
}
