//! The tools file. Read piece by piece, so that one mistake doesn't hide the others, and each with its place.

mod reader;
mod tool;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::bytes::Bytes;
use crate::definition::ToolDefinition;
use crate::suggest;
use reader::{Node, Reader};

/// What a tools file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolsFile {
    /// `[server]`.
    pub server: ServerSection,
    /// `[machine]`.
    pub machine: MachineSection,
    /// `[tools.…]`, in the file's order.
    pub tools: Vec<ToolDefinition>,
}

/// `[server]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSection {
    /// Address and port to listen on.
    pub listen: Option<String>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The folder of the jobs, if it is not in the data folder.
    pub jobs: Option<PathBuf>,
    /// The tool behind the starting point's interface.
    pub default_tool: Option<String>,
    /// Names that a request's `Host` may carry besides the loopback ones.
    pub hosts: Vec<String>,
    /// Bytes that must be free for submissions to be taken in; 0 turns that off.
    pub disk_floor_bytes: Option<u64>,
}

/// `[machine]`: what jobs may use. What isn't said is all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineSection {
    /// Processors.
    pub cpus: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Numbers of graphics processors.
    pub gpus: Option<Vec<u32>>,
}

/// A mistake in a tools file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}{}", hint_line(self.hint.as_deref()))]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may have been meant.
    pub hint: Option<String>,
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default()
}

/// Reads a tools file; paths in it are relative to `folder`. A built-in tool's program is `onelane`, from the `PATH`.
pub fn parse_tools_file(text: &str, folder: &Path) -> Result<ToolsFile, Vec<ConfigError>> {
    parse_tools_file_for(text, folder, "onelane")
}

/// As [`parse_tools_file`], where the built-in tools are run by the program `exe`.
pub fn parse_tools_file_for(
    text: &str,
    folder: &Path,
    exe: &str,
) -> Result<ToolsFile, Vec<ConfigError>> {
    let mut reader = Reader::new(text, folder, exe);
    let file = reader.file(text);
    reader.into_result(file)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    listen: Option<Spanned<String>>,
    data: Option<PathBuf>,
    jobs: Option<PathBuf>,
    default_tool: Option<Spanned<String>>,
    hosts: Vec<String>,
    disk_floor: Option<Bytes>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMachine {
    cpus: Option<Spanned<u32>>,
    memory: Option<Spanned<Bytes>>,
    gpus: Option<Spanned<Vec<u32>>>,
}

impl<'i> Reader<'i> {
    fn file(&mut self, text: &'i str) -> ToolsFile {
        let mut file = ToolsFile::default();
        let root = match toml::de::DeTable::parse(text) {
            Ok(root) => root,
            Err(error) => {
                self.syntax(&error, 0);
                return file;
            }
        };
        let root = root.get_ref();
        self.known_keys(root, &["server", "machine", "tools"]);
        if let Some(node) = root.get("machine") {
            file.machine = self.machine(node);
        }
        if let Some(tools) = root.get("tools").and_then(|node| self.table(node)) {
            let read = |(name, node)| self.tool(name, node, &file.machine);
            file.tools = tools.iter().filter_map(read).collect();
            let names: Vec<_> = tools.keys().map(|name| name.get_ref().as_ref()).collect();
            file.server = self.server(root.get("server"), &names);
        } else {
            file.server = self.server(root.get("server"), &[]);
        }
        file
    }

    fn server(&mut self, node: Option<&Node<'i>>, tools: &[&str]) -> ServerSection {
        let raw: RawServer = node.and_then(|node| self.read(node)).unwrap_or_default();
        if let Some(listen) = &raw.listen {
            self.check_listen(listen);
        }
        if let Some(name) = &raw.default_tool {
            self.check_default_tool(name, tools);
        }
        ServerSection {
            listen: raw.listen.map(Spanned::into_inner),
            data: raw.data.map(|path| self.resolve(&path)),
            jobs: raw.jobs.map(|path| self.resolve(&path)),
            default_tool: raw.default_tool.map(Spanned::into_inner),
            hosts: raw.hosts,
            disk_floor_bytes: raw.disk_floor.map(|bytes| bytes.0),
        }
    }

    fn check_listen(&mut self, listen: &Spanned<String>) {
        let port = listen.get_ref().rsplit_once(':');
        let sound =
            port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !sound {
            let message = format!("`{}` is no address and port", listen.get_ref());
            let hint = Some("write it as `127.0.0.1:8000`".to_owned());
            self.error(listen.span().start, message, hint);
        }
    }

    fn check_default_tool(&mut self, name: &Spanned<String>, tools: &[&str]) {
        // Without a declared tool there is the built-in one.
        let tools = if tools.is_empty() { &["search"] } else { tools };
        let name_text = name.get_ref().as_str();
        if !tools.contains(&name_text) {
            let message = format!("there is no tool `{name_text}`");
            self.error(name.span().start, message, suggest::hint(name_text, tools));
        }
    }

    fn machine(&mut self, node: &Node<'i>) -> MachineSection {
        let raw: RawMachine = self.read(node).unwrap_or_default();
        if let Some(cpus) = raw.cpus.as_ref().filter(|cpus| *cpus.get_ref() == 0) {
            self.error(cpus.span().start, "jobs need at least one processor", None);
        }
        if let Some(memory) = raw.memory.as_ref().filter(|m| m.get_ref().0 == 0) {
            self.error(memory.span().start, "jobs need some memory", None);
        }
        if let Some(gpus) = &raw.gpus {
            self.check_gpus(gpus);
        }
        MachineSection {
            cpus: raw.cpus.map(Spanned::into_inner),
            memory_bytes: raw.memory.map(|memory| memory.into_inner().0),
            gpus: raw.gpus.map(Spanned::into_inner),
        }
    }

    fn check_gpus(&mut self, gpus: &Spanned<Vec<u32>>) {
        let numbers = gpus.get_ref();
        let twice = (1..numbers.len()).find(|&i| numbers[..i].contains(&numbers[i]));
        if let Some(i) = twice {
            let message = format!("graphics processor {} is there twice", numbers[i]);
            self.error(gpus.span().start, message, None);
        }
    }
}
