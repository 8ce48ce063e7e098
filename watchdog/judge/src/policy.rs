//! The judge's configuration, reduced to what a decision needs.

use alloc::string::String;
use alloc::vec::Vec;

use core::time::Duration;

use globset::GlobMatcher;

use super::excuse::Caps;
use super::section::Section;
use super::silence::Horizon;
use super::verdict::StallKind;

/// Observations per `stall_after`: a stall is detected at most this fraction of it too late. 1/125
/// keeps the overshoot below 10 ms for thresholds up to one second.
const LOOKS_PER_THRESHOLD: u32 = 125;
/// More than 250 observations a second would cost more than 0.1 % of a core.
const SHORTEST_LOOK: Duration = Duration::from_millis(4);
/// The beginning of work between two observations is seen at most this much too late, whatever the
/// threshold.
pub(super) const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// A stall is classified from two samples of the kernel's view at least this far apart: five of a
/// kernel's longest ticks. A running thread has shown CPU time by then, and one that only passes
/// through a lock has left it.
pub const SAMPLES_APART: Duration = Duration::from_millis(50);
/// Work that states a shorter deadline than this is given this much. Its standstill may begin one
/// observation before it is seen, and the two samples must be [`SAMPLES_APART`], either of them
/// possibly one observation late: a shorter deadline could not be judged sooner.
pub const SHORTEST_DEADLINE: Duration = Duration::from_millis(150);
/// A process at rest is observed this many times less often.
const AT_REST: u32 = 4;
/// With a threshold up to this, the process never rests, so that the overshoot always stays below
/// 10 ms.
const NEVER_RESTS: Duration = Duration::from_secs(1);

/// The judge's configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// One for each `[[thread]]`.
    pub rules: Vec<Rule>,
    /// One for each `[[channel]]`.
    pub channels: Vec<ChannelLimits>,
    /// Time from the first observation until every rule must have found its threads.
    pub startup_grace: Duration,
    /// Time from the first sign of an exit until it must be complete.
    pub exit_within: Duration,
    /// How long a stop by signal excuses.
    pub stopped_at_most: Duration,
    /// Whether a stop past its cap condemns.
    pub stopped_kills: bool,
    /// How long every other excuse may last before it is reported.
    pub excuse_caps: Caps,
    /// Longest time from death to a new incarnation.
    pub restart_within: Duration,
    /// After this many deaths with the same work in flight nothing more is killed for it; zero: no
    /// limit.
    pub poison_after: u32,
    /// Whether thread ends are polled, which takes an observation every 20 ms.
    pub poll_threads: bool,
}

/// What to do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Condemn and kill.
    Kill,
    /// Report only.
    Report,
    /// Do nothing.
    Ignore,
}

/// One rule for threads.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The glob as written, for messages.
    pub name: String,
    /// The compiled glob.
    pub glob: GlobMatcher,
    /// How many threads must match.
    pub count: u32,
    /// Countable time without progress after which a thread is stalled.
    pub stall_after: Duration,
    /// Countable time without progress after which a thread is late.
    pub warn_after: Duration,
    /// The same as `stall_after`, for the first piece of work after a start, if that is longer:
    /// what a thread does for the first time may be slow (tables, caches, compilation at run time).
    pub warm_up: Duration,
    /// Thresholds for sections of a piece of work, in place of `stall_after` and `warn_after` while
    /// the thread is in one of them.
    pub sections: Vec<SectionLimits>,
    /// What to do about a thread that breaks it.
    pub on: On,
    /// What to do about a stalled thread instead, by the kind of its stall.
    pub by_kind: ByKind,
    /// How long a thread may begin no work while there is some; `None`: never asked.
    pub silence: Option<Horizon>,
}

impl Rule {
    /// The thresholds of the section with that word, if it has its own.
    pub fn section(&self, word: u64) -> Option<&SectionLimits> {
        self.sections.iter().find(|limits| limits.section.word() == word)
    }

    /// What to do about a stall of that kind.
    pub fn on_stall(&self, kind: StallKind) -> On {
        if self.on == On::Ignore { On::Ignore } else { self.by_kind.of(kind).unwrap_or(self.on) }
    }

