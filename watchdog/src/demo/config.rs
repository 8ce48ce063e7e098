//! The sidecars' configs: the shortest that do the job, as an operator would write them.

use std::net::SocketAddr;
use std::path::Path;

use super::{DemoError, text};

/// What one sidecar needs to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sidecar<'a> {
    pub(super) shard: &'a str,
    pub(super) heartbeat: &'a Path,
    pub(super) thread: &'a str,
    pub(super) stall_after: &'static str,
    pub(super) evidence: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) socket: &'a Path,
}

impl Sidecar<'_> {
    /// As TOML.
    pub(super) fn toml(&self) -> Result<String, DemoError> {
        let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let (shard, thread) = (quote(self.shard), quote(self.thread));
        let heartbeat = quote(text(self.heartbeat)?);
        let evidence = quote(text(self.evidence)?);
        let socket = quote(text(self.socket)?);
        let Self { stall_after, listen, .. } = self;
        Ok(format!(
            "[target]\nshard = {shard}\nheartbeat = {heartbeat}\n\n\
             [[thread]]\nname = {thread}\nstall_after = \"{stall_after}\"\n\n\
             [kill]\nmode = \"enforce\"\n\n\
             [evidence]\ndirectory = {evidence}\n\n\
             [http]\nlisten = \"{listen}\"\nsocket = {socket}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_demo_writes_the_sidecar_reads() {
        let sidecar = Sidecar {
            shard: "0",
            heartbeat: Path::new("/tmp/a \"quoted\" folder/0.heartbeat"),
            thread: "exec-s0",
            stall_after: "1s",
            evidence: Path::new("/tmp/x"),
            listen: SocketAddr::from(([127, 0, 0, 1], 1234)),
            socket: Path::new("/tmp/s"),
        };
        let config = crate::config::read::parse(&sidecar.toml().unwrap(), Path::new("w.toml")).unwrap();
        assert_eq!(config.threads[0].name, "exec-s0");
        assert_eq!(config.kill.mode, crate::config::KillMode::Enforce);
    }
}
