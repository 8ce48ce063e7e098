//! What is sent, and where: the config's `[otlp]` section, then the standard variables, which go before it.
//!
//! Endpoints and headers that a variable gives are left to the exporter, which reads them itself.

use std::time::Duration;

use super::OtlpError;

/// How often metrics are sent unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long one request may take unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise: the specification's default.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What a config file may say of it.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// Where the collector listens.
    pub endpoint: String,
    /// `http/protobuf` or `grpc`.
    pub protocol: String,
    /// How often metrics are sent.
    pub interval: Duration,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Protobuf in the body of an HTTP/1.1 POST.
    Http,
    /// gRPC.
    Grpc,
}

/// The three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metrics,
    Logs,
    Traces,
}

impl Kind {
    /// The word in the names of variables.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
        }
    }
}

/// What to send, where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The config's endpoint; `None`: variables say it.
    endpoint: Option<String>,
    transport: Transport,
    interval: Duration,
    /// Metrics, logs, traces.
    sends: [bool; 3],
    /// Kinds whose endpoint a variable gives.
    by_variable: [bool; 3],
}

impl Settings {
    /// What the config and the variables ask for; `None`: nothing is sent anywhere.
    ///
    /// # Errors
    /// If a variable cannot be understood.
    pub fn new(config: Option<&OtlpConfig>) -> Result<Option<Self>, OtlpError> {
        Self::with(config, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn with(
        config: Option<&OtlpConfig>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let kinds = [Kind::Metrics, Kind::Logs, Kind::Traces];
        let general = variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let by_variable = kinds.map(|kind| {
            general || variable(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", kind.word())).is_some()
        });
        let sends = [0, 1, 2].map(|kind| {
            let exporter = variable(&format!("OTEL_{}_EXPORTER", kinds[kind].word()));
            let wanted = exporter.is_none_or(|exporter| exporter.split(',').any(|one| one.trim() == "otlp"));
            wanted && (config.is_some() || by_variable[kind])
        });
        if sends == [false; 3] {
            return Ok(None);
        }
        let protocol = variable("OTEL_EXPORTER_OTLP_PROTOCOL");
        let transport = match protocol.as_deref().or_else(|| config.map(|config| config.protocol.as_str())) {
            None | Some("http/protobuf") => Transport::Http,
            Some("grpc") => Transport::Grpc,
            Some(other) => {
                return Err(OtlpError::Variable {
                    variable: "OTEL_EXPORTER_OTLP_PROTOCOL",
                    value: other.to_owned(),
                    allowed: "say http/protobuf or grpc",
                });
            }
        };
        let interval = match variable("OTEL_METRIC_EXPORT_INTERVAL") {
            None => config.map_or(INTERVAL, |config| config.interval),
            Some(text) => match text.parse() {
                Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
                _ => {
                    return Err(OtlpError::Variable {
                        variable: "OTEL_METRIC_EXPORT_INTERVAL",
                        value: text,
                        allowed: "say a number of milliseconds, at least 1",
                    });
                }
            },
        };
        let endpoint = config.map(|config| config.endpoint.clone());
        Ok(Some(Self { endpoint, transport, interval, sends, by_variable }))
    }

    /// How messages travel.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// How often metrics are sent.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether metrics are sent.
    pub const fn sends_metrics(&self) -> bool {
        self.sends[0]
    }

    /// Whether log lines are sent.
    pub const fn sends_logs(&self) -> bool {
        self.sends[1]
    }

    /// Whether spans are sent.
    pub const fn sends_traces(&self) -> bool {
        self.sends[2]
    }

    /// Where this kind goes, whoever says it; `None` if nobody does.
    pub(super) fn url(&self, kind: Kind) -> Option<String> {
        if let Some(endpoint) = self.endpoint(kind) {
            return Some(endpoint);
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let of_kind = variable(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", kind.word()));
        of_kind.or_else(|| {
            let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            Some(self.below(&base, kind))
        })
    }

    fn below(&self, base: &str, kind: Kind) -> String {
        let base = base.trim_end_matches('/');
        match (self.transport, kind) {
            (Transport::Grpc, _) => base.to_owned(),
            (Transport::Http, Kind::Metrics) => format!("{base}/v1/metrics"),
            (Transport::Http, Kind::Logs) => format!("{base}/v1/logs"),
            (Transport::Http, Kind::Traces) => format!("{base}/v1/traces"),
        }
    }

    /// The endpoint to give to an exporter; `None`: a variable goes before the config, and the exporter reads it.
    pub(super) fn endpoint(&self, kind: Kind) -> Option<String> {
        if self.by_variable[kind as usize] {
            return None;
        }
        Some(self.below(self.endpoint.as_deref()?, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: Option<&OtlpConfig>, variables: &[(&str, &str)]) -> Option<Settings> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::with(config, find).expect("understood")
    }

    fn config() -> OtlpConfig {
        OtlpConfig {
            endpoint: "http://127.0.0.1:4318/".to_owned(),
            protocol: "http/protobuf".to_owned(),
            interval: Duration::from_secs(3),
        }
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        assert_eq!(settings(None, &[]), None);
        let disabled = [("OTEL_SDK_DISABLED", "TRUE")];
        assert_eq!(settings(Some(&config()), &disabled), None);
    }

    #[test]
    fn the_config_gives_one_base_for_all_three() {
        let settings = settings(Some(&config()), &[]).expect("sends");
        assert_eq!(settings.endpoint(Kind::Logs).as_deref(), Some("http://127.0.0.1:4318/v1/logs"));
        assert_eq!(settings.interval(), Duration::from_secs(3));
    }

    #[test]
    fn a_variable_goes_before_the_config() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere/v1/traces"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ];
        let settings = settings(Some(&config()), &variables).expect("sends");
        assert_eq!(settings.endpoint(Kind::Traces), None, "left to the exporter");
        assert_eq!(settings.endpoint(Kind::Metrics).as_deref(), Some("http://127.0.0.1:4318"));
        assert_eq!(settings.transport(), Transport::Grpc);
        assert_eq!(settings.interval(), Duration::from_millis(250));
        assert!(!settings.sends_logs() && settings.sends_metrics() && settings.sends_traces());
    }

    #[test]
    fn a_variable_alone_is_enough_for_its_kind_and_no_other() {
        let variables = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://elsewhere/v1/metrics")];
        let settings = settings(None, &variables).expect("sends");
        assert!(settings.sends_metrics() && !settings.sends_logs() && !settings.sends_traces());
    }

    #[test]
    fn a_variable_that_is_not_understood_is_told() {
        let find = |name: &str| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| "http/json".to_owned());
        let error = Settings::with(Some(&config()), find).expect_err("not ours").to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && error.contains("grpc"), "{error}");
    }
}
