//! All shards as the coordinator sees them: which are connected, and which are trusted with work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::answers::Answers;
use super::connection::{self, Away, ConnectionContext, Event};
use super::discarded::{self, Discarded, Stale};
use super::error::CoordinatorError;
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
pub(super) struct ConnectedShard {
    pub(super) session: u64,
    pub(super) incarnation: u64,
    /// The shard's own name for itself.
    pub(super) shard: String,
    /// Why other shards are preferred, if they are.
    suspicion: Option<Suspicion>,
    /// How often it was silent since its last message.
    silences: u32,
    /// Whether it was given a part of this block.
    takes_part: bool,
    /// Blocks that its watchdog withholds from it.
    quarantined: Vec<u64>,
    down: mpsc::Sender<wire::Down>,
}

/// One configured address: a shard is there, or is expected there.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    /// The name that the shard at this address gave the last time it was connected.
    last_name: Option<String>,
    pub(super) connected: Option<ConnectedShard>,
    /// Why the shard is not connected.
    away: Away,
    /// The refusal that was logged last: the same one comes with every attempt.
    last_refusal: Option<String>,
}

impl ConnectedShard {
    /// Whether other shards are preferred.
    pub(super) const fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Whether this block was its business: it was given a part, or is only left out because it
    /// did not answer for earlier ones. A shard for which a block has no part is not meant.
    const fn was_wanted(&self) -> bool {
        self.takes_part || matches!(self.suspicion, Some(Suspicion::Silent(_)))
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
        match &self.last_name {
            Some(name) => format!("shard {name} at {}", self.address),
            None => format!("the shard at {}", self.address),
        }
    }
}

