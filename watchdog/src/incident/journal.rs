//! Stores incidents: the latest in memory, and all of them on disk, written by a separate thread.
//!
//! A disk may be full, read-only or hung for minutes. Then the journal's thread waits or reports
//! the error, its queue fills, and further orders are dropped and counted; nothing else is
//! affected. Every order carries the whole document, so the next one makes up for one that was
//! dropped. What the disk refused is tried again each second.

mod scribe;
mod unwritten;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shard_telemetry::dropped::{Dropped, Signal};
use shard_telemetry::otlp::Spans;
use tokio::sync::oneshot;

use crate::act::budget::Past;
use crate::own_folder::Place;
use crate::pause::Pause;

use super::Incident;
use super::deaths::Deaths;
use super::folder::Folder;
use super::id::IncidentId;
use super::kills::Kills;
use super::near_miss::NearMiss;
use super::retention::{self, Traits};

use scribe::Scribe;
use unwritten::Unwritten;

/// Documents that wait for the disk. An incident has about ten steps; a longer queue means that the
/// disk has stopped.
const QUEUE: usize = 64;
/// Files beside documents that wait for the disk, or are tried again, of up to 2 MiB each: a
/// recording and the evidence of two incidents, since a second one may begin before the first one
/// is written.
const FILES: usize = 4;
/// Of so many incidents that an earlier run left, the latest ones, the stacks are looked up: no
/// sidecar leaves more than wait at once.
pub const MOST_LEFT: usize = 4;
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
    /// Store this file of an incident beside its document.
    Keep(IncidentId, &'static str, Vec<u8>),
    /// Store this minidump of an incident.
    KeepDump(IncidentId, Arc<File>),
    /// Store a later version of a document, unless the incident was deleted.
    Amend(Arc<Incident>),
    /// Open the minidump of an incident.
    Dump(IncidentId, SyncSender<io::Result<Option<File>>>),
    /// Store the stacks of its minidump.
    KeepStacks(IncidentId, Arc<File>),
    NearMiss(Box<NearMiss>),
    Past(SyncSender<(Past, Option<Pause>)>),
    /// Store this pause, or remove the stored one (`None`); the answer is whether that reached the
    /// disk.
    Pause(Option<Arc<Pause>>, oneshot::Sender<bool>),
    /// This pause is over.
    PauseOver(Arc<Pause>),
    Remember(Deaths),
    Deaths(SyncSender<Deaths>),
    /// Read a file of an incident.
    Read(IncidentId, String, oneshot::Sender<io::Result<Option<Vec<u8>>>>),
    /// Check whether the folder can still be trusted.
    Look,
    Flush(SyncSender<()>),
}

/// The handle to the journal for all other threads.
#[derive(Clone, Debug)]
pub struct Journal {
    latest: Arc<Mutex<VecDeque<Arc<Incident>>>>,
    near_misses: Arc<Mutex<VecDeque<NearMiss>>>,
    orders: SyncSender<Order>,
    files: Arc<AtomicUsize>,
    /// Whether a file is being read for somebody.
    reading: Arc<AtomicBool>,
    dropped: Arc<Dropped>,
    trouble: Arc<Mutex<Option<String>>>,
    left: Arc<Mutex<Option<Arc<Incident>>>>,
    without_stacks: Arc<Mutex<Vec<IncidentId>>>,
}

