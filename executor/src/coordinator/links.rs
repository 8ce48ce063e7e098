//! All shards as the coordinator sees them: which are connected, and which are trusted with work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::CoordinatorError;
use super::answers::Answers;
use super::discarded::{self, Discarded, Stale};
use super::link::{self, Away, Event, Near};
use super::report::Report;
use crate::deadline;
use crate::faults::Faults;
use crate::net::{Credentials, wire};
use crate::process::Stopping;
use crate::telemetry::counts::Counts;

/// Events that may wait for the coordinating thread: a few per shard, since each has one request
/// under way.
const EVENTS: usize = 256;

/// How long to wait for the other shards once the first is connected, before work begins without
/// them. Shards that were started together are up within this time of each other; a later one takes
/// part from the next block on.
const TOGETHER: Duration = Duration::from_millis(250);

/// How long a silent shard gets no part, in block deadlines: by then a watchdog has ended a shard
/// that is stuck, and it has come back restarted. One that remains connected but silent is tried
/// half as often each time.
const SILENT_FOR: u32 = 2;

/// How often that time is doubled at most: at 5 s a block, a silent shard that nobody ends is tried
/// every ten minutes.
const SILENT_DOUBLED: u32 = 6;

/// Why a shard is suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It was wrong, and reported or showed it: this lasts until the end of the block.
    Wrong,
    /// It was silent past a deadline, most recently at this moment. It may be stuck; or a message
    /// was lost, and it waits for a request.
    Silent(Instant),
}

/// A connected shard.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) session: u64,
    pub(super) incarnation: u64,
    /// The shard's own name for itself.
    pub(super) shard: String,
    /// Why other shards are preferred, if they are.
    suspicion: Option<Suspicion>,
    /// How often it was silent since its last message.
    silences: u32,
    /// Blocks that its watchdog withholds from it.
    quarantined: Vec<u64>,
    down: mpsc::Sender<wire::Down>,
}

/// One configured address.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    /// The name that the shard at this address gave the last time it was connected.
    called: Option<String>,
    pub(super) up: Option<Up>,
    /// Why the shard is not connected.
    away: Away,
    /// The refusal that was logged last: the same one comes with every attempt.
    told: Option<String>,
}

impl Up {
    /// Whether other shards are preferred.
    pub(super) const fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    fn suspect(&mut self, suspicion: Suspicion) {
        if matches!(suspicion, Suspicion::Silent(_)) {
            self.silences = self.silences.saturating_add(1);
        }
        self.suspicion = Some(suspicion);
    }

    fn trust(&mut self) {
        self.suspicion = None;
        self.silences = 0;
    }

    /// Gives a suspect shard another chance once it is time. It speaks only when asked, so it would
    /// otherwise stay suspect for ever.
    fn forgive(&mut self, now: Instant, block: Duration) {
        let over = match self.suspicion {
            None => false,
            Some(Suspicion::Wrong) => true,
            Some(Suspicion::Silent(since)) => {
                let doubled = self.silences.saturating_sub(1).min(SILENT_DOUBLED);
                now.saturating_duration_since(since) >= block.saturating_mul(SILENT_FOR << doubled)
            }
        };
        if over {
            self.suspicion = None;
        }
    }
}

impl Link {
    /// The shard's name in messages.
    pub(super) fn name(&self) -> String {
        match &self.called {
            Some(called) => format!("shard {called} at {}", self.address),
            None => format!("the shard at {}", self.address),
        }
    }
}

pub(super) struct Links {
    /// This coordinator's incarnation.
    pub(super) incarnation: u64,
    /// Counts the rounds of all blocks; see `Tag` in the protocol.
    pub(super) sequence: u64,
    /// Messages discarded because they were of another attempt, incarnation or block.
    pub(super) discarded: Discarded,
    /// The state requests that the network threads answer by themselves.
    pub(super) answers: Answers,
    links: Vec<Link>,
    events: Receiver<Event>,
}

impl Links {
    /// Begins to connect to every shard.
    pub(super) fn open(
        runtime: &Handle,
        addresses: &[String],
        incarnation: u64,
        credentials: &Credentials,
        counts: &Arc<Counts>,
        faults: &Faults,
    ) -> Self {
        let answers = Answers::new(addresses.len(), faults.clone(), Arc::clone(counts));
        let (sender, events) = crossbeam_channel::bounded(EVENTS);
        let mut links = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let near = Near {
                coordinator: incarnation,
                credentials: credentials.clone(),
                events: sender.clone(),
                answers: answers.clone(),
                counts: Arc::clone(counts),
            };
            runtime.spawn(link::keep(index, address.clone(), near));
            links.push(Link {
                address: address.clone(),
                called: None,
                up: None,
                away: Away { reason: "not tried yet".to_owned(), refuses: false },
                told: None,
            });
        }
        Self { incarnation, sequence: 0, discarded: Discarded::default(), answers, links, events }
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn get(&self, link: usize) -> Option<&Link> {
        self.links.get(link)
    }

    /// A shard's name in messages.
    pub(super) fn name(&self, link: usize) -> String {
        self.get(link).map_or_else(String::new, Link::name)
    }

