//! Does what the tools file says work on this machine? Asked of the machine itself, without a server.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use clap::Args;
use onelane_core::Capacity;
use onelane_tools::{
    AcceptedContent, CommandItem, Example, Expect, Given, Param, Places, Stdin, ToolDefinition,
    ToolsFile, Workdir, builtin_search, load_tools_file,
};
use serde_json::json;

use super::Context;
use super::config::lines;
use crate::exit::Exit;
use crate::serve::{config_path, hardware, machine, own_path};

mod warm;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One tool [default: all of them]
    name: Option<String>,
    /// Tools file [default: ./onelane.toml if there is one]
    #[arg(long, env = "ONELANE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a check came to: words for the person, good or bad.
type Outcome = Result<String, String>;

struct Finding {
    tool: String,
    check: &'static str,
    outcome: Outcome,
}

pub(crate) fn run(context: &Context, options: &Options) -> anyhow::Result<Exit> {
    let file = read(options.config.as_deref())?;
    let machine = machine(&file)?;
    let wanted =
        |tool: &&ToolDefinition| options.name.as_ref().is_none_or(|name| *name == tool.name);
    let tools: Vec<_> = file.tools.iter().filter(wanted).collect();
    if let (Some(name), true) = (&options.name, tools.is_empty()) {
        anyhow::bail!("the tools file has no tool `{name}`");
    }
    let findings: Vec<_> = tools.iter().flat_map(|tool| check(tool, machine)).collect();
    report(context, &findings)?;
    let is_good = findings.iter().all(|finding| finding.outcome.is_ok());
    Ok(if is_good {
        Exit::Done
    } else {
        Exit::CheckFailed
    })
}

fn read(config: Option<&Path>) -> anyhow::Result<ToolsFile> {
    let Some(path) = config_path(config)? else {
        let tools = vec![builtin_search(&own_path()?, None)];
        return Ok(ToolsFile {
            tools,
            ..ToolsFile::default()
        });
    };
    load_tools_file(&path, &own_path()?, hardware()?)
        .map_err(|errors| anyhow::anyhow!("the tools file has errors\n{}", lines(&path, &errors)))
}

fn report(context: &Context, findings: &[Finding]) -> std::io::Result<()> {
    let word = |finding: &Finding| {
        if finding.outcome.is_ok() {
            "ok"
        } else {
            "FAILED"
        }
    };
    let message = |finding: &Finding| match &finding.outcome {
        Ok(text) | Err(text) => text.clone(),
    };
    if context.output.json {
        let view = |finding: &Finding| {
            json!({"tool": finding.tool, "check": finding.check, "ok": finding.outcome.is_ok(),
                   "message": message(finding)})
        };
        let checks: Vec<_> = findings.iter().map(view).collect();
        return context.output.document(&json!({ "checks": checks }));
    }
    let row = |finding: &Finding| {
        vec![
            word(finding).to_owned(),
            finding.tool.clone(),
            finding.check.to_owned(),
            message(finding),
        ]
    };
    context
        .output
        .table(&findings.iter().map(row).collect::<Vec<_>>())
}

fn check(tool: &ToolDefinition, machine: Capacity) -> Vec<Finding> {
    let mut outcomes = vec![("program", program(tool))];
    if let Some(version) = &tool.version {
        outcomes.push(("version", version_of(version)));
    }
    for (name, param) in &tool.params {
        let choices = match param {
            Param::Choice(param) => &param.choices,
            Param::Choices(param) => &param.choices,
            _ => continue,
        };
        if let Some(why) = param.nothing_to_choose() {
            outcomes.push(("databases", Err(format!("`{name}` {why}"))));
        }
        if choices.values().any(|value| value.starts_with('/')) {
            outcomes.push(("databases", databases(name, choices.values())));
        }
    }
    if !tool.env.is_empty() {
        let environment = tool.environment();
        outcomes.push(("environment", environment.map(|_| "readable".to_owned())));
    }
    if let Some(example) = &tool.example {
        outcomes.push(("example", run_example(tool, example, machine)));
    }
    let finding = |(check, outcome)| Finding {
        tool: tool.name.clone(),
        check,
        outcome,
    };
    outcomes.into_iter().map(finding).collect()
}

fn program(tool: &ToolDefinition) -> Outcome {
    let program = match (&tool.warm, tool.command.first()) {
        (Some(warm), _) => warm.worker.first().cloned().unwrap_or_default(),
        (None, Some(CommandItem::Argument(program))) => {
            if program.contains('{') && !program.contains("{{") {
                return Ok(format!("`{program}` depends on a parameter"));
            }
            program.replace("{{", "{").replace("}}", "}")
        }
        _ => return Err("the command names no program".to_owned()),
    };
    found(&program)
}

