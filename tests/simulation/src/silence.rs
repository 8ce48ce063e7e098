//! The silence horizon: which histories have one, and what must hold for it at every observation.
//! No thread is called silent that could not have begun work for so long, or while nothing showed
//! that there was some; one that stays idle in plain sight, beside evidence that goes on, is silent
//! in time.
//!
//! The evidence is what observations show of the channel, since nobody can tell random words from
//! true ones. What the thread did, and what held it, is the truth.

use std::time::Duration;

use shard_watchdog::clock::Monotonic;
use shard_watchdog::config::On;
use shard_watchdog::judge::Condemnation;
use shard_watchdog::observation::{Claim, Declared, TaskState};

use super::deafness::{At, Broken};
use super::plan::{ChannelRule, Consumer, Event, MS, Nanos, Rules, Timed};
use super::process::Process;
use super::random::Random;
use super::thread::Thread;
use super::watchdog::Watchdog;
use super::world::Torn;

/// The horizon of the watched threads.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// `idle_at_most`.
    pub idle_at_most: Duration,
    /// Whether `idle_witness` names the channel.
    pub witness: bool,
    /// `on_idle = "kill"`.
    pub kills: bool,
}

/// Gives one history in five a horizon and what may reach it: messages that go on for a while. From
/// a stream of random numbers of its own, so that the other histories of a seed stay as they are.
pub fn arrange(seed: u64, rules: &mut Rules, events: &mut Vec<Timed>, end: &mut Nanos) {
    let mut random = Random::new(seed ^ 0x0073_696C_656E_6365);
    if !random.one_in(5) {
        return;
    }
    let limit = (rules.stall_after * random.pick(&[1, 1, 2])).max(Duration::from_millis(200));
    let witness = !random.one_in(4);
    rules.silence = Some(Horizon { idle_at_most: limit, witness, kills: witness && !random.one_in(4) });
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let rule = ChannelRule {
        max_age: Duration::from_nanos(8 * limit),
        max_depth: 1_000_000,
        consumer: random.pick(&[Consumer::Nobody, Consumer::Nobody, Consumer::All]),
        on: On::Report,
        work: if random.one_in(3) { Some((MS, 1)) } else { None },
    };
    rules.channel.get_or_insert(rule);
    let last = *end;
    for _ in 0..random.between(1, 3) {
        let (at, every) = (random.between(0, last), random.spread(limit / 16, limit * 3 / 4));
        #[allow(clippy::cast_possible_truncation, reason = "below 40")]
        let times = random.between(1, 3 * limit / every).min(40) as u32;
        events.push(Timed { at, event: Event::Flood { messages: random.between(1, 3), times, every } });
        *end = (*end).max(at + u64::from(times) * every + limit / 2);
    }
    events.sort_by_key(|timed| timed.at);
}

/// What is known of one thread.
#[derive(Clone, Debug, Default)]
struct Idle {
    /// Generation of its slot.
    generation: u64,
    /// When an observation last saw it at work, or moved.
    since: Nanos,
    /// The most time since then in which it could have begun work.
    able: Nanos,
    /// Since when every observation has seen it idle in plain sight; `None`: it is not.
    calm: Option<Nanos>,
    /// It was held at the last observation.
    held: bool,
}

/// Checks what the judge makes of idle threads.
#[derive(Debug, Default)]
pub struct Silences {
    /// How often a process was condemned for it.
    pub condemned: u64,
    threads: Vec<Idle>,
    /// Generation of the channel, and the messages sent, at the last observation of it.
    sent: Option<(u64, u64)>,
    /// When observations showed that messages had been sent.
    evidence: Vec<Nanos>,
    /// The longest time between two observations.
    longest: Nanos,
}

impl Silences {
    /// The watchdog forgot everything, or watches another process.
    pub fn forget(&mut self) {
        *self = Self { condemned: self.condemned, ..Self::default() };
    }

    /// One more observation, after each thread's own account has had it.
    pub fn look(&mut self, at: At, watchdog: &Watchdog, process: &Process, schedstat: bool) {
        if at.torn != Torn::Unreadable {
            let seen = watchdog.seen.channels.first();
            let now = seen.map(|channel| (channel.generation, channel.sent));
            if let (Some((generation, sent)), Some((before, had))) = (now, self.sent)
                && generation == before
                && sent.wrapping_sub(had).cast_signed() > 0
            {
                self.evidence.push(at.now);
            }
            self.sent = now;
        }
        self.longest = self.longest.max(at.elapsed);
        let disturbed = at.late || at.torn != Torn::Nothing || is_disturbed(at.now, process, schedstat);
        self.threads.resize_with(process.threads.len(), Idle::default);
        for (idle, thread) in self.threads.iter_mut().zip(&process.threads) {
            let task = watchdog.seen.threads.iter().find(|seen| seen.slot == thread.slot);
            let task = task.and_then(|seen| seen.task);
            let held = task.and_then(super::account::held).is_some();
            let idles = !thread.working() && !thread.moved && thread.generation == idle.generation;
            if !idles {
                // If its words were random and it did not move, work may be there at this very
                // observation.
                let since = at.now - Nanos::from(thread.only_seemed_to_move);
                *idle = Idle { generation: thread.generation, since, ..Idle::default() };
            } else if !at.late && at.torn != Torn::Unreadable && !(held && idle.held) {
                idle.able += at.elapsed;
            }
            idle.held = held;
            let asleep = task.is_none_or(|task| task.state == TaskState::Sleeping) && !held;
            let live = thread.claim == Claim::Live && thread.ended.is_none() && thread.seen;
            let calm = idles && live && asleep && !disturbed;
            idle.calm = calm.then(|| idle.calm.unwrap_or(at.now));
        }
    }

