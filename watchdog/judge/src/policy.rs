//! What the judge goes by: a configuration, reduced to what a decision needs.

use alloc::string::String;
use alloc::vec::Vec;

use core::time::Duration;

use globset::GlobMatcher;

use super::excuse::Caps;

/// A verdict on a stall comes at most this much of `stall_after` too late for want of looking:
/// 1/125 keeps the overshoot below 10 ms for thresholds up to one second.
const LOOKS_PER_THRESHOLD: u32 = 125;
/// More than 250 looks a second would cost more than 0.1 % of a core.
const SHORTEST_LOOK: Duration = Duration::from_millis(4);
/// Work that begins between two looks is seen this much too late at most, whatever the threshold.
pub(super) const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// A stall is told by two samples of the kernel's view at least this far apart: five of a kernel's
/// longest ticks, so that a thread that runs has shown CPU time, and one that only passes through a
/// lock has left it.
pub const SAMPLES_APART: Duration = Duration::from_millis(50);
/// A piece of work that gives itself less time than this is given this much. Its standing still may
/// begin a look before it is seen, and two samples must lie [`SAMPLES_APART`], of which either may
/// be a look late: anything shorter could not be judged sooner.
pub const SHORTEST_DEADLINE: Duration = Duration::from_millis(150);
/// A process in which nothing has been at work for a while is looked at so many times less often.
const AT_REST: u32 = 4;
/// Up to this threshold the overshoot stays below 10 ms also after a rest.
const NEVER_RESTS: Duration = Duration::from_secs(1);

/// What the judge goes by.
#[derive(Clone, Debug)]
pub struct Policy {
    /// One for each `[[thread]]`.
    pub rules: Vec<Rule>,
    /// One for each `[[channel]]`.
    pub channels: Vec<ChannelLimits>,
    /// From first sight until every rule must have found its threads.
    pub startup_grace: Duration,
    /// From the first sign of an exit until it must be over.
    pub exit_within: Duration,
    /// How long a stop excuses.
    pub stopped_at_most: Duration,
    /// Whether a stop past its cap condemns.
    pub stopped_kills: bool,
    /// How long every other excuse may last before a person is told.
    pub excuse_caps: Caps,
    /// From death to a new incarnation.
    pub restart_within: Duration,
    /// After so many deaths with the same work in flight nothing is killed for it any more; zero:
    /// never.
    pub poison_after: u32,
    /// Whether ends of threads are polled, which takes a look every 20 ms.
    pub poll_threads: bool,
}

/// What to do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Condemn and kill.
    Kill,
    /// Say so.
    Report,
    /// Nothing.
    Ignore,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The glob as written, for messages.
    pub name: String,
    /// The glob.
    pub glob: GlobMatcher,
    /// How many threads must match.
    pub count: u32,
    /// Countable time without progress that is a stall.
    pub stall_after: Duration,
    /// Countable time without progress that is worth a warning.
    pub warn_after: Duration,
    /// What follows.
    pub on: On,
}

/// What a channel may come to.
#[derive(Clone, Debug)]
pub struct ChannelLimits {
    /// Its published name.
    pub name: String,
    /// The longest that its oldest message may wait.
    pub max_age: Option<Duration>,
    /// The most messages that may wait.
    pub max_depth: Option<u64>,
    /// Who should receive from it.
    pub consumer: Option<GlobMatcher>,
    /// What follows.
    pub on: On,
}

impl ChannelLimits {
    /// The time without a message received that condemns, and whose it is; `None` for a rule that
    /// only reports.
    pub fn kills_after(&self) -> Option<(Duration, &GlobMatcher)> {
        (self.on == On::Kill).then_some(())?;
        Some((self.max_age?, self.consumer.as_ref()?))
    }
}

impl Policy {
    /// The first rule that `name` matches; a rule that ignores is a match too.
    pub fn rule_for(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.glob.is_match(name))
    }

    /// The rule of the channel that is called `name`.
    pub fn channel_for(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|rule| rule.name == name && rule.on != On::Ignore)
    }

    /// The same while nothing has been at work for a while: what begins then and stalls at once is
    /// told up to 1/31 of its threshold too late instead of 1/125.
    pub fn look_at_rest(&self) -> Duration {
        let every = self.look_every();
        if self.shortest() <= NEVER_RESTS || self.poll_threads { every } else { every * AT_REST }
    }

    /// How long the loop may sleep while a thread could begin to stall unseen.
    pub fn look_every(&self) -> Duration {
        let every = (self.shortest() / LOOKS_PER_THRESHOLD).clamp(SHORTEST_LOOK, LONGEST_LOOK);
        if self.poll_threads { every.min(THREAD_POLL) } else { every }
    }

    /// The shortest time after which anything can be condemned for want of progress.
    fn shortest(&self) -> Duration {
        self.rules
            .iter()
            .filter(|rule| rule.on != On::Ignore)
            .map(|rule| rule.stall_after)
            .chain(self.channels.iter().filter_map(|rule| Some(rule.kills_after()?.0)))
            .min()
            .unwrap_or(Duration::MAX)
    }
}

/// Without thread pidfds (Linux before 6.9) a lost thread is noticed within this time.
pub const THREAD_POLL: Duration = Duration::from_millis(20);