/// All shards, each known by its link: the number of its address.
pub(super) struct Shards {
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

impl Shards {
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
            let context = ConnectionContext {
                coordinator: incarnation,
                credentials: credentials.clone(),
                events: sender.clone(),
                answers: answers.clone(),
                counts: Arc::clone(counts),
            };
            runtime.spawn(connection::maintain(index, address.clone(), context));
            links.push(Link {
                address: address.clone(),
                last_name: None,
                connected: None,
                away: Away { reason: "not tried yet".to_owned(), refuses: false },
                last_refusal: None,
            });
        }
        Self { incarnation, sequence: 0, discarded: Discarded::default(), answers, links, events }
    }

    pub(super) fn get(&self, link: usize) -> Option<&Link> {
        self.links.get(link)
    }

    /// A shard's name in messages.
    pub(super) fn name(&self, link: usize) -> String {
        self.get(link).map_or_else(String::new, Link::name)
    }

    /// The connected shards.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &ConnectedShard)> {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index, link.connected.as_ref()?)))
    }

    /// How many shards are connected and not suspect.
    pub(super) fn trusted(&self) -> usize {
        self.connected().filter(|(_, shard)| !shard.is_suspect()).count()
    }

    /// The name, as in messages, of a shard whose watchdog withholds `block` from it, if any.
    pub(super) fn withholding(&self, block: u64) -> Option<String> {
        let (link, _) = self.connected().find(|(_, shard)| shard.quarantined.contains(&block))?;
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
            self.next_event(until, report)?;
            if !have_one && self.connected().next().is_some() {
                have_one = true;
                until = Instant::now() + TOGETHER;
            }
        }
        if stopping.begun() || self.connected().next().is_some() {
            return Ok(());
        }
        Err(CoordinatorError::NoShard { within: deadline::FIRST_SHARD, tried: self.list_away() })
    }

    /// Each address that is not connected, and why.
    pub(super) fn list_away(&self) -> String {
        let away = self.links.iter().filter(|link| link.connected.is_none());
        let each: Vec<String> = away.map(|link| format!("{} ({})", link.address, link.away.reason)).collect();
        each.join(", ")
    }

    /// Waits for the next event, but neither past `until` nor longer than `LOOK_ROUND`. Connects
    /// and losses are recorded here and returned like every other event; what comes from an earlier
    /// connection is dropped.
    pub(super) fn next_event(
        &mut self,
        until: Instant,
        report: &mut Report,
    ) -> Result<Option<Event>, CoordinatorError> {
        let patience = until.saturating_duration_since(Instant::now()).min(deadline::LOOK_ROUND);
        let received = self.events.recv_timeout(patience);
        for link in 0..self.links.len() {
            if self.answers.take_has_spoken(link) {
                self.trust(link);
            }
        }
        match received {
            Ok(event) => self.record(event, report),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                // The network threads have gone; this must not become a busy loop.
                std::thread::sleep(patience);
                Ok(None)
            }
        }
    }

    /// Records a connect or a loss; returns the event if it concerns the round.
    fn record(&mut self, event: Event, report: &mut Report) -> Result<Option<Event>, CoordinatorError> {
        Ok(match event {
            Event::Unreachable { link, away } => {
                self.record_unreachable(link, away);
                None
            }
            Event::Joined { link, session, shard: ref name, incarnation, ref quarantined, ref down } => {
                let shard = ConnectedShard {
                    session,
                    incarnation,
                    shard: name.clone(),
                    suspicion: None,
                    silences: 0,
                    takes_part: false,
                    quarantined: quarantined.clone(),
                    down: down.clone(),
                };
                if let Some(at) = self.links.get_mut(link) {
                    at.last_name = Some(name.clone());
                    at.last_refusal = None;
                    at.connected = Some(shard);
                    report.shard_joined(name, &at.address, incarnation)?;
                }
                Some(event)
            }
            Event::Lost { link, session, ref reason } => {
                self.record_loss(link, session, reason, report)?.then_some(event)
            }
            Event::Message { link, session, ref message } => {
                let current = self.get(link).and_then(|link| link.connected.as_ref());
                if current.is_some_and(|shard| shard.session == session) {
                    Some(event)
                } else {
                    self.discard(link, message, report)?;
                    None
                }
            }
        })
    }

    fn record_unreachable(&mut self, link: usize, away: Away) {
        let Some(link) = self.links.get_mut(link) else { return };
        if away.refuses && link.last_refusal.as_ref() != Some(&away.reason) {
            tracing::warn!(shard = link.name(), reason = away.reason, "refused; trying again");
            link.last_refusal = Some(away.reason.clone());
        }
        link.away = away;
    }

    /// Drops a message that nobody waits for, and counts it.
    pub(super) fn discard(
        &mut self,
        link: usize,
        message: &wire::up::Message,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        let at = self.links.get(link);
        let shard = at.and_then(|at| at.connected.as_ref()).map(|shard| shard.incarnation);
        let tag = discarded::tag(message);
        let stale = Stale::of(tag, self.incarnation, shard, self.sequence);
        let name = self.name(link);
        tracing::debug!(?tag, shard = name, "a message that nobody waits for was discarded");
        if let Some(what) = self.discarded.count(message, stale) {
            report.discarded(tag.map(|tag| tag.block), &name, &what)?;
        }
        Ok(())
    }

    /// Records that a connection has ended. False if a later one has already replaced it.
    fn record_loss(
        &mut self,
        link: usize,
        session: u64,
        reason: &str,
        report: &mut Report,
    ) -> Result<bool, CoordinatorError> {
        let Some(at) = self.links.get_mut(link) else { return Ok(false) };
        if at.connected.as_ref().is_none_or(|shard| shard.session != session) {
            return Ok(false);
        }
        if let Some(shard) = at.connected.take() {
            at.away = Away { reason: reason.to_owned(), refuses: false };
            report.shard_lost(&shard.shard, &at.address, shard.incarnation, reason)?;
        }
        Ok(true)
    }

    /// Sends without waiting; false if the shard is not connected or does not read.
    pub(super) fn send(&self, link: usize, message: wire::down::Message) -> bool {
        let Some(shard) = self.links.get(link).and_then(|link| link.connected.as_ref()) else {
            return false;
        };
        shard.down.try_send(wire::Down { message: Some(message) }).is_ok()
    }

    /// Marks a shard as suspect.
    pub(super) fn suspect(&mut self, link: usize, suspicion: Suspicion) {
        if let Some(shard) = self.connected_mut(link) {
            shard.suspect(suspicion);
        }
    }

    /// Marks a shard as trusted, because it sends messages.
    pub(super) fn trust(&mut self, link: usize) {
        if let Some(shard) = self.connected_mut(link) {
            shard.trust();
        }
    }

    /// Begins another round of this or another block; `deadline` is how long a block may take.
    pub(super) fn begin_round(&mut self, deadline: Duration) {
        self.sequence += 1;
        let now = Instant::now();
        for shard in self.links.iter_mut().filter_map(|link| link.connected.as_mut()) {
            shard.forgive(now, deadline);
        }
    }

    /// Tells every shard to stop what it still executes of this round.
    pub(super) fn cancel_round(&self) {
        let cancel = wire::Cancel { sequence: self.sequence, finished_blocks: 0 };
        for link in 0..self.links.len() {
            self.send(link, wire::down::Message::Cancel(cancel));
        }
    }

    /// Begins a block: no shard has been given a part of it yet.
    pub(super) fn begin_block(&mut self) {
        for shard in self.links.iter_mut().filter_map(|link| link.connected.as_mut()) {
            shard.takes_part = false;
        }
    }

    /// Records that the shard of a link was given a part of the block.
    pub(super) fn takes_part(&mut self, link: usize) {
        if let Some(shard) = self.connected_mut(link) {
            shard.takes_part = true;
        }
    }

    /// Tells each shard that a block is finished in which it took part, or should have taken part:
    /// it publishes that, so that its watchdog notices if it begins none of its parts.
    pub(super) fn tell_finished(&self) {
        let finished = wire::Cancel { sequence: 0, finished_blocks: 1 };
        for link in 0..self.links.len() {
            if self.get(link).and_then(|link| link.connected.as_ref()).is_some_and(ConnectedShard::was_wanted)
            {
                self.send(link, wire::down::Message::Cancel(finished));
            }
        }
    }

    fn connected_mut(&mut self, link: usize) -> Option<&mut ConnectedShard> {
        self.links.get_mut(link)?.connected.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_secs(5);

    fn connected() -> ConnectedShard {
        let down = mpsc::channel(1).0;
        let (shard, quarantined) = ("0".to_owned(), Vec::new());
        ConnectedShard {
            session: 1,
            incarnation: 1,
            shard,
            suspicion: None,
            silences: 0,
            takes_part: false,
            quarantined,
            down,
        }
    }

    #[test]
    fn a_block_concerns_who_has_a_part_of_it_or_none_for_its_silence() {
        let mut shard = connected();
        assert!(!shard.was_wanted(), "the block has no part for it");
        shard.suspect(Suspicion::Wrong);
        assert!(!shard.was_wanted(), "it answered, if wrongly");
        shard.suspect(Suspicion::Silent(Instant::now()));
        assert!(shard.was_wanted());
        shard.trust();
        assert!(!shard.was_wanted());
        shard.takes_part = true;
        assert!(shard.was_wanted());
    }

    #[test]
    fn a_wrong_answer_is_forgiven_with_the_next_block() {
        let mut shard = connected();
        shard.suspect(Suspicion::Wrong);
        assert!(shard.is_suspect());
        shard.forgive(Instant::now(), BLOCK);
        assert!(!shard.is_suspect());
    }

    #[test]
    fn a_silent_shard_is_tried_again_ever_more_seldom_until_it_speaks() {
        let mut shard = connected();
        let begin = Instant::now();
        for wait in [2, 4, 8] {
            shard.suspect(Suspicion::Silent(begin));
            shard.forgive(begin + BLOCK * wait - Duration::from_millis(1), BLOCK);
            assert!(shard.is_suspect(), "before {wait} blocks");
            shard.forgive(begin + BLOCK * wait, BLOCK);
            assert!(!shard.is_suspect(), "after {wait} blocks");
        }
        for _ in 0..100 {
            shard.suspect(Suspicion::Silent(begin));
        }
        shard.forgive(begin + BLOCK * 128, BLOCK);
        assert!(!shard.is_suspect(), "it is never given up");
        shard.trust();
        shard.suspect(Suspicion::Silent(begin));
        shard.forgive(begin + BLOCK * 2, BLOCK);
        assert!(!shard.is_suspect(), "it spoke meanwhile");
    }
}
