//! Logs when the collector begins to fail or refuse a signal, and why, and when that is over;
//! nothing in between.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::settings::Route;
use crate::dropped::Signal;

/// A collector that refuses some requests and accepts those in between gets one line in this time.
const REFUSALS_APART: Duration = Duration::from_secs(600);

/// The variables that name proxies.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Remembers how one signal fares.
#[derive(Debug)]
pub(super) struct Telling {
    signal: Signal,
    /// Where the signal is sent.
    route: Route,
    told: Mutex<Told>,
}

/// What was logged.
#[derive(Debug, Default)]
struct Told {
    /// The collector fails or refuses since, and a line says so.
    open: Option<Trouble>,
    /// The last line about a refusal.
    refusal: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing is accepted for now.
    Failing,
    /// What was sent is refused for good.
    Refusing,
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Failing(String),
    Refused(u64, String),
    Works,
}

impl Telling {
    pub(super) fn new(signal: Signal, route: Route) -> Self {
        Self { signal, route, told: Mutex::default() }
    }

    /// Records the answer to a request of `items` items.
    pub(super) fn note(&self, answer: &Answer, items: usize) {
        let signal = self.signal.label();
        let endpoint = &self.route.endpoint;
        match self.line(answer, items as u64, Instant::now()) {
            Some(Line::Failing(why)) => {
                let error = format!("{why}{}", self.proxy());
                tracing::warn!(
                    event = "otlp_failing",
                    signal,
                    error,
                    endpoint = %endpoint,
                    "the collector at {endpoint} does not accept {signal}: {error}"
                );
            }
            Some(Line::Refused(dropped, error)) => tracing::warn!(
                event = "otlp_refused",
                signal,
                error,
                dropped,
                endpoint = %endpoint,
                "the collector at {endpoint} refused {signal} for good, {dropped} dropped: {error}"
            ),
            Some(Line::Works) => {
                tracing::info!(event = "otlp_works", signal, "the collector accepts {signal} again");
            }
            None => {}
        }
    }

    fn line(&self, answer: &Answer, items: u64, now: Instant) -> Option<Line> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.open;
        let recently = told.refusal.is_some_and(|at| now.duration_since(at) < REFUSALS_APART);
        match answer {
            // They are sent again in smaller requests, which will tell.
            Answer::TooLarge { .. } if items > 1 => None,
            Answer::Accepted { rejected: 1.., .. } if recently => None,
            Answer::Accepted { rejected: rejected @ 1.., why } => {
                told.refusal = Some(now);
                Some(Line::Refused(*rejected, format!("it accepted the rest of the request, and says {why}")))
            }
            Answer::Accepted { .. } => {
                told.open = None;
                before.map(|_| Line::Works)
            }
            Answer::Later { why, .. } => {
                told.open = Some(Trouble::Failing);
                (before != Some(Trouble::Failing)).then(|| Line::Failing(why.clone()))
            }
            Answer::TooLarge { .. } | Answer::Refused { .. }
                if recently || before == Some(Trouble::Refusing) =>
            {
                None
            }
            Answer::TooLarge { why } | Answer::Refused { why } => {
                told.open = Some(Trouble::Refusing);
                told.refusal = Some(now);
                Some(Line::Refused(items, why.clone()))
            }
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

#[cfg(test)]
mod tests {
    use super::super::endpoint::Endpoint;
    use super::super::settings::Transport;
    use super::*;

    fn telling() -> Telling {
        let route = Route {
            endpoint: Endpoint::parse("http://127.0.0.1:4318").expect("an address"),
            transport: Transport::Http,
            timeout: Duration::from_secs(1),
            gzip: false,
            headers: Vec::new(),
        };
        Telling::new(Signal::OtlpTraces, route)
    }

    fn refused() -> Answer {
        Answer::Refused { why: "400".to_owned() }
    }

    fn later() -> Answer {
        Answer::Later { after: None, why: "503".to_owned() }
    }

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let (telling, now) = (telling(), Instant::now());
        let works = Answer::accepted(0, "");
        assert_eq!(telling.line(&works, 1, now), None);
        assert_eq!(telling.line(&later(), 1, now), Some(Line::Failing("503".to_owned())));
        assert_eq!(telling.line(&later(), 1, now), None);
        assert_eq!(telling.line(&works, 1, now), Some(Line::Works));
        assert_eq!(telling.line(&works, 1, now), None);
    }

    #[test]
    fn refusals_are_told_once_and_again_only_after_a_while() {
        let (telling, now) = (telling(), Instant::now());
        let told = Some(Line::Refused(7, "400".to_owned()));
        assert_eq!(telling.line(&refused(), 7, now), told);
        assert_eq!(telling.line(&refused(), 7, now + 2 * REFUSALS_APART), None, "it never ended");
        assert_eq!(telling.line(&Answer::accepted(0, ""), 1, now), Some(Line::Works));
        assert_eq!(telling.line(&refused(), 7, now + REFUSALS_APART / 2), None);
        assert_eq!(
            telling.line(&Answer::accepted(0, ""), 1, now),
            None,
            "nothing was told, so nothing ended"
        );
        assert_eq!(telling.line(&refused(), 7, now + REFUSALS_APART), told);
    }

    #[test]
    fn a_request_that_is_sent_again_in_parts_is_not_a_refusal() {
        let (telling, now) = (telling(), Instant::now());
        let too_large = Answer::TooLarge { why: "413".to_owned() };
        assert_eq!(telling.line(&too_large, 2, now), None);
        assert_eq!(telling.line(&too_large, 1, now), Some(Line::Refused(1, "413".to_owned())));
    }

    #[test]
    fn what_a_collector_rejected_of_a_request_is_told() {
        let (telling, now) = (telling(), Instant::now());
        let part = Answer::accepted(2, "old");
        let why = "it accepted the rest of the request, and says \"old\"".to_owned();
        assert_eq!(telling.line(&part, 5, now), Some(Line::Refused(2, why)));
        assert_eq!(telling.line(&part, 5, now), None);
    }
}
