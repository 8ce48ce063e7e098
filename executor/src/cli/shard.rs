//! `shard`: runs one shard until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use shard_executor::net::{AdmissionOptions, CertificateFiles};
use shard_executor::shard::{self, ShardOptions};
use shard_executor::telemetry::{HostPattern, Telemetry};

use super::exit::{BAD_INPUT, VERIFIED, fail};
use super::faults::FaultArgs;

/// The heartbeat has sixteen lanes a thread, and one of them is the executor thread's own.
const MOST_THREADS: i64 = 16;

/// Run one shard: execute parts of blocks for a coordinator until SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of the shard; its threads are named after it (exec-sN)
    #[arg(long, env = "SHARD_EXECUTOR_ID", value_name = "N")]
    pub(crate) id: u16,
    /// Address to listen on for the coordinator, such as 127.0.0.1:7001; an address that others can
    /// reach requires --tls-client-ca, --token-file or --insecure
    #[arg(long, env = "SHARD_EXECUTOR_LISTEN", value_name = "ADDR")]
    listen: SocketAddr,
    /// Heartbeat segment to publish, best on tmpfs (/run, /dev/shm)
    #[arg(long, env = "SHARD_EXECUTOR_HEARTBEAT", value_name = "FILE")]
    heartbeat: PathBuf,
    /// Let a sidecar in another pid namespace observe this process: a client of the same user or
    /// root that connects to the socket HEARTBEAT.sight receives its /proc
    #[arg(long, env = "SHARD_EXECUTOR_SHOW_PROC", value_parser = BoolishValueParser::new())]
    show_proc: bool,
    /// Threads that execute a part together: exec-sN and its helpers exec-sN-w1, exec-sN-w2, …
    #[arg(long, env = "SHARD_EXECUTOR_THREADS", value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    threads: u16,
    /// Certificate of this shard, PEM; enables TLS. Certificate, key and authority are read again
    /// when they change
    #[arg(long, env = "SHARD_EXECUTOR_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "SHARD_EXECUTOR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificate authority, PEM: coordinators and all other clients must present a certificate
    /// that it signed
    #[arg(long, env = "SHARD_EXECUTOR_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// File with a token that coordinators must send; the health service requires none. Without
    /// --tls-cert it crosses the network unencrypted. Read again when it changes
    #[arg(long, env = "SHARD_EXECUTOR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Listen on an address that others can reach, although any of them may give this shard work
    #[arg(long, env = "SHARD_EXECUTOR_INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,
    #[command(flatten)]
    faults: FaultArgs,
    /// Where to serve GET /metrics for Prometheus, such as 127.0.0.1:9621
    #[arg(long, env = "SHARD_EXECUTOR_METRICS", value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Host names under which GET /metrics is answered, besides addresses and localhost, such as
    /// shard-0.shards.svc,*.example
    #[arg(long, env = "SHARD_EXECUTOR_METRICS_HOSTS", value_name = "NAME,NAME…", value_delimiter = ',')]
    pub(crate) metrics_hosts: Vec<HostPattern>,
}

pub(crate) fn run(args: Args, telemetry: Telemetry) -> ExitCode {
    let (faults, arm) = args.faults.options();
    let certificate = args.tls_cert.zip(args.tls_key);
    let options = ShardOptions {
        id: args.id,
        listen: args.listen,
        admission: AdmissionOptions {
            certificate: certificate.map(|(certificate, key)| CertificateFiles { certificate, key }),
            client_ca: args.tls_client_ca,
            token_file: args.token_file,
            insecure: args.insecure,
        },
        heartbeat: args.heartbeat,
        show_proc: args.show_proc,
        threads: usize::from(args.threads),
        faults,
        arm,
        telemetry,
    };
    match shard::run(&options) {
        Ok(()) => ExitCode::from(VERIFIED),
        Err(error) => fail(BAD_INPUT, &format!("shard {}: {error}.", options.id)),
    }
}
