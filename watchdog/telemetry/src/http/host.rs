//! The host names that requests may use. Otherwise a web page whose own name points to this machine
//! (DNS rebinding) could read from here through the browser. So requests for addresses and
//! `localhost` are answered, and for other names only if the operator has listed them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The longest name that DNS allows, in bytes, and the longest of its labels.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host that requests may use: a name, `*.` and a name for everything below that, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this name, in lower case.
    Name(String),
    /// One or more labels before this name, in lower case.
    Below(String),
    /// This address.
    Address(IpAddr),
}

/// Why a text is no such host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name such as \"shard-0.shards.svc\", \"*.example\" for all names below example, or an address; without scheme, port and path"
)]
pub struct NotAHost;

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        if let Some(address) = text.parse().ok().or_else(|| address(text)) {
            return Ok(Self::Address(address));
        }
        let name = |text: &str| Some(plain(text)).filter(|name| is_name(name)).ok_or(NotAHost);
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Self::Below(name(rest)?)),
            None => Ok(Self::Name(name(text)?)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl HostPattern {
    /// Whether the pattern matches `host`, which has no port.
    fn admits(&self, host: &str) -> bool {
        match self {
            Self::Address(own) => address(host) == Some(*own),
            Self::Name(name) => plain(host) == *name,
            Self::Below(name) => {
                let host = plain(host);
                let labels = host.strip_suffix(name.as_str()).and_then(|labels| labels.strip_suffix('.'));
                labels.is_some_and(|labels| !labels.is_empty())
            }
        }
    }
}

/// In lower case, without the trailing dot, which only matters to resolvers.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(known)
    };
    name.len() <= LONGEST_NAME && name.split('.').all(label)
}

/// The hosts that are always accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Always {
    /// This machine's own names and this address.
    Loopback(Option<IpAddr>),
    /// Any address, but no name other than `localhost`: scrapers and kubelets use addresses, and
    /// rebinding cannot.
    AnyAddress,
    /// Any host. No browser can connect to a unix socket.
    Anything,
}

/// The rule that decides which hosts are accepted.
#[derive(Clone, Debug)]
pub struct HostRule {
    always: Always,
    given: Arc<[HostPattern]>,
    how: HowToAdmit,
}

/// Formats, for a refusal, how to configure a refused host so that it is accepted.
pub type HowToAdmit = fn(host: &dyn fmt::Display) -> String;

impl HostRule {
    /// Accepts the hosts of `always` and those that the operator has `given`. A refusal uses `how`
    /// to explain how to configure a host.
    pub fn new(always: Always, given: &[HostPattern], how: HowToAdmit) -> Self {
        Self { always, given: given.into(), how }
    }

    /// Whether a request for `authority` is accepted. The port does not matter: a forwarded port
    /// has another number.
    pub fn allows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let always = match self.always {
            Always::Anything => true,
            Always::AnyAddress => is_localhost(host) || address(host).is_some(),
            Always::Loopback(own) => {
                is_localhost(host) || address(host).is_some_and(|ip| ip.is_loopback() || Some(ip) == own)
            }
        };
        always || self.given.iter().any(|pattern| pattern.admits(host))
    }

    /// The message for a refused request for `authority`.
    fn refusal(&self, authority: &str) -> String {
        let host = host_of(authority).map(plain).filter(|host| is_name(host) || address(host).is_some());
        match host {
            Some(host) => {
                let how = (self.how)(&host);
                format!(
                    "the host {host} is not served here. To have it served, {how}; or ask for localhost or for the address itself\n"
                )
            }
            // Not repeated: it may contain anything.
            None => "the Host header names no host; ask for localhost or for the address itself\n".to_owned(),
        }
    }
}

fn is_localhost(host: &str) -> bool {
    plain(host) == "localhost"
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// `authority` without its port, if it has the form of one.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    (!host.is_empty() && port_is_fine).then_some(host)
}

