//! How fast Onelane is, one question a command: against the machine's own limits (a bare "hello", a bare group commit, a
//! bare spawn) and against what people use today. Everything is on loopback and bounded; what is compared takes turns
//! within one run.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark measures time and prints what it finds"
)]

mod baseline;
mod brood;
mod hog;
mod load;
mod machine;
mod peers;
mod prepare;
mod report;
mod responsive;
mod scale;
mod server;
mod soak;
mod stream;
mod submit;
mod svg;
mod trace;
mod turnover;
mod warm;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use report::Report;

/// What all commands share.
#[derive(Args, Clone, Debug)]
struct Common {
    /// The server to measure; otherwise the `onelane` beside this program.
    #[arg(long, global = true)]
    onelane: Option<PathBuf>,
    /// Folder for tables (JSON), pictures (SVG) and, while it runs, the servers' data: on the disk to be measured.
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
    /// How many rounds; medians are shown.
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    /// Without the peers, though they are installed.
    #[arg(long, global = true)]
    without_peers: bool,
    /// A form of a few seconds, to see that all of it works; its figures mean nothing.
    #[arg(long, global = true)]
    small: bool,
}

impl Common {
    fn onelane(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.onelane {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("onelane"),
        };
        ensure!(
            path.is_file(),
            "there is no server at `{}`\nhint: cargo build --release -p onelane, or name one with --onelane",
            path.display()
        );
        Ok(std::path::absolute(path)?)
    }

    /// `full`, or the small form's figure.
    fn pick<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }

    /// The peers to measure.
    fn peers(&self, report: &mut Report) -> Vec<peers::Peer> {
        if self.without_peers {
            return Vec::new();
        }
        peers::there(report)
    }

    fn rounds(&self) -> usize {
        self.pick(self.rounds.max(1), 2)
    }
}

#[derive(Parser, Debug)]
#[command(name = "onelane-bench", about, version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Durable submissions a second, and how long each takes
    Submit(submit::Part),
    /// How quickly it answers while a job eats the machine
    Responsive,
    /// How long one job after another takes, and where that time goes
    Turnover,
    /// What each operation costs when the queue, or the past, is long
    Scale(scale::Sizes),
    /// A thousand followers of one job, and large files both ways
    Stream,
    /// Whether anything grows over a long time
    Soak(soak::Length),
    /// Installs what people use today, to be measured too
    Peers {
        /// Without what has to be compiled (pueue).
        #[arg(long)]
        quick: bool,
    },
    /// The least an HTTP server can do
    #[command(hide = true)]
    Hello,
    /// The least a durable HTTP server can do
    #[command(hide = true)]
    Probe {
        /// Where its database goes.
        folder: PathBuf,
    },
    /// A job that says the time
    #[command(hide = true)]
    Tick {
        /// How often.
        ticks: u32,
    },
    /// A warm worker that does nothing
    #[command(hide = true)]
    Warm,
    /// A job that takes all it can get
    #[command(hide = true)]
    Hog {
        /// Of what.
        what: hog::Hog,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Command::Hog { what } => return hog::run(*what),
        Command::Warm => return warm::run(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let is_server = matches!(cli.command, Command::Hello | Command::Probe { .. });
    runtime.block_on(async {
        tokio::select! {
            ended = run(&cli.common, cli.command) => ended,
            // The servers that were started are dropped, and stopped by that.
            () = told_to_stop() => {
                ensure!(is_server, "stopped by a signal");
                Ok(())
            }
        }
    })
}

async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn run(common: &Common, command: Command) -> anyhow::Result<()> {
    std::fs::create_dir_all(&common.out)?;
    let report: Report = match command {
        Command::Peers { quick } => return peers::install(quick),
        Command::Hello => return baseline::hello().await,
        Command::Probe { folder } => return baseline::probe(&folder).await,
        Command::Hog { what } => return hog::run(what),
        Command::Warm => return warm::run(),
        Command::Tick { ticks } => {
            stream::tick(ticks);
            return Ok(());
        }
        Command::Submit(part) => submit::run(common, &part).await?,
        Command::Turnover => turnover::run(common).await?,
        Command::Stream => stream::run(common).await?,
        Command::Soak(length) => soak::run(common, &length).await?,
        Command::Scale(sizes) => scale::run(common, &sizes).await?,
        Command::Responsive => responsive::run(common).await?,
    };
    report.finish(common)
}
