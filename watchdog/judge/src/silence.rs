//! The silence of one thread: how long it has begun no work although there was some.
//!
//! Idle time is never a stall, however long: a quiet chain gives nobody work. So the clock starts
//! only when something shows that there was work (a channel into which messages are sent, another
//! thread of the same rule that begins work), and a thread is silent only if that goes on, with
//! never more than half of the horizon in between. One stray message, or a burst that another
//! thread took, is followed by quiet and never suffices.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use globset::GlobMatcher;

use crate::clock::Monotonic;
use crate::look::Look;
use crate::observation::TaskObservation;
use crate::stall_clock::{Sample, StallClock};

/// At most this many sources of evidence are kept by name for one thread.
const MOST_SOURCES: usize = 4;

/// The silence horizon of a rule.
#[derive(Clone, Debug)]
pub struct Horizon {
    /// Countable time in which a thread may begin no work while there is some.
    pub idle_at_most: Duration,
    /// Globs of the channels that show that there is work. If empty: every channel of which the
    /// thread is a consumer, and the other threads of its rule.
    pub witnesses: Vec<GlobMatcher>,
    /// Whether a silent thread condemns. Only where witnesses are named.
    pub kills: bool,
}

impl Horizon {
    /// Whether the channel of this name is a witness.
    pub fn is_witness(&self, channel: &str) -> bool {
        self.witnesses.iter().any(|glob| glob.is_match(channel))
    }

    /// Whether a silent thread condemns.
    pub const fn condemns(&self) -> bool {
        self.kills && !self.witnesses.is_empty()
    }

    /// Half of it. Without evidence for longer than this there was a quiet time, and the clock
    /// starts over; and there must be evidence in the second half.
    fn half(&self) -> Duration {
        self.idle_at_most / 2
    }

    /// The kernel is not asked about a thread that may be about to begin: on a busy chain, every
    /// idle thread would cost as much as one at work. Time before that does not count.
    fn unasked(&self) -> Duration {
        self.idle_at_most / 20
    }

    /// How long a thread has to answer to that evidence: the work may have come only now.
    fn to_answer(&self) -> Duration {
        self.idle_at_most / 4
    }
}

/// What shows that there was work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Messages were sent into the channel of this name.
    Channel(Arc<str>),
    /// Other threads of the same rule began work.
    Peers,
}

/// A source, and how often it advanced since the clock started: messages, or pieces of work begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Which.
    pub source: Source,
    /// How often.
    pub times: u64,
}

impl Evidence {
    /// As part of a sentence: "while …".
    fn told(&self) -> String {
        let times = self.times;
        let plural = if times == 1 { "" } else { "s" };
        match &self.source {
            Source::Channel(name) => format!("channel {name} went on ({times} message{plural})"),
            Source::Peers => format!("other threads of its rule began work ({times} time{plural})"),
        }
    }
}

/// What the judge remembers of the silence of one thread that has a horizon.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    clock: StallClock,
    /// When there was first work that it did not begin.
    since: Option<Monotonic>,
    /// Whether that is long enough ago to ask the kernel about it: its clock runs.
    asks: bool,
    evidence: Vec<Evidence>,
    /// When evidence last advanced.
    last_evidence: Monotonic,
    /// Counted time when evidence advanced for the first time in the second half of the horizon.
    lasting: Option<Duration>,
    /// Since when it has been silent.
    silent_since: Option<Monotonic>,
    /// Whether its silence was noted.
    told: bool,
    /// Whether the last interval counted.
    advanced: bool,
}

/// The result of one observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SilenceLook {
    /// It became silent with this observation.
    pub became: bool,
    /// It is silent, and this observation counted against it.
    pub holds: bool,
}

impl Silence {
    /// Time in which there was work and the thread could have begun it.
    pub const fn counted(&self) -> Duration {
        self.clock.counted()
    }

    /// Since when there has been work that it did not begin; `None` if there was none.
    pub const fn since(&self) -> Option<Monotonic> {
        self.since
    }