/// Refuses requests for other hosts before they are processed.
pub async fn check(State(rule): State<Arc<HostRule>>, request: Request, next: Next) -> Response {
    let refused = match host_asked_for(&request) {
        Asked::Nobody => None,
        Asked::Badly => return (StatusCode::BAD_REQUEST, "one Host, please\n").into_response(),
        Asked::For(authority) => (!rule.allows(&authority)).then(|| rule.refusal(&authority)),
    };
    match refused {
        None => next.run(request).await,
        Some(text) => (StatusCode::MISDIRECTED_REQUEST, text).into_response(),
    }
}

enum Asked {
    /// HTTP/1.0 without a host: from no browser, but from the probes of some load balancers.
    Nobody,
    Badly,
    For(String),
}

fn host_asked_for(request: &Request) -> Asked {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Asked::Badly;
    }
    if let Some(authority) = request.uri().authority() {
        return Asked::For(authority.as_str().to_owned());
    }
    match host.map(|host| host.to_str()) {
        Some(Ok(host)) => Asked::For(host.to_owned()),
        Some(Err(_)) => Asked::Badly,
        None if request.version() == Version::HTTP_10 => Asked::Nobody,
        None => Asked::Badly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(always: Always, given: &[&str]) -> HostRule {
        let given: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
        HostRule::new(always, &given, |host| format!("add {host}"))
    }

    #[test]
    fn loopback_answers_to_its_own_names_only() {
        let rule = rule(Always::Loopback(Some("127.0.0.2".parse().unwrap())), &[]);
        for host in [
            "localhost",
            "LOCALHOST:9611",
            "localhost.:1",
            "127.0.0.1:9611",
            "[::1]:80",
            "127.0.0.2",
            "localhost:1",
        ] {
            assert!(rule.allows(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.nip.io",
            "",
            ":80",
            ".",
        ] {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn the_public_address_answers_to_addresses_and_to_no_name() {
        let rule = rule(Always::AnyAddress, &[]);
        for host in ["10.1.2.3:9612", "[fd00::1]:9612", "localhost", "192.168.0.1"] {
            assert!(rule.allows(host), "{host}");
        }
        for host in ["evil.example:9612", "::1", "[::1", "1.2.3.4:x", "1.2.3.4.example", "shard-0"] {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn a_given_name_is_answered_in_any_case_with_any_port_and_a_dot_at_its_end() {
        let rule = rule(Always::Loopback(None), &["Shard-0.shards.svc", "shard_1", "10.1.2.3", "[fd00::1]"]);
        for host in
            ["shard-0.shards.svc", "SHARD-0.shards.svc.:9612", "shard_1:80", "10.1.2.3:9611", "[FD00::1]:1"]
        {
            assert!(rule.allows(host), "{host}");
        }
        for host in
            ["shard-0", "x.shard-0.shards.svc", "shard-0.shards.svc..", "shard-0.shards.svc:x", "10.1.2.4"]
        {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label_or_more_and_not_for_none() {
        let rule = rule(Always::AnyAddress, &["*.shards.svc"]);
        for host in ["shard-0.shards.svc", "a.b.Shards.svc:9612"] {
            assert!(rule.allows(host), "{host}");
        }
        for host in ["shards.svc", ".shards.svc", "evilshards.svc", "shard-0.shards.svc.evil.example"] {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_as_one() {
        let long = "a".repeat(64);
        for text in
            ["", "*", "*.", "a.*", "*a.example", "http://a", "a:80", "a/b", "a b", "a..b", "é", "[::1", &long]
        {
            assert_eq!(text.parse::<HostPattern>(), Err(NotAHost), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_how_the_name_is_admitted_and_repeats_nothing_odd() {
        let rule = rule(Always::AnyAddress, &[]);
        assert!(rule.refusal("Shard-0:9612").contains("add shard-0;"), "{}", rule.refusal("Shard-0:9612"));
        for odd in ["<script>", "a b", &"a".repeat(300)] {
            assert!(!rule.refusal(odd).contains(odd), "{}", rule.refusal(odd));
        }
    }
}
