//! Facts about processes, from /proc (proc(5)).

use std::fs;
use std::io;

use onelane_core::Timestamp;

use crate::record::ProcessRecord;

/// The wall clock, for records.
#[expect(
    clippy::disallowed_methods,
    reason = "an executor writes down when things happened"
)]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The clock that is never set, for spans.
#[expect(
    clippy::disallowed_methods,
    reason = "an executor measures how long things take"
)]
pub(crate) fn tick() -> std::time::Instant {
    std::time::Instant::now()
}

/// This boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// This process, written down.
pub(crate) fn describe(pid: u32) -> io::Result<ProcessRecord> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    Ok(ProcessRecord {
        pid,
        start_time: stat(pid)?.start_time,
        boot_id: boot_id()?,
        pid_namespace: namespace.to_string_lossy().into_owned(),
    })
}

/// True when `record` names a process that lives now: number, start time and boot all agree. A zombie does not live.
pub(crate) fn lives(record: &ProcessRecord) -> bool {
    let same_boot = boot_id().is_ok_and(|boot| boot == record.boot_id);
    let same = |stat: Stat| stat.start_time == record.start_time && !stat.is_zombie;
    same_boot && stat(record.pid).is_ok_and(same)
}

/// This process's pid namespace, as a record names it.
pub(crate) fn pid_namespace() -> io::Result<String> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether a process of this pid namespace can be seen from here.
pub(crate) fn any_in_namespace(name: &str) -> bool {
    let namespace = |stat: Stat| fs::read_link(format!("/proc/{}/ns/pid", stat.pid)).ok();
    all()
        .into_iter()
        .filter_map(namespace)
        .any(|link| link.to_string_lossy() == name)
}

/// Waits until a process that was killed has ended, without being its parent. A zombie has.
pub(crate) fn wait_until_gone(record: &ProcessRecord) -> io::Result<()> {
    let Some(pid) = i32::try_from(record.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return Ok(());
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return Ok(());
    };
    // Opened first and looked at then: the number may belong to somebody else by now.
    while lives(record) {
        let mut fds = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Resident bytes of a process (proc(5), `/proc/<pid>/statm`, field 2).
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// How many processes the kernel has killed on this machine for want of memory (proc(5), `/proc/vmstat`).
pub(crate) fn oom_kills() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        .unwrap_or(0)
}

/// What one `/proc/<pid>/stat` says.
pub(crate) struct Stat {
    pub pid: u32,
    pub parent: u32,
    pub start_time: u64,
    pub is_zombie: bool,
}

/// Reads one process's line. The name in parentheses may hold anything, so fields count from the last `)`.
pub(crate) fn stat(pid: u32) -> io::Result<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(pid, &String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` begins with field 3 (state); field 4 is the parent, field 22 the start time.
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// All processes that can be seen now.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| stat(pid).ok()).collect()
}

/// Living descendants of `root`, parents before children.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let everyone = all();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            everyone
                .iter()
                .filter(|stat| stat.parent == parent)
                .map(|stat| stat.pid),
        );
        next += 1;
    }
    family.retain(|pid| {
        *pid != root
            && everyone
                .iter()
                .any(|stat| stat.pid == *pid && !stat.is_zombie)
    });
    family
}

/// Living children of `parent` among the so many numbers that were given to processes last. Far quicker than looking
/// at everyone, and so never too late for a process that is gone again in a moment.
pub(crate) fn newest_children(parent: u32, among: u32) -> Vec<u32> {
    let newest = newest_pid().unwrap_or(0);
    let numbers = newest.saturating_sub(among).max(1)..=newest;
    numbers
        .filter_map(|pid| stat(pid).ok())
        .filter(|stat| stat.parent == parent && !stat.is_zombie)
        .map(|stat| stat.pid)
        .collect()
}

/// The number that was given to a process last (`/proc/loadavg`, last field; proc(5)).
fn newest_pid() -> Option<u32> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

/// Living descendants of `root`, without a look at everybody (proc(5), `/proc/<pid>/task/<tid>/children`). Empty where
/// the kernel has no such lists.
fn family(root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    family.split_off(1)
}

/// What the descendants of `root` have used until now: processor seconds, of those that were waited for as well, and
/// the largest resident size of one of them since [`forget_peaks`], in bytes.
pub(crate) fn used_by_family(root: u32) -> (f64, u64) {
    let family = family(root);
    let ticks: u64 = family.iter().filter_map(|pid| cpu_ticks(*pid)).sum();
    let peak = family.iter().filter_map(|pid| peak_bytes(*pid)).max();
    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    (seconds, peak.unwrap_or(0))
}

/// From now on peaks are counted anew (proc(5), `/proc/<pid>/clear_refs`). A courtesy: where it is not allowed, the
/// peak is that of the whole life.
pub(crate) fn forget_peaks(root: u32) {
    for pid in family(root) {
        fs::write(format!("/proc/{pid}/clear_refs"), "5").ok();
    }
}

/// Fields 14 to 17 of `/proc/<pid>/stat`: its own ticks and its waited-for children's (proc(5)).
fn cpu_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields = rest.split_ascii_whitespace().skip(11).take(4);
    Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0";
        let stat = parse_stat(7, line).unwrap();
        assert_eq!(
            (stat.parent, stat.start_time, stat.is_zombie),
            (3, 4242, false)
        );
    }

    #[test]
    fn this_process_lives_and_a_reused_number_does_not() {
        let mut record = describe(std::process::id()).unwrap();
        assert!(lives(&record));
        record.start_time += 1;
        assert!(!lives(&record));
    }
}