    /// The connected shards.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &Up)> {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index, link.up.as_ref()?)))
    }

    /// How many shards are connected and not suspect.
    pub(super) fn trusted(&self) -> usize {
        self.connected().filter(|(_, up)| !up.is_suspect()).count()
    }

    /// The name, as in messages, of a shard whose watchdog withholds `block` from it, if any.
    pub(super) fn keeps(&self, block: u64) -> Option<String> {
        let (link, _) = self.connected().find(|(_, up)| up.quarantined.contains(&block))?;
        Some(self.name(link))
    }

    /// Waits until a first shard is connected, and a moment longer for the others.
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

    /// Each address that is not connected, and why.
    pub(super) fn tried(&self) -> String {
        let away = self.links.iter().filter(|link| link.up.is_none());
        let each: Vec<String> = away.map(|link| format!("{} ({})", link.address, link.away.reason)).collect();
        each.join(", ")
    }

    /// Waits for the next event, but neither past `until` nor longer than `LOOK_ROUND`. Connects
    /// and losses are recorded here and returned like every other event; what comes from an earlier
    /// connection is dropped.
    pub(super) fn next(
        &mut self,
        until: Instant,
        report: &mut Report,
    ) -> Result<Option<Event>, CoordinatorError> {
        let patience = until.saturating_duration_since(Instant::now()).min(deadline::LOOK_ROUND);
        let received = self.events.recv_timeout(patience);
        for link in 0..self.links.len() {
            if self.answers.has_spoken(link) {
                self.trust(link);
            }
        }
        let event = match received {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                // The network threads have gone; this must not become a busy loop.
                std::thread::sleep(patience);
                return Ok(None);
            }
        };
        Ok(match event {
            Event::Unreachable { link, away } => {
                if let Some(link) = self.links.get_mut(link) {
                    if away.refuses && link.told.as_ref() != Some(&away.reason) {
                        tracing::warn!(shard = link.name(), reason = away.reason, "refused; trying again");
                        link.told = Some(away.reason.clone());
                    }
                    link.away = away;
                }
                None
            }
            Event::Joined { link, session, shard: ref name, incarnation, ref quarantined, ref down } => {
                let (shard, quarantined, down) = (name.clone(), quarantined.clone(), down.clone());
                let up = Up { session, incarnation, shard, suspicion: None, silences: 0, quarantined, down };
                if let Some(at) = self.links.get_mut(link) {
                    at.called = Some(name.clone());
                    at.told = None;
                    at.up = Some(up);
                    report.joined(name, &at.address, incarnation)?;
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

    /// Drops a message that nobody waits for, and counts it.
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
            at.away = Away { reason: reason.to_owned(), refuses: false };
            report.lost(&up.shard, &at.address, up.incarnation, reason)?;
        }
        Ok(true)
    }

    /// Sends without waiting; false if the shard is not connected or does not read.
    pub(super) fn send(&self, link: usize, message: wire::down::Message) -> bool {
        let Some(up) = self.links.get(link).and_then(|link| link.up.as_ref()) else { return false };
        up.down.try_send(wire::Down { message: Some(message) }).is_ok()
    }

    /// Marks a shard as suspect.
    pub(super) fn suspect(&mut self, link: usize, suspicion: Suspicion) {
        if let Some(up) = self.up_mut(link) {
            up.suspect(suspicion);
        }
    }

    /// Marks a shard as trusted, because it sends messages.
    pub(super) fn trust(&mut self, link: usize) {
        if let Some(up) = self.up_mut(link) {
            up.trust();
        }
    }

    /// Begins another round of this or another block; `deadline` is how long a block may take.
    pub(super) fn begin_round(&mut self, deadline: Duration) {
        self.sequence += 1;
        let now = Instant::now();
        for up in self.links.iter_mut().filter_map(|link| link.up.as_mut()) {
            up.forgive(now, deadline);
        }
    }

    fn up_mut(&mut self, link: usize) -> Option<&mut Up> {
        self.links.get_mut(link)?.up.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_secs(5);

    fn up() -> Up {
        let down = mpsc::channel(1).0;
        let (shard, quarantined) = ("0".to_owned(), Vec::new());
        Up { session: 1, incarnation: 1, shard, suspicion: None, silences: 0, quarantined, down }
    }

    #[test]
    fn a_wrong_answer_is_forgiven_with_the_next_block() {
        let mut up = up();
        up.suspect(Suspicion::Wrong);
        assert!(up.is_suspect());
        up.forgive(Instant::now(), BLOCK);
        assert!(!up.is_suspect());
    }

    #[test]
    fn a_silent_shard_is_tried_again_ever_more_seldom_until_it_speaks() {
        let mut up = up();
        let begin = Instant::now();
        for wait in [2, 4, 8] {
            up.suspect(Suspicion::Silent(begin));
            up.forgive(begin + BLOCK * wait - Duration::from_millis(1), BLOCK);
            assert!(up.is_suspect(), "before {wait} blocks");
            up.forgive(begin + BLOCK * wait, BLOCK);
            assert!(!up.is_suspect(), "after {wait} blocks");
        }
        for _ in 0..100 {
            up.suspect(Suspicion::Silent(begin));
        }
        up.forgive(begin + BLOCK * 128, BLOCK);
        assert!(!up.is_suspect(), "it is never given up");
        up.trust();
        up.suspect(Suspicion::Silent(begin));
        up.forgive(begin + BLOCK * 2, BLOCK);
        assert!(!up.is_suspect(), "it spoke meanwhile");
    }
}
