//! The whole product, from outside: the real binary, real processes, real clients.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and measure what they like"
)]

mod bad_input;
mod cancel;
mod check;
mod cli;
mod config_check;
mod crash;
mod disk;
mod durability;
#[cfg(feature = "failpoints")]
mod failpoints;
mod hostile;
mod hostile_parameters;
mod http;
mod levels;
mod limits;
mod machine;
mod old_data;
mod one_by_one;
mod openapi;
mod power_cut;
mod shipped_tools;
mod starting_point;
mod stopping;
mod story;
mod tools_file;
mod trace;
mod warm;

use onelane_testkit::TestServer;

const BINARY: &str = env!("CARGO_BIN_EXE_onelane");

/// A tools file of small scripts.
const SCRIPTS: &str = r#"
[tools.sleep]
title = "Sleeps"
command = ["sh", "-c", "echo started; sleep \"$0\"; echo done > \"$ONELANE_OUTPUT/done.txt\"", "{seconds}"]
[tools.sleep.params.seconds]
type = "number"
default = 0.2
min = 0

[tools.hog]
title = "Burns every core for a while"
command = ["sh", "-c", "for i in $(seq $(nproc)); do timeout 2 sh -c 'while :; do :; done' & done; wait"]

[tools.tree]
title = "A process tree that does not want to die"
command = ["sh", "-c", "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & (sleep 1000 &) ; while :; do sleep 1; done"]

[tools.slowversion]
title = "Takes a while to start"
version = ["sh", "-c", "sleep 2; echo slow 1.0"]
command = ["sleep", "1000"]

[tools.report]
title = "Leaves results"
version = ["sh", "-c", "echo report 1.2.3"]
command = ["sh", "-c", "echo hello; echo trouble >&2; cat \"$0\" > \"$ONELANE_OUTPUT/copy.fasta\"; exit \"$1\"", "{query}", "{code}"]
exit_codes = { 4 = "ran out of something" }
[tools.report.params.query]
type = "fasta"
alphabet = "protein"
[tools.report.params.code]
type = "integer"
default = 0
[tools.report.results.copy]
file = "copy.fasta"
"#;

fn scripts() -> TestServer {
    TestServer::start(BINARY, Some(SCRIPTS))
}
