//! All that an executor needs to start a job's attempt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onelane_core::{Capacity, Job};
use onelane_exec::{
    AttemptId, JobPaths, Launch, LaunchContent, LaunchFile, WarmLaunch, WorkerSpec,
};
use onelane_store::{InputContent, JobInput};
use onelane_tools::{Keep, Places, Stdin, ToolDefinition, Warm, Workdir};
use serde_json::{Map, Value, json};

use crate::EngineError;
use crate::runner::{Shared, read_input};

pub(crate) async fn make_launch(shared: &Shared, job: &Job) -> Result<Launch, EngineError> {
    let tool = shared
        .definition(&job.definition)
        .ok_or_else(|| EngineError::Broken("its tool's definition is unknown".into()))?;
    let input = read_input(shared, job.id).await;
    let paths = JobPaths::new(&shared.jobs, job.id);
    let (takes, spare) = {
        let state = shared.state.lock();
        (tool.needs.of(state.machine()), state.free())
    };
    let (output, work) = (paths.output(job.attempt), paths.work(job.attempt));
    let places = Places {
        input: &paths.input(),
        output: &output,
        work: &work,
        cpus: takes.cpus,
        memory_bytes: takes.memory_bytes,
        job_id: job.id.to_string(),
        name: job.name.clone().unwrap_or_default(),
    };
    let (command, warm) = match &tool.warm {
        Some(warm) => (
            warm.worker.clone(),
            Some(warm_launch(&tool, warm, &places, job, &input, takes)?),
        ),
        None => (
            tool.command_line(&input.params, &places)
                .map_err(EngineError::Broken)?,
            None,
        ),
    };
    let stdin = tool
        .stdin_for(&input.params, &places)
        .map_err(EngineError::Broken)?;
    let mut env = tool.environment().map_err(EngineError::Broken)?;
    env.extend(environment(job, &paths.attempt(job.attempt), &places));
    let story = story(job, &tool, &input);
    let mut files: Vec<_> = input.files.into_iter().map(launch_file).collect();
    let stdin = stdin.map(|stdin| stdin_file(stdin, &places, &mut files));
    let workdir = match &tool.workdir {
        None | Some(Workdir::Work) => None,
        Some(Workdir::Output) => Some(output.clone()),
        Some(Workdir::Folder(folder)) => Some(folder.clone()),
    };
    Ok(Launch {
        id: AttemptId {
            job: job.id,
            attempt: job.attempt,
        },
        story,
        env,
        files,
        command,
        stdin,
        workdir,
        version_command: tool.version.clone(),
        grace_ms: tool.grace_ms(),
        limits: tool.limits,
        cpu_priority: tool.cpu_priority,
        spare,
        warm,
    })
}

/// The tools' warm workers.
pub(crate) fn worker_specs<'a>(
    tools: impl Iterator<Item = &'a ToolDefinition>,
    machine: Capacity,
) -> Vec<WorkerSpec> {
    let warm = tools.filter_map(|tool| Some((tool, tool.warm.as_ref()?)));
    warm.filter_map(|(tool, warm)| {
        worker_spec(tool, tool.hash(), warm, tool.needs.of(machine))
            .inspect_err(|why| tracing::error!(tool = tool.name, why, "a worker can't be prepared"))
            .ok()
    })
    .collect()
}

fn worker_spec(
    tool: &ToolDefinition,
    key: String,
    warm: &Warm,
    takes: Capacity,
) -> Result<WorkerSpec, String> {
    let mut env = tool.environment()?;
    env.insert("ONELANE_CPUS".to_owned(), takes.cpus.to_string());
    env.insert(
        "ONELANE_MEMORY_BYTES".to_owned(),
        takes.memory_bytes.to_string(),
    );
    Ok(WorkerSpec {
        key,
        tool: tool.name.clone(),
        command: warm.worker.clone(),
        version_command: tool.version.clone(),
        env,
        workdir: match &tool.workdir {
            Some(Workdir::Folder(folder)) => Some(folder.clone()),
            _ => None,
        },
        grace_ms: tool.grace_ms(),
        limits: tool.limits,
        cpu_priority: tool.cpu_priority,
        takes,
        keep_ms: match warm.keep {
            Keep::Always => None,
            Keep::ForMs(millis) => Some(millis),
        },
        max_jobs: warm.max_jobs,
    })
}

/// What a warm worker is sent (docs/warm-workers.md, `run`).
fn warm_launch(
    tool: &ToolDefinition,
    warm: &Warm,
    places: &Places<'_>,
    job: &Job,
    input: &JobInput,
    takes: Capacity,
) -> Result<Box<WarmLaunch>, EngineError> {
    let params = tool
        .worker_params(&input.params, places)
        .map_err(EngineError::Broken)?;
    let attempt = places.output.parent().unwrap_or(places.output);
    let run: Map<String, Value> = [
        ("job", json!(job.id)),
        ("attempt", json!(job.attempt)),
        ("tool", json!(job.tool)),
        ("name", json!(job.name)),
        ("params", Value::Object(params)),
        ("input", json!(places.input)),
        ("output", json!(places.output)),
        ("work", json!(places.work)),
        ("progress", json!(attempt.join("progress"))),
        ("cpus", json!(places.cpus)),
        ("memory_bytes", json!(places.memory_bytes)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    Ok(Box::new(WarmLaunch {
        worker: worker_spec(tool, job.definition.clone(), warm, takes)
            .map_err(EngineError::Broken)?,
        run,
        json_params: tool.json_params().map(str::to_owned).collect(),
    }))
}

/// The file that the tool reads on its standard input. Text gets one of its own, whose name no parameter can have.
fn stdin_file(stdin: Stdin, places: &Places<'_>, files: &mut Vec<LaunchFile>) -> PathBuf {
    match stdin {
        Stdin::File(path) => path,
        Stdin::Text(text) => {
            let file = "_stdin".to_owned();
            let path = places.input.join(&file);
            let content = LaunchContent::Inline(text);
            files.push(LaunchFile { file, content });
            path
        }
    }
}

fn launch_file(file: onelane_store::InputFile) -> LaunchFile {
    let content = match file.content {
        InputContent::Inline(text) => LaunchContent::Inline(text),
        InputContent::Upload(path) => LaunchContent::Upload(path),
    };
    LaunchFile {
        file: file.file,
        content,
    }
}

fn environment(job: &Job, folder: &Path, places: &Places<'_>) -> BTreeMap<String, String> {
    let entries = [
        ("ONELANE_JOB_ID", job.id.to_string()),
        ("ONELANE_ATTEMPT", job.attempt.to_string()),
        ("ONELANE_OUTPUT", places.output.display().to_string()),
        (
            "ONELANE_PROGRESS",
            folder.join("progress").display().to_string(),
        ),
        ("ONELANE_CPUS", places.cpus.to_string()),
        ("ONELANE_MEMORY_BYTES", places.memory_bytes.to_string()),
    ];
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// `job.json`: what was asked, readable without the server.
fn story(job: &Job, tool: &ToolDefinition, input: &JobInput) -> serde_json::Value {
    serde_json::json!({
        "id": job.id,
        "seq": job.seq,
        "owner": job.owner,
        "tool": job.tool,
        "name": job.name,
        "tags": job.tags,
        "priority": job.priority,
        "created_at": job.created_at,
        "digest": job.digest,
        "params": input.params,
        "notes": input.notes,
        "definition_hash": job.definition,
        "definition": tool,
    })
}
