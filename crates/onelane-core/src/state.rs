use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Failure, Timestamp};

/// Where a job is. Each state holds exactly the times that exist in it.
///
/// Only [`JobState::apply`] makes a next state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waits for its turn.
    Queued {
        /// Since when it could start.
        ready_at: Timestamp,
    },
    /// An attempt is claimed in the store; its process may or may not exist yet.
    Starting {
        /// When it was claimed.
        claimed_at: Timestamp,
    },
    /// The tool runs, or could not be proved dead.
    Running {
        /// When the tool started.
        started_at: Timestamp,
        /// Its process tree could not be proved dead: it keeps its resources until that is proved.
        stuck: bool,
    },
    /// Ended well. Final.
    Succeeded {
        /// When the tool started.
        started_at: Timestamp,
        /// When the tool ended.
        finished_at: Timestamp,
    },
    /// Ended badly. Final.
    Failed {
        /// When the tool started, if it did.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
        /// Why.
        failure: Failure,
    },
    /// Ended by wish. Final.
    Cancelled {
        /// When the tool started, if it did.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
    },
}

/// The bare word of a state, as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateWord {
    /// See [`JobState::Queued`].
    Queued,
    /// See [`JobState::Starting`].
    Starting,
    /// See [`JobState::Running`].
    Running,
    /// See [`JobState::Succeeded`].
    Succeeded,
    /// See [`JobState::Failed`].
    Failed,
    /// See [`JobState::Cancelled`].
    Cancelled,
}

impl StateWord {
    /// All words, in the order of a job's life.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for the three ends, which nothing changes any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a state (queued, starting, running, succeeded, failed or cancelled)")]
pub struct ParseStateError(String);

impl FromStr for StateWord {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|word| word.as_str() == text);
        known.ok_or_else(|| ParseStateError(text.chars().take(64).collect()))
    }
}

/// Why a job is asked to stop: a durable column, not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// Somebody cancelled it.
    Cancel,
    /// Its time limit.
    Time,
    /// Its memory limit.
    Memory,
    /// Its output limit.
    Output,
    /// The machine goes down.
    Shutdown,
}

impl StopReason {
    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Shutdown => "shutdown",
        }
    }

    /// Reads the word back from the store.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Cancel,
            Self::Time,
            Self::Memory,
            Self::Output,
            Self::Shutdown,
        ]
        .into_iter()
        .find(|r| r.as_str() == word)
    }
}

/// How a job came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The tool did its work.
    Success,
    /// The tool, or a limit, or the machine failed.
    Failure(Failure),
    /// The cancellation reached it before it had ended by itself.
    Cancelled,
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// The engine claims the next attempt.
    Claim,
    /// The tool's process exists.
    Start {
        /// When it started.
        started_at: Timestamp,
    },
    /// The attempt ended and its tree is proved dead.
    End {
        /// How.
        ending: Ending,
        /// When the tool started, if it did.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
    },
    /// The attempt came to nothing, is proved dead, and the job may run again.
    Requeue,
    /// The attempt's tree could not be proved dead.
    Stick,
    /// A waiting job is cancelled. (A claimed one gets a stop reason instead, and ends by `End`.)
    Cancel,
}

/// The event does not belong to the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} can't take {event:?}")]
pub struct Refused {
    /// The state.
    pub state: StateWord,
    /// The event.
    pub event: JobEvent,
}

impl JobState {
    /// The bare word.
    pub const fn word(&self) -> StateWord {
        match self {
            Self::Queued { .. } => StateWord::Queued,
            Self::Starting { .. } => StateWord::Starting,
            Self::Running { .. } => StateWord::Running,
            Self::Succeeded { .. } => StateWord::Succeeded,
            Self::Failed { .. } => StateWord::Failed,
            Self::Cancelled { .. } => StateWord::Cancelled,
        }
    }

    /// True for the three ends.
    pub const fn is_final(&self) -> bool {
        self.word().is_final()
    }