fn found(program: &str) -> Outcome {
    let is_program = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    let found = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|path| is_program(path))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|path| is_program(path))
    };
    match found {
        Some(path) => match first_line(&path) {
            Some(line) => interpreted(&path, &line),
            None => Ok(path.display().to_string()),
        },
        None if program.contains('/') && Path::new(program).is_file() => Err(format!(
            "`{program}` is not executable for this user (`chmod +x`)"
        )),
        None => Err(format!(
            "there is no program `{program}`; install it, or name it with its path"
        )),
    }
}

/// What follows `#!` in the first line of a script (execve(2)).
fn first_line(path: &Path) -> Option<String> {
    const MOST_BYTES: u64 = 256;
    let mut begin = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MOST_BYTES).read_to_end(&mut begin).ok()?;
    let line = begin
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

fn interpreted(path: &Path, line: &str) -> Outcome {
    let script = path.display();
    if line.ends_with('\r') {
        return Err(format!(
            "the lines of `{script}` end as on Windows, and no interpreter has a name that ends with a carriage return"
        ));
    }
    let interpreter = line.split_whitespace().next().unwrap_or_default();
    if Path::new(interpreter).exists() {
        Ok(script.to_string())
    } else {
        Err(format!(
            "`{script}` names the interpreter `{interpreter}` in its first line, which is not there"
        ))
    }
}

fn version_of(line: &[String]) -> Outcome {
    let (program, arguments) = line.split_first().ok_or("names no program")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("`{program}` can't be started: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().map(str::trim).find(|line| !line.is_empty());
    first
        .map(str::to_owned)
        .ok_or_else(|| format!("`{}` says nothing", line.join(" ")))
}

/// A database is a file of this name, or several that begin with it: all must be readable.
fn databases<'a>(param: &str, values: impl Iterator<Item = &'a String>) -> Outcome {
    let mut count = 0;
    for value in values.filter(|value| value.starts_with('/')) {
        let path = Path::new(value);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let entries = fs::read_dir(folder)
            .map_err(|error| format!("`{param}`: `{}` can't be read: {error}", folder.display()))?;
        let begins = |file: &PathBuf| {
            let file = file.file_name().unwrap_or_default().as_encoded_bytes();
            let rest = file.strip_prefix(name.as_encoded_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'.'))
        };
        let files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(begins)
            .collect();
        if files.is_empty() {
            return Err(format!("`{param}`: nothing is there at `{value}`"));
        }
        for file in files {
            rustix::fs::access(&file, rustix::fs::Access::READ_OK).map_err(|error| {
                format!("`{param}`: `{}` can't be read: {error}", file.display())
            })?;
        }
        count += 1;
    }
    Ok(format!("`{param}`: {count} readable"))
}

/// A folder laid out as an attempt's.
struct Run {
    folder: tempfile::TempDir,
    input: PathBuf,
    output: PathBuf,
    work: PathBuf,
}

