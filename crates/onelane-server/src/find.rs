//! Jobs by what people type: the whole id, the unique end of one, or `last`.

use onelane_core::{Job, JobId};
use onelane_engine::{Handle, JobFilter, Particulars};

use crate::problem::{ApiError, Code};

const MIN_SUFFIX: usize = 4;
const CANDIDATES: usize = 10;

pub(crate) async fn job(handle: &Handle, text: &str) -> Result<Job, ApiError> {
    if text == "last" {
        let newest = JobFilter {
            limit: 1,
            ..JobFilter::default()
        };
        return handle
            .jobs(newest)
            .await?
            .pop()
            .ok_or_else(|| unknown(text));
    }
    let id = id(handle, text).await?;
    handle.job(id).await?.ok_or_else(|| unknown(text))
}

/// A job with what it is shown with, read at once.
pub(crate) async fn shown(handle: &Handle, text: &str) -> Result<(Job, Particulars), ApiError> {
    let id = match text {
        "last" => job(handle, text).await?.id,
        _ => id(handle, text).await?,
    };
    handle.shown(id).await?.ok_or_else(|| unknown(text))
}

async fn id(handle: &Handle, text: &str) -> Result<JobId, ApiError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if !is_suffix(text) {
        return Err(unknown(text));
    }
    let found = handle
        .ids_by_suffix(&text.to_ascii_lowercase(), CANDIDATES)
        .await?;
    match found.as_slice() {
        [] => Err(unknown(text)),
        [only] => Ok(*only),
        several => Err(ambiguous(text, several)),
    }
}

fn is_suffix(text: &str) -> bool {
    (MIN_SUFFIX..36).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn ambiguous(text: &str, several: &[JobId]) -> ApiError {
    let ids: Vec<_> = several.iter().map(JobId::to_string).collect();
    let more = if several.len() == CANDIDATES {
        " and maybe more"
    } else {
        ""
    };
    ApiError::new(
        Code::AmbiguousId,
        format!("`{text}` is the end of {}{more}", ids.join(", ")),
    )
}

fn unknown(text: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::new(
        Code::UnknownJob,
        format!(
            "there is no job `{shown}` (an id, at least the last {MIN_SUFFIX} characters of one, or `last`)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::is_suffix;

    #[test]
    fn the_end_of_an_id_has_at_least_four_hexadecimal_digits() {
        assert!(is_suffix("ab12") && is_suffix("8A9B-0c1d2e3f4a5b"));
        assert!(!is_suffix("ab1") && !is_suffix("../x") && !is_suffix("42xy"));
    }
}
