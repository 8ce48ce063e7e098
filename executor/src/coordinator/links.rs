//! All shards as the coordinator sees them: who is there, who is trusted with work.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::CoordinatorError;
use super::discarded::{self, Discarded, Stale};
use super::link::{self, Event};
use super::report::Report;
use crate::deadline;
use crate::net::wire;
use crate::process::Stopping;

/// Events that may wait for the coordinating thread: a few a shard, since each has one request under way.
const EVENTS: usize = 256;

/// How long the others may take once a first shard is there, before work begins without them: shards that were started
/// together are up within this of each other, and one that is not takes part from the next block on.
const TOGETHER: Duration = Duration::from_millis(250);

/// A connected shard.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) session: u64,
    pub(super) incarnation: u64,
    /// What it calls itself.
    pub(super) shard: String,
    /// It was late or wrong and has not answered since: others come first.
    pub(super) suspect: bool,
    down: mpsc::Sender<wire::Down>,
}

/// One configured address.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    pub(super) up: Option<Up>,
    /// Why it is not there.
    reason: String,
}

impl Link {
    /// How messages call it.
    pub(super) fn name(&self) -> String {
        match &self.up {
            Some(up) => format!("shard {} at {}", up.shard, self.address),
            None => format!("the shard at {}", self.address),
        }
    }
}

pub(super) struct Links {
    /// This coordinator's incarnation.
    pub(super) incarnation: u64,
    /// Counts the blocks executed; see `Tag` in the protocol.
    pub(super) sequence: u64,
    /// Messages discarded because they were of another attempt, incarnation or block.
    pub(super) discarded: Discarded,
    links: Vec<Link>,
    events: Receiver<Event>,
}

impl Links {
    /// Begins to reach for every shard.
    pub(super) fn open(runtime: &Handle, addresses: &[String], incarnation: u64) -> Self {
        let (sender, events) = crossbeam_channel::bounded(EVENTS);
        let mut links = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            runtime.spawn(link::keep(index, address.clone(), incarnation, sender.clone()));
            links.push(Link { address: address.clone(), up: None, reason: "not tried yet".to_owned() });
        }
        Self { incarnation, sequence: 0, discarded: Discarded::default(), links, events }
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn get(&self, link: usize) -> Option<&Link> {
        self.links.get(link)
    }

    /// How messages call a shard.
    pub(super) fn name(&self, link: usize) -> String {
        self.get(link).map_or_else(String::new, Link::name)
    }

    /// The shards that are there.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &Up)> {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index, link.up.as_ref()?)))
    }

    /// How many shards are there and not suspect.
    pub(super) fn trusted(&self) -> usize {
        self.connected().filter(|(_, up)| !up.suspect).count()
    }

    /// Waits until there is a shard to work with, and a moment longer for the others.
    pub(super) fn wait_for_first(
        &mut self,
        report: &mut Report,
        stopping: &Stopping,
    ) -> Result<(), CoordinatorError> {
        let mut until = Instant::now() + deadline::FIRST_SHARD;
        let mut have_one = false;
        while Instant::now() < until && !stopping.begun() && self.connected().count() < self.links.len() {
            self.next(until, report)?;
            if !have_one && self.connected().next().is_some() {
                have_one = true;
                until = Instant::now() + TOGETHER;
            }
        }
        if stopping.begun() || self.connected().next().is_some() {
            return Ok(());
        }
        Err(CoordinatorError::NoShard { within: deadline::FIRST_SHARD, tried: self.tried() })
    }

    /// Each address that is not there and why.
    pub(super) fn tried(&self) -> String {
        let away = self.links.iter().filter(|link| link.up.is_none());
        let each: Vec<String> = away.map(|link| format!("{} ({})", link.address, link.reason)).collect();
        each.join(", ")
    }

    /// Waits for the next event, but not past `until` nor for longer than a look round. Comings and goings are noted here
    /// and passed on like everything else; what a connection before the present one said is dropped.
    pub(super) fn next(
        &mut self,
        until: Instant,
        report: &mut Report,
    ) -> Result<Option<Event>, CoordinatorError> {
        let patience = until.saturating_duration_since(Instant::now()).min(deadline::LOOK_ROUND);
        let event = match self.events.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                // The network threads have gone; looking round must not become a busy loop.
                std::thread::sleep(patience);
                return Ok(None);
            }
        };
        Ok(match event {
            Event::Unreachable { link, reason } => {
                if let Some(link) = self.links.get_mut(link) {
                    link.reason = reason;
                }
                None
            }
            Event::Joined { link, session, ref shard, incarnation, ref down } => {
                let up =
                    Up { session, incarnation, shard: shard.clone(), suspect: false, down: down.clone() };
                if let Some(at) = self.links.get_mut(link) {
                    at.up = Some(up);
                    report.joined(shard, &at.address, incarnation)?;
                }
                Some(event)
            }
            Event::Lost { link, session, ref reason } => {
                self.lose(link, session, reason, report)?.then_some(event)
            }
            Event::Message { link, session, ref message } => {
                let current = self.get(link).and_then(|link| link.up.as_ref()).map(|up| up.session);
                if current == Some(session) {
                    Some(event)
                } else {
                    self.discard(link, message, report)?;
                    None
                }
            }
        })
    }

    /// Drops a message that nobody waits for, and keeps count.
    pub(super) fn discard(
        &mut self,
        link: usize,
        message: &wire::up::Message,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        let at = self.links.get(link);
        let shard = at.and_then(|at| at.up.as_ref()).map(|up| up.incarnation);
        let tag = discarded::tag(message);
        let stale = Stale::of(tag, self.incarnation, shard, self.sequence);
        let name = self.name(link);
        tracing::debug!(?tag, shard = name, "a message that nobody waits for was discarded");
        if let Some(what) = self.discarded.count(message, stale) {
            report.discarded(tag.map(|tag| tag.block), &name, &what)?;
        }
        Ok(())
    }

    fn lose(
        &mut self,
        link: usize,
        session: u64,
        reason: &str,
        report: &mut Report,
    ) -> Result<bool, CoordinatorError> {
        let Some(at) = self.links.get_mut(link) else { return Ok(false) };
        if at.up.as_ref().is_none_or(|up| up.session != session) {
            return Ok(false);
        }
        if let Some(up) = at.up.take() {
            reason.clone_into(&mut at.reason);
            report.lost(&up.shard, &at.address, up.incarnation, reason)?;
        }
        Ok(true)
    }

    /// Sends without waiting; false if the shard is not there or does not read.
    pub(super) fn send(&self, link: usize, message: wire::down::Message) -> bool {
        let Some(up) = self.links.get(link).and_then(|link| link.up.as_ref()) else { return false };
        up.down.try_send(wire::Down { message: Some(message) }).is_ok()
    }

    /// Says whether a shard may be relied on.
    pub(super) fn suspect(&mut self, link: usize, suspect: bool) {
        if let Some(up) = self.links.get_mut(link).and_then(|link| link.up.as_mut()) {
            up.suspect = suspect;
        }
    }
}
