//! The example of a warm tool: its worker is started for this one job, and told to go (docs/warm-workers.md).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onelane_core::Capacity;
use onelane_tools::{ToolDefinition, Warm, Workdir, is_inside};
use serde_json::{Map, Value, json};

use super::Run;

/// Between two looks whether a worker has connected, or ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the job to its success; otherwise tells why not.
pub(super) fn execute(
    tool: &ToolDefinition,
    warm: &Warm,
    params: &Map<String, Value>,
    takes: Capacity,
    run: &Run,
) -> Result<(), String> {
    let message = run_message(tool, params, takes, run)?;
    let failed = |error: std::io::Error| format!("the temporary folder can't be used: {error}");
    let door = UnixListener::bind(run.path("worker.sock")).map_err(failed)?;
    door.set_nonblocking(true).map_err(failed)?;
    let mut worker = start(tool, warm, takes, run)?;
    let ended = meet(&door, &mut worker).and_then(|socket| converse(&socket, &message, run));
    dismiss(&mut worker, tool.grace_ms());
    ended.map_err(|why| format!("{why}\n{}", run.stderr_end()))
}

fn run_message(
    tool: &ToolDefinition,
    params: &Map<String, Value>,
    takes: Capacity,
    run: &Run,
) -> Result<Value, String> {
    let mut values = tool.worker_params(params, &run.places(takes))?;
    for name in tool.json_params() {
        if let Some(value) = values.get_mut(name) {
            *value = read_json(value.as_str().unwrap_or_default())?;
        }
    }
    Ok(json!({
        "type": "run", "job": "example", "attempt": 1, "tool": tool.name, "name": "example", "params": values,
        "input": run.input, "output": run.output, "work": run.work, "progress": run.path("progress"),
        "cpus": takes.cpus, "memory_bytes": takes.memory_bytes,
    }))
}

fn read_json(path: &str) -> Result<Value, String> {
    let told = |error: &dyn std::fmt::Display| format!("`{path}` can't be read: {error}");
    let text = fs::read(path).map_err(|error| told(&error))?;
    serde_json::from_slice(&text).map_err(|error| told(&error))
}

fn start(tool: &ToolDefinition, warm: &Warm, takes: Capacity, run: &Run) -> Result<Child, String> {
    let (program, arguments) = warm
        .worker
        .split_first()
        .ok_or("the worker names no program")?;
    let log = |name: &str| {
        File::create(run.path(name)).map_err(|error| format!("a log can't be made: {error}"))
    };
    let folder = match &tool.workdir {
        Some(Workdir::Folder(folder)) => folder.clone(),
        _ => run.work.clone(),
    };
    Command::new(program)
        .args(arguments)
        .envs(tool.environment()?)
        .env("ONELANE_WORKER_SOCKET", run.path("worker.sock"))
        .env("ONELANE_WORKER_PROTOCOL", "1")
        .env("ONELANE_WORKER_ID", "example")
        .env("ONELANE_CPUS", takes.cpus.to_string())
        .env("ONELANE_MEMORY_BYTES", takes.memory_bytes.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log("stdout.log")?)
        .stderr(log("stderr.log")?)
        .spawn()
        .map_err(|error| format!("`{program}` can't be started: {error}"))
}

/// Loading takes as long as it takes.
fn meet(door: &UnixListener, worker: &mut Child) -> Result<UnixStream, String> {
    loop {
        if let Ok((socket, _)) = door.accept() {
            socket
                .set_nonblocking(false)
                .map_err(|error| error.to_string())?;
            return Ok(socket);
        }
        if let Ok(Some(status)) = worker.try_wait() {
            return Err(format!(
                "the worker ended with {status} before it was ready"
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn converse(mut socket: &UnixStream, message: &Value, run: &Run) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the worker can't be talked to: {error}");
    let mut named = Vec::new();
    let mut is_ready = false;
    for line in BufReader::new(socket).lines() {
        let line = line.map_err(broken)?;
        let heard: Value = serde_json::from_str(&line)
            .map_err(|error| format!("the worker sent what is no JSON: {error}"))?;
        let text = |key: &str| heard[key].as_str().unwrap_or_default().to_owned();
        match heard["type"].as_str() {
            Some("hello") if heard["protocol"] != 1 => {
                return Err(
                    "the worker speaks no version of the protocol that is known here (1)"
                        .to_owned(),
                );
            }
            Some("hello") if !is_ready => {
                is_ready = true;
                writeln!(socket, "{message}").map_err(broken)?;
            }
            Some("cancelled") => {
                return Err(
                    "the worker says that it was cancelled, which nobody had asked for".to_owned(),
                );
            }
            Some("result") => named.push(text("file")),
            Some("done") => return done(&heard["result"], &named, &run.output),
            Some("fail") => return Err(format!("the job failed: {}", text("message"))),
            _ => {}
        }
    }
    Err("the worker closed its socket before the job was done".to_owned())
}

fn done(result: &Value, named: &[String], output: &Path) -> Result<(), String> {
    let is_there = |file: &String| is_inside(file) && output.join(file).is_file();
    if let Some(missing) = named.iter().find(|file| !is_there(file)) {
        return Err(format!(
            "the worker names a result `{missing}` that is not in the output folder"
        ));
    }
    if result.is_null() {
        return Ok(());
    }
    fs::write(output.join("result.json"), result.to_string())
        .map_err(|error| format!("`result.json` can't be written: {error}"))
}

/// Its socket is closed by now, which is its word to go.
fn dismiss(worker: &mut Child, grace_ms: u64) {
    let looks = grace_ms / 20 + 1;
    for _ in 0..looks {
        if !matches!(worker.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    // What it has started itself is its own to end here: this is a check, not a job.
    worker.kill().ok();
    worker.wait().ok();
}
