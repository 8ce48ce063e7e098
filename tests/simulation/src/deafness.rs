//! What must hold for the channel at every observation. No thread is condemned for messages that
//! were received, or that nobody could have received; a consumer that stays deaf is condemned in
//! time; backlogs are reported, and reports of them are true.
//!
//! A consumer is deaf while messages wait, none is received, and it stands idle or stalled although
//! it could run. Its account (`Thread::deaf`) works like the one for standing still at work.
//! Observations in which any consumer moves or works count against none of them.

use std::collections::VecDeque;
use std::time::Duration;

use shard_watchdog::judge::policy::ChannelLimits;
use shard_watchdog::judge::{Condemnation, Note};
use shard_watchdog::observation::{Claim, Survivors};

use super::invariants::two_samples;
use super::plan::{Hang, Nanos, Plan};
use super::process::Process;
use super::thread::{Doing, Thread};
use super::watchdog::Watchdog;
use super::world::Torn;

/// Samples that the judge retains for one channel; beyond that the age of a backlog grows coarser.
const SAMPLES: usize = 64;

/// A broken rule and what happened.
pub type Broken = Option<(&'static str, String)>;

/// Checks what the judge makes of the channel.
#[derive(Debug, Default)]
pub struct Deafness {
    /// When the watchdog first saw each count of sent messages.
    samples: VecDeque<(Nanos, u64)>,
    /// There were too many samples to retain, or some were random.
    coarse: bool,
    generation: u64,
    /// Every consumer surely counted at this observation.
    counts: bool,
}

/// The facts of one observation.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// When it was made.
    pub now: Nanos,
    /// Time since the observation before.
    pub elapsed: Nanos,
    /// Whether it came too late.
    pub late: bool,
    /// What was wrong with the segment.
    pub torn: Torn,
}

impl Deafness {
    /// The watchdog forgot everything.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// One more observation, after each thread's own account has had it.
    pub fn look(&mut self, at: At, watchdog: &Watchdog, process: &mut Process, plan: &Plan) {
        let Some(channel) = &process.channel else { return };
        if self.generation != channel.generation {
            *self = Self { generation: channel.generation, ..Self::default() };
        }
        let (depth, sent, received) = (channel.depth(), channel.sent, channel.received);
        let spoilt = matches!(at.torn, Torn::All | Torn::Channel);
        if spoilt {
            self.samples.clear();
            self.coarse = true;
        } else if at.torn != Torn::Unreadable {
            if self.samples.back().is_none_or(|(_, last)| *last != sent) {
                self.samples.push_back((at.now, sent));
            }
            while self.samples.front().is_some_and(|(_, sent)| *sent <= received) {
                self.samples.pop_front();
            }
            self.coarse = (self.coarse || self.samples.len() >= SAMPLES) && depth > 0;
        }
        let consumers = || process.threads.iter().filter(|thread| consumes(thread));
        let may_be_deaf = consumers().all(|thread| may_stand(thread, watchdog.allows(thread)));
        let is_deaf = consumers().all(|thread| surely_stands(thread, watchdog.allows(thread)));
        let kills = watchdog.policy.channels.first().is_some_and(|rule| rule.kills_after().is_some());
        self.counts = false;
        for thread in process.threads.iter_mut().filter(|thread| consumes(thread)) {
            let place = thread.slot as usize;
            if spoilt || at.torn.spoils(place) || thread.account.moved && at.torn != Torn::Nothing {
                thread.deaf.forgotten();
                thread.deaf.forgiven += 2 * at.elapsed;
                thread.deaf.moved = true;
                thread.deaf_paused = true;
            } else if at.torn == Torn::Unreadable {
                thread.deaf.blind_look(at.elapsed, at.late);
            } else if depth == 0 {
                thread.deaf.progressed();
            } else if may_be_deaf {
                let seen = watchdog.seen.threads.iter().find(|seen| seen.slot == thread.slot);
                let sure = thread.deaf.sure;
                if thread.ended.is_some() || thread.claim == Claim::Dropped {
                    thread.deaf.look_gone(at.elapsed, at.late);
                } else {
                    thread.deaf.look(at.elapsed, at.late, seen.and_then(|seen| seen.task), &plan.machine);
                }
                if !is_deaf || thread.deaf_paused || !kills {
                    // No verdict falls then either, whatever was counted before.
                    thread.deaf.sure = sure;
                    thread.deaf.gained = false;
                }
                // An observation that excuses one consumer counts for none, and the next one has
                // nothing to compare with.
                thread.deaf_paused = !is_deaf;
            } else {
                thread.deaf.pause();
                thread.deaf_paused = true;
            }
        }
        self.counts = is_deaf && depth > 0 && at.torn == Torn::Nothing && !at.late;
    }

