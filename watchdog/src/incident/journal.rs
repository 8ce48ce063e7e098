//! Stores incidents: the latest in memory, and all of them on disk, written by a separate thread.
//!
//! A disk may be full, read-only or hung for minutes. Then the journal's thread waits or reports
//! the error, its queue fills, and further orders are dropped and counted; nothing else is
//! affected. Every order carries the whole document, so the next one makes up for one that was
//! dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shard_telemetry::dropped::{Dropped, Signal};
use shard_telemetry::otlp::Spans;
use tokio::sync::oneshot;

use crate::act::budget::Past;
use crate::clock::Moment;
use crate::own_folder::Place;
use crate::pause::Pause;

use super::deaths::Deaths;
use super::folder::{Folder, Found};
use super::id::IncidentId;
use super::kills::{self, Kills};
use super::retention::{self, Traits};
use super::spans::{self, Told};
use super::{Incident, Status, pause};

/// Documents that wait for the disk. An incident has about ten steps; a longer queue means that the
/// disk has stopped.
const QUEUE: usize = 64;
/// Recordings that wait for the disk, of up to 2 MiB each: a second incident may begin before the
/// first one is written.
const RECORDINGS: usize = 2;
/// Incidents that are served from memory. At a few KiB each, they stay within half a MiB.
const IN_MEMORY: usize = 50;

/// Where incidents are stored, and how many are retained.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// `evidence.directory`
    pub directory: Place,
    /// `evidence.keep.incidents`
    pub keep_incidents: u32,
    /// `evidence.keep.bytes`
    pub keep_bytes: u64,
}

enum Order {
    Write(Arc<Incident>),
    Recording(IncidentId, Vec<u8>),
    Past(SyncSender<(Past, Option<Pause>)>),
    /// Store this pause, or remove the stored one (`None`); the answer is whether that reached the
    /// disk.
    Pause(Option<Arc<Pause>>, oneshot::Sender<bool>),
    /// This pause is over.
    PauseOver(Arc<Pause>),
    Remember(Deaths),
    Deaths(SyncSender<Deaths>),
    /// Check whether the folder can still be trusted.
    Look,
    Flush(SyncSender<()>),
}

/// The handle to the journal for all other threads.
#[derive(Clone, Debug)]
pub struct Journal {
    latest: Arc<Mutex<VecDeque<Arc<Incident>>>>,
    orders: SyncSender<Order>,
    recordings: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Journal {
    /// Starts the thread. It reads what earlier runs of the sidecar left, and closes the incidents
    /// that they left open.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(config: &JournalConfig, dropped: Arc<Dropped>, spans: Option<Spans>) -> io::Result<Self> {
        let (orders, receiver) = sync_channel(QUEUE);
        let journal = Self {
            latest: Arc::default(),
            orders,
            recordings: Arc::default(),
            dropped,
            trouble: Arc::default(),
        };
        let folder = Folder::new(&config.directory, config.keep_incidents, config.keep_bytes);
        let scribe = Scribe {
            folder,
            latest: Arc::clone(&journal.latest),
            recordings: Arc::clone(&journal.recordings),
            dropped: Arc::clone(&journal.dropped),
            evidence: config.directory.clone(),
            kills: Kills::new(config.directory.clone()),
            pause: None,
            deaths: Deaths::default(),
            trouble: Arc::clone(&journal.trouble),
            spans,
        };
        thread::Builder::new().name("journal".to_owned()).spawn(move || scribe.run(&receiver))?;
        Ok(journal)
    }

