//! When the judge must ask for the next observation: soon enough for its shortest threshold, but
//! not at once.

use std::time::Duration;

use shard_watchdog::config::On;
use shard_watchdog::judge::Decision;

use super::super::plan::{MS, Nanos, Plan};
use super::super::watchdog::Watchdog;
use super::super::world::{Torn, World};
use super::{Invariants, nanos};

impl Invariants {
    /// The loop must observe again soon enough, and not spin.
    pub(super) fn next_look(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        decision: Decision,
        world: &mut World<'_>,
        plan: &Plan,
    ) {
        let sample = sample(watchdog);
        let gap = decision.look_at.0.saturating_sub(now);
        let kills = watchdog.policy.rules[0].on != On::Ignore;
        let at_work =
            kills && !decision.condemned && watchdog.seen.threads.iter().any(|thread| thread.working());
        let waits = watchdog.policy.channels.iter().any(|rule| rule.kills_after().is_some())
            && watchdog.seen.channels.iter().any(|channel| channel.sent > channel.received);
        let at_work = at_work || waits && !decision.condemned && world.torn == Torn::Nothing;
        let process = watchdog.observer.process(world);
        let dumps_core = process.as_ref().is_some_and(|process| process.dumps_core(now, &plan.machine));
        let most = match process {
            None => 1_000 * MS,
            Some(process) if process.execed || process.exited => 1_000 * MS,
            // Its end arrives as an event.
            Some(_) if dumps_core => 50 * MS,
            Some(_) if at_work => sample,
            Some(_) if decision.condemned => 50 * MS,
            Some(_) => 4 * sample,
        };
        let polls = watchdog.policy.poll_threads && !decision.condemned && !dumps_core;
        let most = if polls && most < 1_000 * MS { most.min(20 * MS) } else { most };
        if gap > most {
            self.broken(now, "looks too late", || {
                format!(
                    "asks to look in {:?}, must within {:?}",
                    Duration::from_nanos(gap),
                    Duration::from_nanos(most)
                )
            });
        }
        if gap == 0 {
            self.broken(now, "spins", || "asks to look again at once".to_owned());
        }
    }
}

/// How long the loop may sleep while a thread could begin to stall unseen.
fn sample(watchdog: &Watchdog) -> Nanos {
    let channel = watchdog.policy.channels.iter().filter_map(|rule| Some(rule.kills_after()?.0)).min();
    let rule = &watchdog.policy.rules[0];
    let own = rule.sections.iter().map(|own| own.stall_after).min();
    let stall =
        (rule.on != On::Ignore).then(|| own.map_or(rule.stall_after, |own| own.min(rule.stall_after)));
    let shortest = [channel, stall].into_iter().flatten().min().unwrap_or(Duration::MAX);
    (nanos(shortest) / 125).clamp(4 * MS, 50 * MS)
}
