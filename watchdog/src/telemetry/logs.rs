//! Log lines on standard error, each one JSON object or one readable line.
//!
//! Logging never waits for the reader: lines go through a bounded queue to a thread that may block
//! on the pipe for as long as it likes. Lines that do not fit are dropped and counted.

pub mod format;
pub mod queue;

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::dropped::Dropped;
use format::{JsonLine, TextLine};
use queue::LogQueue;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, for machines. The default.
    #[default]
    Json,
    /// For a person at a terminal.
    Text,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("{other:?} is not a log format: say json or text")),
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Standard error could not be used, or the thread could not be started.
    #[error("the log cannot be started: {0}")]
    Io(#[from] std::io::Error),
    /// The filter cannot be parsed.
    #[error(
        "the log filter {filter:?} is not understood ({reason}); say a level, such as info, or target=level"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This process already has another logger.
    #[error("this process has a log already")]
    Taken,
}

/// The running log.
#[derive(Debug)]
pub struct Logs {
    queue: LogQueue,
}

/// Libraries log what an operator can act on only when something is wrong. This program reports a
/// failing collector itself, once; the exporter would do so at each request.
const DEFAULT_FILTER: &str =
    "info,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=off,hyper=warn";

/// Checks that a filter can be parsed, for callers that prefer the default to no log.
///
/// # Errors
/// If it cannot be parsed.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    let understood = EnvFilter::try_new(filter).map(|_| ());
    understood.map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

/// Starts the log of this process. `filter` is in the form of `RUST_LOG`; `None` means info for
/// this project's crates and warnings of libraries. Each line also goes to `collector`, if there is
/// one.
///
/// # Errors
/// If the filter is wrong, standard error is closed, or there is already a log.
pub fn start(
    format: Format,
    filter: Option<&str>,
    shard: &str,
    dropped: &Arc<Dropped>,
    collector: Option<&SdkLoggerProvider>,
) -> Result<Logs, LogError> {
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    // A separate descriptor, not `std::io::stderr`: its lock is held while a write hangs, and any
    // thread that prints or panics would hang as well.
    let stderr = std::io::stderr();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let queue =
        LogQueue::start(File::from(rustix::io::dup(&stderr).map_err(std::io::Error::from)?), dropped)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone());
    let sent = collector.map(OpenTelemetryTracingBridge::new);
    let registry = tracing_subscriber::registry().with(filter).with(sent);
    let taken = match format {
        Format::Json => registry.with(lines.event_format(JsonLine::new(shard))).try_init(),
        Format::Text => registry.with(lines.event_format(TextLine::new(shard, colour))).try_init(),
    };
    taken.map_err(|_| LogError::Taken)?;
    Ok(Logs { queue })
}

impl Logs {
    /// Waits until everything logged before is written, for at most `within`. Returns whether it
    /// is.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.flush(within)
    }
}
