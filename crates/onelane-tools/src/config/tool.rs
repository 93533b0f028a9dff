use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use onelane_core::{CpuPriority, Limits, Needs, OnInterrupt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Supply;
use super::item::RawItem;
use super::reader::{Node, Reader};
use super::words;
use crate::builtin::{SearchMode, builtin_search_in};
use crate::bytes::Bytes;
use crate::command::CommandItem;
use crate::definition::{
    EnvValue, Example, ResultFile, SecretFile, Success, ToolDefinition, View, Workdir,
};
use crate::param::{DEFAULT_WORKER_MAX_LENGTH, KINDS, Param, Problem};
use crate::progress::ProgressPattern;
use crate::span::Span;
use crate::suggest;
use crate::template::{self, PLACES, Piece};
use crate::warm::{Keep, Warm};

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
    #[serde(rename = "command")]
    _command: Option<IgnoredAny>,
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
    stdin: Option<Spanned<String>>,
    workdir: Option<Spanned<String>>,
    #[serde(rename = "env")]
    _env: Option<IgnoredAny>,
    success: Option<Spanned<Success>>,
    progress: Option<Spanned<ProgressPattern>>,
    #[serde(rename = "example")]
    _example: Option<IgnoredAny>,
    worker: Option<Spanned<Vec<String>>>,
    keep: Option<Spanned<RawKeep>>,
    max_jobs: Option<std::num::NonZeroU64>,
    builtin: Option<Spanned<String>>,
    library: Option<PathBuf>,
    mode: Option<SearchMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNeeds {
    cpus: Option<Spanned<u32>>,
    memory: Option<Spanned<Bytes>>,
    gpus: Option<Spanned<u32>>,
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

/// `"always"`, or a span of time.
struct RawKeep(Keep);

impl<'de> Deserialize<'de> for RawKeep {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let keep = match text.as_str() {
            "always" => Ok(Keep::Always),
            text => crate::span::parse_span(text).map(Keep::ForMs),
        };
        keep.map(Self)
            .map_err(|why| serde::de::Error::custom(format!("{why}, and is not `always` either")))
    }
}

impl RawNeeds {
    fn needs(&self) -> Needs {
        let number = |number: &Spanned<u32>| *number.get_ref();
        Needs {
            cpus: self.cpus.as_ref().map(number),
            memory_bytes: self.memory.as_ref().map(|bytes| bytes.get_ref().0),
            gpus: self.gpus.as_ref().map(number),
        }
    }
}

/// An argument of the file, on its way through the checks.
#[derive(Clone, Copy)]
struct Argument<'a> {
    text: &'a str,
    at: usize,
    is_program: bool,
    /// The list whose member its placeholder stands for.
    each: Option<&'a str>,
}

