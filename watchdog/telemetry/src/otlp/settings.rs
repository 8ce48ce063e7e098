//! What is sent, and where: from the standard variables, then from the config's `[otlp]` section,
//! for each kind of telemetry.
//!
//! Nothing here fails. A variable that cannot be used counts as unset and is named in a
//! [`Warning`].

use std::time::Duration;

use super::endpoint::{Endpoint, WithoutScheme};
use super::pairs::{self, Header};
use super::variables::{Variables, Warning, environment, quote};

/// How often metrics are sent by default.
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest such interval. Longer ones are mistakes, and some overflow the arithmetic of clocks.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How long one request may take unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise: the
/// specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for one request, even if 0 requests no limit: a collector that is silent for
/// longer will never answer, and a queue fills behind it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);
/// The form of an interval or a timeout, for warnings.
const MILLISECONDS: &str = "a whole number of milliseconds from 1, such as 10000";

/// The settings of a config file.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// Where the collector listens.
    pub endpoint: Endpoint,
    /// The transport of messages.
    pub protocol: Transport,
    /// How often metrics are sent.
    pub interval: Duration,
}

/// The transport of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Protobuf in the body of an HTTP/1.1 POST.
    Http,
    /// gRPC.
    Grpc,
}

impl Transport {
    /// The word in the config and the variables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }

    /// `http/protobuf` or `grpc`, as in the config and the variables.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "http/protobuf" => Some(Self::Http),
            "grpc" => Some(Self::Grpc),
            _ => None,
        }
    }
}

/// The three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metrics,
    Logs,
    Traces,
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub(super) const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// The word in the names of variables.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
        }
    }

    /// The last part of its path over HTTP, and its name in sentences.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

/// How one kind of telemetry is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    /// The time limit of one request, including all of its tries.
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
    /// Marked as sensitive: never printed.
    pub(super) headers: Vec<Header>,
}

/// What to send, where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In the order of [`Kind::ALL`]; `None`: not sent.
    routes: [Option<Route>; 3],
    interval: Duration,
    warnings: Vec<Warning>,
}

impl Settings {
    /// The settings according to the config and the variables of this process.
    pub fn new(config: Option<&OtlpConfig>) -> Self {
        Self::with(config, Variables::new(&environment))
    }

    pub(super) fn with(config: Option<&OtlpConfig>, mut variables: Variables<'_>) -> Self {
        let mut settings = Self { routes: [None, None, None], interval: INTERVAL, warnings: Vec::new() };
        // If no collector is named, no other variable matters.
        if config.is_some() || names_collector(&mut variables) {
            settings.interval = interval(config, &mut variables);
            let routes = Kind::ALL.map(|kind| route(kind, config, &mut variables));
            if routes.iter().any(Option::is_some) && !disabled(&mut variables) {
                settings.routes = routes;
            }
        }
        settings.warnings = variables.into_warnings();
        settings
    }

    /// Whether anything is sent anywhere.
    pub fn sends_anything(&self) -> bool {
        self.routes.iter().any(Option::is_some)
    }

    /// The settings that are wrong.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// How often metrics are sent.
    pub(super) const fn interval(&self) -> Duration {
        self.interval
    }

    /// How this kind is sent; `None` if it is not.
    pub(super) const fn route(&self, kind: Kind) -> Option<&Route> {
        self.routes[kind as usize].as_ref()
    }
}

fn names_collector(variables: &mut Variables<'_>) -> bool {
    let of_kinds = Kind::ALL.iter().any(|kind| variables.text(&of_kind(*kind, "ENDPOINT")).is_some());
    of_kinds || variables.text(&general("ENDPOINT")).is_some()
}

fn disabled(variables: &mut Variables<'_>) -> bool {
    const NAME: &str = "OTEL_SDK_DISABLED";
    let disabled = variables.read(NAME, "true or false", boolean).unwrap_or(false);
    if disabled {
        variables.warn(NAME, "is true: nothing is sent to a collector");
    }
    disabled
}

