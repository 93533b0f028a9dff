//! What can be run: the tools file, typed parameters, and the way from parameters to a command line.
//!
//! Knows nothing of HTTP, SQL or processes. The only files opened are the uploads whose paths a caller brings.

mod accept;
mod builtin;
mod bytes;
mod config;
mod definition;
mod digest;
mod param;
mod schema;
mod span;
mod suggest;
mod template;

pub use accept::{Accepted, AcceptedContent, AcceptedFile, Given, MAX_ERRORS, ParamError};
pub use builtin::{SearchMode, builtin_search, builtin_search_in};
pub use bytes::parse_bytes;
pub use config::{
    ConfigError, MachineSection, ServerSection, ToolsFile, parse_tools_file, parse_tools_file_for,
};
pub use definition::{DEFAULT_GRACE_MS, Places, ResultFile, ToolDefinition, View};
pub use param::{
    ChoiceParam, FastaParam, FlagParam, IntegerParam, MAX_ARGUMENT_BYTES, NumberParam, Param,
    TextParam,
};
pub use span::parse_span;
