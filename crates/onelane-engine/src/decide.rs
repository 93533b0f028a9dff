//! What an attempt's verdict means for its job.

use onelane_core::{
    AfterInterruption, Ending, Failure, FailureKind, Job, JobEvent, StopReason, Timestamp,
    after_interruption,
};
use onelane_exec::{ExitRecord, Outcome, Verdict};
use onelane_tools::ToolDefinition;

/// The job's next event, and the word that the attempt's record keeps.
pub(crate) struct Decision {
    pub event: JobEvent,
    pub outcome: &'static str,
}

/// Decides. `earlier` counts the interruptions of this job before this one, within this boot.
pub(crate) fn decide(
    job: &Job,
    tool: &ToolDefinition,
    verdict: &Verdict,
    earlier: u32,
    now: Timestamp,
) -> Decision {
    match verdict {
        Verdict::Exited(record) => decide_exit(job, tool, record, earlier),
        Verdict::NeverStarted { why } => Decision {
            event: cut_off(
                job,
                tool,
                earlier,
                FailureKind::StartFailed,
                why,
                (None, now),
            ),
            outcome: "never_started",
        },
        Verdict::Stuck { .. } => Decision {
            event: JobEvent::Stick,
            outcome: "stuck",
        },
    }
}

fn decide_exit(job: &Job, tool: &ToolDefinition, record: &ExitRecord, earlier: u32) -> Decision {
    let times = (record.started_at, record.finished_at);
    let failed = |kind, message: String| end(Ending::Failure(Failure::new(kind, message)), times);
    let (event, outcome) = match (&record.outcome, record.stopped) {
        (_, Some(StopReason::Cancel)) => (end(Ending::Cancelled, times), "cancelled"),
        (_, Some(StopReason::Time)) => (
            failed(
                FailureKind::TimedOut,
                "the tool's time limit was reached".into(),
            ),
            "timed_out",
        ),
        (_, Some(StopReason::Memory)) => (
            failed(
                FailureKind::OutOfMemory,
                "the tool's memory limit was reached".into(),
            ),
            "out_of_memory",
        ),
        (_, Some(StopReason::Output)) => (
            failed(
                FailureKind::OutputLimit,
                "the tool's output limit was reached".into(),
            ),
            "output_limit",
        ),
        (_, Some(StopReason::Shutdown)) => {
            let why = "the machine went down while it ran";
            (
                cut_off(job, tool, earlier, FailureKind::Interrupted, why, times),
                "interrupted",
            )
        }
        (Outcome::Interrupted { message }, None) => (
            cut_off(job, tool, earlier, FailureKind::Interrupted, message, times),
            "interrupted",
        ),
        (Outcome::StartFailed { message }, None) => (
            failed(FailureKind::StartFailed, message.clone()),
            "start_failed",
        ),
        (Outcome::Signal { signal }, None) => {
            let message = format!("the tool was ended by signal {signal} from outside");
            (
                failed(FailureKind::Signal { signal: *signal }, message),
                "signal",
            )
        }
        (Outcome::Exit { code }, None) => (exited(tool, record, *code), "exit"),
    };
    Decision { event, outcome }
}

fn exited(tool: &ToolDefinition, record: &ExitRecord, code: i32) -> JobEvent {
    let times = (record.started_at, record.finished_at);
    let ending = match (tool.is_success(code), &record.trouble) {
        (true, None) => Ending::Success,
        (true, Some(trouble)) => {
            Ending::Failure(Failure::new(FailureKind::Unknown, trouble.clone()))
        }
        _ => {
            let known = tool
                .exit_sentence(code)
                .map(|sentence| format!("exit code {code}: {sentence}"));
            let message = known.unwrap_or_else(|| {
                format!("the tool ended with exit code {code}; its stderr may say why")
            });
            Ending::Failure(Failure::new(FailureKind::Exit { code }, message))
        }
    };
    end(ending, times)
}

fn cut_off(
    job: &Job,
    tool: &ToolDefinition,
    earlier: u32,
    kind: FailureKind,
    why: &str,
    times: (Option<Timestamp>, Timestamp),
) -> JobEvent {
    if job.stop_reason == Some(StopReason::Cancel) {
        return end(Ending::Cancelled, times);
    }
    match after_interruption(tool.on_interrupt, earlier + 1) {
        AfterInterruption::Again => JobEvent::Requeue,
        AfterInterruption::Fail => end(Ending::Failure(Failure::new(kind, why)), times),
    }
}

const fn end(
    ending: Ending,
    (started_at, finished_at): (Option<Timestamp>, Timestamp),
) -> JobEvent {
    JobEvent::End {
        ending,
        started_at,
        finished_at,
    }
}