fn boolean(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn interval(config: Option<&OtlpConfig>, variables: &mut Variables<'_>) -> Duration {
    let given = variables.read("OTEL_METRIC_EXPORT_INTERVAL", MILLISECONDS, |text| match text.parse() {
        Ok(milliseconds @ 1..) => Some(Duration::from_millis(milliseconds)),
        _ => None,
    });
    given.or_else(|| config.map(|config| config.interval)).unwrap_or(INTERVAL).min(LONGEST_INTERVAL)
}

fn route(kind: Kind, config: Option<&OtlpConfig>, variables: &mut Variables<'_>) -> Option<Route> {
    if !wanted(kind, variables) {
        return None;
    }
    let transport = transport(kind, config, variables);
    let (name, endpoint) = endpoint(kind, transport, config, variables)?;
    if endpoint.had_credentials() {
        let what = "has a user or a password in it, which are not sent. Give them as a header: \
            OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…";
        variables.warn(&name, what);
    }
    if transport == Transport::Grpc && endpoint.has_path() {
        variables.warn(&name, "has a path or a query, for which gRPC has no use: it is left out");
    }
    let headers = match of_kind(kind, "HEADERS") {
        name if variables.text(&name).is_some() => pairs::headers(variables, &name),
        _ => pairs::headers(variables, &general("HEADERS")),
    };
    let timeout = first(kind, "TIMEOUT", |name| timeout(variables, name)).unwrap_or(TIMEOUT);
    let gzip = first(kind, "COMPRESSION", |name| {
        variables.read(name, "gzip or none", |text| match text.to_ascii_lowercase().as_str() {
            "gzip" => Some(true),
            "none" => Some(false),
            _ => None,
        })
    });
    if kind == Kind::Metrics {
        // The exporter reads it, and silently ignores unknown values.
        let preference = of_kind(kind, "TEMPORALITY_PREFERENCE");
        variables.read(&preference, "cumulative, delta or lowmemory", |text| {
            let text = text.to_ascii_lowercase();
            ["cumulative", "delta", "lowmemory"].contains(&text.as_str()).then_some(())
        });
    }
    Some(Route { endpoint, transport, timeout, gzip: gzip.unwrap_or(false), headers })
}

/// Whether `OTEL_METRICS_EXPORTER` or its counterpart leaves this kind to OTLP; it does unless it
/// names another exporter.
fn wanted(kind: Kind, variables: &mut Variables<'_>) -> bool {
    let name = format!("OTEL_{}_EXPORTER", kind.word());
    let Some(text) = variables.text(&name) else { return true };
    let (mut otlp, mut others) = (false, Vec::new());
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match one {
            "otlp" => otlp = true,
            // `/metrics` exists for Prometheus in any case.
            "none" | "prometheus" => {}
            other => others.push(quote(other)),
        }
    }
    if !others.is_empty() {
        let then = if otlp { "OTLP alone is used" } else { "nothing of this kind is sent" };
        variables.warn(&name, format!("names {}: known are otlp and none. So {then}", others.join(", ")));
    }
    otlp
}

fn transport(kind: Kind, config: Option<&OtlpConfig>, variables: &mut Variables<'_>) -> Transport {
    let given = first(kind, "PROTOCOL", |name| {
        let text = variables.text(name)?.to_ascii_lowercase();
        if text == "http/json" {
            // The same port accepts both.
            variables.warn(name, "is http/json, which is not spoken here: http/protobuf is used");
            return Some(Transport::Http);
        }
        variables.read(name, "http/protobuf or grpc", |_| Transport::parse(&text))
    });
    given.or_else(|| config.map(|config| config.protocol)).unwrap_or(Transport::Http)
}

/// Where this kind is sent, and the setting that says so.
fn endpoint(
    kind: Kind,
    transport: Transport,
    config: Option<&OtlpConfig>,
    variables: &mut Variables<'_>,
) -> Option<(String, Endpoint)> {
    let name = of_kind(kind, "ENDPOINT");
    if let Some(endpoint) = endpoint_of(kind, &name, transport, variables) {
        // Used as it is: the specification adds a path only to a base.
        return Some((name, endpoint));
    }
    let name = general("ENDPOINT");
    if let Some(base) = endpoint_of(kind, &name, transport, variables) {
        return Some((name, base.below(kind, transport)));
    }
    let base = &config?.endpoint;
    Some(("otlp.endpoint".to_owned(), base.below(kind, transport)))
}

fn endpoint_of(
    kind: Kind,
    name: &str,
    transport: Transport,
    variables: &mut Variables<'_>,
) -> Option<Endpoint> {
    let text = variables.text(name)?;
    let insecure = first(kind, "INSECURE", |name| variables.read(name, "true or false", boolean));
    let missing = if insecure == Some(true) { WithoutScheme::Http } else { WithoutScheme::Guess };
    match Endpoint::parse_or_complete(&text, missing) {
        Ok(endpoint) => {
            // For gRPC the specification defines addresses without a scheme.
            if endpoint.had_no_scheme() && transport == Transport::Http {
                let what = format!("has no scheme: {endpoint} is used. Write http:// or https:// before it");
                variables.warn(name, what);
            }
            Some(endpoint)
        }
        Err(error) => {
            let what = format!(
                "{error}: allowed is an address such as http://127.0.0.1:4318. The variable is ignored"
            );
            variables.warn(name, what);
            None
        }
    }
}

fn timeout(variables: &mut Variables<'_>, name: &str) -> Option<Duration> {
    let given = variables.read(name, MILLISECONDS, |text| text.parse().ok().map(Duration::from_millis))?;
    if given.is_zero() || given > LONGEST_TIMEOUT {
        variables
            .warn(name, format!("asks for more than is allowed: {} s is used", LONGEST_TIMEOUT.as_secs()));
        return Some(LONGEST_TIMEOUT);
    }
    Some(given)
}

/// The value of the variable of this kind, else of the variable of all kinds.
fn first<T>(kind: Kind, what: &str, mut read: impl FnMut(&str) -> Option<T>) -> Option<T> {
    read(&of_kind(kind, what)).or_else(|| read(&general(what)))
}

/// The name of the variable of one kind.
pub(super) fn of_kind(kind: Kind, what: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{}_{what}", kind.word())
}

/// The name of the variable of all kinds.
pub(super) fn general(what: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{what}")
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