    /// When the tool started, if it did.
    pub const fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued { .. } | Self::Starting { .. } => None,
            Self::Running { started_at, .. } | Self::Succeeded { started_at, .. } => {
                Some(*started_at)
            }
            Self::Failed { started_at, .. } | Self::Cancelled { started_at, .. } => *started_at,
        }
    }

    /// When it ended, if it did.
    pub const fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued { .. } | Self::Starting { .. } | Self::Running { .. } => None,
            Self::Succeeded { finished_at, .. }
            | Self::Failed { finished_at, .. }
            | Self::Cancelled { finished_at, .. } => Some(*finished_at),
        }
    }

    /// The state that a submission begins with.
    pub const fn submitted(now: Timestamp) -> Self {
        Self::Queued { ready_at: now }
    }

    /// The next state, or a refusal that changes nothing.
    ///
    /// # Errors
    /// [`Refused`] where the event does not belong to the state; every final state refuses every event.
    pub fn apply(&self, event: &JobEvent, now: Timestamp) -> Result<Self, Refused> {
        use JobEvent as E;
        let next = match (self, event) {
            (Self::Queued { .. }, E::Claim) => Self::Starting { claimed_at: now },
            (Self::Queued { .. }, E::Cancel) => Self::Cancelled {
                started_at: None,
                finished_at: now,
            },
            (Self::Starting { .. }, E::Start { started_at }) => Self::Running {
                started_at: *started_at,
                stuck: false,
            },
            (Self::Starting { claimed_at }, E::Stick) => Self::Running {
                started_at: *claimed_at,
                stuck: true,
            },
            (Self::Running { started_at, .. }, E::Stick) => Self::Running {
                started_at: *started_at,
                stuck: true,
            },
            (Self::Starting { .. } | Self::Running { .. }, E::Requeue) => {
                Self::Queued { ready_at: now }
            }
            (
                Self::Starting { .. } | Self::Running { .. },
                E::End {
                    ending,
                    started_at,
                    finished_at,
                },
            ) => self.ended(ending, *started_at, *finished_at),
            _ => {
                return Err(Refused {
                    state: self.word(),
                    event: event.clone(),
                });
            }
        };
        Ok(next)
    }

    fn ended(
        &self,
        ending: &Ending,
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
    ) -> Self {
        let started_at = started_at.or(self.started_at());
        match ending {
            Ending::Success => Self::Succeeded {
                started_at: started_at.unwrap_or(finished_at),
                finished_at,
            },
            Ending::Failure(failure) => Self::Failed {
                started_at,
                finished_at,
                failure: failure.clone(),
            },
            Ending::Cancelled => Self::Cancelled {
                started_at,
                finished_at,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;

    const NOW: Timestamp = Timestamp::from_millis(100);
    const T1: Timestamp = Timestamp::from_millis(1);
    const T2: Timestamp = Timestamp::from_millis(2);

    fn failure() -> Failure {
        Failure::new(FailureKind::Exit { code: 1 }, "exit code 1")
    }

    fn states() -> Vec<JobState> {
        vec![
            JobState::Queued { ready_at: T1 },
            JobState::Starting { claimed_at: T1 },
            JobState::Running {
                started_at: T1,
                stuck: false,
            },
            JobState::Running {
                started_at: T1,
                stuck: true,
            },
            JobState::Succeeded {
                started_at: T1,
                finished_at: T2,
            },
            JobState::Failed {
                started_at: None,
                finished_at: T2,
                failure: failure(),
            },
            JobState::Cancelled {
                started_at: None,
                finished_at: T2,
            },
        ]
    }

    fn end(ending: Ending) -> JobEvent {
        JobEvent::End {
            ending,
            started_at: Some(T1),
            finished_at: T2,
        }
    }

    fn events() -> Vec<JobEvent> {
        vec![
            JobEvent::Claim,
            JobEvent::Start { started_at: T2 },
            end(Ending::Success),
            end(Ending::Failure(failure())),
            end(Ending::Cancelled),
            JobEvent::Requeue,
            JobEvent::Stick,
            JobEvent::Cancel,
        ]
    }

    /// Every state × every event: the table is the specification, `-` is a refusal.
    #[test]
    fn every_state_takes_or_refuses_every_event_as_the_table_says() {
        //               claim      start     success     failure  cancelled    requeue   stick     cancel
        let table = [
            ["starting", "-", "-", "-", "-", "-", "-", "cancelled"],
            [
                "-",
                "running",
                "succeeded",
                "failed",
                "cancelled",
                "queued",
                "running",
                "-",
            ],
            [
                "-",
                "-",
                "succeeded",
                "failed",
                "cancelled",
                "queued",
                "running",
                "-",
            ],
            [
                "-",
                "-",
                "succeeded",
                "failed",
                "cancelled",
                "queued",
                "running",
                "-",
            ],
            ["-"; 8],
            ["-"; 8],
            ["-"; 8],
        ];
        for (state, row) in states().iter().zip(table) {
            for (event, expected) in events().iter().zip(row) {
                let next = state
                    .apply(event, NOW)
                    .map_or("-", |next| next.word().as_str());
                assert_eq!(next, expected, "{state:?} × {event:?}");
            }
        }
    }

    #[test]
    fn a_final_state_has_a_finish_time_and_no_other_state_has_one() {
        for state in states() {
            assert_eq!(state.finished_at().is_some(), state.is_final(), "{state:?}");
        }
    }

    #[test]
    fn an_attempt_that_ended_before_its_start_was_noted_keeps_its_own_times() {
        let next = JobState::Starting { claimed_at: NOW }
            .apply(&end(Ending::Success), NOW)
            .unwrap();
        assert_eq!(
            next,
            JobState::Succeeded {
                started_at: T1,
                finished_at: T2
            }
        );
    }

    #[test]
    fn what_cannot_be_proved_dead_stays_running_and_says_so() {
        let next = JobState::Starting { claimed_at: T1 }
            .apply(&JobEvent::Stick, NOW)
            .unwrap();
        assert_eq!(
            next,
            JobState::Running {
                started_at: T1,
                stuck: true
            }
        );
    }

    #[test]
    fn words_read_back_as_themselves() {
        for word in StateWord::ALL {
            assert_eq!(word.as_str().parse::<StateWord>().unwrap(), word);
        }
        assert!("canceled".parse::<StateWord>().is_err());
    }
}
