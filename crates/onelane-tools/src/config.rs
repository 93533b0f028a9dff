//! The tools file. Read piece by piece, so that one mistake doesn't hide the others, and each with its place.

mod item;
mod leave_out;
mod reader;
mod schema;
mod tool;
mod twice;
mod words;

pub use schema::tools_file_schema;
pub use tool::is_inside;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use crate::bytes::Bytes;
use crate::definition::ToolDefinition;
use crate::suggest;
use reader::{Node, Reader};

/// The keys of a tools file.
const KEYS: [&str; 4] = ["server", "machine", "tools", "include"];

/// The most mistakes that are told of a tools file.
const MAX_MISTAKES: usize = 50;

/// What a tools file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolsFile {
    /// `[server]`.
    pub server: ServerSection,
    /// `[machine]`.
    pub machine: MachineSection,
    /// `[tools.…]`, in the file's order.
    pub tools: Vec<ToolDefinition>,
    /// What is missing on this machine, such as a database, and keeps no tool from being there.
    pub warnings: Vec<ConfigError>,
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
    /// How process trees are held together: a word that the executor reads.
    pub process_control: Option<String>,
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

/// What the machine has: what jobs may use where `[machine]` doesn't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What tools' needs are held against; what isn't known is none.
#[derive(Default)]
struct Supply {
    cpus: Option<u64>,
    memory_bytes: Option<u64>,
    gpus: Option<u64>,
    hardware: Option<Hardware>,
}

impl Supply {
    fn of(machine: &MachineSection, hardware: Option<Hardware>) -> Self {
        Self {
            cpus: machine.cpus.map(u64::from),
            memory_bytes: machine.memory_bytes,
            // Nothing finds out which graphics processors there are: there are those that the section names.
            gpus: Some(machine.gpus.as_ref().map_or(0, Vec::len) as u64),
            hardware,
        }
    }
}

/// A mistake in a tools file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}{message}{}", self.word(), hint_line(self.hint.as_deref()))]
pub struct ConfigError {
    /// The included file that it is in; none for the tools file itself.
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may have been meant.
    pub hint: Option<String>,
    /// The file can be used all the same.
    pub is_warning: bool,
}

impl ConfigError {
    const fn word(&self) -> &'static str {
        if self.is_warning { "warning: " } else { "" }
    }
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default()
}

/// Reads a tools file; paths in it are relative to `folder`. A built-in tool's program is `onelane`, from the `PATH`.
///
/// # Errors
/// All that is wrong, in the file's order, up to 50 mistakes; warnings are among them.
pub fn parse_tools_file(text: &str, folder: &Path) -> Result<ToolsFile, Vec<ConfigError>> {
    parse_tools_file_for(text, folder, "onelane")
}

/// As [`parse_tools_file`], where the built-in tools are run by the program `exe`.
pub fn parse_tools_file_for(
    text: &str,
    folder: &Path,
    exe: &str,
) -> Result<ToolsFile, Vec<ConfigError>> {
    read_tools_file(text, folder, exe, None)
}

fn read_tools_file(
    text: &str,
    folder: &Path,
    exe: &str,
    hardware: Option<Hardware>,
) -> Result<ToolsFile, Vec<ConfigError>> {
    let mut reader = Reader::new(text, folder, exe);
    let file = reader.file(text, hardware);
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
    process_control: Option<RawControl>,
    disk_floor: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawControl {
    Auto,
    Cgroup,
    Namespace,
    Guard,
}

impl RawControl {
    const fn word(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Guard => "guard",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMachine {
    cpus: Option<Spanned<u32>>,
    memory: Option<Spanned<Bytes>>,
    gpus: Option<Spanned<Vec<u32>>>,
}

/// Reads the tools file at this path, and what it includes; a tool that needs more than the hardware has is a warning.
///
/// # Errors
/// All that is wrong; a file that can't be read is an error at its beginning.
pub fn load_tools_file(
    path: &Path,
    exe: &str,
    hardware: Hardware,
) -> Result<ToolsFile, Vec<ConfigError>> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(Unreadable::NoText(error)) => return Err(vec![*error]),
        Err(Unreadable::Io(error)) => {
            return Err(vec![ConfigError {
                file: None,
                line: 1,
                column: 1,
                message: format!("the file can't be read: {error}"),
                hint: None,
                is_warning: false,
            }]);
        }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    read_tools_file(&text, folder, exe, Some(hardware))
}

/// Why there is no text of a file.
enum Unreadable {
    Io(std::io::Error),
    /// It is none in UTF-8: the place of the first byte that isn't.
    NoText(Box<ConfigError>),
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let bytes = std::fs::read(path).map_err(Unreadable::Io)?;
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let (sound, rest) = error.as_bytes().split_at(end);
        let sound = String::from_utf8_lossy(sound);
        let (line, column) = reader::line_and_column(&sound, sound.len());
        let byte = rest.first().copied().unwrap_or_default();
        Unreadable::NoText(Box::new(ConfigError {
            file: None,
            line,
            column,
            message: format!("the byte 0x{byte:02X} here is no text in UTF-8"),
            hint: Some("save the file as UTF-8".to_owned()),
            is_warning: false,
        }))
    })
}

/// The tools of one file: those that could be read, and the names of all.
#[derive(Default)]
struct Tools {
    read: Vec<ToolDefinition>,
    names: Vec<String>,
}

