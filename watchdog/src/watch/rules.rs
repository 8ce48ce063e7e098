//! What the rules of a policy ask of the probe: which threads come first, and which it must observe
//! although they are idle.

use globset::GlobMatcher;

use crate::config::Config;
use crate::judge::Judge;
use crate::judge::incarnation::Incarnation;
use crate::judge::policy::{On, Policy, Rule};
use crate::probe::segment::Consumers;
use crate::probe::thread::Rank;
use crate::probe::{Probe, ThreadEvents};

use super::shadow::Shadow;

/// The live policy of a config.
pub(super) fn policy(config: &Config, probe: &Probe) -> Policy {
    config.policy(probe.thread_events() == ThreadEvents::Poll)
}

/// Which threads are watched if not all can be. Only the live policy decides: its shadow kills
/// none.
pub(super) fn ranks(policy: &Policy) -> Vec<(GlobMatcher, Rank)> {
    let rank = |on| match on {
        On::Kill => Rank::Kills,
        On::Report => Rank::Reports,
        On::Ignore => Rank::Unruled,
    };
    let of_rule = |rule: &Rule| match &rule.silence {
        Some(horizon) if horizon.condemns() && rule.on != On::Ignore => Rank::Kills,
        _ => rank(rule.on),
    };
    policy.rules.iter().map(|rule| (rule.glob.clone(), of_rule(rule))).collect()
}

/// Which threads the probe must observe for channel rules that may kill.
pub(super) fn consumers(policy: &Policy, shadow: Option<&Shadow>) -> Vec<Consumers> {
    let rules = policy.channels.iter().chain(shadow.iter().flat_map(|shadow| &shadow.policy().channels));
    let killing = rules.filter_map(|rule| {
        let (_, threads) = rule.kills_after()?;
        Some(Consumers { channel: rule.name.clone(), threads: threads.clone() })
    });
    killing.collect()
}

/// The idle threads that the probe must observe, because their silence clocks run.
pub(super) fn asked<'a>(
    judge: &'a Judge,
    shadow: Option<&'a Shadow>,
) -> impl Iterator<Item = (u32, u64)> + 'a {
    let judges = std::iter::once(judge).chain(shadow.map(Shadow::judge));
    judges.filter_map(Judge::incarnation).flat_map(Incarnation::asks_about)
}
