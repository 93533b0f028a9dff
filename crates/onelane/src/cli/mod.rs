//! What was typed: the command line's shape, and from there to the command.

mod places;
mod serve;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use onelane_engine::EngineError;
use onelane_store::StoreError;

use crate::client::{Client, ClientError};
use crate::commands::{self, Context};
use crate::exit::{self, Exit};
use crate::output::{self, Output};

pub(crate) use places::default_data_folder;
pub(crate) use serve::ServeOptions;

/// Queue sequence analyses over HTTP and run them one by one, answering all the while.
#[derive(Debug, Parser)]
#[command(name = "onelane", version, after_help = exit::help(), subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// Address of the server
    #[arg(
        long,
        global = true,
        env = "ONELANE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8000"
    )]
    server: String,
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(ServeOptions),
    /// Submit a job and print its id
    Submit(commands::submit::Options),
    /// Submit a job, wait for it, fetch its results; Ctrl-C cancels it
    Run(commands::run::Options),
    /// List jobs, newest first
    List(commands::list::Options),
    /// Show one job; when it failed, with the end of its standard error
    Show(commands::show::Options),
    /// Print what a job wrote
    Logs(commands::logs::Options),
    /// Wait until jobs have ended
    Wait(commands::wait::Options),
    /// Cancel jobs
    Cancel(commands::cancel::Options),
    /// Delete ended jobs with all their files
    Delete(commands::delete::Options),
    /// Fetch a job's results
    Download(commands::download::Options),
    /// Show the queue, pause or resume it
    Queue(commands::queue::Options),
    /// Check tools files, and print their schema
    Config(commands::config::Options),
    /// List the tools, or show one with its parameters; check them, read the tools file again
    Tools(commands::tools::Options),
    /// Check the store and the jobs' folders against each other
    Check(commands::FolderOptions),
    /// Write a consistent copy of the store, also while a server is at work
    Backup(commands::backup::Options),
    /// Bring a backup of the store back
    Restore(commands::restore::Options),
    /// Check this machine and the server
    Doctor(commands::doctor::Options),
    /// See it all work: real searches, a killed server, nothing lost
    Demo(commands::demo::Options),
}

/// Parses, runs, and turns whatever happened into an exit code.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => run(cli).into(),
        Err(error) => {
            // Help and version come as "errors" too, meant for standard output and 0.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            drop(error.print());
            exit.into()
        }
    }
}

fn run(cli: Cli) -> Exit {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime.context("failed to start") {
        Ok(runtime) => {
            let outcome = runtime.block_on(dispatch(cli));
            // A server that stops under a running job has a thread that waits for the job's lock: leave it behind.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| failed(&error))
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let context = Context {
        client: Client::new(&cli.server)?,
        output: Output::new(cli.json),
    };
    match cli.command {
        Command::Serve(options) => crate::serve::serve(context.output, options)
            .await
            .map(|()| Exit::Done),
        Command::Submit(options) => commands::submit::run(&context, options).await,
        Command::Run(options) => commands::run::run(&context, options).await,
        Command::List(options) => commands::list::run(&context, &options).await,
        Command::Show(options) => commands::show::run(&context, &options).await,
        Command::Logs(options) => commands::logs::run(&context, &options).await,
        Command::Wait(options) => commands::wait::run(&context, &options).await,
        Command::Cancel(options) => commands::cancel::run(&context, &options).await,
        Command::Delete(options) => commands::delete::run(&context, &options).await,
        Command::Download(options) => commands::download::run(&context, &options).await,
        Command::Queue(options) => commands::queue::run(&context, &options).await,
        Command::Config(options) => commands::config::run(&context, &options),
        Command::Tools(options) => commands::tools::run(&context, &options).await,
        Command::Check(options) => commands::check::run(&context, &options),
        Command::Backup(options) => commands::backup::run(&context, &options),
        Command::Restore(options) => commands::restore::run(&context, &options),
        Command::Doctor(options) => commands::doctor::run(&context, &options).await,
        Command::Demo(options) => commands::demo::run(context.output, &options).await,
    }
}

fn failed(error: &anyhow::Error) -> Exit {
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // Whoever read our output has seen enough.
    if error.chain().any(is_broken_pipe) && error.downcast_ref::<ClientError>().is_none() {
        return Exit::Done;
    }
    output::complain(&format!(
        "error: {}",
        output::harmless(&format!("{error:#}"))
    ));
    let is_bad_store = |cause: &(dyn std::error::Error + 'static)| {
        let by_store = cause.downcast_ref::<StoreError>().is_some_and(|error| {
            matches!(
                error,
                StoreError::Unusable { .. } | StoreError::Damaged { .. }
            )
        });
        let by_engine = cause.downcast_ref::<EngineError>();
        by_store || matches!(by_engine, Some(EngineError::Damaged(_)))
    };
    if error.chain().any(is_bad_store) {
        return Exit::BadStore;
    }
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>())
        .map_or(Exit::LocalTrouble, ClientError::exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documentation_names_every_command() {
        let page = include_str!("../../../../docs/cli.md");
        for command in Cli::command().get_subcommands() {
            assert!(
                page.contains(&format!("`onelane {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }
}