impl Run {
    fn new() -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let [input, output, work] =
            ["input", "output", "work"].map(|name| folder.path().join(name));
        for made in [&input, &output, &work] {
            fs::create_dir(made)?;
        }
        Ok(Self {
            folder,
            input,
            output,
            work,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn places(&self, takes: Capacity) -> Places<'_> {
        Places {
            input: &self.input,
            output: &self.output,
            work: &self.work,
            cpus: takes.cpus,
            memory_bytes: takes.memory_bytes,
            job_id: "example".to_owned(),
            name: "example".to_owned(),
        }
    }

    fn stderr_end(&self) -> String {
        let text = fs::read(self.path("stderr.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn run_example(tool: &ToolDefinition, example: &Example, machine: Capacity) -> Outcome {
    let failed = |error: std::io::Error| format!("the temporary folder can't be used: {error}");
    let run = Run::new().map_err(failed)?;
    let given = example
        .params
        .iter()
        .map(|(name, value)| (name.clone(), Given::Json(value.clone())));
    let accepted = tool
        .accept(given.collect(), "example")
        .map_err(|refusal| format!("its parameters are refused: {refusal}"))?;
    for file in &accepted.files {
        if let AcceptedContent::Inline(text) = &file.content {
            fs::write(run.input.join(&file.file), text).map_err(failed)?;
        }
    }
    if let Some(worker) = &tool.warm {
        warm::execute(tool, worker, &accepted.params, tool.needs.of(machine), &run)?;
    } else {
        let status = execute(tool, &accepted.params, machine, &run)?;
        is_success(tool, status, &run)?;
    }
    judge(tool, example, &run)
}

fn execute(
    tool: &ToolDefinition,
    params: &serde_json::Map<String, serde_json::Value>,
    machine: Capacity,
    run: &Run,
) -> Result<ExitStatus, String> {
    let takes = tool.needs.of(machine);
    let places = run.places(takes);
    let line = tool.command_line(params, &places)?;
    let (program, arguments) = line.split_first().ok_or("the command names no program")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(tool.environment()?);
    command
        .env("ONELANE_OUTPUT", &run.output)
        .env("ONELANE_PROGRESS", run.path("progress"));
    command.env("ONELANE_CPUS", takes.cpus.to_string());
    command.env("ONELANE_MEMORY_BYTES", takes.memory_bytes.to_string());
    command.current_dir(match &tool.workdir {
        None | Some(Workdir::Work) => run.work.clone(),
        Some(Workdir::Output) => run.output.clone(),
        Some(Workdir::Folder(folder)) => folder.clone(),
    });
    let opened = |result: std::io::Result<File>| {
        result.map_err(|error| format!("a file can't be opened: {error}"))
    };
    command.stdout(opened(File::create(run.path("stdout.log")))?);
    command.stderr(opened(File::create(run.path("stderr.log")))?);
    command.stdin(match tool.stdin_for(params, &places)? {
        None => Stdio::null(),
        Some(Stdin::File(path)) => opened(File::open(path))?.into(),
        Some(Stdin::Text(text)) => {
            let path = run.input.join("_stdin");
            fs::write(&path, text).map_err(|error| format!("a file can't be written: {error}"))?;
            opened(File::open(path))?.into()
        }
    });
    command
        .status()
        .map_err(|error| format!("`{program}` can't be started: {error}"))
}

fn is_success(tool: &ToolDefinition, status: ExitStatus, run: &Run) -> Result<(), String> {
    let code = status.code();
    if !code.is_some_and(|code| tool.is_success(code)) {
        let meaning = code
            .and_then(|code| tool.exit_sentence(code))
            .unwrap_or_default();
        return Err(format!(
            "the tool ended with {status} {meaning}\n{}",
            run.stderr_end()
        ));
    }
    Ok(())
}

fn judge(tool: &ToolDefinition, example: &Example, run: &Run) -> Outcome {
    let output = &run.output;
    if let Some(missing) = tool
        .required_files()
        .find(|file| !output.join(file).is_file())
    {
        return Err(format!(
            "the tool left no `{missing}`\n{}",
            run.stderr_end()
        ));
    }
    for (name, expect) in &example.expect {
        let Some(result) = tool.results.get(name) else {
            return Err(format!("there is no result `{name}`"));
        };
        met(expect, &output.join(&result.file)).map_err(|why| format!("result `{name}` {why}"))?;
    }
    Ok(format!(
        "gives the declared result ({} checked)",
        example.expect.len()
    ))
}

fn met(expect: &Expect, path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    let fewest = expect.min_bytes.unwrap_or(1);
    if (bytes.len() as u64) < fewest {
        return Err(format!(
            "has {} bytes, but at least {fewest} are expected",
            bytes.len()
        ));
    }
    let text = String::from_utf8_lossy(&bytes);
    if let Some(missing) = expect
        .contains
        .iter()
        .find(|part| !text.contains(part.as_str()))
    {
        return Err(format!("doesn't contain `{missing}`"));
    }
    if let Some(wanted) = &expect.sha256 {
        let hash = onelane_tools::sha256_hex(&bytes);
        if hash != wanted.to_ascii_lowercase() {
            return Err(format!("has the SHA-256 {hash}, not {wanted}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_script_needs_its_right_to_run_and_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        for (text, mode, expected) in [
            ("#!/bin/sh\n", 0o755, Ok("script")),
            ("#! /bin/sh -e\n", 0o755, Ok("script")),
            ("no first line", 0o755, Ok("script")),
            ("#!/bin/sh\n", 0o644, Err("is not executable")),
            (
                "#!/no/python -u\n",
                0o755,
                Err("the interpreter `/no/python`"),
            ),
            ("#!/usr/bin/env sh\r\n", 0o755, Err("end as on Windows")),
        ] {
            let path = folder.path().join("script");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let outcome = found(path.to_str().unwrap());
            let is_so = match (&outcome, expected) {
                (Ok(said), Ok(part)) | (Err(said), Err(part)) => said.contains(part),
                _ => false,
            };
            assert!(is_so, "{text:?}: {outcome:?}");
        }
    }
}
