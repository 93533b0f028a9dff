//! Jobs as the wire shows them.

use onelane_api::{
    AttemptLinks, AttemptView, FailureView, JobLinks, JobView, ProgressView, UsageView, WireState,
};
use onelane_core::{Failure, FailureKind, Job, JobId, JobState, StateWord, StopReason, Timestamp};
use onelane_engine::{AttemptRecord, Handle, Particulars, Place, Usage};

use crate::problem::ApiError;

pub(crate) async fn job(handle: &Handle, job: &Job) -> Result<JobView, ApiError> {
    let found = handle.particulars(vec![job.id]).await?.pop();
    Ok(with(handle, job, found.unwrap_or_default()))
}

/// A job whose particulars are known.
pub(crate) fn with(handle: &Handle, job: &Job, known: Particulars) -> JobView {
    let Particulars {
        params,
        notes,
        last_attempt: last,
    } = known;
    let Place {
        position,
        why,
        progress,
    } = handle.place(job);
    let (started_at, finished_at) = times(&job.state);
    JobView {
        id: job.id.to_string(),
        seq: job.seq,
        tool: job.tool.clone(),
        name: job.name.clone(),
        owner: job.owner.clone(),
        state: state(job),
        stuck: matches!(job.state, JobState::Running { stuck: true, .. }),
        priority: job.priority.into(),
        created_at: job.created_at.to_string(),
        started_at: started_at.map(text),
        finished_at: finished_at.map(text),
        attempt: job.attempt,
        position,
        eta: None,
        why,
        progress: progress.map(|p| ProgressView {
            fraction: p.fraction,
            message: p.message,
        }),
        params,
        exit_code: last.as_ref().and_then(|a| a.exit_code),
        failure: failure(&job.state),
        usage: last.as_ref().and_then(|a| a.usage).map(usage),
        process_control: last.as_ref().and_then(|a| a.process_control.clone()),
        result_of: job.result_of.map(|id| id.to_string()),
        tags: job.tags.clone(),
        notes,
        links: links(job.id),
    }
}

pub(crate) async fn jobs(handle: &Handle, list: &[Job]) -> Result<Vec<JobView>, ApiError> {
    let ids = list.iter().map(|job| job.id).collect();
    let known = handle.particulars(ids).await?;
    let pairs = list.iter().zip(known);
    Ok(pairs.map(|(job, known)| with(handle, job, known)).collect())
}

pub(crate) fn attempt(record: &AttemptRecord) -> AttemptView {
    let base = format!("{}/attempts/{}/logs", path(record.job), record.attempt);
    AttemptView {
        attempt: record.attempt,
        claimed_at: record.claimed_at.to_string(),
        started_at: record.started_at.map(text),
        finished_at: record.finished_at.map(text),
        outcome: record.outcome.clone(),
        exit_code: record.exit_code,
        usage: record.usage.map(usage),
        tool_version: record.tool_version.clone(),
        process_control: record.process_control.clone(),
        links: AttemptLinks {
            stdout: format!("{base}/stdout"),
            stderr: format!("{base}/stderr"),
        },
    }
}

/// A job's path on this server.
pub(crate) fn path(id: JobId) -> String {
    format!("/api/v1/jobs/{id}")
}

fn text(moment: Timestamp) -> String {
    moment.to_string()
}

fn links(id: JobId) -> JobLinks {
    let this = path(id);
    JobLinks {
        cancel: format!("{this}/cancel"),
        events: format!("{this}/events"),
        stdout: format!("{this}/logs/stdout"),
        stderr: format!("{this}/logs/stderr"),
        attempts: format!("{this}/attempts"),
        files: format!("{this}/files"),
        archive: format!("{this}/archive.zip"),
        this,
    }
}

pub(crate) fn state(job: &Job) -> WireState {
    let cancelling = job.stop_reason == Some(StopReason::Cancel);
    match word(&job.state) {
        StateWord::Starting | StateWord::Running if cancelling => WireState::Cancelling,
        StateWord::Queued => WireState::Queued,
        StateWord::Starting => WireState::Starting,
        StateWord::Running => WireState::Running,
        StateWord::Succeeded => WireState::Succeeded,
        StateWord::Failed => WireState::Failed,
        StateWord::Cancelled => WireState::Cancelled,
    }
}

const fn word(state: &JobState) -> StateWord {
    match state {
        JobState::Queued { .. } => StateWord::Queued,
        JobState::Starting { .. } => StateWord::Starting,
        JobState::Running { .. } => StateWord::Running,
        JobState::Succeeded { .. } => StateWord::Succeeded,
        JobState::Failed { .. } => StateWord::Failed,
        JobState::Cancelled { .. } => StateWord::Cancelled,
    }
}

/// True for the three ends.
pub(crate) const fn has_ended(job: &Job) -> bool {
    word(&job.state).is_final()
}

const fn times(state: &JobState) -> (Option<Timestamp>, Option<Timestamp>) {
    match *state {
        JobState::Queued { .. } | JobState::Starting { .. } => (None, None),
        JobState::Running { started_at, .. } => (Some(started_at), None),
        JobState::Succeeded {
            started_at,
            finished_at,
        } => (Some(started_at), Some(finished_at)),
        JobState::Failed {
            started_at,
            finished_at,
            ..
        }
        | JobState::Cancelled {
            started_at,
            finished_at,
        } => (started_at, Some(finished_at)),
    }
}

fn failure(state: &JobState) -> Option<FailureView> {
    let JobState::Failed {
        failure: Failure { kind, message },
        ..
    } = state
    else {
        return None;
    };
    let (code, signal) = match *kind {
        FailureKind::Exit { code } => (Some(code), None),
        FailureKind::Signal { signal } => (None, Some(signal)),
        _ => (None, None),
    };
    Some(FailureView {
        kind: kind.word().to_owned(),
        code,
        signal,
        message: message.clone(),
    })
}

const fn usage(usage: Usage) -> UsageView {
    UsageView {
        wall_s: usage.wall_s,
        cpu_s: usage.cpu_s,
        memory_peak_bytes: usage.memory_peak_bytes,
    }
}
