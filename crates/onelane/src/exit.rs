//! The one table of exit codes: `--help` and `docs/cli.md` both say what stands here.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    JobFailed = 1,
    Usage = 2,
    BadInput = 3,
    NoSuchJob = 4,
    NoServer = 5,
    JobCancelled = 6,
    CheckFailed = 7,
    ServerTrouble = 8,
    LocalTrouble = 9,
    BadStore = 10,
    Interrupted = 130,
}

/// Each code and its meaning, in the order of the codes.
pub(crate) const TABLE: [(Exit, &str); 12] = [
    (Exit::Done, "done; a job that was waited for succeeded"),
    (Exit::JobFailed, "the job failed"),
    (Exit::Usage, "the command line is wrong"),
    (
        Exit::BadInput,
        "the server refused the input or the request",
    ),
    (Exit::NoSuchJob, "no such job, tool or file"),
    (Exit::NoServer, "no Onelane server answers there"),
    (Exit::JobCancelled, "the job was cancelled"),
    (
        Exit::CheckFailed,
        "a check of `check`, `doctor`, `demo`, `config check` or `tools check` failed",
    ),
    (
        Exit::ServerTrouble,
        "the server can't do it now: queue or disk full, stopping, or a fault of its own",
    ),
    (
        Exit::LocalTrouble,
        "something failed on this side: a file could not be read or written",
    ),
    (
        Exit::BadStore,
        "the database is damaged, missing though jobs are there, or of a newer release; nothing was changed",
    ),
    (
        Exit::Interrupted,
        "interrupted (Ctrl-C); `run` has cancelled its job",
    ),
];

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The worse of two ends, for commands over several jobs: failed before cancelled before done.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Done => 0,
            Self::JobCancelled => 1,
            _ => 2,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table as `--help` shows it.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:");
    for (exit, meaning) in TABLE {
        // Writing into a String can't fail.
        if write!(text, "\n  {:>3}  {meaning}", exit.code()).is_err() {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_each_code_with_this_meaning_and_no_other() {
        let page = include_str!("../../../docs/cli.md");
        let documented: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
            .collect();
        let ours: Vec<String> = TABLE
            .iter()
            .map(|(exit, meaning)| format!("| {} | {meaning} |", exit.code()))
            .collect();
        assert_eq!(documented, ours);
    }

    #[test]
    fn codes_are_distinct_and_help_shows_them_all() {
        let help = help();
        for (index, (exit, meaning)) in TABLE.iter().enumerate() {
            assert!(help.contains(meaning));
            assert!(
                TABLE[index + 1..]
                    .iter()
                    .all(|(other, _)| other.code() > exit.code())
            );
        }
    }

    #[test]
    fn a_failed_job_outweighs_a_cancelled_one() {
        assert_eq!(Exit::JobCancelled.worse(Exit::JobFailed), Exit::JobFailed);
        assert_eq!(Exit::JobFailed.worse(Exit::JobCancelled), Exit::JobFailed);
        assert_eq!(Exit::Done.worse(Exit::JobCancelled), Exit::JobCancelled);
    }
}
