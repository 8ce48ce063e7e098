//! Says that the collector does not take a signal, and why, when that begins, and when it is over; nothing in between.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use reqwest::blocking::Client;

use crate::dropped::Signal;

/// What the exporter says of every request that got no answer, whatever was the cause.
const NO_ANSWER: &str = "network error";
/// How long it may take to learn the cause: a refusal comes at once, and a collector that is silent gives none.
const CAUSE_WITHIN: Duration = Duration::from_secs(1);

/// Remembers whether one signal fails.
#[derive(Debug)]
pub(super) struct Telling {
    signal: Signal,
    /// Whom to ask for the cause of a failure that the exporter keeps to itself.
    cause: Option<(Client, String)>,
    failing: AtomicBool,
}

impl Telling {
    pub(super) const fn new(signal: Signal, cause: Option<(Client, String)>) -> Self {
        Self { signal, cause, failing: AtomicBool::new(false) }
    }

    /// Takes note of how a request ended.
    pub(super) fn note(&self, sent: &OTelSdkResult) {
        let signal = self.signal.label();
        let failed = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) if !failed => {
                let error = self.explained(&error.to_string());
                tracing::warn!(
                    event = "otlp_failing",
                    signal,
                    error,
                    "the collector does not take {signal}: {error}"
                );
            }
            Ok(()) if failed => {
                tracing::info!(event = "otlp_works", signal, "the collector takes {signal} again");
            }
            _ => {}
        }
    }

    /// The error with its cause: a port where nobody listens and a certificate that nobody trusts ask for different people.
    fn explained(&self, error: &str) -> String {
        let cause = self.cause.as_ref().filter(|_| error.contains(NO_ANSWER));
        let asked = cause.map(|(client, to)| client.head(to).timeout(CAUSE_WITHIN).send());
        match asked {
            Some(Err(cause)) => format!("{error}: {}", chain(&cause)),
            Some(Ok(_)) | None => error.to_owned(),
        }
    }
}

/// An error and what it rests on, without what is said twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