impl Journal {
    /// Starts the thread. It reads what earlier runs of the sidecar left, and closes the incidents
    /// that they left open, except the last one if it can go on.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(config: &JournalConfig, dropped: Arc<Dropped>, spans: Option<Spans>) -> io::Result<Self> {
        let (orders, receiver) = sync_channel(QUEUE);
        let journal = Self {
            latest: Arc::default(),
            near_misses: Arc::default(),
            orders,
            files: Arc::default(),
            reading: Arc::default(),
            dropped,
            trouble: Arc::default(),
            left: Arc::default(),
            without_stacks: Arc::default(),
        };
        let folder = Folder::new(&config.directory, config.keep_incidents, config.keep_bytes);
        let scribe = Scribe {
            folder,
            latest: Arc::clone(&journal.latest),
            near_misses: Arc::clone(&journal.near_misses),
            files: Arc::clone(&journal.files),
            reading: Arc::clone(&journal.reading),
            dropped: Arc::clone(&journal.dropped),
            evidence: config.directory.clone(),
            kills: Kills::new(config.directory.clone()),
            pause: None,
            deaths: Deaths::default(),
            trouble: Arc::clone(&journal.trouble),
            left: Arc::clone(&journal.left),
            without_stacks: Arc::clone(&journal.without_stacks),
            spans,
            unwritten: Unwritten::default(),
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

    /// Records a later version of a document that was closed before. Never waits. If the incident
    /// was deleted meanwhile, it does not come back.
    pub fn amend(&self, incident: Arc<Incident>) {
        {
            let mut latest = lock(&self.latest);
            let held = latest.iter_mut().find(|held| held.id == incident.id);
            if let Some(held) = held {
                *held = Arc::clone(&incident);
            }
        }
        if self.orders.try_send(Order::Amend(incident)).is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// Stores a file that belongs to an incident, one of [`FILES`](super::folder::FILES). Never
    /// waits; while the disk hangs or is full, the fifth one is dropped.
    pub fn keep_file(&self, id: IncidentId, name: &'static str, content: Vec<u8>) {
        self.keep(Order::Keep(id, name, content));
    }

    /// Stores the minidump of an incident. Never waits; while the disk hangs, the fifth file is
    /// dropped.
    pub fn keep_dump(&self, id: IncidentId, dump: Arc<File>) {
        self.keep(Order::KeepDump(id, dump));
    }

    /// Stores the stacks of an incident's minidump. Never waits; while the disk hangs, the fifth
    /// file is dropped.
    pub fn keep_stacks(&self, id: IncidentId, stacks: Arc<File>) {
        self.keep(Order::KeepStacks(id, stacks));
    }

    /// Opens the minidump of an incident, after all that was ordered before. Waits for that long;
    /// not for the relay.
    ///
    /// # Errors
    /// Why there is none, as a clause.
    pub fn dump(&self, id: IncidentId, wait: Duration) -> Result<File, String> {
        let (answer, answered) = sync_channel(1);
        let slow = || "the disk does not answer".to_owned();
        self.orders.try_send(Order::Dump(id, answer)).map_err(|_| slow())?;
        match answered.recv_timeout(wait) {
            Ok(Ok(Some(dump))) => Ok(dump),
            Ok(Ok(None)) => Err("the minidump is not on disk".to_owned()),
            Ok(Err(error)) => Err(format!("the minidump cannot be read: {error}")),
            Err(_) => Err(slow()),
        }
    }

    /// Incidents that an earlier run of the sidecar left with a minidump whose stacks it did not
    /// look up; once, as soon as they have been read. At most [`MOST_LEFT`].
    pub fn take_without_stacks(&self) -> Vec<IncidentId> {
        let mut left = self.without_stacks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *left)
    }

    fn keep(&self, file: Order) {
        let waiting = self.files.fetch_add(1, Ordering::Relaxed);
        if waiting >= FILES || self.orders.try_send(file).is_err() {
            self.files.fetch_sub(1, Ordering::Relaxed);
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// Records a near miss that is over. Never waits.
    pub fn near_miss(&self, near_miss: NearMiss) {
        if self.orders.try_send(Order::NearMiss(Box::new(near_miss))).is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
    }

    /// The latest near misses, newest first.
    pub fn near_misses(&self) -> Vec<NearMiss> {
        let near_misses = self.near_misses.lock().unwrap_or_else(PoisonError::into_inner);
        near_misses.iter().rev().cloned().collect()
    }

    /// The open incident that an earlier run of the sidecar left and that goes on; once, as soon as
    /// it has been read.
    pub fn take_left(&self) -> Option<Arc<Incident>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The latest near miss.
    pub fn last_near_miss(&self) -> Option<NearMiss> {
        self.near_misses.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// The latest incidents, newest first.
    pub fn latest(&self) -> Vec<Arc<Incident>> {
        lock(&self.latest).iter().rev().cloned().collect()
    }

    /// One of the latest incidents.
    pub fn get(&self, id: &IncidentId) -> Option<Arc<Incident>> {
        lock(&self.latest).iter().find(|incident| incident.id == *id).cloned()
    }

    /// Reads a file of an incident for somebody; `None` while another one is being read, or if the
    /// disk has stopped. One at a time: questions must not take the room of what is to be written.
    pub fn file(
        &self,
        id: IncidentId,
        name: String,
    ) -> Option<oneshot::Receiver<io::Result<Option<Vec<u8>>>>> {
        if self.reading.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        if self.orders.try_send(Order::Read(id, name, answer)).is_err() {
            self.reading.store(false, Ordering::Release);
            return None;
        }
        Some(answered)
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
