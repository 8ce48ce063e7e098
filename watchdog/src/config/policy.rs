//! The judge's policy, derived from the configuration.

use std::time::Duration;

use globset::Glob;
use shard_judge::excuse::Caps;
use shard_judge::policy::{ChannelLimits, On, Policy, Rule, SectionLimits};
use shard_judge::verdict::ExcuseKind;

use super::silence::SilenceRule;
use super::{ChannelRule, Config, JudgeConfig, ThreadRule};

impl Config {
    /// The policy that this configuration asks for.
    pub fn policy(&self, poll_threads: bool) -> Policy {
        policy(&self.threads, &self.channels, &self.judge, self.restart.within, poll_threads)
    }
}

/// The policy of these rules. A second judge has rules other than the config's own.
pub fn policy(
    threads: &[ThreadRule],
    channels: &[ChannelRule],
    judge: &JudgeConfig,
    restart_within: Duration,
    poll_threads: bool,
) -> Policy {
    let rules = threads
        .iter()
        .map(|rule| Rule {
            name: rule.name.clone(),
            glob: rule.glob.clone(),
            count: rule.count,
            stall_after: rule.stall_after,
            warn_after: rule.warn_after,
            warm_up: rule.warm_up.unwrap_or_default(),
            sections: rule
                .sections
                .iter()
                .map(|own| {
                    SectionLimits::new(own.section, own.stall_after, (rule.stall_after, rule.warn_after))
                })
                .collect(),
            on: rule.on,
            by_kind: rule.by_kind,
            silence: rule.silence.as_ref().map(SilenceRule::horizon),
        })
        .collect();
    let channels = channels
        .iter()
        .map(|rule| ChannelLimits {
            name: rule.name.clone(),
            max_age: rule.max_age,
            max_depth: rule.max_depth,
            // The config is rejected if this is no valid glob.
            consumer: rule.consumer.as_deref().and_then(|glob| Some(Glob::new(glob).ok()?.compile_matcher())),
            on: rule.on,
        })
        .collect();
    Policy {
        rules,
        channels,
        startup_grace: judge.startup_grace,
        exit_within: judge.exit_within,
        stopped_at_most: judge.stopped_at_most,
        stopped_kills: judge.stopped_then == On::Kill,
        excuse_caps: Caps::default()
            .with(ExcuseKind::Starved, judge.starved)
            .with(ExcuseKind::Stolen, judge.stolen)
            .with(ExcuseKind::Throttled, judge.throttled)
            .with(ExcuseKind::MemoryThrottled, judge.memory_throttled)
            .with(ExcuseKind::Traced, judge.traced)
            .with(ExcuseKind::Frozen, judge.frozen)
            .with(ExcuseKind::CoreDumping, judge.core_dumping),
        restart_within,
        poison_after: judge.poison_after,
        poll_threads,
    }
}
