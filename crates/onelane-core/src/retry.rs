use serde::{Deserialize, Serialize};

/// What a tool wants after an interrupted attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInterrupt {
    /// Start again from the beginning (outside effects can happen twice).
    #[default]
    Restart,
    /// Fail; a person decides.
    Fail,
}

/// After so many interruptions within one boot a job fails: a poison job must not loop.
///
/// Counted within one boot, because a power cut is not the job's fault.
pub const MAX_INTERRUPTIONS_PER_BOOT: u32 = 3;

/// What follows an interrupted attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterInterruption {
    /// Queued again, at its old place.
    Again,
    /// Failed.
    Fail,
}

/// Decides what follows; `in_this_boot` counts this interruption and the earlier ones of the same boot.
pub const fn after_interruption(wish: OnInterrupt, in_this_boot: u32) -> AfterInterruption {
    match wish {
        OnInterrupt::Restart if in_this_boot < MAX_INTERRUPTIONS_PER_BOOT => {
            AfterInterruption::Again
        }
        _ => AfterInterruption::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poison_job_gets_three_tries_in_one_boot() {
        let next = |n| after_interruption(OnInterrupt::Restart, n);
        assert_eq!(
            [next(1), next(2), next(3)],
            [
                AfterInterruption::Again,
                AfterInterruption::Again,
                AfterInterruption::Fail
            ]
        );
    }

    #[test]
    fn a_tool_that_must_not_run_twice_fails_at_once() {
        assert_eq!(
            after_interruption(OnInterrupt::Fail, 1),
            AfterInterruption::Fail
        );
    }
}
