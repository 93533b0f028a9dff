//! Fail points: named places where a process ends itself with SIGKILL. Compiled in with the feature `failpoints` only,
//! for tests; otherwise nothing is left of them.

/// A place between two effects. Does nothing without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn fail_point(_name: &str) {}

/// A place between two effects: ends this process when the environment says so.
///
/// `ONELANE_FAILPOINT=NAME[:N]` names the place, and which of its visits in this process counts;
/// `ONELANE_FAILPOINT_TOKEN=FILE` lets it happen once only: whoever removes the file is killed.
#[cfg(feature = "failpoints")]
#[expect(
    clippy::disallowed_methods,
    reason = "shims and guards have no composition root that could hand this through, and no build for use has it"
)]
pub fn fail_point(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static VISITS: AtomicU32 = AtomicU32::new(0);

    let Ok(wanted) = std::env::var("ONELANE_FAILPOINT") else {
        return;
    };
    let (place, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if place != name || VISITS.fetch_add(1, Ordering::Relaxed) + 1 < nth.parse().unwrap_or(1) {
        return;
    }
    let may = std::env::var("ONELANE_FAILPOINT_TOKEN")
        .map_or(true, |token| std::fs::remove_file(token).is_ok());
    if may {
        // Fails for no process that may signal itself, which is every one.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .ok();
    }
}
