//! What can be run: the tools file, typed parameters, and the way from parameters to a command line.
//!
//! Knows nothing of HTTP, SQL or processes. The only files opened are the tools file's own (itself, what it includes, the
//! databases and secrets that it names) and the uploads whose paths a caller brings.

mod accept;
mod builtin;
mod bytes;
mod command;
mod config;
mod definition;
mod digest;
mod input;
mod param;
mod progress;
mod schema;
mod span;
mod suggest;
mod template;
mod tool;
mod warm;

pub use accept::{Accepted, AcceptedContent, AcceptedFile, Given, MAX_ERRORS, ParamError, Refusal};
pub use builtin::{SearchMode, builtin_search, builtin_search_in};
pub use bytes::parse_bytes;
pub use command::{CommandItem, Condition, EachGroup, Stdin, WhenGroup};
pub use config::{
    ConfigError, Hardware, MachineSection, ServerSection, ToolsFile, is_inside, load_tools_file,
    parse_tools_file, parse_tools_file_for, tools_file_schema,
};
pub use definition::{
    DEFAULT_GRACE_MS, EnvValue, Example, Expect, Places, ResultFile, SecretFile, Success,
    ToolDefinition, View, Workdir,
};
pub use digest::{sha256_hex, sha256_of};
pub use param::{
    ChoiceParam, ChoicesParam, FastaParam, FastqParam, FileParam, FilesParam, FlagParam,
    IntegerParam, JsonParam, MAX_ARGUMENT_BYTES, NumberParam, Param, TextParam,
};
pub use progress::{ProgressPattern, ProgressReader};
pub use span::parse_span;
pub use tool::Tool;
pub use warm::{DEFAULT_KEEP_MS, Keep, Warm};
