//! Logs when the collector begins to refuse a signal, and why, and when that is over; nothing in
//! between.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use reqwest::blocking::Client;

use super::settings::Route;
use crate::dropped::Signal;

/// The exporter's error for every request without an answer, whatever the cause.
const NO_ANSWER: &str = "network error";
/// Time limit for finding the cause: a refusal comes at once, and a silent collector gives none.
const CAUSE_WITHIN: Duration = Duration::from_secs(1);

/// The variables that name proxies.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Remembers whether one signal fails.
#[derive(Debug)]
pub(super) struct Telling {
    signal: Signal,
    /// Where the signal is sent.
    route: Route,
    /// The client that finds the cause of a failure, which the exporter does not report.
    client: Option<Client>,
    failing: AtomicBool,
}

impl Telling {
    pub(super) const fn new(signal: Signal, route: Route, client: Option<Client>) -> Self {
        Self { signal, route, client, failing: AtomicBool::new(false) }
    }

    /// Records the result of a request.
    pub(super) fn note(&self, sent: &OTelSdkResult) {
        let signal = self.signal.label();
        let failed = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) if !failed => {
                let error = self.explained(&error.to_string());
                let endpoint = &self.route.endpoint;
                tracing::warn!(
                    event = "otlp_failing",
                    signal,
                    error,
                    endpoint = %endpoint,
                    "the collector at {endpoint} does not accept {signal}: {error}"
                );
            }
            Ok(()) if failed => {
                tracing::info!(event = "otlp_works", signal, "the collector accepts {signal} again");
            }
            _ => {}
        }
    }

    /// The error with its cause: a port on which nothing listens and a certificate that is not
    /// trusted are fixed by different people.
    fn explained(&self, error: &str) -> String {
        let client = self.client.as_ref().filter(|_| error.contains(NO_ANSWER));
        let asked = client.map(|client| client.head(self.route.endpoint.url()).timeout(CAUSE_WITHIN).send());
        match asked {
            // The address may contain a secret in its query.
            Some(Err(cause)) => format!("{error}: {}{}", chain(&cause.without_url()), self.proxy()),
            Some(Ok(_)) | None => error.to_owned(),
        }
    }

    /// If there may be a proxy in between, check it first: its address is not in the error.
    fn proxy(&self) -> String {
        if self.route.endpoint.is_loopback() {
            return String::new();
        }
        let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let names: Vec<_> = PROXIES.iter().copied().filter(set).collect();
        if names.is_empty() {
            return String::new();
        }
        format!(" (a proxy may stand between: {} is set)", names.join(", "))
    }
}

/// An error and its causes, without repetitions.
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