impl Tools {
    fn extend(&mut self, other: Self) {
        self.read.extend(other.read);
        self.names.extend(other.names);
    }
}

impl<'i> Reader<'i> {
    fn file(&mut self, text: &'i str, hardware: Option<Hardware>) -> ToolsFile {
        let mut file = ToolsFile::default();
        let Some(root) = self.root(text) else {
            return file;
        };
        self.known_keys(&root, &KEYS);
        let mut supply = Supply::of(&file.machine, hardware);
        if let Some(node) = root.get("machine") {
            let (machine, is_whole) = self.machine(node);
            supply = if is_whole {
                Supply::of(&machine, hardware)
            } else {
                Supply::default()
            };
            file.machine = machine;
        } else if root
            .keys()
            .any(|key| suggest::nearest(key.get_ref(), KEYS) == Some("machine"))
        {
            // Misspelt, which is a mistake of its own.
            supply = Supply::default();
        }
        let mut tools = self.tools(&root, &supply);
        if let Some(node) = root.get("include") {
            self.include(node, &supply, &mut tools);
        }
        let names: Vec<_> = tools.names.iter().map(String::as_str).collect();
        file.server = self.server(root.get("server"), &names);
        file.tools = tools.read;
        file
    }

    fn root(&mut self, text: &'i str) -> Option<DeTable<'i>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        self.syntax(&errors).then(|| root.into_inner())
    }

    fn tools(&mut self, root: &DeTable<'i>, supply: &Supply) -> Tools {
        let Some(tools) = root.get("tools").and_then(|node| self.table(node)) else {
            return Tools::default();
        };
        let names = tools
            .keys()
            .map(|name| name.get_ref().to_string())
            .collect();
        let read = |(name, node)| self.tool(name, node, supply);
        Tools {
            read: tools.iter().filter_map(read).collect(),
            names,
        }
    }

    /// Reads the files that `include` names; each has only tools, and its paths are relative to itself.
    fn include(&mut self, node: &Node<'i>, supply: &Supply, tools: &mut Tools) {
        for (pattern, at) in self.patterns(node) {
            let pattern = self.absolute_pattern(&pattern);
            let Some((files, unreadable)) = self.files_of(&pattern, at) else {
                continue;
            };
            for message in unreadable {
                self.error(at, message, None);
            }
            if files.is_empty() {
                self.error(
                    at,
                    format!("no file is there that matches `{pattern}`"),
                    None,
                );
            }
            for file in files {
                let included = self.included(&file, at, supply);
                if let Some(twice) = included
                    .names
                    .iter()
                    .find(|name| tools.names.contains(name))
                {
                    let message =
                        format!("tool `{twice}` of `{}` is there already", file.display());
                    self.error(at, message, None);
                }
                tools.extend(included);
            }
        }
    }

    /// The patterns of `include`, which is one or a list of them, with their places.
    fn patterns(&mut self, node: &Node<'i>) -> Vec<(String, usize)> {
        let nodes = match node.get_ref().as_array() {
            Some(list) => list,
            None => std::slice::from_ref(node),
        };
        let mut patterns = Vec::new();
        for node in nodes {
            let at = node.span().start;
            if let Some(text) = node.get_ref().as_str() {
                patterns.push((text.to_owned(), at));
            } else {
                let message = words::expected("a pattern of files", Some(node.get_ref()));
                self.error(at, message, None);
            }
        }
        patterns
    }

    fn included(&mut self, path: &Path, at: usize, supply: &Supply) -> Tools {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(Unreadable::NoText(error)) => {
                self.take_error(*error, path);
                return Tools::default();
            }
            Err(Unreadable::Io(error)) => {
                let message = format!("`{}` can't be read: {error}", path.display());
                self.error(at, message, None);
                return Tools::default();
            }
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut reader = Reader::new(&text, folder, self.exe);
        let Some(root) = reader.root(&text) else {
            self.take_errors(reader, path);
            return Tools::default();
        };
        reader.known_keys(&root, &["tools"]);
        let tools = reader.tools(&root, supply);
        self.take_errors(reader, path);
        tools
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
            process_control: raw.process_control.map(|control| control.word().to_owned()),
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

    /// The section, and whether all of it could be read.
    fn machine(&mut self, node: &Node<'i>) -> (MachineSection, bool) {
        let read = self.read_what_can_be::<RawMachine>(node);
        let is_whole = read
            .as_ref()
            .is_some_and(|(_, left_out)| left_out.is_empty());
        let raw = read.map(|(raw, _)| raw).unwrap_or_default();
        if let Some(cpus) = raw.cpus.as_ref().filter(|cpus| *cpus.get_ref() == 0) {
            self.error(cpus.span().start, "jobs need at least one processor", None);
        }
        if let Some(memory) = raw.memory.as_ref().filter(|m| m.get_ref().0 == 0) {
            self.error(memory.span().start, "jobs need some memory", None);
        }
        if let Some(gpus) = &raw.gpus {
            self.check_gpus(gpus);
        }
        let machine = MachineSection {
            cpus: raw.cpus.map(Spanned::into_inner),
            memory_bytes: raw.memory.map(|memory| memory.into_inner().0),
            gpus: raw.gpus.map(Spanned::into_inner),
        };
        (machine, is_whole)
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
