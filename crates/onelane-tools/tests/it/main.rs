//! What the crate promises to the rest of Onelane, tried from outside.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod accepting;
mod command_lines;
mod config_errors;
mod config_files;
mod config_schema;
mod groups;
mod kinds;

use std::path::Path;

use onelane_tools::{Hardware, ParamError, Refusal, ToolDefinition, parse_tools_file};

/// A machine of average size.
const HARDWARE: Hardware = Hardware {
    cpus: 4,
    memory_bytes: 8 << 30,
};

/// The tools of a file that is sound.
fn tools(text: &str) -> Vec<ToolDefinition> {
    match parse_tools_file(text, Path::new("/etc/onelane")) {
        Ok(file) => file.tools,
        Err(errors) => panic!("{errors:#?}"),
    }
}

/// The first tool of a file that is sound.
fn tool(text: &str) -> ToolDefinition {
    tools(text).remove(0)
}

/// What is wrong with a submission that is refused.
fn errors_of(refusal: Refusal) -> Vec<ParamError> {
    match refusal {
        Refusal::BadInput(errors) => errors,
        Refusal::Io(error) => panic!("{error}"),
    }
}
