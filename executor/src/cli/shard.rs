//! `shard`: one shard, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use shard_executor::faults::Order;
use shard_executor::shard::{self, ShardOptions};
use shard_executor::telemetry::{HostPattern, Telemetry};

use super::{BAD_INPUT, VERIFIED, fail};

/// The heartbeat has sixteen lanes a thread, and one of them is the executor thread's own.
const MOST_THREADS: i64 = 16;

/// Run one shard: execute parts of blocks for a coordinator until SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of the shard; its threads are named after it (exec-sN)
    #[arg(long, env = "SHARD_EXECUTOR_ID", value_name = "N")]
    pub(crate) id: u16,
    /// Where the coordinator reaches it, such as 127.0.0.1:7001
    #[arg(long, env = "SHARD_EXECUTOR_LISTEN", value_name = "ADDR")]
    listen: SocketAddr,
    /// Heartbeat segment to publish, best on tmpfs (/run, /dev/shm)
    #[arg(long, env = "SHARD_EXECUTOR_HEARTBEAT", value_name = "FILE")]
    heartbeat: PathBuf,
    /// Threads that execute a part together: exec-sN and its helpers exec-sN-w1, exec-sN-w2, …
    #[arg(long, env = "SHARD_EXECUTOR_THREADS", value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    threads: u16,
    /// Loopback port on which tests arm fault points; without it there are none to arm
    #[arg(long, env = "SHARD_EXECUTOR_FAULTS", value_name = "ADDR")]
    faults: Option<SocketAddr>,
    /// Order to obey before anything is started, in the words of the fault port, such as "arm never-ready"
    #[arg(long, value_name = "ORDER", requires = "faults", hide_short_help = true)]
    arm: Vec<Order>,
    /// Where to serve GET /metrics for Prometheus, such as 127.0.0.1:9621
    #[arg(long, env = "SHARD_EXECUTOR_METRICS", value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Names by which GET /metrics may be asked for, beside addresses and localhost, such as
    /// shard-0.shards.svc,*.example
    #[arg(long, env = "SHARD_EXECUTOR_METRICS_HOSTS", value_name = "NAME,NAME…", value_delimiter = ',')]
    pub(crate) metrics_hosts: Vec<HostPattern>,
}

pub(crate) fn run(args: Args, telemetry: Telemetry) -> ExitCode {
    let Args { id, listen, heartbeat, threads, faults, arm, .. } = args;
    let threads = usize::from(threads);
    match shard::run(&ShardOptions { id, listen, heartbeat, threads, faults, arm, telemetry }) {
        Ok(()) => ExitCode::from(VERIFIED),
        Err(error) => fail(BAD_INPUT, &format!("shard {id}: {error}.")),
    }
}
