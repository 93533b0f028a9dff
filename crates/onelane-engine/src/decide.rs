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
            failed(FailureKind::TimedOut, time_sentence(tool)),
            "timed_out",
        ),
        (_, Some(StopReason::Memory)) => (
            failed(FailureKind::OutOfMemory, memory_sentence(tool)),
            "out_of_memory",
        ),
        (_, Some(StopReason::Output)) => (
            failed(FailureKind::OutputLimit, output_sentence(tool)),
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
        (Outcome::Unknown { .. }, None) if job.stop_reason == Some(StopReason::Cancel) => {
            (end(Ending::Cancelled, times), "cancelled")
        }
        (Outcome::Unknown { message }, None) => {
            (failed(FailureKind::Unknown, message.clone()), "unknown")
        }
        (Outcome::StartFailed { message }, None) => (
            failed(FailureKind::StartFailed, message.clone()),
            "start_failed",
        ),
        (Outcome::Failed { message }, None) => {
            (failed(FailureKind::Unknown, message.clone()), "failed")
        }
        (Outcome::Limit { message }, None) => {
            (failed(FailureKind::Unknown, message.clone()), "limit")
        }
        (Outcome::Signal { signal }, None) => {
            let message = signal_sentence(*signal);
            (
                failed(FailureKind::Signal { signal: *signal }, message),
                "signal",
            )
        }
        (Outcome::Exit { code }, None) => (exited(tool, record, *code), "exit"),
    };
    Decision { event, outcome }
}

fn time_sentence(tool: &ToolDefinition) -> String {
    match tool.limits.time_ms {
        Some(millis) if millis % 1_000 == 0 => {
            format!("the tool's time limit of {} s was reached", millis / 1_000)
        }
        Some(millis) => format!("the tool's time limit of {millis} ms was reached"),
        None => "the tool's time limit was reached".to_owned(),
    }
}

fn memory_sentence(tool: &ToolDefinition) -> String {
    tool.limits.memory_bytes.map_or_else(
        || "the machine ran out of memory, and the kernel ended the tool".to_owned(),
        |bytes| format!("the tool's memory limit of {} MiB was reached", bytes >> 20),
    )
}

fn output_sentence(tool: &ToolDefinition) -> String {
    let bytes = tool.limits.output_bytes.unwrap_or(0);
    format!("the tool's output limit of {} MiB was reached", bytes >> 20)
}

/// A signal that nobody here sent: the tool's own fault, or somebody's from outside.
fn signal_sentence(signal: i32) -> String {
    let own = match signal {
        4 => Some("an illegal instruction (SIGILL); it may be built for another processor"),
        6 => Some("giving up by itself (SIGABRT)"),
        7 => Some("a bad memory access (SIGBUS); a disk that it maps may be full"),
        8 => Some("an arithmetic error (SIGFPE)"),
        11 => Some("a bad memory access (SIGSEGV)"),
        _ => None,
    };
    own.map_or_else(
        || format!("the tool was ended by signal {signal}, which this server did not send"),
        |cause| format!("the tool crashed by {cause}; its stderr may say more"),
    )
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
