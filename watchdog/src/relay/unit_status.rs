//! The status of this sidecar's unit in `systemctl status`: the verdict and its reason in a
//! sentence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_telemetry::service_manager::{News, ServiceManager};

use crate::verdict::Verdict;

/// A new verdict is reported at once. A reason alone may contain a number that changes with each
/// observation, and a manager notifies all its listeners of each new status.
const REASON_EVERY: Duration = Duration::from_secs(1);

/// The status that was last reported to the service manager.
#[derive(Debug, Default)]
pub(super) struct UnitStatus {
    manager: Arc<ServiceManager>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    verdict: Verdict,
    why: String,
    at: Instant,
}

impl UnitStatus {
    /// The status of this unit of `manager`.
    pub(super) fn of(manager: Arc<ServiceManager>) -> Self {
        Self { manager, told: None }
    }

    /// Notifies the manager if the status is new. If the manager's socket is full, the next
    /// snapshot tries again.
    pub(super) fn tell(&mut self, verdict: Verdict, why: &str, now: Instant) {
        let new = self.told.as_ref().is_none_or(|told| {
            let reason = told.why != why && now.saturating_duration_since(told.at) >= REASON_EVERY;
            told.verdict != verdict || reason
        });
        if !new || !self.manager.is_there() {
            return;
        }
        if self.manager.tell(&[News::Status(&format!("{verdict}: {why}"))]) {
            self.told = Some(Told { verdict, why: why.to_owned(), at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::ffi::OsStr;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_verdict_is_told_at_once_and_its_reason_no_more_than_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let there = UnixDatagram::bind(&path).unwrap();
        there.set_nonblocking(true).unwrap();
        let heard = || {
            let mut bytes = [0; 200];
            let length = there.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        let mut status = UnitStatus::of(Arc::new(ServiceManager::at(OsStr::new(&path)).unwrap()));
        let now = Instant::now();
        status.tell(Verdict::Unguarded, "no target seen yet", now);
        assert_eq!(heard().as_deref(), Some("STATUS=unguarded: no target seen yet\n"));
        status.tell(Verdict::Unguarded, "no heartbeat", now + REASON_EVERY / 2);
        assert_eq!(heard(), None);
        status.tell(Verdict::Unguarded, "no heartbeat", now + REASON_EVERY);
        assert_eq!(heard().as_deref(), Some("STATUS=unguarded: no heartbeat\n"));
        status.tell(Verdict::Healthy, "all is well", now + REASON_EVERY);
        assert_eq!(heard().as_deref(), Some("STATUS=healthy: all is well\n"));
        status.tell(Verdict::Healthy, "all is well", now + 9 * REASON_EVERY);
        assert_eq!(heard(), None);
    }
}
