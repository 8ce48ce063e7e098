//! Who may be asked for under which name. A web page that points a name of its own at this machine (DNS rebinding)
//! would otherwise read from loopback with the browser's help.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Which hosts are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// This machine's own names and this address.
    Loopback(Option<IpAddr>),
    /// Any address, but no name other than `localhost`: what scrapers and kubelets use, and no rebinding can.
    AnyAddress,
    /// Anything. On a unix socket no browser gets this far.
    Anything,
}

impl HostRule {
    /// Whether a request for `authority` is answered. Ports do not matter: a forwarded port has another number.
    pub fn allows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        match self {
            Self::Anything => true,
            Self::AnyAddress => is_localhost(host) || address(host).is_some(),
            Self::Loopback(own) => {
                is_localhost(host) || address(host).is_some_and(|ip| ip.is_loopback() || Some(ip) == *own)
            }
        }
    }
}

fn is_localhost(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
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

/// Refuses requests for other hosts before anything reads them.
pub async fn check(State(rule): State<Arc<HostRule>>, request: Request, next: Next) -> Response {
    let allowed = match host_asked_for(&request) {
        Asked::Nobody => true,
        Asked::Badly => return (StatusCode::BAD_REQUEST, "one Host, please\n").into_response(),
        Asked::For(authority) => rule.allows(&authority),
    };
    if allowed {
        return next.run(request).await;
    }
    let text = "this host is not served here; ask for localhost or for the address itself\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

enum Asked {
    /// HTTP/1.0 without a host: no browser, but the probe of some load balancers.
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

    #[test]
    fn loopback_answers_to_its_own_names_only() {
        let rule = HostRule::Loopback(Some("127.0.0.2".parse().unwrap()));
        for host in ["localhost", "LOCALHOST:9611", "127.0.0.1:9611", "[::1]:80", "127.0.0.2", "localhost:1"]
        {
            assert!(rule.allows(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "127.0.0.1.nip.io", "", ":80"]
        {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn the_public_address_answers_to_addresses_and_to_no_name() {
        for host in ["10.1.2.3:9612", "[fd00::1]:9612", "localhost", "192.168.0.1"] {
            assert!(HostRule::AnyAddress.allows(host), "{host}");
        }
        for host in ["evil.example:9612", "::1", "[::1", "1.2.3.4:x", "1.2.3.4.example"] {
            assert!(!HostRule::AnyAddress.allows(host), "{host}");
        }
    }
}