    /// A thread that is silent as of this observation must have been idle for so long, beside
    /// evidence; and one that was must be silent.
    pub fn told(&self, at: At, watchdog: &Watchdog, process: &Process) -> Broken {
        let horizon = watchdog.policy.rules[0].silence.as_ref()?;
        let limit = u64::try_from(horizon.idle_at_most.as_nanos()).unwrap_or(u64::MAX);
        let witness = !horizon.witnesses.is_empty();
        for trial in watchdog.judge.incarnation()?.threads() {
            let Some(thread) =
                process.threads.iter().find(|thread| (thread.slot, thread.generation) == trial.key)
            else {
                continue;
            };
            let silent = trial.silence.as_ref().and_then(|silence| silence.silent_since());
            let idle = self.threads.get(thread.slot as usize)?;
            if silent == Some(Monotonic(at.now)) {
                let (name, able) = (&thread.name, Duration::from_nanos(idle.able));
                if idle.able < limit {
                    let what = format!("{name} could have begun work for {able:?} at most");
                    return Some(("false silence", what));
                }
                if witness && !self.lasts(idle.since, at.now, limit) {
                    return Some(("false silence", format!("nothing showed that {name} had work to begin")));
                }
            }
            if silent.is_none()
                && witness
                && let Some(calm) = idle.calm.filter(|calm| self.surely_lasts(*calm, at.now, limit))
            {
                let calm = Duration::from_nanos(at.now - calm);
                return Some(("missed silence", format!("{} has begun nothing for {calm:?}", thread.name)));
            }
        }
        None
    }

    /// Whether there was evidence after `since` whose first lies a horizon back, and whose last is
    /// late enough and long enough ago.
    fn lasts(&self, since: Nanos, now: Nanos, limit: Nanos) -> bool {
        let mut chain: Option<Nanos> = None;
        let mut last = 0;
        let mut holds = false;
        for at in self.evidence.iter().copied().filter(|at| *at > since) {
            let first = *chain.get_or_insert(at);
            if at - last > limit / 2 && last > 0 && !holds {
                chain = Some(at);
            } else {
                holds |= at - first >= limit / 2 && now >= at + limit / 4 && now >= first + limit;
            }
            last = at;
        }
        holds
    }

    /// The same, with room for what two observations cannot show, all of it since `calm`.
    fn surely_lasts(&self, calm: Nanos, now: Nanos, limit: Nanos) -> bool {
        let room = limit / 20 + 4 * self.longest + 10 * MS;
        let mut evidence = self.evidence.iter().copied().filter(|at| *at > calm);
        let Some(mut first) = evidence.next() else { return false };
        let (mut last, mut holds) = (first, false);
        for at in evidence {
            if at - last > limit / 2 {
                (first, holds) = (at, false);
            }
            // The first piece of evidence in the second half is what counts for the judge.
            holds |= at - first >= limit / 2 + room && now >= at + limit / 4 + room;
            last = at;
        }
        holds && now >= first + limit + room
    }

    /// A condemnation for it must be allowed. Whether it is true, [`Silences::told`] has checked.
    pub fn opened(&mut self, watchdog: &Watchdog, condemned: &Condemnation) -> Broken {
        self.condemned += 1;
        let rule = &watchdog.policy.rules[0];
        let horizon = rule.silence.as_ref();
        if !horizon.is_some_and(|horizon| horizon.condemns()) || rule.on == On::Ignore {
            return Some(("only reports", format!("the rule does not kill: {}", condemned.why)));
        }
        let limit = horizon.map(|horizon| horizon.idle_at_most);
        (condemned.threshold != limit || condemned.thread.is_none() || condemned.work_key().is_some())
            .then(|| ("unexplained", format!("not its limit, or no idle thread: {condemned:?}")))
    }
}

/// Whether anything may keep a thread of the process from running, or its work from coming. Without
/// `schedstat`, a thread that uses a CPU may seem to wait for one.
fn is_disturbed(now: Nanos, process: &Process, schedstat: bool) -> bool {
    let held = |thread: &Thread| {
        thread.starved.is_some()
            || !schedstat && std::iter::once(thread).chain(&thread.pool).any(Thread::wants_cpu_at_times)
            || now < thread.traced_until
            || now < thread.memory_until
            || thread.pool.iter().any(|worker| worker.starved.is_some() || now < worker.traced_until)
    };
    now < process.stopped_until
        || now < process.frozen_until
        || process.throttled.is_some()
        || process.stolen.is_some()
        || process.ending.is_some()
        || process.exec_at.is_some()
        || process.declared != Declared::Running
        || process.threads.iter().any(held)
}
