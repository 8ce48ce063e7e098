//! The journal's thread: the only one that touches the folder of incidents.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use shard_telemetry::dropped::{Dropped, Signal};
use shard_telemetry::otlp::Spans;

use crate::clock::{BootId, Moment, WallAnchor};
use crate::incident::deaths::{self, Deaths};
use crate::incident::folder::{Folder, Found};
use crate::incident::id::IncidentId;
use crate::incident::kills::{self, Kills};
use crate::incident::near_miss::{self, NearMiss};
use crate::incident::spans::{self, Told};
use crate::incident::{Incident, Status, pause, small_file};
use crate::own_folder::Place;
use crate::pause::Pause;

use super::unwritten::{Beside, Unwritten};
use super::{MOST_LEFT, Order, remember};

/// The journal's thread.
pub(super) struct Scribe {
    pub(super) folder: Folder,
    pub(super) latest: Arc<Mutex<VecDeque<Arc<Incident>>>>,
    pub(super) near_misses: Arc<Mutex<VecDeque<NearMiss>>>,
    pub(super) files: Arc<AtomicUsize>,
    pub(super) reading: Arc<AtomicBool>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) evidence: Place,
    pub(super) kills: Kills,
    pub(super) pause: Option<Arc<Pause>>,
    pub(super) deaths: Deaths,
    pub(super) trouble: Arc<Mutex<Option<String>>>,
    pub(super) left: Arc<Mutex<Option<Arc<Incident>>>>,
    pub(super) without_stacks: Arc<Mutex<Vec<IncidentId>>>,
    pub(super) spans: Option<Spans>,
    pub(super) unwritten: Unwritten,
}

impl Scribe {
    /// Obeys orders until the last sender is gone.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        self.take_over();
        while let Some(order) = self.next(orders) {
            match order {
                Order::Write(incident) => self.write(incident),
                Order::Keep(id, name, content) => self.write_beside(id, Beside::Content(name, content)),
                Order::KeepDump(id, dump) => self.write_beside(id, Beside::Dump(dump)),
                Order::KeepStacks(id, stacks) => self.write_beside(id, Beside::Stacks(stacks)),
                Order::Amend(incident) => {
                    if self.folder.has(&incident.id) || self.unwritten.holds(&incident.id) {
                        self.write(incident);
                    }
                }
                Order::Dump(id, answer) => {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.try_send(self.folder.dump(&id));
                }
                Order::NearMiss(near_miss) => self.add_near_miss(*near_miss),
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
                Order::Read(id, name, answer) => {
                    let read = self.folder.read(&id, &name);
                    self.reading.store(false, Ordering::Release);
                    let _ = answer.send(read);
                }
                Order::Look => {
                    let opened = self.evidence.open();
                    self.settle(opened.as_ref().err());
                }
                Order::Flush(answer) => {
                    // The sidecar may be about to end.
                    self.try_again();
                    let _ = answer.try_send(());
                }
            }
        }
    }

    /// The next order; `None` once the last sender is gone. Meanwhile, what could not be written is
    /// tried again.
    fn next(&mut self, orders: &Receiver<Order>) -> Option<Order> {
        /// With nothing to be tried again, there is nothing to do until the next order.
        const IDLE: Duration = Duration::from_secs(3_600);
        loop {
            let wait = self.unwritten.wait().unwrap_or(IDLE);
            if !wait.is_zero() {
                match orders.recv_timeout(wait) {
                    Ok(order) => return Some(order),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            self.try_again();
        }
    }

    fn try_again(&mut self) {
        if self.unwritten.wait().is_none() {
            return;
        }
        let (files, error) = self.unwritten.try_again(&mut self.folder, &mut self.kills);
        self.files.fetch_sub(files, Ordering::Relaxed);
        self.settle(error.as_ref());
        self.prune();
    }

    fn take_over(&mut self) {
        // On a disk that takes nothing they stay, and harm nobody.
        let _ = small_file::remove_unfinished(&self.evidence, &[kills::FILE, deaths::FILE, pause::FILE]);
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
        match near_miss::load(&self.evidence) {
            Ok(known) => *self.near_misses.lock().unwrap_or_else(PoisonError::into_inner) = known,
            Err(error) => {
                tracing::warn!(%error, "earlier near misses cannot be read; the next one replaces them");
            }
        }
        self.deaths.add(incidents.iter());
        let boot = BootId::read();
        let left = incidents.iter().rposition(|incident| incident.goes_on_in(boot));
        let lacking = incidents.iter().rev().filter(|incident| incident.lacks_stacks_in(boot));
        let lacking: Vec<_> = lacking.take(MOST_LEFT).map(|incident| incident.id.clone()).collect();
        for (place, mut incident) in incidents.into_iter().enumerate() {
            let was_open = incident.status == Status::Open;
            let goes_on = left == Some(place);
            if goes_on {
                let anchor = WallAnchor::now();
                incident.go_on(crate::clock::now(), &anchor);
                let _inside = spans::inside(&incident);
                tracing::warn!(incident = %incident.id, "an earlier sidecar left this incident open; this one goes on with it");
            } else if was_open {
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
            if goes_on {
                *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&incident));
            }
            if was_open {
                self.write(incident);
            }
        }
        // Not before the one that goes on can be taken: its stacks wait for its kill.
        *self.without_stacks.lock().unwrap_or_else(PoisonError::into_inner) = lacking;
        self.prune();
    }

    fn write(&mut self, incident: Arc<Incident>) {
        let written = self.folder.write(&incident).and(self.kills.add(&incident));
        let finished = incident.status != Status::Open || written.is_err();
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
            self.unwritten.hold(incident);
        } else {
            self.unwritten.forget(&incident.id);
        }
        self.settle(written.as_ref().err());
        if finished {
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

    fn add_near_miss(&mut self, near_miss: NearMiss) {
        // A copy: whoever asks for them must not wait for the disk.
        let mut known = self.near_misses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = near_miss::add(&mut known, near_miss, &self.evidence);
        *self.near_misses.lock().unwrap_or_else(PoisonError::into_inner) = known;
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
        self.settle(written.as_ref().err());
    }

    fn remember(&mut self, deaths: Deaths) {
        let written = deaths.write(&self.evidence);
        self.deaths = deaths;
        if written.is_err() {
            self.dropped.add(Signal::Incidents, 1);
        }
        self.settle(written.as_ref().err());
    }

    fn write_beside(&mut self, id: IncidentId, file: Beside) {
        // Its document goes first: without one, an incident counts as deleted.
        let waits = self.unwritten.holds(&id) && !self.folder.has(&id);
        let written = if waits { Ok(()) } else { file.write(&mut self.folder, &id) };
        let held = (waits || written.is_err()) && {
            self.dropped.add(Signal::Incidents, 1);
            self.unwritten.hold_file(id, file)
        };
        // One that is held goes on to count.
        if !held {
            self.files.fetch_sub(1, Ordering::Relaxed);
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
        // Something else may succeed while those still fail.
        if error.is_none() && self.unwritten.wait().is_some() {
            return;
        }
        let now = error.map(ToString::to_string);
        if *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) == now {
            return;
        }
        let path = self.folder.path().display();
        match &now {
            Some(error) => tracing::error!(
                %path, %error,
                "incidents cannot be written; the latest are kept in memory and tried again until this sidecar ends. \
                 Free the disk, or point evidence.directory at a folder that this user may write to"
            ),
            None => tracing::info!(%path, "incidents are written again"),
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
