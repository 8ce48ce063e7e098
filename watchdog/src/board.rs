//! The current state as the slow side knows it: the relay writes it, and whatever answers a query
//! reads it.
//!
//! Each lock here is held only while a pointer is copied; that of the history, while a few hundred
//! KiB are.

pub mod history;
pub mod listening;
pub mod reader;
#[cfg(test)]
pub(crate) mod sample;
pub mod totals;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use shard_telemetry::dropped::Dropped;
use shard_telemetry::sign_of_life::SignOfLife;

use crate::archive::{Archive, Held};
use crate::clock::{Monotonic, WallAnchor};
use crate::config::{Config, KillBy, KillMode, Links};
use crate::snapshot::Snapshot;
use crate::verdict::Verdict;

use history::History;
use listening::Listening;
use totals::TargetStats;

/// The watch sends four snapshots a second. After this much silence it can no longer be assumed to
/// watch. The watch loop uses the same 10 s: if it is late by more, it declares itself unguarded.
pub const SILENT: Duration = Duration::from_secs(10);

/// The current state, shared by all threads of the slow side.
#[derive(Debug)]
pub struct Board {
    shard: String,
    anchor: WallAnchor,
    began: Monotonic,
    mode: Mutex<KillMode>,
    by: KillBy,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    target: Mutex<Option<Arc<TargetStats>>>,
    dropped: Arc<Dropped>,
    archive: OnceLock<Archive>,
    sign_of_life: OnceLock<SignOfLife>,
    listening: Listening,
    evidence_lacks: Mutex<Vec<String>>,
    last_reload: Mutex<LastReload>,
    history: History,
    links: Mutex<Arc<Links>>,
}

/// What became of the last attempt to read the config; the start counts as one.
#[derive(Clone, Copy, Debug)]
pub struct LastReload {
    /// Whether that config is in force.
    pub succeeded: bool,
    /// When a config was last put in force.
    pub good_at: Timestamp,
}

/// The verdict to report at a given moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, as a sentence.
    pub reason: String,
    /// The time since which it holds.
    pub since: Monotonic,
}

impl Board {
    /// An empty board.
    pub fn new(config: &Config, anchor: WallAnchor, dropped: Arc<Dropped>) -> Self {
        Self {
            shard: config.target.shard.clone(),
            anchor,
            began: crate::clock::now(),
            mode: Mutex::new(config.kill.mode),
            by: config.kill.by,
            snapshot: Mutex::default(),
            target: Mutex::default(),
            dropped,
            archive: OnceLock::new(),
            sign_of_life: OnceLock::new(),
            listening: Listening::default(),
            evidence_lacks: Mutex::default(),
            last_reload: Mutex::new(LastReload { succeeded: true, good_at: Timestamp::now() }),
            history: History::default(),
            links: Mutex::new(Arc::new(config.links.clone())),
        }
    }

    /// The name of the shard.
    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// The means by which a target is killed.
    pub const fn kills_by(&self) -> KillBy {
        self.by
    }

    /// Relates the monotonic clock to the wall clock.
    pub const fn anchor(&self) -> &WallAnchor {
        &self.anchor
    }

    /// The wall-clock time of `at`.
    pub fn wall(&self, at: Monotonic) -> Timestamp {
        self.anchor.wall(at)
    }

    /// The counts of what was dropped so far.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// The places where the sidecar listens.
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// What evidence of the target would lack for want of a permission, one sentence each.
    pub fn evidence_lacks(&self) -> Vec<String> {
        lock(&self.evidence_lacks).clone()
    }

    /// Sets that, as it was learnt at adoption.
    pub fn set_evidence_lacks(&self, lacks: Vec<String>) {
        *lock(&self.evidence_lacks) = lacks;
    }

    /// State of the long-term recording; `None` if there is none.
    pub fn archive(&self) -> Option<Held> {
        self.archive.get().map(Archive::held)
    }

    /// Registers the long-term recording.
    pub fn set_archive(&self, archive: Archive) {
        // A sidecar has one or none for its whole life.
        let _ = self.archive.set(archive);
    }

    /// The sign of life to a service outside; `None` without `[heartbeat_out]`.
    pub fn sign_of_life(&self) -> Option<&SignOfLife> {
        self.sign_of_life.get()
    }

    /// Registers it.
    pub fn set_sign_of_life(&self, sign: SignOfLife) {
        // As with the recording.
        let _ = self.sign_of_life.set(sign);
    }

    /// The kill mode: whether the sidecar may kill.
    pub fn mode(&self) -> KillMode {
        *lock(&self.mode)
    }

    /// Sets the kill mode, which a reload may change.
    pub fn set_mode(&self, mode: KillMode) {
        *lock(&self.mode) = mode;
    }

    /// What became of the last attempt to read the config.
    pub fn last_reload(&self) -> LastReload {
        *lock(&self.last_reload)
    }

    /// Notes another attempt.
    pub fn reloaded(&self, succeeded: bool) {
        let mut last = lock(&self.last_reload);
        last.succeeded = succeeded;
        if succeeded {
            last.good_at = Timestamp::now();
        }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        lock(&self.snapshot).clone()
    }

    /// Stores a newer snapshot.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        self.dropped.set(shard_telemetry::dropped::Signal::Events, snapshot.dropped);
        self.history.record(&snapshot);
        *lock(&self.snapshot) = Some(snapshot);
    }

    /// The last minute of the threads.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Where the status page leads.
    pub fn links(&self) -> Arc<Links> {
        Arc::clone(&lock(&self.links))
    }

    /// Sets that, which a reload may change.
    pub fn set_links(&self, links: &Links) {
        *lock(&self.links) = Arc::new(links.clone());
    }

    /// The newest totals of target and sidecar.
    pub fn target(&self) -> Option<Arc<TargetStats>> {
        lock(&self.target).clone()
    }

    /// Stores newer totals.
    pub fn set_target(&self, stats: Arc<TargetStats>) {
        *lock(&self.target) = Some(stats);
    }

    /// How long the watch loop has been silent, if longer than [`SILENT`].
    pub fn silent_for(&self, now: Monotonic) -> Option<Duration> {
        let last = self.snapshot().map_or(self.began, |snapshot| snapshot.at);
        Some(now.since(last)).filter(|silence| *silence > SILENT)
    }

    /// The verdict to report at `now`. A verdict that was not confirmed for [`SILENT`] no longer
    /// holds.
    pub fn standing(&self, now: Monotonic) -> Standing {
        let snapshot = self.snapshot();
        if let Some(silence) = self.silent_for(now) {
            return Standing {
                verdict: Verdict::Unguarded,
                reason: format!("the watch loop has reported nothing for {} s", silence.as_secs()),
                since: snapshot.map_or(self.began, |snapshot| snapshot.at),
            };
        }
        match snapshot {
            Some(snapshot) => {
                Standing { verdict: snapshot.verdict, reason: snapshot.reason.clone(), since: snapshot.since }
            }
            None => Standing {
                verdict: Verdict::Unguarded,
                reason: "the sidecar is starting and has not looked for its target yet".to_owned(),
                since: self.began,
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
