use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use onelane_core::{CpuPriority, Limits, Needs, OnInterrupt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::MachineSection;
use super::reader::{Node, Reader};
use crate::builtin::{SearchMode, builtin_search_in};
use crate::bytes::Bytes;
use crate::definition::{ResultFile, ToolDefinition, View};
use crate::param::{ChoiceParam, Param};
use crate::span::Span;
use crate::suggest;
use crate::template::{self, PLACES, Piece};

/// Names with a meaning of their own, in commands or in the query of a submission.
const RESERVED: [&str; 22] = [
    "after",
    "check",
    "config",
    "cpus",
    "file",
    "fresh",
    "id",
    "input",
    "job_id",
    "memory_bytes",
    "name",
    "output",
    "owner",
    "params",
    "priority",
    "state",
    "tag",
    "tags",
    "token",
    "tool",
    "wait",
    "work",
];

type Key<'i> = Spanned<DeString<'i>>;

/// `[tools.X]`. The tables that are read entry by entry are only named here, so that an unknown key's hint has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTool {
    title: Option<String>,
    help: Option<String>,
    command: Option<Spanned<Vec<Spanned<String>>>>,
    version: Option<Spanned<Vec<String>>>,
    needs: Option<Spanned<RawNeeds>>,
    limits: Option<RawLimits>,
    grace: Option<Span>,
    #[serde(default)]
    cpu_priority: CpuPriority,
    #[serde(default)]
    on_interrupt: OnInterrupt,
    #[serde(rename = "params")]
    _params: Option<IgnoredAny>,
    #[serde(rename = "results")]
    _results: Option<IgnoredAny>,
    #[serde(rename = "exit_codes")]
    _exit_codes: Option<IgnoredAny>,
    builtin: Option<Spanned<String>>,
    library: Option<PathBuf>,
    mode: Option<SearchMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNeeds {
    cpus: Option<u32>,
    memory: Option<Bytes>,
    gpus: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    time: Option<Span>,
    memory: Option<Bytes>,
    processes: Option<std::num::NonZeroU32>,
    log: Option<Bytes>,
    output: Option<Bytes>,
}

impl RawLimits {
    fn limits(&self) -> Limits {
        let bytes = |amount: Option<Bytes>| amount.map(|bytes| bytes.0);
        Limits {
            time_ms: self.time.map(|time| time.0),
            memory_bytes: bytes(self.memory),
            processes: self.processes.map(std::num::NonZeroU32::get),
            log_bytes: bytes(self.log),
            output_bytes: bytes(self.output),
        }
    }
}

impl RawNeeds {
    fn needs(&self) -> Needs {
        Needs {
            cpus: self.cpus,
            memory_bytes: self.memory.map(|bytes| bytes.0),
            gpus: self.gpus,
        }
    }
}

impl<'i> Reader<'i> {
    pub(super) fn tool(
        &mut self,
        name: &Key<'i>,
        node: &Node<'i>,
        machine: &MachineSection,
    ) -> Option<ToolDefinition> {
        self.check_tool_name(name);
        let table = self.table(node)?;
        let raw: Option<RawTool> = self.read(node);
        let params = self.entries(table, "params", Self::param);
        let results = self.entries(table, "results", Self::result);
        let exit_codes = self.exit_codes(table);
        let raw = raw?;
        let needs = self.needs(raw.needs.as_ref(), machine);
        let mut tool = match &raw.builtin {
            Some(builtin) => self.builtin(builtin, &raw, table)?,
            None => self.command_tool(name, &raw, table, params, results)?,
        };
        name.get_ref().as_ref().clone_into(&mut tool.name);
        tool.title = raw.title.or(tool.title);
        tool.help = raw.help.or(tool.help);
        tool.needs = needs;
        tool.limits = raw.limits.map(|limits| limits.limits()).unwrap_or_default();
        tool.grace_ms = raw.grace.map(|grace| grace.0);
        tool.cpu_priority = raw.cpu_priority;
        tool.on_interrupt = raw.on_interrupt;
        tool.exit_codes = exit_codes;
        Some(tool)
    }

    fn check_tool_name(&mut self, name: &Key<'i>) {
        let text = name.get_ref();
        let mut chars = text.chars();
        let sound = chars.next().is_some_and(is_small_or_digit)
            && chars.all(|c| is_small_or_digit(c) || matches!(c, '_' | '-'));
        if !sound {
            let message = format!("`{text}` can't be a tool's name");
            let hint = "small letters, digits, `_` and `-`, the first a letter or a digit";
            self.error(name.span().start, message, Some(hint.to_owned()));
        }
    }

    fn builtin(
        &mut self,
        builtin: &Spanned<String>,
        raw: &RawTool,
        table: &DeTable<'i>,
    ) -> Option<ToolDefinition> {
        if builtin.get_ref() != "search" {
            let message = format!("there is no built-in tool `{}`", builtin.get_ref());
            let hint = suggest::hint(builtin.get_ref(), &["search"]);
            self.error(builtin.span().start, message, hint);
            return None;
        }
        self.refuse_keys(
            table,
            &["command", "version", "params", "results"],
            "a built-in tool brings its own",
        );
        let library = raw.library.as_ref().map(|path| self.resolve(path));
        let mode = raw.mode.unwrap_or_default();
        Some(builtin_search_in(self.exe, library.as_deref(), mode))
    }

    fn refuse_keys(&mut self, table: &DeTable<'i>, keys: &[&str], why: &str) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                self.error(
                    key.span().start,
                    format!("`{name}` has no place here: {why}"),
                    None,
                );
            }
        }
    }

    fn command_tool(
        &mut self,
        name: &Key<'i>,
        raw: &RawTool,
        table: &DeTable<'i>,
        params: IndexMap<String, Param>,
        results: IndexMap<String, ResultFile>,
    ) -> Option<ToolDefinition> {
        self.refuse_keys(
            table,
            &["library", "mode"],
            "it belongs to `builtin = \"search\"`",
        );
        let Some(command) = &raw.command else {
            let message = format!("tool `{}` has no `command`", name.get_ref());
            self.error(name.span().start, message, None);
            return None;
        };
        self.check_command(command, table, &params);
        let command = command.get_ref().iter().map(Spanned::get_ref);
        Some(ToolDefinition {
            name: String::new(),
            title: None,
            help: None,
            command: self.resolve_command(command, template::escape),
            version: self.version(raw.version.as_ref()),
            needs: Needs::default(),
            limits: Limits::default(),
            grace_ms: None,
            cpu_priority: CpuPriority::default(),
            on_interrupt: OnInterrupt::Restart,
            params,
            results,
            exit_codes: BTreeMap::new(),
        })
    }

    fn version(&mut self, version: Option<&Spanned<Vec<String>>>) -> Option<Vec<String>> {
        let version = version?;
        if version.get_ref().first().is_none_or(String::is_empty) {
            self.error(version.span().start, "`version` names no program", None);
        }
        Some(self.resolve_command(version.get_ref().iter(), str::to_owned))
    }

    fn needs(&mut self, needs: Option<&Spanned<RawNeeds>>, machine: &MachineSection) -> Needs {
        let Some(spanned) = needs else {
            return Needs::default();
        };
        let needs = spanned.get_ref().needs();
        let gpus = machine.gpus.as_ref().map(|gpus| gpus.len() as u64);
        let pairs = [
            (
                "processors",
                needs.cpus.map(u64::from),
                machine.cpus.map(u64::from),
            ),
            ("bytes of memory", needs.memory_bytes, machine.memory_bytes),
            ("graphics processors", needs.gpus.map(u64::from), gpus),
        ];
        for (what, wanted, there) in pairs {
            if let (Some(wanted), Some(there)) = (wanted, there)
                && wanted > there
            {
                let message = format!(
                    "this tool could never start: it needs {wanted} {what}, and `[machine]` has {there}"
                );
                self.error(spanned.span().start, message, None);
            }
        }
        if needs.cpus == Some(0) {
            self.error(
                spanned.span().start,
                "a tool needs at least one processor",
                None,
            );
        }
        needs
    }

    /// The entries of a sub-table that could be read, in the file's order.
    fn entries<T>(
        &mut self,
        table: &DeTable<'i>,
        key: &str,
        mut read: impl FnMut(&mut Self, &Key<'i>, &Node<'i>) -> Option<T>,
    ) -> IndexMap<String, T> {
        let mut entries = IndexMap::new();
        let node = table.get(key);
        for (name, node) in node.and_then(|node| self.table(node)).into_iter().flatten() {
            if let Some(entry) = read(self, name, node) {
                entries.insert(name.get_ref().to_string(), entry);
            }
        }
        entries
    }

    fn param(&mut self, name: &Key<'i>, node: &Node<'i>) -> Option<Param> {
        self.check_param_name(name);
        let table = self.table(node)?;
        let Some(kind) = table.get("type") else {
            let message = format!("parameter `{}` has no `type`", name.get_ref());
            self.error(name.span().start, message, None);
            return None;
        };
        let without_type = without_type(node, table);
        let mut param = self.param_of(kind, &without_type)?;
        for problem in param.problems() {
            let at = table.get(problem.key).map_or(name.span(), Spanned::span);
            self.error(at.start, problem.message, None);
        }
        if let Param::Choice(choice) = &mut param {
            self.resolve_choices(choice);
        }
        Some(param)
    }

    fn param_of(&mut self, kind: &Node<'i>, node: &Node<'i>) -> Option<Param> {
        const KINDS: [&str; 6] = ["fasta", "text", "number", "integer", "choice", "flag"];
        let word = kind.get_ref().as_str().unwrap_or_default();
        match word {
            "fasta" => self.read(node).map(Param::Fasta),
            "text" => self.read(node).map(Param::Text),
            "number" => self.read(node).map(Param::Number),
            "integer" => self.read(node).map(Param::Integer),
            "choice" => self.read(node).map(Param::Choice),
            "flag" => self.read(node).map(Param::Flag),
            other => {
                let message = format!("`{other}` is no type of a parameter");
                self.error(kind.span().start, message, suggest::hint(other, &KINDS));
                None
            }
        }
    }

    fn check_param_name(&mut self, name: &Key<'i>) {
        let text = name.get_ref().as_ref();
        let mut chars = text.chars();
        let sound = chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.all(|c| is_small_or_digit(c) || c == '_');
        if !sound {
            let hint = "small letters, digits and `_`, the first a letter".to_owned();
            let message = format!("`{text}` can't be a parameter's name");
            self.error(name.span().start, message, Some(hint));
        } else if RESERVED.contains(&text) {
            let message = format!("`{text}` has a meaning of its own and can't be a parameter");
            self.error(name.span().start, message, None);
        }
    }

    fn result(&mut self, _name: &Key<'i>, node: &Node<'i>) -> Option<ResultFile> {
        let result: ResultFile = self.read(node)?;
        let place = |key| {
            let found = node.get_ref().as_table().and_then(|table| table.get(key));
            found.map_or(node.span().start, |value| value.span().start)
        };
        let mut parts = Path::new(&result.file).components().peekable();
        let inside = parts.peek().is_some() && parts.all(|p| matches!(p, Component::Normal(_)));
        if !inside {
            let message = format!("`{}` is not a path inside the output folder", result.file);
            self.error(place("file"), message, None);
        }
        if !result.columns.is_empty() && result.view != Some(View::Table) {
            self.error(
                place("columns"),
                "`columns` belong to `view = \"table\"`",
                None,
            );
        }
        Some(result)
    }

    fn exit_codes(&mut self, table: &DeTable<'i>) -> BTreeMap<i32, String> {
        let read = |reader: &mut Self, name: &Key<'i>, node: &Node<'i>| {
            let code = name.get_ref().parse::<i32>().ok();
            if code.is_none_or(|code| !(1..=255).contains(&code)) {
                let message = format!("`{}` is not the exit code of a failure", name.get_ref());
                let hint = Some("a number from 1 to 255".to_owned());
                reader.error(name.span().start, message, hint);
            }
            Some((code?, reader.read::<String>(node)?))
        };
        let entries = self.entries(table, "exit_codes", read);
        entries.into_values().collect()
    }

    fn check_command(
        &mut self,
        command: &Spanned<Vec<Spanned<String>>>,
        table: &DeTable<'i>,
        params: &IndexMap<String, Param>,
    ) {
        let items = command.get_ref();
        if items
            .first()
            .is_none_or(|program| program.get_ref().is_empty())
        {
            self.error(command.span().start, "`command` names no program", None);
        }
        // From the file, not from what could be read of it: a mistake in a parameter isn't told a second time here.
        let declared = table
            .get("params")
            .and_then(|node| node.get_ref().as_table());
        let declared = declared.into_iter().flat_map(DeTable::keys);
        let known: Vec<&str> = declared
            .map(|key| key.get_ref().as_ref())
            .chain(PLACES)
            .collect();
        for (index, item) in items.iter().enumerate() {
            match template::parse(item.get_ref()) {
                Ok(pieces) => {
                    self.check_placeholders(item, &pieces, &known);
                    self.check_kinds(item, &pieces, params, index == 0);
                }
                Err(message) => self.error(item.span().start, message, None),
            }
            if item.get_ref().contains('\0') {
                self.error(
                    item.span().start,
                    "an argument can't hold a NUL character",
                    None,
                );
            }
        }
    }

    fn check_placeholders(&mut self, item: &Spanned<String>, pieces: &[Piece], known: &[&str]) {
        for name in template::names(pieces) {
            if !known.contains(&name) {
                let message = format!("placeholder `{{{name}}}` is not known");
                self.error(item.span().start, message, suggest::hint(name, known));
            }
        }
    }

    fn check_kinds(
        &mut self,
        item: &Spanned<String>,
        pieces: &[Piece],
        params: &IndexMap<String, Param>,
        is_program: bool,
    ) {
        for name in template::names(pieces) {
            let param = params.get(name);
            // Whoever submits a job picks among programs that the file names, never a program.
            if is_program && param.is_some_and(|param| !matches!(param, Param::Choice(_))) {
                let message = format!("`{{{name}}}` can't pick the program: only a choice can");
                self.error(item.span().start, message, None);
            }
            let has_argument = matches!(param, Some(Param::Flag(flag)) if flag.argument.is_some());
            if has_argument && template::alone(pieces).is_none() {
                let message = format!(
                    "flag `{name}` has an `argument`, so `{{{name}}}` must be an argument alone"
                );
                self.error(item.span().start, message, None);
            }
        }
    }

    /// Jobs run in folders of their own: what is relative to the file must be told apart before.
    ///
    /// `quote` prepares the folder's name for the place it is put in: a template or plain text.
    fn resolve_command<'s>(
        &self,
        items: impl Iterator<Item = &'s String>,
        quote: fn(&str) -> String,
    ) -> Vec<String> {
        let resolve = |(index, item): (usize, &String)| {
            let is_program = index == 0 && item.contains('/') && !item.starts_with(['/', '{']);
            if is_program || is_dotted(item) {
                self.beside_file(item, quote)
            } else {
                item.clone()
            }
        };
        items.enumerate().map(resolve).collect()
    }

    fn resolve_choices(&self, choice: &mut ChoiceParam) {
        for value in choice.choices.values_mut() {
            if is_dotted(value) {
                *value = self.beside_file(value, str::to_owned);
            }
        }
    }

    fn beside_file(&self, item: &str, quote: fn(&str) -> String) -> String {
        let folder = self.resolve(Path::new(""));
        let folder = quote(folder.to_string_lossy().trim_end_matches('/'));
        let item = item.strip_prefix("./").unwrap_or(item);
        format!("{folder}/{item}")
    }
}

fn is_small_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_dotted(item: &str) -> bool {
    item.starts_with("./") || item.starts_with("../")
}

/// The parameter's table without its `type`, which has chosen how the rest is read.
fn without_type<'i>(node: &Node<'i>, table: &DeTable<'i>) -> Node<'i> {
    let rest = table.iter().filter(|(key, _)| key.get_ref() != "type");
    let rest: DeTable<'i> = rest.map(|(k, v)| (k.clone(), v.clone())).collect();
    Spanned::new(node.span(), DeValue::Table(rest))
}
