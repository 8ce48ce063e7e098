//! Where to reach the sidecar: one rule for all commands that query it or give it orders.

use std::path::{Path, PathBuf};

use shard_watchdog::client::Endpoint;

const SOCKET: &str = "SHARD_WATCHDOG_SOCKET";
const URL: &str = "SHARD_WATCHDOG_URL";
/// Where a sidecar listens unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:9611";

/// The two flags that name a sidecar.
#[derive(Debug, clap::Args)]
pub(crate) struct Address {
    /// The sidecar's unix socket, http.socket in its config: for its own user and for root
    /// [env: SHARD_WATCHDOG_SOCKET]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// Where the sidecar listens: http://HOST:PORT or unix:/PATH.sock [env: SHARD_WATCHDOG_URL]
    /// [default: http://127.0.0.1:9611]
    #[arg(long, value_name = "URL")]
    url: Option<Endpoint>,
}

impl Address {
    /// What two flags of other names said.
    pub(super) const fn new(socket: Option<PathBuf>, url: Option<Endpoint>) -> Self {
        Self { socket, url }
    }

    /// Whether a flag names a sidecar.
    pub(super) const fn is_given(&self) -> bool {
        self.socket.is_some() || self.url.is_some()
    }

    /// A flag beats a variable, whichever of the two it names, and a socket beats a URL.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        self.endpoint_with(|name| std::env::var(name).ok())
    }

    fn endpoint_with(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Endpoint, String> {
        let variable = |name| variable(name).filter(|text| !text.is_empty());
        if let Some(socket) = &self.socket {
            return unix(socket);
        }
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        if let Some(socket) = variable(SOCKET) {
            return unix(Path::new(&socket));
        }
        let url = variable(URL).unwrap_or_else(|| DEFAULT.to_owned());
        url.parse().map_err(|error| format!("{URL}: {error}"))
    }
}

fn unix(path: &Path) -> Result<Endpoint, String> {
    let path = std::path::absolute(path).map_err(|error| format!("--socket {}: {error}", path.display()))?;
    Ok(Endpoint::Unix(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(socket: Option<&str>, url: Option<&str>) -> Address {
        Address::new(socket.map(PathBuf::from), url.map(|url| url.parse().unwrap()))
    }

    fn told(address: &Address, socket: &str, url: &str) -> Result<String, String> {
        let variable = |name: &str| Some(if name == SOCKET { socket } else { url }.to_owned());
        address.endpoint_with(variable).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn a_flag_beats_a_variable_and_an_empty_variable_is_none() {
        let flags = [(None, None), (Some("/run/a.sock"), None), (None, Some("http://127.0.0.1:1"))];
        let told = flags.map(|(socket, url)| {
            let address = address(socket, url);
            let both = told(&address, "/run/b.sock", "http://127.0.0.1:2").unwrap();
            (both, told(&address, "", "http://127.0.0.1:2").unwrap(), told(&address, "", "").unwrap())
        });
        let expected = [
            ("unix:/run/b.sock", "http://127.0.0.1:2", DEFAULT),
            ("unix:/run/a.sock", "unix:/run/a.sock", "unix:/run/a.sock"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_variable_that_names_no_place_is_named() {
        let error = told(&address(None, None), "", "ftp://somewhere").unwrap_err();
        assert!(error.starts_with("SHARD_WATCHDOG_URL: "), "{error}");
    }
}
