//! Limits that the kernel doesn't keep for us are looked at now and then, by the guard; a warm job's own by its worker's
//! shim.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onelane_core::Limits;

use super::cgroup::AttemptGroups;
use super::process::{self, tick};

/// Memory and processes can grow fast.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// A folder's size is looked at this often, and less often where looking takes long.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Looking at a folder's size may take this part of the time.
const MEASURE_SHARE: u32 = 20;

/// A limit that was reached.
pub(crate) enum Breach {
    Time,
    Memory,
    Output,
    /// With a sentence.
    Processes(String),
}

/// Looks at what a tool uses.
pub(crate) struct Limiter {
    time: Option<Duration>,
    /// Only where no control group keeps it.
    memory_bytes: Option<u64>,
    /// Only where no control group keeps it.
    processes: Option<u32>,
    output_bytes: Option<u64>,
    folder: PathBuf,
    next_sample: Instant,
    next_measure: Instant,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, groups: &AttemptGroups, folder: &Path) -> Self {
        Self {
            time: limits.time_ms.map(Duration::from_millis),
            memory_bytes: limits.memory_bytes.filter(|_| !groups.keeps("memory")),
            processes: limits.processes.filter(|_| !groups.keeps("pids")),
            output_bytes: limits.output_bytes,
            folder: folder.to_owned(),
            next_sample: tick(),
            next_measure: tick() + MEASURE_EVERY,
        }
    }

    const fn samples(&self) -> bool {
        self.memory_bytes.is_some() || self.processes.is_some()
    }

    /// When to look next, for a tool that runs since then.
    pub(crate) fn next_check(&self, since: Instant) -> Option<Instant> {
        let moments = [
            self.time.and_then(|time| since.checked_add(time)),
            self.samples().then_some(self.next_sample),
            self.output_bytes.map(|_| self.next_measure),
        ];
        moments.into_iter().flatten().min()
    }

    /// Looks at what is due.
    pub(crate) fn check(&mut self, since: Instant) -> Option<Breach> {
        let now = tick();
        if self
            .time
            .is_some_and(|time| now.duration_since(since) >= time)
        {
            return Some(Breach::Time);
        }
        if self.samples() && now >= self.next_sample {
            self.next_sample = now + SAMPLE_EVERY;
            if let Some(breach) = self.sample() {
                return Some(breach);
            }
        }
        if now >= self.next_measure && self.output_bytes.is_some() {
            return self.measure(now);
        }
        None
    }

    fn sample(&self) -> Option<Breach> {
        let family = process::descendants(std::process::id());
        let count = u32::try_from(family.len()).unwrap_or(u32::MAX);
        if let Some(most) = self.processes.filter(|most| count > *most) {
            return Some(Breach::Processes(format!(
                "the tool had {count} processes; its limit is {most}"
            )));
        }
        let most = self.memory_bytes?;
        let used: u64 = family.into_iter().map(process::resident_bytes).sum();
        (used > most).then_some(Breach::Memory)
    }

    fn measure(&mut self, begun: Instant) -> Option<Breach> {
        let used = ["output", "work"].map(|name| disk_bytes(&self.folder.join(name)));
        let ended = tick();
        self.next_measure = ended + MEASURE_EVERY.max((ended - begun) * MEASURE_SHARE);
        let most = self.output_bytes?;
        (used.iter().sum::<u64>() > most).then_some(Breach::Output)
    }
}

/// What a folder's files take on the disk. Symbolic links are not followed.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            // Blocks are counted in 512 bytes, whatever the file system's own are (stat(2)).
            Ok(metadata) => metadata.blocks() * 512,
            // Deleted since.
            Err(_) => 0,
        })
        .sum()
}
