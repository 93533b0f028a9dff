//! The one place where everything is put together.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use onelane_core::{Capacity, Timestamp};
use onelane_engine::{DiskFloor, Engine, Handle, Setup, Surroundings};
use onelane_exec::{Control, DataFolder, LocalExecutor, WantedLevel};
use onelane_server::{ReloadError, ServerConfig, ToolsSource};
use onelane_store::StoreError;
use onelane_store::sqlite::SqliteStore;
use onelane_tools::{Hardware, ToolsFile, builtin_search, load_tools_file};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{ServeOptions, default_data_folder};
use crate::commands::config::lines;
use crate::output::Output;

/// Answers that are under way when the server stops get so long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Where the server listens when nothing says otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8000";

/// The system's clock and dice.
#[derive(Default)]
struct System {
    dice: Mutex<Dice>,
}

/// Random bytes for some ids: asking the kernel for each is a call too many in a submission. So few come in one piece
/// (getrandom(2)).
struct Dice {
    bytes: [u8; 250],
    used: usize,
}

impl Default for Dice {
    fn default() -> Self {
        let bytes = [0; 250];
        let used = bytes.len();
        Self { bytes, used }
    }
}

impl Dice {
    fn throw(&mut self) -> [u8; 10] {
        if self.used == self.bytes.len() {
            // Fails only before the kernel's pool is ready; ids stay unique by their time then.
            rustix::rand::getrandom(&mut self.bytes, rustix::rand::GetRandomFlags::empty()).ok();
            self.used = 0;
        }
        let from = self.used;
        self.used += 10;
        std::array::from_fn(|at| self.bytes[from + at])
    }
}

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
        self.dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .throw()
    }
}

/// What the options, the environment and the tools file come to.
struct Resolved {
    file: ToolsFile,
    listen: String,
    config: Option<PathBuf>,
    data: PathBuf,
    jobs: Option<PathBuf>,
    machine: Capacity,
    control: WantedLevel,
}

/// Binds the address. A server that was killed in the middle of starting a process leaves its socket with that process
/// until its program begins, so an address in use gets a moment.
async fn listen(address: &str) -> std::io::Result<TcpListener> {
    let mut tries = 50;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            bound => return bound,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let resolved = resolve(&options)?;
    for warning in &resolved.file.warnings {
        let file = warning.file.as_ref().map(|file| file.display().to_string());
        tracing::warn!(file, "{warning}");
    }
    let listener = listen(&resolved.listen).await.map_err(|error| {
        anyhow!(
            "can't listen on {}: {error}\nhint: choose another address with --listen, such as --listen 127.0.0.1:8001",
            resolved.listen
        )
    })?;
    let address = listener.local_addr()?;
    // Before anybody is told that there is a server: without a handler a signal ends it on the spot.
    let (hangup, mut stop) = (signal(SignalKind::hangup())?, StopSignals::new()?);
    let data = DataFolder::open(&resolved.data, resolved.jobs.as_deref())?;
    let hosts = resolved.file.server.hosts.clone();
    let tools = tools_source(resolved.config.as_deref())?;
    // Before there is work: it moves this process into a group of its own.
    let control = Control::choose(resolved.control, &data.unique_name()?)?;
    let engine = start_engine(resolved, &data, control.clone()).await?;
    let config = ServerConfig {
        hosts,
        listen: address,
        process_control: control.level().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tools: tools.clone(),
    };
    tokio::spawn(reload_on_hangup(hangup, engine.handle(), tools));
    let router = onelane_server::router(engine.handle(), config);
    output.line(&format!("onelane listening on http://{address}"))?;
    output.line(&format!("data in {}", data.root().display()))?;
    output.line(&format!("process control: {}", control.level()))?;
    announce(output, &engine.handle())?;
    let ended = run(listener, router, &engine, (&mut stop, options.drain)).await;
    engine.end_idle().await;
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
    (signals, drain): (&mut StopSignals, bool),
) -> anyhow::Result<()> {
    let (told, mut stop) = tokio::sync::watch::channel(false);
    let wait_for_stop = async move {
        // An error means that the sender is gone, which is a stop too.
        stop.wait_for(|stopped| *stopped).await.ok();
    };
    // The router itself would be copied, with all its routes, for each connection: 740 KB.
    let service = router.into_make_service();
    let server = axum::serve(listener, service).with_graceful_shutdown(wait_for_stop);
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended??),
        () = signals.next() => {}
    }
    engine.stop_taking();
    if drain {
        tokio::select! {
            () = engine.until_idle() => {}
            () = signals.next() => return Ok(()),
        }
    }
    told.send(true).ok();
    // Followers of logs and events would hold the server for as long as a job runs.
    let last_answers = tokio::time::timeout(LAST_ANSWERS, server);
    tokio::select! {
        _ = last_answers => {}
        () = signals.next() => {}
    }
    Ok(())
}

