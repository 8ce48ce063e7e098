//! The parsed address of a collector: where to send, and what may be shown of it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use super::settings::{Kind, Transport};

/// An address that data can be sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port, path and query. Never a user or a password.
    url: Url,
    /// Whether the text contained a user or a password, which was removed.
    had_credentials: bool,
    /// Whether the text had no scheme, so that one had to be chosen.
    had_no_scheme: bool,
}

/// Why an address cannot be used. Repeats nothing of the address, which may contain a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `unix://`, `ftp://` and the like.
    #[error("has a scheme other than http:// and https://")]
    Scheme,
    /// The host or port cannot be parsed.
    #[error("cannot be read ({0})")]
    Malformed(String),
}

/// The scheme for an address that names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutScheme {
    /// `https://`, but `http://` on loopback: the headers must not be sent in the clear because of
    /// a guess.
    Guess,
    /// `http://`: `OTEL_EXPORTER_OTLP_INSECURE` is true.
    Http,
}

impl Endpoint {
    /// Parses an address that must name its scheme.
    ///
    /// # Errors
    /// If it is no address with a host, or has a scheme other than `http` and `https`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        if scheme(text).is_none() {
            return Err(EndpointError::Malformed(
                "it has no scheme; begin it with http:// or https://".to_owned(),
            ));
        }
        Self::read(text, false)
    }

    /// Parses an address that may lack its scheme.
    pub(super) fn parse_or_complete(text: &str, missing: WithoutScheme) -> Result<Self, EndpointError> {
        let text = text.trim();
        if scheme(text).is_some() {
            return Self::read(text, false);
        }
        let plain = Self::read(&format!("http://{text}"), true)?;
        if missing == WithoutScheme::Http || plain.is_loopback() {
            return Ok(plain);
        }
        Self::read(&format!("https://{text}"), true)
    }

    fn read(text: &str, had_no_scheme: bool) -> Result<Self, EndpointError> {
        let known = ["http", "https"];
        if !scheme(text).is_some_and(|scheme| known.iter().any(|one| scheme.eq_ignore_ascii_case(one))) {
            return Err(EndpointError::Scheme);
        }
        let mut url = Url::parse(text).map_err(|error| EndpointError::Malformed(error.to_string()))?;
        let had_credentials = !url.username().is_empty() || url.password().is_some();
        // Fails only for addresses without a host, which are invalid.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_fragment(None);
        if url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointError::Malformed("it names no host".to_owned()));
        }
        if url.as_str().parse::<axum::http::Uri>().is_err() {
            return Err(EndpointError::Malformed(
                "it has characters that have to be percent-encoded".to_owned(),
            ));
        }
        Ok(Self { url, had_credentials, had_no_scheme })
    }

    /// Whether the text contained a user or a password.
    pub(super) const fn had_credentials(&self) -> bool {
        self.had_credentials
    }

    /// Whether a scheme had to be chosen.
    pub(super) const fn had_no_scheme(&self) -> bool {
        self.had_no_scheme
    }

    /// Whether it has a path or a query, which gRPC cannot use.
    pub(super) fn has_path(&self) -> bool {
        self.url.path() != "/" || self.url.query().is_some()
    }

    /// Whether it is this machine: then there is no proxy in between.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_end_matches('.');
        if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = v6.parse::<Ipv6Addr>();
            return address
                .is_ok_and(|ip| ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()));
        }
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether it uses TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The address for one kind of telemetry below this base.
    pub(super) fn below(&self, kind: Kind, transport: Transport) -> Self {
        let mut below = self.clone();
        if transport == Transport::Http {
            let path = format!("{}/v1/{}", self.url.path().trim_end_matches('/'), kind.path());
            below.url.set_path(&path);
        }
        below
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The URL for requests. Its query may contain a secret: do not log it.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }
}

/// The scheme that a text names; `None` if it names none.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let named = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (named && !scheme.is_empty()).then_some(scheme)
}

/// Without its query, which may contain a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.url.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_path_and_a_query_stay_where_the_specification_puts_them() {
        for (base, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/ ", "http://127.0.0.1:4318/v1/traces"),
            ("HTTP://Collector:4318/a/b/", "http://collector:4318/a/b/v1/traces"),
            ("https://c.example/otlp?tenant=7", "https://c.example/otlp/v1/traces?tenant=7"),
            ("http://[::1]:4318/x#part", "http://[::1]:4318/x/v1/traces"),
        ] {
            assert_eq!(parse(base).below(Kind::Traces, Transport::Http).url(), traces);
        }
        let base = parse("http://127.0.0.1:4317");
        assert_eq!(base.below(Kind::Logs, Transport::Grpc).url(), "http://127.0.0.1:4317/");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let endpoint = parse("https://user:hunter2@c.example:4318/otlp?key=hunter2");
        assert_eq!(endpoint.to_string(), "https://c.example:4318/otlp");
        assert!(!format!("{endpoint:?}").contains("hunter2"));
        assert!(endpoint.had_credentials() && !endpoint.url().contains("user"));
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused() {
        for text in [
            "",
            "localhost:4318",
            "http://",
            "http://:4318",
            "http://host:port",
            "http://host:65536",
            "unix:///run/otel.sock",
            "grpc://host:4317",
            "http//host",
            "http://a b",
            "http://[::1",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_scheme_never_sends_in_the_clear_to_another_machine() {
        for (text, missing, url) in [
            ("localhost:4318", WithoutScheme::Guess, "http://localhost:4318/"),
            ("127.0.0.1:4318/x", WithoutScheme::Guess, "http://127.0.0.1:4318/x"),
            ("c.example:4318", WithoutScheme::Guess, "https://c.example:4318/"),
            ("c.example:4318", WithoutScheme::Http, "http://c.example:4318/"),
        ] {
            let endpoint = Endpoint::parse_or_complete(text, missing).expect("an address");
            assert_eq!(endpoint.url(), url);
            assert!(endpoint.had_no_scheme());
        }
    }

    #[test]
    fn loopback_is_known_in_all_its_forms() {
        for text in [
            "http://localhost",
            "http://a.localhost.:1",
            "http://127.9.9.9",
            "http://[::1]:4318",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(parse(text).is_loopback(), "{text}");
        }
        for text in
            ["http://localhost.example", "http://10.0.0.1", "http://[fd00::1]", "http://127.0.0.1.nip.io"]
        {
            assert!(!parse(text).is_loopback(), "{text}");
        }
    }
}