    /// Records the newest version of a document. Never waits.
    pub fn record(&self, incident: Arc<Incident>) {
        remember(&self.latest, Arc::clone(&incident));
        if self.orders.try_send(Order::Write(incident)).is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// Stores the recording that belongs to an incident. Never waits; while the disk hangs, a third
    /// one is dropped.
    pub fn keep_recording(&self, id: IncidentId, recording: Vec<u8>) {
        let waiting = self.recordings.fetch_add(1, Ordering::Relaxed);
        if waiting >= RECORDINGS || self.orders.try_send(Order::Recording(id, recording)).is_err() {
            self.recordings.fetch_sub(1, Ordering::Relaxed);
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// The latest incidents, newest first.
    pub fn latest(&self) -> Vec<Arc<Incident>> {
        lock(&self.latest).iter().rev().cloned().collect()
    }

    /// One of the latest incidents.
    pub fn get(&self, id: &IncidentId) -> Option<Arc<Incident>> {
        lock(&self.latest).iter().find(|incident| incident.id == *id).cloned()
    }

    /// What earlier runs of the sidecar left: the kills that were charged to the budget, and a
    /// pause that is not over. `None` if the disk does not answer within `wait`.
    pub fn past(&self, wait: Duration) -> Option<(Past, Option<Pause>)> {
        let (answer, answered) = sync_channel(1);
        self.orders.try_send(Order::Past(answer)).ok()?;
        answered.recv_timeout(wait).ok()
    }

    /// Stores `pause` for the next run of the sidecar, or removes the stored one. The answer is
    /// whether that reached the disk; there is none if the disk has stopped.
    pub fn keep_pause(&self, pause: Option<Arc<Pause>>) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        // A full queue drops the order, and the receiver learns that no answer will come.
        let _ = self.orders.try_send(Order::Pause(pause, answer));
        answered
    }

    /// Removes `pause`, unless another one has replaced it. A pause that stays in the file is over
    /// all the same.
    pub fn pause_over(&self, pause: Arc<Pause>) {
        let _ = self.orders.try_send(Order::PauseOver(pause));
    }

    /// Stores what is known of deaths, for the next run of the sidecar. Never waits.
    pub fn remember(&self, deaths: Deaths) {
        if self.orders.try_send(Order::Remember(deaths)).is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// What earlier runs of the sidecar knew of deaths; `None` if the disk does not answer within
    /// `wait`.
    pub fn deaths(&self, wait: Duration) -> Option<Deaths> {
        let (answer, answered) = sync_channel(1);
        self.orders.try_send(Order::Deaths(answer)).ok()?;
        answered.recv_timeout(wait).ok()
    }

    /// The target has changed: its user may be one that can write to the folder. Never waits.
    pub fn look(&self) {
        // A full queue contains orders that check the folder too.
        let _ = self.orders.try_send(Order::Look);
    }

    /// Why nothing can be written now; `None` if it can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything recorded before is on disk, for at most `wait`. Returns whether it
    /// is.
    pub fn flush(&self, wait: Duration) -> bool {
        /// Pause before a full queue is tried again.
        const NUDGE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + wait;
        let (answer, answered) = sync_channel(1);
        let mut order = Order::Flush(answer);
        loop {
            match self.orders.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => order = back,
                Err(TrySendError::Full(_)) => return false,
            }
            thread::sleep(NUDGE);
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// The journal's thread.
struct Scribe {
    folder: Folder,
    latest: Arc<Mutex<VecDeque<Arc<Incident>>>>,
    recordings: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    evidence: Place,
    kills: Kills,
    pause: Option<Arc<Pause>>,
    deaths: Deaths,
    trouble: Arc<Mutex<Option<String>>>,
    spans: Option<Spans>,
}

impl Scribe {
    fn run(mut self, orders: &Receiver<Order>) {
        self.take_over();
        for order in orders {
            match order {
                Order::Write(incident) => self.write(&incident),
                Order::Recording(id, recording) => {
                    self.write_recording(&id, &recording);
                    self.recordings.fetch_sub(1, Ordering::Relaxed);
                }
                Order::Past(answer) => {
                    let _ = answer.try_send((self.kills.past(Moment::now()), self.left_pause()));
                }
                Order::Pause(pause, answer) => {
                    let kept = match &pause {
                        Some(pause) => pause::keep(&self.evidence, pause, Moment::now()),
                        None => pause::remove(&self.evidence),
                    };
                    self.settle(kept.as_ref().err());
                    self.pause = pause;
                    let _ = answer.send(kept.is_ok());
                }
                Order::PauseOver(pause) => {
                    if self.pause.as_ref() == Some(&pause) {
                        self.pause = None;
                        let removed = pause::remove(&self.evidence);
                        self.settle(removed.as_ref().err());
                    }
                }
                Order::Remember(deaths) => self.remember(deaths),
                Order::Deaths(answer) => {
                    let _ = answer.try_send(self.deaths.clone());
                }
                Order::Look => {
                    let opened = self.evidence.open();
                    self.settle(opened.as_ref().err());
                }
                Order::Flush(answer) => {
                    let _ = answer.try_send(());
                }
            }
        }
    }

    fn take_over(&mut self) {
        let Found { incidents, unreadable } = match self.folder.load() {
            Ok(found) => found,
            Err(error) => {
                self.kills.forget(Moment::now());
                self.settle(Some(&error));
                return;
            }
        };
        if let Err(error) = self.kills.load(&incidents, Moment::now()) {
            let path = self.evidence.path().join(kills::FILE);
            tracing::error!(
                path = %path.display(), %error,
                "the kills of earlier lives cannot be read or written: what is not known counts as spent, until the budget refills"
            );
        }
        for (path, error) in unreadable {
            tracing::warn!(path = %path.display(), %error, "an earlier incident cannot be read and is left alone");
        }
        match Deaths::load(&self.evidence) {
            Ok(deaths) => self.deaths = deaths,
            Err(error) => {
                tracing::warn!(%error, "the record of deaths cannot be read; the remaining incidents replace it as far as they go");
            }
        }
        self.deaths.add(incidents.iter());
        for mut incident in incidents {
            let was_open = incident.status == Status::Open;
            if was_open {
                incident.interrupt(Timestamp::now());
                // Spans that the earlier sidecar could not send are lost with it, so all of them
                // are sent again.
                if let Some(spans) = &self.spans {
                    spans.send(Told::default().finished(&incident));
                }
                let _inside = spans::inside(&incident);
                tracing::warn!(incident = %incident.id, "an earlier sidecar left this incident open; it is closed");
            }
            let incident = Arc::new(incident);
            remember(&self.latest, Arc::clone(&incident));
            if was_open {
                self.write(&incident);
            }
        }
        self.prune();
    }

    fn write(&mut self, incident: &Incident) {
        let written = self.folder.write(incident).and(self.kills.add(incident));
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
        self.settle(written.as_ref().err());
        if incident.status != Status::Open || written.is_err() {
            self.prune();
        }
    }

    /// The pause that an earlier run left.
    fn left_pause(&mut self) -> Option<Pause> {
        match pause::load(&self.evidence, Moment::now()) {
            Ok(left) => {
                self.pause = left.clone().map(Arc::new);
                left
            }
            Err(error) => {
                let path = self.evidence.path().join(pause::FILE);
                tracing::error!(path = %path.display(), %error, "an earlier pause cannot be used; nothing is paused");
                None
            }
        }
    }

    fn remember(&mut self, deaths: Deaths) {
        let written = deaths.write(&self.evidence);
        self.deaths = deaths;
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
        self.settle(written.as_ref().err());
    }

    fn write_recording(&mut self, id: &IncidentId, recording: &[u8]) {
        let written = self.folder.write_recording(id, recording);
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
        self.settle(written.as_ref().err());
        self.prune();
    }

    fn prune(&mut self) {
        match self.folder.prune() {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(
                deleted,
                "incidents were deleted to keep the limits: repeats first, then the oldest"
            ),
            Err(error) => {
                tracing::warn!(%error, path = %self.folder.path().display(), "an old incident cannot be deleted");
            }
        }
    }

    /// Logs that the disk fails, or works again, once for each change.
    fn settle(&mut self, error: Option<&io::Error>) {
        let now = error.map(ToString::to_string);
        if *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) == now {
            return;
        }
        let path = self.folder.path().display();
        match &now {
            Some(error) => tracing::error!(
                %path, %error,
                "incidents cannot be written; they are kept in memory until this sidecar ends. Free the disk, or \
                 point evidence.directory at a folder that this user may write to"
            ),
            None => tracing::info!(%path, "incidents are written again"),
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

fn lock(latest: &Mutex<VecDeque<Arc<Incident>>>) -> MutexGuard<'_, VecDeque<Arc<Incident>>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(latest: &Mutex<VecDeque<Arc<Incident>>>, incident: Arc<Incident>) {
    let mut latest = lock(latest);
    let place = latest.partition_point(|held| held.id < incident.id);
    match latest.get_mut(place) {
        Some(held) if held.id == incident.id => *held = incident,
        _ => latest.insert(place, incident),
    }
    while latest.len() > IN_MEMORY {
        // By the same rule as on disk. If all of them are open, the oldest.
        let traits: Vec<_> = latest.iter().map(|incident| Traits::of(incident)).collect();
        let next =
            retention::next_to_delete(latest.iter().map(|incident| &incident.id).zip(&traits)).cloned();
        let place = next.and_then(|next| latest.iter().position(|incident| incident.id == next));
        latest.remove(place.unwrap_or(0));
    }
}

#[cfg(test)]
#[path = "journal/tests.rs"]
mod tests;
