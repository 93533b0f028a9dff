//! The processes that a server of other people's making brings with it, and what they bring: none may outlive it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const NAME: &str = "ONELANE_BENCH_BROOD";
/// The killed are gone within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Processes that have the same mark in their environment, which children inherit. Dropping it kills them, one by one,
/// by pid.
#[derive(Debug)]
pub(crate) struct Brood {
    mark: String,
}

impl Brood {
    /// Of the server that has this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let mark = folder.display().to_string();
        Self { mark }
    }

    /// The mark, as an environment variable.
    pub(crate) fn setting(&self) -> (&'static str, String) {
        (NAME, self.mark.clone())
    }

    /// This command's process will be one of them.
    pub(crate) fn add(&self, command: &mut Command) {
        command.env(NAME, &self.mark);
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.has(*pid)).collect()
    }

    /// The dead have no environment, even before somebody has waited for them.
    fn has(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mark = format!("{NAME}={}", self.mark);
        environment
            .split(|byte| *byte == 0)
            .any(|setting| setting == mark.as_bytes())
    }

    /// The descriptor is taken before the last look: a number that is somebody else's by now is left alone.
    fn kill(&self, pid: i32) {
        let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(process)) = opened else {
            return;
        };
        if self.has(pid) {
            // It may have ended by itself.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
}

impl Drop for Brood {
    fn drop(&mut self) {
        let since = Instant::now();
        let mut was_empty = false;
        loop {
            let pids = self.pids();
            if pids.is_empty() && was_empty {
                return;
            }
            // A process that begins another program has no environment for a moment, so one look is not enough.
            was_empty = pids.is_empty();
            if since.elapsed() > PATIENCE {
                eprintln!("these processes do not end: {pids:?}");
                return;
            }
            for pid in pids {
                self.kill(pid);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_grandchild_in_a_session_of_its_own_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let brood = Brood::of(folder.path());
        let stranger = Brood::of(&folder.path().join("other"));
        let mut command = Command::new("sh");
        // The shell ends at once, and leaves it to nobody.
        command.args(["-c", "setsid sleep 600 & echo $!"]);
        brood.add(&mut command);
        let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        shell.wait().unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        while name().trim() != "sleep" {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(brood.has(pid) && !stranger.has(pid));
        drop(stranger);
        assert!(brood.has(pid), "another one's end is not its end");
        drop(brood);
        assert!(!Brood::of(folder.path()).has(pid));
    }
}