    /// Since when it has been silent: beyond its horizon.
    pub const fn silent_since(&self) -> Option<Monotonic> {
        self.silent_since
    }

    /// Whether its clock runs, so that the kernel must be asked about it.
    pub const fn asks(&self) -> bool {
        self.asks
    }

    /// Whether the last observation did not count: it could not have run, or nothing is known.
    pub const fn is_excused(&self) -> bool {
        !self.advanced
    }

    /// What showed that there was work, since the clock started.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// The same as part of a sentence.
    pub fn told_evidence(&self) -> String {
        let told: Vec<String> = self.evidence.iter().map(Evidence::told).collect();
        told.join(" and ")
    }

    /// Whether both silences rest on the same sources.
    pub fn has_evidence_of(&self, other: &Self) -> bool {
        let sources = self.evidence.iter().map(|known| &known.source);
        sources.eq(other.evidence.iter().map(|known| &known.source))
    }

    /// Two samples of the kernel's view, as in [`StallClock::samples`].
    pub fn samples(&self) -> Option<(Sample, Sample)> {
        self.clock.samples()
    }

    /// Notes that its silence is reported.
    pub const fn tell(&mut self) {
        self.told = true;
    }

    /// It is at work or made a step, or has no horizon now: everything starts over. Returns how
    /// long it was silent, if that was reported.
    pub fn end(&mut self, at: Monotonic) -> Option<Duration> {
        self.since?;
        let told = self.silent_since.filter(|_| self.told);
        *self = Self::default();
        Some(at.since(told?))
    }

    /// Adds evidence of this observation. The first one starts the silence, and so does the first
    /// after a quiet time.
    pub fn there_was_work(&mut self, horizon: &Horizon, source: Source, times: u64, at: Monotonic) {
        let quiet = at.since(self.last_evidence) > horizon.half();
        if self.since.is_some() && quiet && self.silent_since.is_none() {
            *self = Self::default();
        }
        self.since.get_or_insert(at);
        self.last_evidence = at;
        if self.counted() >= horizon.half() {
            self.lasting.get_or_insert(self.clock.counted());
        }
        if let Some(known) = self.evidence.iter_mut().find(|known| known.source == source) {
            known.times = known.times.saturating_add(times);
        } else if self.evidence.len() < MOST_SOURCES {
            self.evidence.push(Evidence { source, times });
        }
    }

    /// Nothing is known of the time since the last observation, or it could not have run.
    pub const fn pause(&mut self) {
        self.advanced = false;
        if self.asks {
            self.clock.pause();
        }
    }

    /// Accounts for the time since the last observation, in which the thread was idle, before the
    /// evidence of this observation is added.
    pub fn look(&mut self, horizon: &Horizon, look: Look, task: Option<TaskObservation>) -> SilenceLook {
        self.advanced = false;
        let Some(since) = self.since else { return SilenceLook::default() };
        if !self.asks {
            self.asks = look.at.since(since) >= horizon.unasked();
            return SilenceLook::default();
        }
        let interval = self.clock.advance(look.elapsed, task, look.late);
        self.advanced = !interval.counted.is_zero() && interval.excuse.is_none();
        let reached = self.left(horizon) == Some(Duration::ZERO);
        // As with a stall, a verdict needs time that counts at this very observation.
        let holds = self.advanced && (reached || self.silent_since.is_some());
        let became = holds && self.silent_since.is_none();
        if became {
            self.silent_since = Some(look.at);
        }
        SilenceLook { became, holds: holds && reached }
    }

    /// How much more counted time makes it silent; `None` if there is not enough evidence yet.
    pub fn left(&self, horizon: &Horizon) -> Option<Duration> {
        let end = horizon.idle_at_most.max(self.lasting?.saturating_add(horizon.to_answer()));
        Some(end.saturating_sub(self.counted()))
    }

    /// The same, for the schedule: only while time counts.
    pub fn runs_against(&self, horizon: &Horizon) -> Option<Duration> {
        self.left(horizon).filter(|left| self.advanced && !left.is_zero())
    }
}
