//! The process's log on standard error, one readable line per record.
//!
//! A thread that logs never waits for the reader: lines go through a bounded queue to the thread
//! `log-sN` or `log-coord`, which alone may wait for standard error. Lines that do not fit are
//! dropped and counted, and the count is written once there is room again.

use std::env::VarError;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::deadline;
use crate::lines::{Descriptor, Lines};

/// Lines that may wait. At level debug a part logs at most a few dozen, each of some 200 bytes, so
/// this holds the lines of several parts. It is at most 4 MiB, since a line has at most [`LONGEST`]
/// bytes.
const ROOM: usize = 512;

/// A longer line is truncated, in bytes: some lines contain text of a peer.
const LONGEST: usize = 8_192;

/// The filter, unless `RUST_LOG` sets another.
const DEFAULT_FILTER: &str = "warn";

/// The log of this process; set by [`start`].
static LOG: OnceLock<Lines> = OnceLock::new();

/// Other lines that must be written before the process ends; set by [`flush_also`].
static ALSO: OnceLock<Lines> = OnceLock::new();

/// A `RUST_LOG` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "RUST_LOG is {found}, which is not understood ({reason}), and is ignored; give a level, such as info, or target=level"
)]
struct FilterError {
    found: String,
    reason: String,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Standard error could not be duplicated, or the thread could not be started.
    #[error(
        "the log cannot be started: {0}. The limit on threads or descriptors is probably reached (ulimit -u, ulimit -n)"
    )]
    Io(#[from] io::Error),
    /// Logging was already set up in this process.
    #[error("this process has a log already")]
    Taken,
}

/// Starts the log of this process, with a thread `log-NAME`; `name` has at most 11 bytes, or the
/// kernel truncates it. The filter comes from `RUST_LOG`; if that cannot be used, the default
/// applies and a warning is logged. Each line also goes to `collector`, if there is one. Colours
/// are used only on a terminal, and not if `NO_COLOR` is set.
///
/// # Errors
/// If the thread cannot be started, or there is a log already.
pub fn start(name: &str, collector: Option<&SdkLoggerProvider>) -> Result<(), LogError> {
    let (filter, misread) = match filter(std::env::var(EnvFilter::DEFAULT_ENV)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let stderr = io::stderr();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = Lines::start(&format!("log-{name}"), ROOM, dropped, Descriptor::duplicate(&stderr)?)?;
    let written = tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        // The subscriber would report its errors on standard error itself, and wait.
        .log_internal_errors(false)
        .with_writer(Log(lines.clone()));
    let sent = collector.map(OpenTelemetryTracingBridge::new);
    let log = tracing_subscriber::registry().with(filter).with(sent).with(written);
    log.try_init().map_err(|_| LogError::Taken)?;
    if let Some(error) = misread {
        tracing::warn!("{error}");
    }
    LOG.set(lines).map_err(|_| LogError::Taken)
}

/// Waits until everything logged before is written, and the report with it, for at most `within`;
/// returns whether it is. Returns true at once if there is neither. Safe in a panic hook.
pub fn flush(within: Duration) -> bool {
    let until = Instant::now() + within;
    let flush = |lines: &OnceLock<Lines>| {
        lines.get().is_none_or(|lines| lines.flush(until.saturating_duration_since(Instant::now())))
    };
    let logged = flush(&LOG);
    flush(&ALSO) && logged
}

/// From now on [`flush`] waits for these lines, too: a panic in the next block must not lose what
/// was reported of this one.
pub(crate) fn flush_also(lines: &Lines) {
    // A process has one report; a second one belongs to a test, which flushes it itself.
    let _ = ALSO.set(lines.clone());
}

/// Logs a line that must be written whatever the filter is, such as why the process ends: it waits
/// for room for at most [`deadline::LAST_WORDS`].
pub fn tell(line: &str) {
    let line = format!("{line}\n");
    match LOG.get() {
        Some(lines) => {
            // A dropped line is counted; there is nowhere else to report it.
            let _ = lines.say_within(line.as_bytes(), deadline::LAST_WORDS);
        }
        None => {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

fn filter(variable: Result<String, VarError>) -> Result<EnvFilter, FilterError> {
    let text = match variable {
        Ok(text) if !text.is_empty() => text,
        Ok(_) | Err(VarError::NotPresent) => DEFAULT_FILTER.to_owned(),
        Err(VarError::NotUnicode(text)) => {
            return Err(FilterError { found: format!("{text:?}"), reason: "it is not UTF-8".to_owned() });
        }
    };
    EnvFilter::try_new(&text)
        .map_err(|error| FilterError { found: format!("{text:?}"), reason: error.to_string() })
}

fn dropped(lines: u64) -> String {
    format!("shard-executor: {lines} log lines were dropped here: standard error was not read in time")
}

/// Makes the writers of the subscriber.
struct Log(Lines);

impl MakeWriter<'_> for Log {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.0.clone())
    }
}

/// Writes one whole line at once.
struct Line(Lines);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A dropped line is counted, and is not an error for the thread that logs.
        let _ = match line.get(..LONGEST) {
            None => self.0.say(line),
            Some(beginning) => self.0.say(&[beginning, b"...\n"].concat()),
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_filter_that_cannot_be_understood_is_told_and_an_empty_one_is_the_default() {
        let wrong = filter(Ok("shard_executor=loud".to_owned())).expect_err("no such level");
        assert!(wrong.to_string().contains("shard_executor=loud"), "{wrong}");
        filter(Err(VarError::NotUnicode(OsString::from_vec(vec![0xff])))).expect_err("not text");
        for fine in [Ok(String::new()), Err(VarError::NotPresent)] {
            assert_eq!(filter(fine).expect("a filter").to_string(), DEFAULT_FILTER);
        }
    }

    #[test]
    fn a_long_line_is_cut_and_stays_one_line() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let lines = Lines::start("lines", 4, dropped, writer).expect("a thread");
        let mut line = Log(lines.clone()).make_writer();
        line.write_all(&[b'x'; 3 * LONGEST]).expect("taken");
        assert!(lines.flush(Duration::from_secs(60)));
        drop((line, lines));
        let mut written = Vec::new();
        io::Read::read_to_end(&mut reader, &mut written).expect("read");
        assert!(written.ends_with(b"x...\n") && written.len() == LONGEST + 4, "{}", written.len());
    }

    #[test]
    fn without_a_log_a_flush_has_nothing_to_wait_for() {
        assert!(flush(Duration::ZERO));
    }
}
