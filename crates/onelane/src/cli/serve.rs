use std::path::PathBuf;

use clap::Args;
use onelane_exec::WantedLevel;

/// Flags of `onelane serve`; they win over the environment, that over the tools file, that over the defaults.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeOptions {
    /// Tools file [default: ./onelane.toml if there is one]
    #[arg(long, env = "ONELANE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, on a local disk [default: beside the tools file, else the XDG state folder]
    #[arg(long, env = "ONELANE_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, env = "ONELANE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// How process trees are held together: auto, cgroup, namespace or guard [default: auto, the strongest that works]
    #[arg(long, env = "ONELANE_PROCESS_CONTROL", value_name = "LEVEL")]
    pub(crate) process_control: Option<WantedLevel>,
    /// When told to stop: start nothing new, and wait for what runs; a second signal stops at once
    #[arg(long)]
    pub(crate) drain: bool,
    /// FASTA library of the built-in tool `search` [default: a small sample of Swiss-Prot]
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
}
