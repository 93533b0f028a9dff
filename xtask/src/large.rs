//! A gigabyte of FASTA through submission, with the server's memory measured: too much for every test run.

use crate::cargo;

pub(crate) fn run() -> anyhow::Result<()> {
    let name = "a_gigabyte_of_fasta_streams_through_with_the_servers_memory_flat";
    let mut command = cargo();
    command.args(["test", "--release", "-p", "onelane", "--test", "it", name]);
    crate::run(command.args(["--", "--ignored", "--nocapture"]))
}