    /// Whether some stall of a thread, or the loss of one, kills.
    pub fn kills(&self) -> bool {
        StallKind::ALL.iter().any(|kind| self.on_stall(*kind) == On::Kill)
    }
}

/// The thresholds of one section of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionLimits {
    /// Which section.
    pub section: Section,
    /// Countable time without progress after which a thread in it is stalled.
    pub stall_after: Duration,
    /// Countable time without progress after which a thread in it is late.
    pub warn_after: Duration,
}

impl SectionLimits {
    /// Limits with a warning at the same fraction of the threshold as that of the rule.
    pub fn new(section: Section, stall_after: Duration, of_rule: (Duration, Duration)) -> Self {
        let (rule_stall_after, rule_warn_after) = of_rule;
        let scaled = rule_warn_after
            .as_nanos()
            .saturating_mul(stall_after.as_nanos())
            .checked_div(rule_stall_after.as_nanos())
            .and_then(|nanos| u64::try_from(nanos).ok());
        let warn_after = scaled.map_or(stall_after, Duration::from_nanos).min(stall_after);
        Self { section, stall_after, warn_after }
    }
}

/// What to do about a stall, by its kind. Kinds that are not named are treated as the rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind([Option<On>; StallKind::ALL.len()]);

impl ByKind {
    /// The same, with `on` for `kind`.
    #[must_use]
    pub fn with(mut self, kind: StallKind, on: On) -> Self {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = Some(on);
        }
        self
    }

    /// What is named for one kind.
    pub fn of(&self, kind: StallKind) -> Option<On> {
        self.0.get(kind as usize).copied().flatten()
    }

    /// Whether no kind is named.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The limits of one channel.
#[derive(Clone, Debug)]
pub struct ChannelLimits {
    /// Its published name.
    pub name: String,
    /// How long its oldest message may wait.
    pub max_age: Option<Duration>,
    /// How many messages may wait.
    pub max_depth: Option<u64>,
    /// Glob of the threads that should receive from it.
    pub consumer: Option<GlobMatcher>,
    /// What to do about a channel that exceeds them.
    pub on: On,
}

impl ChannelLimits {
    /// The countable time without a message received that condemns, and the glob of the consumers;
    /// `None` for a rule that only reports.
    pub fn kills_after(&self) -> Option<(Duration, &GlobMatcher)> {
        (self.on == On::Kill).then_some(())?;
        Some((self.max_age?, self.consumer.as_ref()?))
    }
}

impl Policy {
    /// Index of the first rule that `name` matches; a rule that ignores is a match too.
    pub fn rule_for(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.glob.is_match(name))
    }

    /// Index of the rule for the channel called `name`, unless that rule ignores it.
    pub fn channel_for(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|rule| rule.name == name && rule.on != On::Ignore)
    }

    /// The same for a process at rest: work that begins then and stalls at once is detected up to
    /// 1/31 of its threshold too late instead of 1/125.
    pub fn look_at_rest(&self) -> Duration {
        let every = self.look_every();
        if self.shortest() <= NEVER_RESTS || self.poll_threads { every } else { every * AT_REST }
    }

    /// How long the loop may sleep between observations while a thread could begin to stall unseen.
    pub fn look_every(&self) -> Duration {
        let every = (self.shortest() / LOOKS_PER_THRESHOLD).clamp(SHORTEST_LOOK, LONGEST_LOOK);
        if self.poll_threads { every.min(THREAD_POLL) } else { every }
    }

    /// The shortest time without progress after which anything can be condemned.
    fn shortest(&self) -> Duration {
        self.rules
            .iter()
            .filter(|rule| rule.on != On::Ignore)
            .flat_map(|rule| {
                let sections = rule.sections.iter().map(|limits| limits.stall_after);
                core::iter::once(rule.stall_after).chain(sections)
            })
            .chain(self.channels.iter().filter_map(|rule| Some(rule.kills_after()?.0)))
            .min()
            .unwrap_or(Duration::MAX)
    }
}

/// Without thread pidfds (Linux before 6.9) a lost thread is detected within this time.
pub const THREAD_POLL: Duration = Duration::from_millis(20);