/// SIGHUP: the tools file is read again. What is wrong with it goes to the log, and the old tools stay in force.
async fn reload_on_hangup(mut hangup: Signal, handle: Handle, source: ToolsSource) {
    while hangup.recv().await.is_some() {
        match onelane_server::reload(&handle, &source).await {
            Ok(report) => {
                for warning in &report.warnings {
                    let (file, line) = (warning.file.as_ref(), warning.line);
                    tracing::warn!(file, line, "{}", warning.message);
                }
                tracing::info!(
                    added = ?report.added, changed = ?report.changed, removed = ?report.removed,
                    "the tools file was read again: {} tools in force", report.tools.len()
                );
            }
            Err(error) => {
                tracing::error!("{error}");
                if let ReloadError::Bad(errors) = error {
                    for error in errors {
                        let file = error.file.as_ref().map(|file| file.display().to_string());
                        tracing::error!(file, "{error}");
                    }
                }
            }
        }
    }
}

/// What asks the server to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
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
        surroundings: Arc::new(System::default()),
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
    let config = config_path(options.config.as_deref())?;
    if config.is_some() && options.library.is_some() {
        bail!(
            "--library belongs to the built-in demonstration tool; with a tools file, name the library there"
        );
    }
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
        config,
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

/// The tools file that is named, or `./onelane.toml` if there is one.
pub(crate) fn config_path(named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let usual = PathBuf::from("onelane.toml");
    let path = named
        .map(Path::to_owned)
        .or_else(|| usual.exists().then_some(usual));
    path.map(|path| std::path::absolute(&path).context("can't find the current folder"))
        .transpose()
}

fn folder_of(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new("/"))
}

fn read_tools_file(path: &Path) -> anyhow::Result<ToolsFile> {
    load_tools_file(path, &own_path()?, hardware()?)
        .map_err(|errors| anyhow::anyhow!("the tools file has errors\n{}", lines(path, &errors)))
}

/// How to read the tools again while the server runs.
fn tools_source(config: Option<&Path>) -> anyhow::Result<ToolsSource> {
    let Some(path) = config.map(Path::to_owned) else {
        return Ok(ToolsSource::Builtin);
    };
    let (exe, hardware) = (own_path()?, hardware()?);
    Ok(ToolsSource::File(Arc::new(move || {
        load_tools_file(&path, &exe, hardware)
    })))
}

/// This program's file, for the built-in tools.
pub(crate) fn own_path() -> anyhow::Result<String> {
    let path = std::env::current_exe().context("can't find this program's own file")?;
    path.to_str()
        .map(str::to_owned)
        .context("this program's path is not UTF-8")
}

/// What jobs may use.
pub(crate) fn machine(file: &ToolsFile) -> anyhow::Result<Capacity> {
    let hardware = hardware()?;
    let gpus = file.machine.gpus.as_ref().map_or(0, Vec::len);
    Ok(Capacity {
        cpus: file.machine.cpus.unwrap_or(hardware.cpus),
        memory_bytes: file.machine.memory_bytes.unwrap_or(hardware.memory_bytes),
        gpus: u32::try_from(gpus)?,
    })
}

/// What this machine has.
pub(crate) fn hardware() -> anyhow::Result<Hardware> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Hardware {
        cpus: u32::try_from(cpus)?,
        memory_bytes: total_memory()?,
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
