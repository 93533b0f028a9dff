//! The fail points of a build with the feature `failpoints`, by name.

/// Points in the server's own process.
pub const SERVER: [&str; 16] = [
    "submit.before_commit",
    "submit.after_commit",
    "upload.written",
    "upload.synced",
    "engine.before_transition",
    "engine.after_transition",
    "engine.before_launch",
    "engine.after_start",
    "engine.after_verdict",
    "cancel.before_stop",
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

/// Points in whoever writes a file durably: a named file, so that it is clear which one.
pub const FILES: [&str; 4] = [
    "exit.json.written",
    "exit.json.synced",
    "exit.json.renamed",
    "job.json.synced",
];

/// All of them.
pub fn all() -> Vec<&'static str> {
    [&SERVER[..], &SHIM, &GUARD, &FILES].concat()
}

/// True for those that end a supervisor and not the server.
pub fn is_supervisors(name: &str) -> bool {
    ["shim.", "guard.", "exit.json."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
