//! The sidecars' configs: the shortest that serve, as an operator would write them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::pace::Pace;
use super::{DemoError, text};

/// The sidecar's defaults for a start, for a restart and for evidence. The time that a kill waits
/// for evidence is limited.
const STARTUP_GRACE: Duration = Duration::from_secs(30);
const RESTART_WITHIN: Duration = Duration::from_secs(30);
const EVIDENCE: Duration = Duration::from_millis(250);
const LONGEST_EVIDENCE: u32 = 40;

/// The settings of one sidecar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sidecar<'a> {
    pub(super) shard: &'a str,
    pub(super) heartbeat: &'a Path,
    pub(super) thread: &'a str,
    /// On a usual machine.
    pub(super) stall_after: Duration,
    pub(super) evidence: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) socket: &'a Path,
    pub(super) pace: Pace,
}

impl Sidecar<'_> {
    /// The config as TOML.
    pub(super) fn toml(&self) -> Result<String, DemoError> {
        let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let (shard, thread) = (quote(self.shard), quote(self.thread));
        let heartbeat = quote(text(self.heartbeat)?);
        let evidence = quote(text(self.evidence)?);
        let socket = quote(text(self.socket)?);
        let Self { listen, pace, .. } = self;
        let stall_after = pace.text(self.stall_after);
        let (slow_start, slow_evidence) = self.slow();
        Ok(format!(
            "[target]\nshard = {shard}\nheartbeat = {heartbeat}\n\n\
             [[thread]]\nname = {thread}\nstall_after = \"{stall_after}\"\n\n\
             {slow_start}\
             [kill]\nmode = \"enforce\"\n\n\
             [evidence]\ndirectory = {evidence}\n{slow_evidence}\n\
             [http]\nlisten = \"{listen}\"\nsocket = {socket}\n"
        ))
    }

    /// Settings that only a slow machine needs: the defaults, made longer.
    fn slow(&self) -> (String, String) {
        if self.pace.factor() == 1 {
            return Default::default();
        }
        let (grace, within) = (self.pace.text(STARTUP_GRACE), self.pace.text(RESTART_WITHIN));
        let evidence = Pace::given(self.pace.factor().min(LONGEST_EVIDENCE)).text(EVIDENCE);
        (
            format!("[judge]\nstartup_grace = \"{grace}\"\n\n[restart]\nwithin = \"{within}\"\n\n"),
            format!("time_limit = \"{evidence}\"\n"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_demo_writes_the_sidecar_reads() {
        for factor in [1, 20, super::super::SLOWEST] {
            let sidecar = Sidecar {
                shard: "0",
                heartbeat: Path::new("/tmp/a \"quoted\" folder/0.heartbeat"),
                thread: "exec-s0",
                stall_after: Duration::from_secs(1),
                evidence: Path::new("/tmp/x"),
                listen: SocketAddr::from(([127, 0, 0, 1], 1234)),
                socket: Path::new("/tmp/s"),
                pace: Pace::given(factor),
            };
            let toml = sidecar.toml().unwrap();
            let config = crate::config::read::parse(&toml, Path::new("w.toml")).unwrap();
            assert_eq!(config.threads[0].name, "exec-s0");
            assert_eq!(config.threads[0].stall_after, Duration::from_secs(1) * factor);
            assert_eq!(config.judge.startup_grace, STARTUP_GRACE * factor);
            assert_eq!(config.restart.within, RESTART_WITHIN * factor);
            assert_eq!(config.evidence.time_limit, EVIDENCE * factor.min(LONGEST_EVIDENCE));
            assert_eq!(config.kill.mode, crate::config::KillMode::Enforce);
        }
    }
}
