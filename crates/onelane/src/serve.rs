//! The one place where everything is put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use onelane_core::{Capacity, Timestamp};
use onelane_engine::{DiskFloor, Engine, Handle, Setup, Surroundings};
use onelane_exec::{Control, DataFolder, LocalExecutor, WantedLevel};
use onelane_server::ServerConfig;
use onelane_store::StoreError;
use onelane_store::sqlite::SqliteStore;
use onelane_tools::{ToolsFile, builtin_search, parse_tools_file_for};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ServeOptions, default_data_folder};
use crate::output::Output;

/// Answers that are under way when the server stops get so long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Where the server listens when nothing says otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8000";

/// The system's clock and dice.
struct System;

impl Surroundings for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the composition root gives everybody else the time"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        // Fails only before the kernel's pool is ready; ids stay unique by their time then.
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok();
        bytes
    }
}

/// What the options, the environment and the tools file come to.
struct Resolved {
    file: ToolsFile,
    listen: String,
    data: PathBuf,
    jobs: Option<PathBuf>,
    machine: Capacity,
    control: WantedLevel,
}

/// Runs the server until it is told to stop.
pub(crate) async fn serve(output: Output, options: ServeOptions) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing::Level::INFO.into())
                .from_env_lossy(),
        )
        .with_writer(std::io::stderr)
        .init();
    let resolved = resolve(&options)?;
    let listener = TcpListener::bind(&resolved.listen).await.with_context(|| {
        format!("can't listen on {}\nhint: choose another address with --listen, such as --listen 127.0.0.1:8001", resolved.listen)
    })?;
    let address = listener.local_addr()?;
    let data = DataFolder::open(&resolved.data, resolved.jobs.as_deref())?;
    let hosts = resolved.file.server.hosts.clone();
    // Before there is work: it moves this process into a group of its own.
    let control = Control::choose(resolved.control, &data.unique_name()?)?;
    let engine = start_engine(resolved, &data, control.clone()).await?;
    let config = ServerConfig {
        hosts,
        listen: address,
        process_control: control.level().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let router = onelane_server::router(engine.handle(), config);
    output.line(&format!("onelane listening on http://{address}"))?;
    output.line(&format!("data in {}", data.root().display()))?;
    output.line(&format!("process control: {}", control.level()))?;
    announce(output, &engine.handle())?;
    let ended = run(listener, router, &engine, options.drain).await;
    control.leave();
    ended
}

fn announce(output: Output, handle: &Handle) -> std::io::Result<()> {
    for tool in handle.tools() {
        let title = tool.title.as_deref().unwrap_or("");
        output.line(&format!("tool {}: {title}", tool.name))?;
    }
    Ok(())
}

async fn run(
    listener: TcpListener,
    router: axum::Router,
    engine: &Engine,
    drain: bool,
) -> anyhow::Result<()> {
    let (told, mut stop) = tokio::sync::watch::channel(false);
    let wait_for_stop = async move {
        // An error means that the sender is gone, which is a stop too.
        stop.wait_for(|stopped| *stopped).await.ok();
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(wait_for_stop);
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended??),
        () = stop_signal() => {}
    }
    engine.stop_taking();
    if drain {
        tokio::select! {
            () = engine.until_idle() => {}
            () = stop_signal() => return Ok(()),
        }
    }
    told.send(true).ok();
    // Followers of logs and events would hold the server for as long as a job runs.
    let last_answers = tokio::time::timeout(LAST_ANSWERS, server);
    tokio::select! {
        _ = last_answers => {}
        () = stop_signal() => {}
    }
    Ok(())
}

async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn start_engine(
    resolved: Resolved,
    data: &DataFolder,
    control: Control,
) -> anyhow::Result<Engine> {
    let store = open_store(data)?;
    let executor = LocalExecutor::new(data.jobs(), &data.uploads(), data.instance(), control);
    let setup = Setup {
        store: Arc::new(store),
        executor: Arc::new(executor),
        surroundings: Arc::new(System),
        machine: resolved.machine,
        tools: resolved.file.tools,
        default_tool: resolved.file.server.default_tool,
        jobs: data.jobs().to_owned(),
        uploads: data.uploads(),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .context("can't read the boot id")?
            .trim()
            .to_owned(),
        floor: DiskFloor::new(
            vec![data.root().to_owned(), data.jobs().to_owned()],
            resolved.file.server.disk_floor_bytes,
        ),
    };
    Ok(Engine::start(setup).await?)
}

