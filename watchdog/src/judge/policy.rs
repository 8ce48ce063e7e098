//! What the judge goes by: the configuration, reduced to what a decision needs.

use std::time::Duration;

use globset::{Glob, GlobMatcher};

use crate::config::{ChannelRule, Config, JudgeConfig, On, ThreadRule};
use crate::verdict::ExcuseKind;

use super::excuse::Caps;

/// A verdict on a stall comes at most this much of `stall_after` too late for want of looking: 1/125 keeps the
/// overshoot below 10 ms for thresholds up to one second.
const LOOKS_PER_THRESHOLD: u32 = 125;
/// More than 250 looks a second would cost more than 0.1 % of a core.
const SHORTEST_LOOK: Duration = Duration::from_millis(4);
/// Work that begins between two looks is seen this much too late at most, whatever the threshold.
const LONGEST_LOOK: Duration = Duration::from_millis(50);
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
    /// Whether ends of threads are polled, which takes a look every 20 ms.
    pub poll_threads: bool,
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
    /// The time without a message received that condemns, and whose it is; `None` for a rule that only reports.
    pub fn kills_after(&self) -> Option<(Duration, &GlobMatcher)> {
        (self.on == On::Kill).then_some(())?;
        Some((self.max_age?, self.consumer.as_ref()?))
    }
}

impl Policy {
    /// The policy that `config` asks for.
    pub fn new(config: &Config, poll_threads: bool) -> Self {
        let Config { threads, channels, judge, restart, .. } = config;
        Self::of(threads, channels, judge, restart.within, poll_threads)
    }

    /// The policy of these rules: that of a second judge is made of others than the config's own.
    pub fn of(
        threads: &[ThreadRule],
        channels: &[ChannelRule],
        judge: &JudgeConfig,
        restart_within: Duration,
        poll_threads: bool,
    ) -> Self {
        let rules = threads
            .iter()
            .map(|rule| Rule {
                name: rule.name.clone(),
                glob: rule.glob.clone(),
                count: rule.count,
                stall_after: rule.stall_after,
                warn_after: rule.warn_after,
                on: rule.on,
            })
            .collect();
        let channels = channels
            .iter()
            .map(|rule| ChannelLimits {
                name: rule.name.clone(),
                max_age: rule.max_age,
                max_depth: rule.max_depth,
                // The config was refused if this is no glob.
                consumer: rule
                    .consumer
                    .as_deref()
                    .and_then(|glob| Some(Glob::new(glob).ok()?.compile_matcher())),
                on: rule.on,
            })
            .collect();
        Self {
            rules,
            channels,
            startup_grace: judge.startup_grace,
            exit_within: judge.exit_within,
            stopped_at_most: judge.stopped_at_most,
            stopped_kills: judge.stopped_then == On::Kill,
            excuse_caps: Caps::default()
                .with(ExcuseKind::Starved, judge.starved)
                .with(ExcuseKind::Throttled, judge.throttled)
                .with(ExcuseKind::Traced, judge.traced),
            restart_within,
            poll_threads,
        }
    }

    /// The first rule that `name` matches; a rule that ignores is a match too.
    pub fn rule_for(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.glob.is_match(name))
    }

    /// The rule of the channel that is called `name`.
    pub fn channel_for(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|rule| rule.name == name && rule.on != On::Ignore)
    }

    /// The same while nothing has been at work for a while: what begins then and stalls at once is told up to 1/31 of its
    /// threshold too late instead of 1/125.
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
