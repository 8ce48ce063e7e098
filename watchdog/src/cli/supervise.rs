//! `supervise`: keeps a command and its sidecar running.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{duration, fail, positive_duration};
use shard_watchdog::config::units::written;
use shard_watchdog::supervise::{BackoffSettings, Settings};

const HELP: &str = "\
Examples:
  shard-watchdog supervise --config 0.toml -- \\
      shard-executor shard --id 0 --listen 127.0.0.1:7001 --heartbeat /run/shard/0.heartbeat
  shard-watchdog supervise -- CMD ARG…       without a sidecar; also as PID 1 of a container

To stop: SIGTERM or Ctrl-C once. CMD gets the same signal, then the sidecar SIGTERM; either is killed if it
outlives --stop-grace. A second signal kills at once. If the supervisor itself is killed, both get SIGTERM.
Signals go to the whole process group of CMD: if CMD is a shell, what it started ends with it. If CMD ends by
itself, the rest of its group gets SIGTERM, and SIGKILL after 2 s, before CMD is started again.

SIGHUP: the sidecar reads its config again. SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and real-time signals are passed
on to CMD if it catches them; a signal that would end CMD is not, which is logged.

Exit codes: CMD's own, 128 plus the signal's number if a signal ended it · 127 CMD not found, 126 CMD not executable,
at the first start only · 2 bad arguments · 71 the system refused";

/// Keep a command running, with a sidecar beside it: for machines without systemd, runit or
/// Kubernetes
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Run a sidecar with this config beside CMD; without it CMD is only restarted
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Wait this long before the first restart of a child that ended early; doubled each time
    #[arg(long, env = "SHARD_WATCHDOG_BACKOFF_INITIAL", value_name = "TIME", default_value = "100ms",
          value_parser = positive_duration)]
    backoff_initial: Duration,
    /// Longest wait before a restart
    #[arg(long, env = "SHARD_WATCHDOG_BACKOFF_MAX", value_name = "TIME", default_value = "10s",
          value_parser = positive_duration)]
    backoff_max: Duration,
    /// A child that ran at least this long is restarted at once
    #[arg(long, env = "SHARD_WATCHDOG_SETTLED_AFTER", value_name = "TIME", default_value = "2s",
          value_parser = duration)]
    settled_after: Duration,
    /// How long a child may take to end after SIGTERM before SIGKILL
    #[arg(long, env = "SHARD_WATCHDOG_STOP_GRACE", value_name = "TIME", default_value = "10s",
          value_parser = duration)]
    stop_grace: Duration,
    /// The command to keep running, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.backoff_initial > args.backoff_max {
        return fail(
            super::BAD_INPUT,
            format_args!(
                "--backoff-initial ({}) is longer than --backoff-max ({}); make it the shorter one",
                written(args.backoff_initial),
                written(args.backoff_max)
            ),
        );
    }
    let settings = Settings {
        command: args.command.clone(),
        config: args.config.clone(),
        backoff: BackoffSettings {
            initial: args.backoff_initial,
            max: args.backoff_max,
            settled_after: args.settled_after,
        },
        stop_grace: args.stop_grace,
    };
    match shard_watchdog::supervise::run(&settings) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(error.exit_code(), &error),
    }
}