/// Never begins anew beside jobs that a database has known.
fn open_store(data: &DataFolder) -> anyhow::Result<SqliteStore> {
    let path = data.database();
    let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    if !is_there
        && onelane_exec::inspect::job_folders(data.jobs())?
            .next()
            .is_some()
    {
        let why = format!(
            "it is missing or empty, though jobs are in `{}`\nhint: bring a backup back with `onelane restore FILE`, or \
             move the jobs away to begin anew",
            data.jobs().display()
        );
        return Err(StoreError::Unusable { path, why }.into());
    }
    match SqliteStore::open(&path) {
        Err(StoreError::Damaged { path, why }) => {
            let why = format!(
                "{why}; nothing was changed\nhint: `onelane check` says more; `onelane restore FILE` brings a backup back \
                 and keeps this file aside"
            );
            Err(StoreError::Damaged { path, why }.into())
        }
        other => Ok(other?),
    }
}

/// The data folder, and the jobs' if it is another, as [`serve`] would take them.
pub(crate) fn folders(
    config: Option<PathBuf>,
    data: Option<PathBuf>,
) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let options = ServeOptions {
        config,
        data,
        listen: None,
        process_control: None,
        drain: false,
        library: None,
    };
    let resolved = resolve(&options)?;
    Ok((resolved.data, resolved.jobs))
}

fn resolve(options: &ServeOptions) -> anyhow::Result<Resolved> {
    let config = config_path(options)?;
    let file = match &config {
        Some(path) => read_tools_file(path)?,
        None => ToolsFile {
            tools: vec![builtin_search(&own_path()?, options.library.as_deref())],
            ..ToolsFile::default()
        },
    };
    let listen = options
        .listen
        .clone()
        .or_else(|| file.server.listen.clone());
    let data = options.data.clone().or_else(|| file.server.data.clone());
    let data = match (data, &config) {
        (Some(data), _) => data,
        (None, Some(config)) => folder_of(config).join("onelane-data"),
        (None, None) => default_data_folder().context(
            "neither XDG_STATE_HOME nor a home folder is known\nhint: name a folder with --data",
        )?,
    };
    Ok(Resolved {
        listen: listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned()),
        data,
        jobs: file.server.jobs.clone(),
        machine: machine(&file)?,
        control: wanted_control(options, &file)?,
        file,
    })
}

fn wanted_control(options: &ServeOptions, file: &ToolsFile) -> anyhow::Result<WantedLevel> {
    match (options.process_control, &file.server.process_control) {
        (Some(wanted), _) => Ok(wanted),
        (None, Some(word)) => Ok(word.parse()?),
        (None, None) => Ok(WantedLevel::Auto),
    }
}

fn config_path(options: &ServeOptions) -> anyhow::Result<Option<PathBuf>> {
    let usual = PathBuf::from("onelane.toml");
    let path = options
        .config
        .clone()
        .or_else(|| usual.exists().then_some(usual));
    if path.is_some() && options.library.is_some() {
        bail!(
            "--library belongs to the built-in demonstration tool; with a tools file, name the library there"
        );
    }
    path.map(|path| std::path::absolute(&path).context("can't find the current folder"))
        .transpose()
}

fn folder_of(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new("/"))
}

fn read_tools_file(path: &Path) -> anyhow::Result<ToolsFile> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    parse_tools_file_for(&text, folder_of(path), &own_path()?).map_err(|errors| {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{}:{error}", path.display()))
            .collect();
        anyhow::anyhow!("the tools file has errors\n{}", lines.join("\n"))
    })
}

/// This program's file, for the built-in tools.
fn own_path() -> anyhow::Result<String> {
    let path = std::env::current_exe().context("can't find this program's own file")?;
    path.to_str()
        .map(str::to_owned)
        .context("this program's path is not UTF-8")
}

fn machine(file: &ToolsFile) -> anyhow::Result<Capacity> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let gpus = file.machine.gpus.as_ref().map_or(0, Vec::len);
    Ok(Capacity {
        cpus: file.machine.cpus.unwrap_or(u32::try_from(cpus)?),
        memory_bytes: file.machine.memory_bytes.unwrap_or(total_memory()?),
        gpus: u32::try_from(gpus)?,
    })
}

/// `MemTotal` of /proc/meminfo (proc(5)), in bytes.
fn total_memory() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("can't read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .context("/proc/meminfo has no MemTotal")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
