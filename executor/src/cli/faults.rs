//! The flags of the fault port, shared by shard and coordinator.

use std::path::PathBuf;

use shard_executor::faults::{Order, PortAddress, PortOptions};

/// Where tests order faults.
#[derive(Debug, clap::Args)]
pub(crate) struct FaultArgs {
    /// Where tests arm fault points: the path of a unix socket, for this user and root only, or a
    /// loopback address, which requires a token; without this flag no fault can be armed
    #[arg(long, env = "SHARD_EXECUTOR_FAULTS", value_name = "PATH|ADDR")]
    faults: Option<PortAddress>,
    /// File with the token that clients must send first if --faults is an address: mode 600, at
    /// least 16 visible characters
    #[arg(
        long,
        env = "SHARD_EXECUTOR_FAULTS_TOKEN_FILE",
        value_name = "FILE",
        requires = "faults",
        hide_short_help = true
    )]
    faults_token_file: Option<PathBuf>,
    /// Order to carry out before anything starts, in the syntax of the fault port, such as "arm
    /// never-ready"
    #[arg(long, value_name = "ORDER", requires = "faults", hide_short_help = true)]
    arm: Vec<Order>,
}

impl FaultArgs {
    /// The port, if there is to be one, and what is armed from the start.
    pub(crate) fn options(self) -> (Option<PortOptions>, Vec<Order>) {
        let Self { faults, faults_token_file: token_file, arm } = self;
        (faults.map(|address| PortOptions { address, token_file }), arm)
    }
}