impl<'i> Reader<'i> {
    pub(super) fn tool(
        &mut self,
        name: &Key<'i>,
        node: &Node<'i>,
        supply: &Supply,
    ) -> Option<ToolDefinition> {
        self.check_tool_name(name);
        let table = self.table(node)?;
        let raw = self.read_what_can_be::<RawTool>(node);
        let has_worker = table.contains_key("worker");
        let params = self.entries(table, "params", |reader, name, node| {
            reader.param(name, node, has_worker)
        });
        let results = self.entries(table, "results", Self::result);
        let exit_codes = self.exit_codes(table);
        let (raw, left_out) = raw?;
        let needs = self.needs(raw.needs.as_ref(), supply);
        let mut tool = match (&raw.builtin, &raw.worker) {
            (Some(builtin), _) => self.builtin(builtin, &raw, table)?,
            (None, Some(worker)) => self.warm_tool(worker, &raw, table, params, results),
            (None, None) => {
                let meant = |key| left_out.iter().any(|name| name == key);
                if !table.contains_key("command") {
                    if !["command", "worker", "builtin"].into_iter().any(meant) {
                        self.no_command(name);
                    }
                    return None;
                }
                self.command_tool(&raw, table, params, results)
            }
        };
        tool.env = self.env(table);
        tool.workdir = raw.workdir.as_ref().and_then(|dir| self.workdir(dir));
        tool.success = self.success(raw.success, table);
        tool.progress = self.progress(raw.progress);
        tool.example = self.example(table, &tool);
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
        } else if text.as_ref() == "reload" {
            let message = "`reload` has a meaning of its own and can't be a tool";
            self.error(name.span().start, message, None);
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
            &[
                "command", "worker", "keep", "max_jobs", "version", "params", "results", "stdin",
            ],
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
        raw: &RawTool,
        table: &DeTable<'i>,
        params: IndexMap<String, Param>,
        results: IndexMap<String, ResultFile>,
    ) -> ToolDefinition {
        self.refuse_search_keys(table);
        self.refuse_keys(table, &["keep", "max_jobs"], "it belongs to `worker`");
        let known = known_placeholders(table);
        let items = table
            .get("command")
            .map(|command| self.command(command, &known, &params))
            .unwrap_or_default();
        if let Some(stdin) = &raw.stdin {
            self.check_stdin(stdin, &known, &params);
        }
        ToolDefinition {
            command: self.resolve_items(items.into_iter()),
            stdin: raw.stdin.as_ref().map(|stdin| stdin.get_ref().clone()),
            ..self.bare_tool(raw, params, results)
        }
    }

    fn no_command(&mut self, name: &Key<'i>) {
        let message = format!("tool `{}` has no `command` and no `worker`", name.get_ref());
        self.error(name.span().start, message, None);
    }

    fn refuse_search_keys(&mut self, table: &DeTable<'i>) {
        let why = "it belongs to `builtin = \"search\"`";
        self.refuse_keys(table, &["library", "mode"], why);
    }

    /// A worker is there before any job is known, so nothing of a job can be in its arguments.
    fn warm_tool(
        &mut self,
        worker: &Spanned<Vec<String>>,
        raw: &RawTool,
        table: &DeTable<'i>,
        params: IndexMap<String, Param>,
        results: IndexMap<String, ResultFile>,
    ) -> ToolDefinition {
        self.refuse_search_keys(table);
        self.refuse_keys(
            table,
            &["command", "stdin", "progress", "exit_codes"],
            "the tool has a `worker`, which gets its jobs over a socket (docs/warm-workers.md)",
        );
        if worker.get_ref().first().is_none_or(String::is_empty) {
            self.error(worker.span().start, "`worker` names no program", None);
        }
        if let Some(argument) = worker.get_ref().iter().find(|text| text.contains('\0')) {
            let message = format!(
                "argument `{}` holds a NUL character",
                argument.escape_debug()
            );
            self.error(worker.span().start, message, None);
        }
        if let Some(success) = &raw.success
            && success.get_ref().exit_codes != [0]
        {
            let message = "a worker's job has no exit code: only `success.file` has a place here";
            self.error(success.span().start, message, None);
        }
        if let Some(workdir) = &raw.workdir
            && matches!(workdir.get_ref().as_str(), "work" | "output")
        {
            let message = "a worker stays in one folder: a fixed one, or its own if not said";
            self.error(workdir.span().start, message, None);
        }
        let keep = raw.keep.as_ref().map(|keep| keep.get_ref().0);
        let warm = Warm {
            worker: self.resolve_command(worker.get_ref().iter(), str::to_owned),
            keep: keep.unwrap_or_default(),
            max_jobs: raw.max_jobs.map(std::num::NonZeroU64::get),
        };
        ToolDefinition {
            warm: Some(warm),
            ..self.bare_tool(raw, params, results)
        }
    }

