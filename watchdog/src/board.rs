//! What the slow side knows at this moment: written by the relay, read by whoever answers a
//! question.
//!
//! Each lock here is held for as long as it takes to copy a pointer.

pub mod listening;
pub mod reader;
#[cfg(test)]
pub(crate) mod sample;
pub mod totals;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use shard_telemetry::dropped::Dropped;

use crate::archive::{Archive, Held};
use crate::clock::{Monotonic, WallAnchor};
use crate::config::{Config, KillBy, KillMode};
use crate::snapshot::Snapshot;
use crate::verdict::Verdict;

use listening::Listening;
use totals::TargetStats;

/// The watch sends four snapshots a second. After this much silence nobody can say that it still
/// watches, which is the same 10 s after which it calls itself unguarded when it is late.
pub const SILENT: Duration = Duration::from_secs(10);

/// The board.
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
    listening: Listening,
}

/// The verdict as it may be told now.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when.
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
            listening: Listening::default(),
        }
    }

    /// Which shard.
    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// What ends a target that is to be killed.
    pub const fn kills_by(&self) -> KillBy {
        self.by
    }

    /// Ties the two clocks.
    pub const fn anchor(&self) -> &WallAnchor {
        &self.anchor
    }

    /// The wall-clock time of `at`.
    pub fn wall(&self, at: Monotonic) -> Timestamp {
        self.anchor.wall(at)
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Where the sidecar can be asked.
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// What there is to say about the long-term recording, if there is one.
    pub fn archive(&self) -> Option<Held> {
        self.archive.get().map(Archive::held)
    }

    /// There is one.
    pub fn set_archive(&self, archive: Archive) {
        // A sidecar has one or none, for all its life.
        let _ = self.archive.set(archive);
    }

    /// Whether it may kill.
    pub fn mode(&self) -> KillMode {
        *lock(&self.mode)
    }

    /// A reload may change that.
    pub fn set_mode(&self, mode: KillMode) {
        *lock(&self.mode) = mode;
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        lock(&self.snapshot).clone()
    }

    /// Pins up a newer one.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        self.dropped.set(shard_telemetry::dropped::Signal::Events, snapshot.dropped);
        *lock(&self.snapshot) = Some(snapshot);
    }

    /// The newest totals of target and sidecar.
    pub fn target(&self) -> Option<Arc<TargetStats>> {
        lock(&self.target).clone()
    }

    /// Pins up newer ones.
    pub fn set_target(&self, stats: Arc<TargetStats>) {
        *lock(&self.target) = Some(stats);
    }

    /// How long the watch loop has said nothing, if that is too long.
    pub fn silent_for(&self, now: Monotonic) -> Option<Duration> {
        let last = self.snapshot().map_or(self.began, |snapshot| snapshot.at);
        Some(now.since(last)).filter(|silence| *silence > SILENT)
    }

    /// The verdict as it may be told at `now`: one that nobody has confirmed for [`SILENT`] stands
    /// no longer.
    pub fn standing(&self, now: Monotonic) -> Standing {
        let snapshot = self.snapshot();
        if let Some(silence) = self.silent_for(now) {
            return Standing {
                verdict: Verdict::Unguarded,
                reason: format!("the watch loop has said nothing for {} s", silence.as_secs()),
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
