//! The matrix of the variables: the meaning of each value, and the warnings about invalid ones.

use std::ffi::OsString;

use super::*;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HERE: &str = "http://127.0.0.1:4318";

fn settings(config: Option<&OtlpConfig>, variables: &[(&str, &str)]) -> Settings {
    let find = |name: &str| {
        variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    Settings::with(config, Variables::new(&find))
}

fn config() -> OtlpConfig {
    OtlpConfig {
        endpoint: Endpoint::parse("http://10.0.0.1:4318/").expect("an address"),
        protocol: Transport::Http,
        interval: Duration::from_secs(3),
    }
}

#[track_caller]
fn url(settings: &Settings, kind: Kind) -> &str {
    settings.route(kind).expect("sent").endpoint.url()
}

/// The only warning.
#[track_caller]
fn warning(settings: &Settings) -> String {
    let [warning] = settings.warnings() else { panic!("one warning: {:?}", settings.warnings()) };
    warning.to_string()
}

#[test]
fn nothing_is_sent_unless_somebody_says_where() {
    assert!(!settings(None, &[]).sends_anything());
    assert!(!settings(None, &[(ENDPOINT, "  ")]).sends_anything(), "an empty variable counts as not set");
}

#[test]
fn a_disabled_sdk_sends_nothing_and_says_so() {
    let disabled = settings(Some(&config()), &[("OTEL_SDK_DISABLED", "TRUE ")]);
    assert!(!disabled.sends_anything());
    assert!(warning(&disabled).contains("OTEL_SDK_DISABLED"));
    let nothing_to_send = settings(None, &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!(nothing_to_send.warnings(), []);
    let odd = settings(Some(&config()), &[("OTEL_SDK_DISABLED", "1")]);
    assert!(odd.sends_anything() && warning(&odd).contains("true or false"), "{odd:?}");
}

#[test]
fn the_config_gives_one_base_for_all_three() {
    let settings = settings(Some(&config()), &[]);
    assert_eq!(url(&settings, Kind::Logs), "http://10.0.0.1:4318/v1/logs");
    assert_eq!(settings.interval(), Duration::from_secs(3));
    assert_eq!(settings.warnings(), []);
}

#[test]
fn a_variable_goes_before_the_config_and_one_of_a_kind_before_that_of_all() {
    let settings = settings(
        Some(&config()),
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://elsewhere/a?b=c"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=general"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=traces"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
    );
    assert_eq!(settings.warnings(), []);
    assert_eq!(settings.route(Kind::Logs), None);
    let traces = settings.route(Kind::Traces).expect("sent");
    assert_eq!(traces.endpoint.url(), "https://elsewhere/a?b=c", "as it stands");
    assert_eq!((traces.transport, traces.gzip), (Transport::Http, false));
    assert_eq!(traces.timeout, Duration::from_millis(500));
    assert_eq!(traces.headers.len(), 1);
    assert_eq!(traces.headers[0].0, "b");
    let metrics = settings.route(Kind::Metrics).expect("sent");
    assert_eq!((metrics.transport, metrics.gzip), (Transport::Grpc, true));
    assert_eq!(metrics.timeout, Duration::from_millis(250));
    assert_eq!(metrics.headers[0].0, "a");
    assert_eq!(settings.interval(), Duration::from_millis(250));
}

#[test]
fn a_variable_alone_is_enough_for_its_kind_and_no_other() {
    let variables = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://elsewhere/v1/metrics")];
    let settings = settings(None, &variables);
    assert!(settings.route(Kind::Metrics).is_some());
    assert!(settings.route(Kind::Logs).is_none() && settings.route(Kind::Traces).is_none());
}

#[test]
fn what_cannot_be_used_is_told_once_and_the_rest_goes_on() {
    // The variable, its value, and what else the warning must name.
    let matrix = [
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s", "milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "thrift", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "300 s"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "18446744073709551615", "300 s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "just-a-token", "number 1"),
        ("OTEL_METRICS_EXPORTER", "otlp,console", "console"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sideways", "delta"),
        (ENDPOINT, "localhost:4318", "http://localhost:4318/"),
        (ENDPOINT, "http://user:hunter2@127.0.0.1:4318", "header"),
    ];
    for (name, value, word) in matrix {
        let settings = settings(None, &[(ENDPOINT, HERE), (name, value)]);
        let warning = warning(&settings);
        assert!(warning.starts_with(name) && warning.contains(word), "{name}={value}: {warning}");
        assert!(!warning.contains("hunter2"), "{warning}");
        for kind in Kind::ALL {
            assert!(settings.route(kind).is_some(), "{name}={value}: {kind:?}");
        }
        assert_eq!(settings.interval(), INTERVAL);
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_counts_as_not_set() {
    for bad in ["unix:///run/otel.sock", "http://", "http://host:99999", "://", "http://?key=hunter2"] {
        let alone = settings(None, &[(ENDPOINT, bad)]);
        assert!(!alone.sends_anything(), "{bad}");
        assert!(warning(&alone).starts_with(ENDPOINT) && !warning(&alone).contains("hunter2"), "{bad}");
        let beside = settings(Some(&config()), &[(ENDPOINT, bad)]);
        assert_eq!(url(&beside, Kind::Traces), "http://10.0.0.1:4318/v1/traces", "{bad}");
    }
    let of_kind = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:///x"), (ENDPOINT, HERE)];
    assert_eq!(url(&settings(None, &of_kind), Kind::Traces), "http://127.0.0.1:4318/v1/traces");
}

#[test]
fn a_trailing_blank_is_nothing_to_speak_of() {
    let settings =
        settings(None, &[(ENDPOINT, "http://127.0.0.1:4318 "), ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC ")]);
    assert_eq!(settings.warnings(), []);
    assert_eq!(settings.route(Kind::Logs).expect("sent").transport, Transport::Grpc);
}

#[test]
fn grpc_knows_addresses_without_a_scheme_and_has_no_use_for_a_path() {
    let with = |address| settings(None, &[(ENDPOINT, address), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let plain = with("collector.example:4317");
    assert_eq!(plain.warnings(), []);
    assert_eq!(url(&plain, Kind::Metrics), "https://collector.example:4317/");
    assert!(warning(&with("http://127.0.0.1:4317/otlp")).contains("gRPC has no use"));
}

#[test]
fn no_settings_ever_show_a_header() {
    let settings = settings(None, &[(ENDPOINT, HERE), ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2")]);
    assert!(!format!("{settings:?}").contains("hunter2"));
}