    /// What commands and workers have in common and is known by now.
    fn bare_tool(
        &mut self,
        raw: &RawTool,
        params: IndexMap<String, Param>,
        results: IndexMap<String, ResultFile>,
    ) -> ToolDefinition {
        ToolDefinition {
            name: String::new(),
            title: None,
            help: None,
            command: Vec::new(),
            warm: None,
            version: self.version(raw.version.as_ref()),
            needs: Needs::default(),
            limits: Limits::default(),
            grace_ms: None,
            cpu_priority: CpuPriority::default(),
            on_interrupt: OnInterrupt::Restart,
            params,
            results,
            exit_codes: BTreeMap::new(),
            stdin: None,
            workdir: None,
            env: BTreeMap::new(),
            success: None,
            progress: None,
            example: None,
        }
    }

    fn version(&mut self, version: Option<&Spanned<Vec<String>>>) -> Option<Vec<String>> {
        let version = version?;
        if version.get_ref().first().is_none_or(String::is_empty) {
            self.error(version.span().start, "`version` names no program", None);
        }
        Some(self.resolve_command(version.get_ref().iter(), str::to_owned))
    }

    fn needs(&mut self, needs: Option<&Spanned<RawNeeds>>, supply: &Supply) -> Needs {
        let Some(raw) = needs.map(Spanned::get_ref) else {
            return Needs::default();
        };
        let number = |number: &Spanned<u32>| (number.span().start, u64::from(*number.get_ref()));
        let memory = raw.memory.as_ref();
        let memory = memory.map(|memory| (memory.span().start, memory.get_ref().0));
        let cpus = raw.cpus.as_ref().map(number);
        self.check_need("processors", cpus, supply.cpus);
        self.check_need("bytes of memory", memory, supply.memory_bytes);
        let gpus = raw.gpus.as_ref().map(number);
        self.check_need("graphics processors", gpus, supply.gpus);
        if let Some(hardware) = supply.hardware {
            if let (None, Some((at, wanted))) = (supply.cpus, cpus) {
                let there = u64::from(hardware.cpus);
                self.check_hardware(at, "processors", "{cpus}", wanted, there);
            }
            if let (None, Some((at, wanted))) = (supply.memory_bytes, memory) {
                let there = hardware.memory_bytes;
                self.check_hardware(at, "bytes of memory", "{memory_bytes}", wanted, there);
            }
        }
        if let Some(cpus) = raw.cpus.as_ref().filter(|cpus| *cpus.get_ref() == 0) {
            let message = "a tool needs at least one processor";
            self.error(cpus.span().start, message, None);
        }
        raw.needs()
    }

    /// `wanted` is a place and an amount.
    fn check_need(&mut self, what: &str, wanted: Option<(usize, u64)>, there: Option<u64>) {
        let (Some((at, wanted)), Some(there)) = (wanted, there) else {
            return;
        };
        if wanted > there {
            let what = if wanted == 1 {
                what.trim_end_matches('s')
            } else {
                what
            };
            let message = format!(
                "this tool could never start: it needs {wanted} {what}, and `[machine]` has {there}"
            );
            let hint = "name those that jobs may use: `gpus = [0]` in `[machine]`";
            let is_undeclared = what.starts_with("graphics") && there == 0;
            self.error(at, message, is_undeclared.then(|| hint.to_owned()));
        }
    }

