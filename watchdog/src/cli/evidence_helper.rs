//! `evidence-helper`: the process that takes dumps for its sidecar. Not for people: it is hidden.

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use shard_watchdog::dump::helper;

use super::{BAD_INPUT, fail};

/// Take dumps for a sidecar, which starts this with a socket as its standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_: &Args) -> ExitCode {
    let stdin = std::io::stdin();
    if socket_type(stdin.as_fd()) != Ok(SocketType::SEQPACKET) {
        return fail(BAD_INPUT, "evidence-helper is started by the sidecar, and of no use without it");
    }
    match helper::serve(stdin.as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format!("the evidence helper ends: {error}")),
    }
}
