//! The tests' hostile child. An example, so that cargo builds it with the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    onelane_testkit::hostile_child::main(&arguments)
}
