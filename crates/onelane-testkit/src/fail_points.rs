//! The fail points of a build with the feature `failpoints`, by name.

/// Points in the server's own process.
pub const SERVER: [&str; 20] = [
    "submit.before_commit",
    "submit.after_commit",
    "upload.written",
    "upload.synced",
    "claim.before_commit",
    "claim.after_commit",
    "start.before_commit",
    "start.after_commit",
    "cancel.before_commit",
    "cancel.after_commit",
    "requeue.before_commit",
    "requeue.after_commit",
    "end.before_commit",
    "end.after_commit",
    "exec.after_inputs",
    "exec.after_attempt_folder",
    "exec.after_lock",
    "exec.after_spawn",
    "exec.after_stop_record",
    "remove.after_commit",
];

/// Points in the shim.
pub const SHIM: [&str; 7] = [
    "shim.before_lock",
    "shim.after_lock",
    "shim.after_fork",
    "shim.after_record",
    "shim.after_go",
    "shim.after_report",
    "shim.before_exit_record",
];

/// Points in the guard.
pub const GUARD: [&str; 4] = [
    "guard.after_go",
    "guard.after_spawn",
    "guard.after_end",
    "guard.after_tree",
];

/// Points in whoever writes one of the two files that decide about an attempt, named after it.
pub const FILES: [&str; 4] = [
    "shim.json.written",
    "shim.json.renamed",
    "exit.json.written",
    "exit.json.renamed",
];

/// Points in the shim of a warm worker.
pub const WORKER: [&str; 8] = [
    "worker.before_lock",
    "worker.after_lock",
    "worker.after_record",
    "worker.after_started",
    "worker.after_run",
    "worker.after_done",
    "worker.before_release",
    "worker.after_report",
];

/// All of them.
pub fn all() -> Vec<&'static str> {
    [&SERVER[..], &SHIM, &GUARD, &FILES, &WORKER].concat()
}

/// True for those that end a supervisor and not the server.
pub fn is_supervisors(name: &str) -> bool {
    ["shim.", "guard.", "exit.json", "worker."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