    /// A condemnation for the channel must be true.
    pub fn opened(&self, watchdog: &Watchdog, process: &Process, condemned: &Condemnation) -> Broken {
        let rule = watchdog.policy.channels.first()?;
        let Some(channel) = &process.channel else {
            return Some(("false lag", "there is no channel".to_owned()));
        };
        if rule.kills_after().is_none() {
            return Some(("only reports", condemned.why.clone()));
        }
        if channel.depth() == 0 {
            return Some(("false lag", "no message waits".to_owned()));
        }
        if process.ending.is_some() {
            return Some(("false lag", "the process is ending".to_owned()));
        }
        let names_one = process
            .threads
            .iter()
            .any(|thread| consumes(thread) && condemned.slot == Some((thread.slot, thread.generation)));
        if !names_one
            || condemned.threshold != rule.max_age
            || condemned.channel != Some((0, channel.generation))
        {
            return Some(("unexplained", format!("not its consumer, or not its limit: {condemned:?}")));
        }
        let limit = rule.max_age.unwrap_or_default();
        process.threads.iter().filter(|thread| consumes(thread)).find_map(|thread| {
            let could = thread.deaf.at_most();
            let name = &thread.name;
            (could < limit).then(|| {
                (
                    "false lag",
                    format!(
                        "{name} could have received for {could:?} of {limit:?} at most: {}",
                        condemned.why
                    ),
                )
            })
        })
    }

    /// A consumer that stayed deaf for so long that the judge should have condemned it.
    pub fn must_condemn(&self, watchdog: &Watchdog, process: &Process, survivors: Survivors) -> Broken {
        let (limit, _) = watchdog.policy.channels.first()?.kills_after()?;
        if !self.counts {
            return None;
        }
        let consumers = || process.threads.iter().filter(|thread| consumes(thread));
        if consumers().next().is_none() || consumers().any(|thread| !thread.seen) {
            return None;
        }
        let lost = consumers().any(|thread| thread.ended.is_some() || thread.claim == Claim::Dropped);
        if lost && survivors != Survivors::Some {
            return None;
        }
        let sure = consumers().map(|thread| thread.deaf.sure.saturating_sub(thread.deaf.lag)).min()?;
        let sure = Duration::from_nanos(sure);
        let gained = consumers().all(|thread| thread.deaf.gained);
        (sure >= limit && gained)
            .then(|| ("missed lag", format!("nobody received for {sure:?} of {limit:?} in which all could")))
    }

    /// A reported backlog must be real, and a real one must be reported.
    pub fn told(&self, at: At, watchdog: &Watchdog, process: &Process) -> Broken {
        let channel = process.channel.as_ref()?;
        let rule = watchdog.policy.channels.first().filter(|_| at.torn == Torn::Nothing)?;
        let is_late = watchdog.judge.notes().iter().any(|note| matches!(note, Note::ChannelLate { .. }));
        let waits = channel.oldest_since().map(|since| Duration::from_nanos(at.now - since));
        let late = |age: Option<Duration>, rule: &ChannelLimits| {
            rule.max_depth.is_some_and(|limit| channel.depth() >= limit)
                || rule.max_age.zip(age).is_some_and(|(limit, age)| age >= limit)
        };
        if is_late && !late(waits, rule) {
            return Some(("false backlog", format!("{} messages wait for {waits:?}", channel.depth())));
        }
        let trial = watchdog.judge.incarnation()?.channels().first()?;
        if trial.late_since.is_some() && trial.rule.is_some() && channel.depth() == 0 {
            return Some((
                "false backlog",
                format!("late by the judge, and empty: {}", watchdog.judge.why()),
            ));
        }
        let age = self.samples.front().map(|(since, _)| Duration::from_nanos(at.now - since));
        if trial.rule.is_some() && !self.coarse && late(age, rule) && trial.late_since.is_none() {
            let depth = channel.depth();
            return Some(("backlog not told", format!("{depth} messages wait, the first seen for {age:?}")));
        }
        None
    }
}

fn consumes(thread: &Thread) -> bool {
    thread.consumes.is_some() && thread.claim != Claim::Left
}

/// Whether the judge may take the thread for one that stands still.
fn may_stand(thread: &Thread, stall_after: Duration) -> bool {
    let gone = thread.ended.is_some() || thread.claim == Claim::Dropped;
    gone || !thread.moved
        && (!thread.working() || thread.account.at_most() >= thread.account.thresholds(stall_after).0)
}

/// Whether the judge must take the thread for one that stands still.
fn surely_stands(thread: &Thread, stall_after: Duration) -> bool {
    if thread.ended.is_some() {
        return true;
    }
    let locked = matches!(thread.doing, Doing::Hang(Hang::Deadlock | Hang::Blocked));
    let stalled = locked
        && !thread.account.mixed
        && thread.pool.is_empty()
        && thread.account.gained
        && Duration::from_nanos(thread.account.sure)
            >= thread.account.thresholds(stall_after).1.max(two_samples(thread));
    thread.claim == Claim::Live && !thread.moved && (!thread.working() || stalled)
}
