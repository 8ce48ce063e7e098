//! Several configs of one machine: what two sidecars cannot both have.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Config, FindTarget};

use super::{Remark, Topic};

/// For each config that wants what an earlier one has: its index, and the remark. `named` are the
/// configs with the names of their files.
pub fn collisions(named: &[(&str, &Config)]) -> Vec<(usize, Remark)> {
    let mut found = Vec::new();
    for (index, (_, config)) in named.iter().enumerate() {
        for (earlier, before) in named.iter().take(index) {
            let shared = shared(before, config);
            found.extend(shared.into_iter().map(|(key, value)| {
                let message = format!(
                    "{earlier} has {value} too, and two sidecars of one machine cannot share it. Choose another one, unless \
                     they run on different machines"
                );
                (index, Remark::new(Topic::Together, key, message))
            }));
        }
    }
    found
}

fn shared(one: &Config, other: &Config) -> Vec<(&'static str, String)> {
    let mut shared = Vec::new();
    let mut paths = |key, one: Option<&Path>, other: Option<&Path>| {
        if let Some(path) = one.filter(|one| Some(*one) == other) {
            shared.push((key, path.display().to_string()));
        }
    };
    paths("target.heartbeat", heartbeat(one), heartbeat(other));
    paths("evidence.directory", Some(&one.evidence.directory), Some(&other.evidence.directory));
    paths("http.socket", one.http.socket.as_deref(), other.http.socket.as_deref());
    for (key, address) in addresses(other) {
        if let Some((_, taken)) = addresses(one).find(|(_, taken)| overlap(*taken, address)) {
            shared.push((key, taken.to_string()));
        }
    }
    shared
}

fn heartbeat(config: &Config) -> Option<&Path> {
    match &config.target.find {
        FindTarget::Heartbeat(path) => Some(path),
        _ => None,
    }
}

fn addresses(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let both = [("http.listen", config.http.listen), ("http.public", config.http.public)];
    both.into_iter().filter_map(|(key, address)| Some((key, address?)))
}

/// Whether a listener on one keeps the other from being opened. Port 0 stands for any free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (all || one.ip() == other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::parse;

    fn config(shard: &str, http: &str) -> Config {
        let text = format!(
            "[target]\nshard = \"{shard}\"\nheartbeat = \"/run/{shard}.heartbeat\"\n[http]\n{http}\n"
        );
        parse(&text, Path::new("w.toml")).unwrap()
    }

    #[test]
    fn the_default_address_of_two_shards_is_one_address() {
        let (a, b, c) = (config("0", ""), config("1", ""), config("2", "listen = \"127.0.0.1:9621\""));
        let found = collisions(&[("a", &a), ("b", &b), ("c", &c)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0, found[0].1.key.as_str()), (1, "http.listen"));
        assert!(found[0].1.message.starts_with("a has 127.0.0.1:9611 too"), "{found:?}");
    }

    #[test]
    fn an_address_for_all_takes_the_port_of_every_one() {
        let (a, b) = (
            config("0", "listen = \"\"\npublic = \"0.0.0.0:9612\""),
            config("1", "listen = \"127.0.0.1:9612\""),
        );
        assert_eq!(collisions(&[("a", &a), ("b", &b)]).len(), 1);
        let (a, b) = (config("0", "listen = \"127.0.0.1:0\""), config("1", "listen = \"127.0.0.1:0\""));
        assert_eq!(collisions(&[("a", &a), ("b", &b)]), []);
    }

    #[test]
    fn one_segment_is_for_one_sidecar() {
        let a = config("0", "");
        let keys: Vec<String> =
            collisions(&[("a", &a), ("a", &a)]).into_iter().map(|(_, remark)| remark.key).collect();
        assert_eq!(keys, ["target.heartbeat", "evidence.directory", "http.listen"]);
    }
}