    /// The engine starts a job that asks for more than there is as soon as it holds the machine alone.
    fn check_hardware(&mut self, at: usize, what: &str, name: &str, wanted: u64, there: u64) {
        if wanted > there {
            let message = format!(
                "it needs {wanted} {what}, and this machine has {there}: its jobs start only when no other runs, and \
                 `{name}` is {wanted} all the same"
            );
            self.warn(at, message, None);
        }
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

    fn param(&mut self, name: &Key<'i>, node: &Node<'i>, has_worker: bool) -> Option<Param> {
        self.check_param_name(name);
        let table = self.table(node)?;
        let Some(kind) = table.get("type") else {
            let message = format!("parameter `{}` has no `type`", name.get_ref());
            self.error(name.span().start, message, None);
            return None;
        };
        let without_type = without_type(node, table);
        let (mut param, left_out) = self.param_of(kind, &without_type)?;
        if let (Param::Text(text), true) = (&mut param, has_worker) {
            text.max_length.get_or_insert(DEFAULT_WORKER_MAX_LENGTH);
        }
        let stands = |problem: &Problem| left_out.is_empty() || problem.stands_alone();
        for problem in param.problems(has_worker).into_iter().filter(stands) {
            let at = table.get(problem.key).map_or(name.span(), Spanned::span);
            self.error(at.start, problem.message, None);
        }
        match &mut param {
            Param::Choice(p) => self.resolve_choices(&mut p.choices, &mut p.choices_from, table),
            Param::Choices(p) => self.resolve_choices(&mut p.choices, &mut p.choices_from, table),
            _ => {}
        }
        Some(param)
    }

    /// The parameter, and the keys that had to be left out of it.
    fn param_of(&mut self, kind: &Node<'i>, node: &Node<'i>) -> Option<(Param, Vec<String>)> {
        fn of<T>(
            make: fn(T) -> Param,
            read: Option<(T, Vec<String>)>,
        ) -> Option<(Param, Vec<String>)> {
            read.map(|(param, left_out)| (make(param), left_out))
        }
        let word = kind.get_ref().as_str().unwrap_or_default();
        match word {
            "fasta" => of(Param::Fasta, self.read_what_can_be(node)),
            "fastq" => of(Param::Fastq, self.read_what_can_be(node)),
            "file" => of(Param::File, self.read_what_can_be(node)),
            "files" => of(Param::Files, self.read_what_can_be(node)),
            "choices" => of(Param::Choices, self.read_what_can_be(node)),
            "json" => of(Param::Json, self.read_what_can_be(node)),
            "text" => of(Param::Text, self.read_what_can_be(node)),
            "number" => of(Param::Number, self.read_what_can_be(node)),
            "integer" => of(Param::Integer, self.read_what_can_be(node)),
            "choice" => of(Param::Choice, self.read_what_can_be(node)),
            "flag" => of(Param::Flag, self.read_what_can_be(node)),
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
        if !is_inside(&result.file) {
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

    fn command(
        &mut self,
        command: &Node<'i>,
        known: &[String],
        params: &IndexMap<String, Param>,
    ) -> Vec<CommandItem> {
        let items = self.items(command);
        let is_nothing = |text: &Spanned<String>| text.get_ref().is_empty();
        match items.first() {
            Some(Some(RawItem::Group(_))) => {
                let first = command.get_ref().get(0);
                let at = first.map_or(command.span(), Spanned::span).start;
                let message = "the program itself can't depend on a parameter's presence";
                self.error(at, message, None);
            }
            Some(Some(RawItem::Argument(program))) if is_nothing(program) => {
                self.error(command.span().start, "`command` names no program", None);
            }
            None if command.get_ref().is_array() => {
                self.error(command.span().start, "`command` names no program", None);
            }
            _ => {}
        }
        for (index, item) in items.iter().enumerate() {
            match item {
                Some(RawItem::Argument(text)) => {
                    let argument = Argument {
                        text: text.get_ref(),
                        at: text.span().start,
                        is_program: index == 0,
                        each: None,
                    };
                    self.check_argument(argument, known, params);
                }
                Some(RawItem::Group(group)) => {
                    self.check_names(&group.names(), known, params);
                    if let Some(each) = &group.each {
                        self.check_each(each, known, params);
                    }
                    let each = group.each.as_ref().map(|each| each.get_ref().as_str());
                    self.check_group(&group.args, each, known, params);
                }
                None => {}
            }
        }
        let items = items.into_iter().flatten();
        items.filter_map(|item| item.item()).collect()
    }

    fn check_group(
        &mut self,
        args: &[Spanned<String>],
        each: Option<&str>,
        known: &[String],
        params: &IndexMap<String, Param>,
    ) {
        for arg in args {
            let argument = Argument {
                text: arg.get_ref(),
                at: arg.span().start,
                is_program: false,
                each,
            };
            self.check_argument(argument, known, params);
        }
    }

    /// Names of parameters in a condition. From the file, as with placeholders.
    fn check_names(
        &mut self,
        names: &[Spanned<String>],
        known: &[String],
        params: &IndexMap<String, Param>,
    ) {
        for name in names {
            let text = name.get_ref().as_str();
            let is_place = PLACES.contains(&text);
            if is_place || !known.iter().any(|known| known == text) {
                let names: Vec<_> = params.keys().map(String::as_str).collect();
                let hint = suggest::hint(text, &names);
                self.error(
                    name.span().start,
                    format!("there is no parameter `{text}`"),
                    hint,
                );
            }
        }
    }

    fn check_each(
        &mut self,
        each: &Spanned<String>,
        known: &[String],
        params: &IndexMap<String, Param>,
    ) {
        let name = each.get_ref();
        // One that could not be read has its own mistake.
        if known.contains(name) && !params.contains_key(name) && !PLACES.contains(&name.as_str()) {
            return;
        }
        let lists: Vec<_> = params
            .iter()
            .filter(|(_, param)| param.is_list())
            .map(|(name, _)| name.as_str())
            .collect();
        if !lists.contains(&name.as_str()) {
            let message = format!(
                "`{name}` is no list: `each` goes with a parameter of type `files` or `choices`"
            );
            self.error(each.span().start, message, suggest::hint(name, &lists));
        }
    }

    fn check_argument(
        &mut self,
        argument: Argument<'_>,
        known: &[String],
        params: &IndexMap<String, Param>,
    ) {
        match template::parse(argument.text) {
            Ok(pieces) => {
                self.check_placeholders(argument.at, &pieces, known);
                self.check_kinds(argument, &pieces, params);
            }
            Err(message) => self.error(argument.at, message, None),
        }
        if argument.text.contains('\0') {
            self.error(argument.at, "an argument can't hold a NUL character", None);
        }
    }

    fn check_placeholders(&mut self, at: usize, pieces: &[Piece], known: &[String]) {
        for name in template::names(pieces) {
            if !known.iter().any(|known| known == name) {
                let message = format!("placeholder `{{{name}}}` is not known");
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                self.error(at, message, suggest::hint(name, &known));
            }
        }
    }

    fn check_kinds(
        &mut self,
        argument: Argument<'_>,
        pieces: &[Piece],
        params: &IndexMap<String, Param>,
    ) {
        for name in template::names(pieces) {
            let param = params.get(name);
            // Whoever submits a job picks among programs that the file names, never a program.
            if argument.is_program && param.is_some_and(|param| !matches!(param, Param::Choice(_)))
            {
                let message = format!("`{{{name}}}` can't pick the program: only a choice can");
                self.error(argument.at, message, None);
            }
            let has_argument = matches!(param, Some(Param::Flag(flag)) if flag.argument.is_some());
            if has_argument && template::alone(pieces).is_none() {
                let message = format!(
                    "flag `{name}` has an `argument`, so `{{{name}}}` must be an argument alone"
                );
                self.error(argument.at, message, None);
            }
            if matches!(param, Some(Param::Files(_))) && argument.each != Some(name) {
                let message = format!("`{{{name}}}` holds several files");
                let hint = format!("write `{{ each = \"{name}\", args = [\"{{{name}}}\"] }}`");
                self.error(argument.at, message, Some(hint));
            }
        }
    }

    fn check_stdin(
        &mut self,
        stdin: &Spanned<String>,
        known: &[String],
        params: &IndexMap<String, Param>,
    ) {
        let argument = Argument {
            text: stdin.get_ref(),
            at: stdin.span().start,
            is_program: false,
            each: None,
        };
        self.check_argument(argument, known, params);
    }

    fn env(&mut self, table: &DeTable<'i>) -> BTreeMap<String, EnvValue> {
        let read = |reader: &mut Self, name: &Key<'i>, node: &Node<'i>| {
            let text = name.get_ref().as_ref();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if text.is_empty()
                || text.starts_with(|c: char| c.is_ascii_digit())
                || !text.chars().all(is_name)
            {
                let message = format!("`{text}` can't be the name of an environment variable");
                reader.error(name.span().start, message, None);
            } else if text.starts_with("ONELANE_") {
                let message = format!("`{text}` is the server's own to set");
                reader.error(name.span().start, message, None);
            }
            reader.env_value(node)
        };
        let entries = self.entries(table, "env", read);
        entries.into_iter().collect()
    }

    fn env_value(&mut self, node: &Node<'i>) -> Option<EnvValue> {
        if let Some(text) = node.get_ref().as_str() {
            if text.contains('\0') {
                self.error(
                    node.span().start,
                    "a value can't hold a NUL character",
                    None,
                );
            }
            return Some(EnvValue::Literal(text.to_owned()));
        }
        if node.get_ref().as_table().is_none() {
            let wanted = "a text, or a table such as `{ file = \"/etc/onelane/token\" }`,";
            let message = words::expected(wanted, Some(node.get_ref()));
            self.error(node.span().start, message, None);
            return None;
        }
        let secret: SecretFile = self.read(node)?;
        let file = self.resolve(&secret.file);
        Some(EnvValue::File(SecretFile { file }))
    }

    fn workdir(&mut self, workdir: &Spanned<String>) -> Option<Workdir> {
        match workdir.get_ref().as_str() {
            "work" => Some(Workdir::Work),
            "output" => Some(Workdir::Output),
            path if path.starts_with('/') || is_dotted(path) => {
                Some(Workdir::Folder(self.resolve(Path::new(path))))
            }
            other => {
                let message = format!("`{other}` is no folder to run in");
                let hint = "`work`, `output`, or a fixed folder such as `/opt/tool` or `./tool`";
                self.error(workdir.span().start, message, Some(hint.to_owned()));
                None
            }
        }
    }

    fn success(
        &mut self,
        success: Option<Spanned<Success>>,
        table: &DeTable<'i>,
    ) -> Option<Success> {
        let success = success?;
        let place = |key| {
            let within = table
                .get("success")
                .and_then(|node| node.get_ref().get(key));
            within.map_or(success.span(), Spanned::span).start
        };
        let codes = &success.get_ref().exit_codes;
        if codes.is_empty() || codes.iter().any(|code| !(0..=255).contains(code)) {
            let message = "`exit_codes` holds one number or more, from 0 to 255";
            self.error(place("exit_codes"), message, None);
        }
        let file = success.get_ref().file.as_deref();
        if let Some(file) = file.filter(|file| !is_inside(file)) {
            let message = format!("`{file}` is not a path inside the output folder");
            self.error(place("file"), message, None);
        }
        Some(success.into_inner())
    }

    fn progress(&mut self, progress: Option<Spanned<ProgressPattern>>) -> Option<ProgressPattern> {
        let progress = progress?;
        if let Err(why) = progress.get_ref().reader() {
            let message = format!("the pattern is not right: {why}");
            self.error(progress.span().start, message, None);
        }
        Some(progress.into_inner())
    }

    fn example(&mut self, table: &DeTable<'i>, tool: &ToolDefinition) -> Option<Example> {
        let node = table.get("example")?;
        let example: Example = self.read(node)?;
        let pairs = [
            (
                "params",
                "parameter",
                example.params.keys().collect::<Vec<_>>(),
                names(&tool.params, table.get("params")),
            ),
            (
                "expect",
                "result",
                example.expect.keys().collect(),
                names(&tool.results, table.get("results")),
            ),
        ];
        for (part, word, named, known) in pairs {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            for name in named
                .into_iter()
                .filter(|name| !known.contains(&name.as_str()))
            {
                let at = place_of(node, part, name);
                let message = format!("there is no {word} `{name}`");
                self.error(at, message, suggest::hint(name, &known));
            }
        }
        Some(example)
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
            if (index == 0 && is_relative_program(item)) || is_dotted(item) {
                self.beside_file(item, quote)
            } else {
                item.clone()
            }
        };
        items.enumerate().map(resolve).collect()
    }

    fn resolve_items(&self, items: impl Iterator<Item = CommandItem>) -> Vec<CommandItem> {
        let dotted = |text: String| {
            if is_dotted(&text) {
                self.beside_file(&text, template::escape)
            } else {
                text
            }
        };
        let resolve = |(index, item): (usize, CommandItem)| match item {
            CommandItem::Argument(text) if index == 0 && is_relative_program(&text) => {
                CommandItem::Argument(self.beside_file(&text, template::escape))
            }
            CommandItem::Argument(text) => CommandItem::Argument(dotted(text)),
            CommandItem::When(mut group) => {
                group.args = group.args.into_iter().map(dotted).collect();
                CommandItem::When(group)
            }
            CommandItem::Each(mut group) => {
                group.args = group.args.into_iter().map(dotted).collect();
                CommandItem::Each(group)
            }
        };
        items.enumerate().map(resolve).collect()
    }

    fn resolve_choices(
        &mut self,
        choices: &mut IndexMap<String, String>,
        from: &mut Option<String>,
        table: &DeTable<'i>,
    ) {
        for value in choices.values_mut() {
            if is_dotted(value) {
                *value = self.beside_file(value, str::to_owned);
            }
        }
        let Some(pattern) = from else { return };
        let at = table
            .get("choices_from")
            .map_or(0, |node| node.span().start);
        let pattern = self.absolute_pattern(pattern);
        let (files, unreadable) = self.files_of(&pattern, at).unwrap_or_default();
        for message in unreadable {
            self.warn(at, message, None);
        }
        for path in files {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .map(str::to_owned);
            let value = path.with_extension("").to_str().map(str::to_owned);
            if let (Some(key), Some(value)) = (stem, value) {
                choices.entry(key).or_insert(value);
            }
        }
        if choices.is_empty() {
            let message = format!(
                "no file is there that matches `{pattern}`: jobs that choose one are refused"
            );
            let hint =
                "put the databases there and have the file read again, or name another folder";
            self.warn(at, message, Some(hint.to_owned()));
        }
        *from = Some(pattern);
    }

    fn beside_file(&self, item: &str, quote: fn(&str) -> String) -> String {
        let folder = self.resolve(Path::new(""));
        let folder = quote(folder.to_string_lossy().trim_end_matches('/'));
        let item = item.strip_prefix("./").unwrap_or(item);
        format!("{folder}/{item}")
    }
}

/// The names of a table's entries, those that could not be read among them.
fn names<T>(read: &IndexMap<String, T>, node: Option<&Node<'_>>) -> Vec<String> {
    let table = node.and_then(|node| node.get_ref().as_table());
    let keys = table.into_iter().flat_map(DeTable::keys);
    let declared = keys.map(|key| key.get_ref().to_string());
    read.keys().cloned().chain(declared).collect()
}

fn is_small_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_relative_program(item: &str) -> bool {
    item.contains('/') && !item.starts_with(['/', '{'])
}

/// True for a relative path that doesn't leave its folder, such as a result's in its output folder.
pub fn is_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Where a key of a sub-table stands in the file; the table itself if it isn't found.
fn place_of(node: &Node<'_>, part: &str, name: &str) -> usize {
    let table = node.get_ref().as_table().and_then(|table| table.get(part));
    let keys = table
        .and_then(|node| node.get_ref().as_table())
        .into_iter()
        .flat_map(DeTable::keys);
    let key = keys.into_iter().find(|key| key.get_ref().as_ref() == name);
    key.map_or(node.span().start, |key| key.span().start)
}

/// From the file, not from what could be read of it: a mistake in a parameter isn't told a second time here.
fn known_placeholders(table: &DeTable<'_>) -> Vec<String> {
    let declared = table
        .get("params")
        .and_then(|node| node.get_ref().as_table());
    let declared = declared.into_iter().flat_map(DeTable::keys);
    declared
        .map(|key| key.get_ref().to_string())
        .chain(PLACES.map(str::to_owned))
        .collect()
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
