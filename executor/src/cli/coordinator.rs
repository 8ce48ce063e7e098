//! `coordinator`: executes blocks over shards.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use shard_executor::block::load_chain;
use shard_executor::coordinator::{self, CoordinatorError, CoordinatorOptions};
use shard_executor::deadline::{self, Deadlines};
use shard_executor::local::ROUNDS;
use shard_executor::net::{CertificateFiles, CredentialOptions};
use shard_executor::telemetry::{HostPattern, Telemetry};

use super::exit::{BAD_INPUT, NOT_EXECUTED, VERIFIED, WRONG_BLOCK, fail};
use super::faults::FaultArgs;
use super::rounds::MOST_ROUNDS;

/// Execute blocks over shards and verify them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Addresses of the shards, such as 127.0.0.1:7001,127.0.0.1:7002
    #[arg(long, env = "SHARD_EXECUTOR_SHARDS", value_name = "ADDR,ADDR…", value_delimiter = ',', required = true,
          value_parser = address)]
    shards: Vec<String>,
    /// A block file (.json, .json.gz) or a folder of them
    #[arg(long, env = "SHARD_EXECUTOR_BLOCKS", value_name = "PATH")]
    blocks: PathBuf,
    /// Heartbeat segment to publish, best on tmpfs (/run, /dev/shm)
    #[arg(long, env = "SHARD_EXECUTOR_HEARTBEAT", value_name = "FILE")]
    heartbeat: Option<PathBuf>,
    /// How long a block may take, retries included; every other deadline derives from it
    #[arg(long, env = "SHARD_EXECUTOR_BLOCK_DEADLINE", value_name = "DURATION", default_value = "5s",
          value_parser = deadline::parse)]
    block_deadline: Duration,
    /// How many times a part that was lost, late or wrong is dispatched again
    #[arg(long, env = "SHARD_EXECUTOR_RETRIES", value_name = "N", default_value_t = 3)]
    retries: u32,
    /// Maximum number of rounds in which shards execute a block: transactions that are stale after
    /// a round go to the shards again; those left after the last are executed in order
    #[arg(long, env = "SHARD_EXECUTOR_ROUNDS", value_name = "N", default_value_t = ROUNDS,
          value_parser = clap::value_parser!(u32).range(1..=MOST_ROUNDS))]
    rounds: u32,
    /// After a block has cost this many shards, two of them with the same part, it is quarantined:
    /// no shard gets it again, and a separate process tries it once; 0: never
    #[arg(long, env = "SHARD_EXECUTOR_POISON_AFTER", value_name = "N", default_value_t = 3)]
    poison_after: u32,
    /// File that stores quarantined blocks across restarts of the coordinator
    #[arg(long, env = "SHARD_EXECUTOR_QUARANTINE", value_name = "FILE")]
    quarantine: Option<PathBuf>,
    /// How many times to execute all blocks; 0: until told to stop
    #[arg(long, env = "SHARD_EXECUTOR_REPEAT", value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Print one JSON object per line instead of text
    #[arg(long)]
    json: bool,
    /// Certificate authority of the shards' certificates, PEM; enables TLS. Authority, certificate
    /// and key are read again when they change
    #[arg(long, env = "SHARD_EXECUTOR_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate of this coordinator, PEM, for shards that require one
    #[arg(long, env = "SHARD_EXECUTOR_TLS_CERT", value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "SHARD_EXECUTOR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name in the shards' certificates, if it differs from the host in their addresses
    #[arg(long, env = "SHARD_EXECUTOR_TLS_NAME", value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// File with the token that shards require. Without --tls-ca it crosses the network
    /// unencrypted. Read again when it changes
    #[arg(long, env = "SHARD_EXECUTOR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    faults: FaultArgs,
    /// Where to serve GET /metrics for Prometheus, such as 127.0.0.1:9620
    #[arg(long, env = "SHARD_EXECUTOR_METRICS", value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Host names under which GET /metrics is answered, besides addresses and localhost, such as
    /// shard-0.shards.svc,*.example
    #[arg(long, env = "SHARD_EXECUTOR_METRICS_HOSTS", value_name = "NAME,NAME…", value_delimiter = ',')]
    pub(crate) metrics_hosts: Vec<HostPattern>,
}

fn address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let usable =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@'));
    if usable && plain {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not an address such as 127.0.0.1:7001"))
    }
}

fn twice(shards: &[String]) -> Option<&String> {
    shards
        .iter()
        .enumerate()
        .find(|(index, shard)| shards.iter().take(*index).any(|other| other == *shard))
        .map(|(_, s)| s)
}

pub(crate) fn run(args: Args, telemetry: Telemetry) -> ExitCode {
    if let Some(twice) = twice(&args.shards) {
        return fail(
            BAD_INPUT,
            &format!(
                "coordinator: --shards names {twice} twice; a shard takes one part at a time, name each once."
            ),
        );
    }
    let blocks = match load_chain(&args.blocks) {
        Ok(blocks) => blocks,
        Err(error) => return fail(BAD_INPUT, &error),
    };
    let (faults, arm) = args.faults.options();
    let certificate = args.tls_cert.zip(args.tls_key);
    let outcome = coordinator::run(CoordinatorOptions {
        shards: args.shards,
        credentials: CredentialOptions {
            ca: args.tls_ca,
            certificate: certificate.map(|(certificate, key)| CertificateFiles { certificate, key }),
            name: args.tls_name,
            token_file: args.token_file,
        },
        blocks,
        heartbeat: args.heartbeat,
        deadlines: Deadlines::within(args.block_deadline),
        retries: args.retries,
        rounds: args.rounds,
        poison_after: args.poison_after,
        quarantine: args.quarantine,
        repeat: args.repeat,
        json: args.json,
        faults,
        arm,
        telemetry,
    });
    match outcome {
        Ok(true) => ExitCode::from(VERIFIED),
        Ok(false) => ExitCode::from(WRONG_BLOCK),
        // The reader of the output has gone, as with `| head`: nobody is left to notify, and the
        // remaining blocks are not executed.
        Err(CoordinatorError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(NOT_EXECUTED)
        }
        Err(error) => {
            let code = if error.is_bad_input() { BAD_INPUT } else { NOT_EXECUTED };
            fail(code, &format!("coordinator: {error}."))
        }
    }
}
