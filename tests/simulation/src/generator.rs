//! Makes a plan out of a seed. Most histories are short and combine a few misfortunes, because a
//! judge goes wrong where they meet: a stop that ends while the watchdog is late, a restart in the
//! middle of a stall.

use std::time::Duration;

use shard_watchdog::config::{ByKind, KillMode, KillSignal, On, WorkSection};
use shard_watchdog::verdict::StallKind;

use super::plan::{ChannelRule, Consumer, Event, Hang, MS, Machine, Nanos, Plan, Rules, Share, Timed};
use super::random::Random;
use super::silence;

/// What distinguishes the chance of the host from that of its guest.
const HOST: u64 = 0x57ea_1000;
/// The same for how long evidence takes.
const EVIDENCE: u64 = 0x6576_6964_656E_6365;

/// The plan for `seed`.
pub fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed);
    // A stream of its own, so that the rest of a history does not depend on it.
    let mut sectioned = Random::new(!seed);
    let mut rules = rules(&mut random);
    let words = ["reading", "executing", "committing"].map(word);
    sections(&mut sectioned, &words[..2], &mut rules);
    let mut evidence = Random::new(seed ^ EVIDENCE);
    if evidence.one_in(3) {
        rules.evidence = rules.stall_after * evidence.pick(&[1, 4, 16]) / 16;
    }
    let stall = u64::try_from(rules.stall_after.as_nanos()).unwrap_or(u64::MAX);
    let threads = random.pick(&[1, 1, 1, 2, 2, 3]);
    let mut machine = machine(&mut random, &rules);
    // Drawn by itself, so that nothing else in the history depends on it.
    let mut host = Random::new(seed ^ HOST);
    machine.limited_class = host.one_in(10);
    machine.steal_in_cpu = host.one_in(2);
    // Long enough for a stall, a restart and another stall.
    let mut end = stall * random.pick(&[2, 2, 3, 3, 4, 6]) + machine.restart + 200 * MS;
    let mut events = Vec::new();
    for thread in 0..threads {
        work(&mut random, thread, stall, end, &mut events);
    }
    if let Some(rule) = rules.channel {
        messages(&mut random, &rule, threads, end, &mut events);
    }
    if random.one_in(5) {
        hand(&mut random, threads, stall, end, &mut events);
    }
    if random.one_in(12) {
        poison(&mut random, threads, end, &mut events);
    }
    if random.one_in(8) {
        now_and_then(&mut random, threads, stall, end, &mut events);
    }
    for _ in 0..random.pick(&[0, 1, 1, 2, 2, 3, 4, 6]) {
        let at = random.between(0, end);
        #[allow(clippy::cast_possible_truncation, reason = "a few threads")]
        let thread = random.between(0, threads as u64 - 1) as usize;
        let event = misfortune(&mut random, thread, stall, &rules);
        events.push(Timed { at, event });
    }
    for _ in 0..sectioned.pick(&[0, 0, 2, 4, 8]) {
        let at = sectioned.between(0, end);
        #[allow(clippy::cast_possible_truncation, reason = "a few threads")]
        let thread = sectioned.between(0, threads as u64 - 1) as usize;
        events.push(Timed { at, event: enter(&mut sectioned, &words, thread) });
    }
    if host.one_in(6) {
        steal(&mut host, stall, end, &mut events);
    }
    events.sort_by_key(|timed| timed.at);
    silence::arrange(seed, &mut rules, &mut events, &mut end);
    Plan { seed, machine, rules, threads, events, end }
}

fn rules(random: &mut Random) -> Rules {
    // Below 200 ms a threshold is about as large as the lateness that the watchdog is forgiven, and
    // it must still work. Up to 500 ms it observes every 4 ms: the shorter the threshold, the more
    // histories in the same time.
    let stall = random.pick(&[20, 50, 100, 200, 200, 200, 200, 250, 250, 300, 500, 1_000, 5_000]);
    let stall_after = Duration::from_millis(stall);
    let short = [(KillSignal::Kill, Duration::ZERO)];
    let long = [(KillSignal::Abort, Duration::ZERO), (KillSignal::Kill, stall_after)];
    Rules {
        stall_after,
        warm_up: if random.one_in(3) { stall_after * random.pick(&[2, 3]) } else { Duration::ZERO },
        sections: Vec::new(),
        on: if random.one_in(12) { On::Report } else { On::Kill },
        by_kind: ByKind::default(),
        exit_within: stall_after * random.pick(&[1, 2, 4]),
        stopped_at_most: stall_after * random.pick(&[1, 2, 4]) / 2,
        stopped_kills: random.one_in(2),
        excuse_cap: stall_after * random.pick(&[1, 2, 4]) / 2,
        poison_after: random.pick(&[2, 2, 2, 2, 2, 1, 3, 0]),
        restart_within: stall_after * random.pick(&[1, 2]),
        brake: random.pick(&[3, 3, 3, 2, 1, 0]),
        jitter: if random.one_in(6) { stall_after / 4 } else { Duration::ZERO },
        evidence: Duration::ZERO,
        mode: if random.one_in(12) { KillMode::Observe } else { KillMode::Enforce },
        signals: if random.one_in(4) { long.to_vec() } else { short.to_vec() },
        #[allow(clippy::cast_possible_truncation, reason = "a handful")]
        budget: (random.between(1, 3) as u32, stall_after * random.pick(&[2, 5, 20])),
        channel: if random.one_in(2) { Some(channel(random, stall_after)) } else { None },
        silence: None,
    }
}

fn word(name: &str) -> u64 {
    WorkSection::parse(name).map_or(0, WorkSection::word)
}

/// Thresholds for these sections, and what follows a stall by its kind.
fn sections(random: &mut Random, words: &[u64], rules: &mut Rules) {
    if random.one_in(2) {
        let own = |random: &mut Random| rules.stall_after * random.pick(&[1, 2, 3, 8, 12]) / 4;
        rules.sections = words.iter().map(|section| (*section, own(random))).collect();
    }
    if random.one_in(4) {
        for kind in StallKind::ALL {
            if random.one_in(3) {
                rules.by_kind = rules.by_kind.with(*kind, random.pick(&[On::Kill, On::Report, On::Report]));
            }
        }
    }
}

/// Enters one of these sections, none, or nonsense.
fn enter(random: &mut Random, words: &[u64], thread: usize) -> Event {
    let section = match random.between(0, 5) {
        0 => 0,
        // A word of the segment, as hostile as any other.
        1 => random.word(),
        _ => random.pick(words),
    };
    Event::Enter { thread, section, torn: random.one_in(4) }
}

fn channel(random: &mut Random, stall_after: Duration) -> ChannelRule {
    let max_age = stall_after * random.pick(&[1, 1, 2, 4]) / 2;
    let most = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
    #[allow(clippy::cast_possible_truncation, reason = "a handful")]
    let work = (random.spread(MS.min(most / 2), most), random.between(1, 3) as u32);
    ChannelRule {
        max_age,
        max_depth: random.between(2, 100),
        consumer: random.pick(&[
            Consumer::First,
            Consumer::First,
            Consumer::All,
            Consumer::All,
            Consumer::Nobody,
        ]),
        on: if random.one_in(4) { On::Report } else { On::Kill },
        work: if random.one_in(2) { Some(work) } else { None },
    }
}

fn machine(random: &mut Random, rules: &Rules) -> Machine {
    let stall = u64::try_from(rules.stall_after.as_nanos()).unwrap_or(u64::MAX);
    let wchan = !random.one_in(6);
    Machine {
        jitter: random.spread(50_000, 4 * MS),
        tick: random.pick(&[MS, 4 * MS, 10 * MS]),
        schedstat: !random.one_in(10),
        wchan,
        // Without a wait channel nothing distinguishes the new freezer's sleep from any other.
        frozen_is_d: !wchan || random.one_in(2),
        poll_threads: random.one_in(4),
        teardown: random.spread(MS, 600 * MS),
        alone: random.between(0, 1_500_000),
        restart: random.spread(5 * MS, stall),
        adopt: random.spread(MS, 50 * MS),
        same_pid: random.one_in(3),
        watched_leader: random.one_in(4),
        #[allow(clippy::cast_possible_truncation, reason = "a handful")]
        others: random.pick(&[1, 2, 4]),
        throttled_off_queue: random.one_in(2),
        cpu_stat: random.one_in(2),
        limited_class: false,
        steal_in_cpu: false,
        core: if random.one_in(2) { random.spread(MS, 2 * stall) } else { 0 },
    }
}

/// The deadline that an owner gives a piece of work: about as long as its rule says, or much
/// shorter or longer.
fn deadline(random: &mut Random, stall: Nanos) -> Nanos {
    random.spread(stall / 8, 3 * stall)
}

/// The ordinary life of a thread: alternating work and rest.
fn work(random: &mut Random, thread: usize, stall: Nanos, end: Nanos, into: &mut Vec<Timed>) {
    let mut at = random.between(0, 50 * MS);
    for _ in 0..random.between(1, 4) {
        // Slow work comes close to the threshold from below; occasionally it exceeds it.
        let most = if random.one_in(20) { 11 } else { 9 };
        let beat = random.spread(MS, stall * most / 10);
        #[allow(clippy::cast_possible_truncation, reason = "below 40")]
        let beats = random.between(1, (stall * 2 / beat).clamp(1, 40)) as u32;
        #[allow(clippy::cast_possible_truncation, reason = "below 4")]
        let more = random.between(0, 3) as u32;
        let on_cpu = random.one_in(2);
        let deadline = if random.one_in(4) { deadline(random, stall) } else { 0 };
        let event = if random.one_in(3) {
            #[allow(clippy::cast_possible_truncation, reason = "below 4")]
            let workers = random.between(1, 3) as u32;
            Event::Join { thread, workers, beat, beats, on_cpu, deadline }
        } else {
            Event::Work { thread, beat, beats, on_cpu, more, deadline }
        };
        into.push(Timed { at, event });
        at += beat * u64::from(beats) * u64::from(more + 1) + random.spread(MS, stall);
        if at >= end {
            return;
        }
    }
}

/// The ordinary life of a channel: messages now and then, singly and in floods, and consumers that
/// do not hear them.
fn messages(random: &mut Random, rule: &ChannelRule, threads: usize, end: Nanos, into: &mut Vec<Timed>) {
    let age = u64::try_from(rule.max_age.as_nanos()).unwrap_or(u64::MAX);
    if random.one_in(3) {
        // A wake-up is lost for all of them, as behind one lock.
        let (at, length) = (random.between(0, end), random.spread(age, 8 * age));
        into.extend((0..threads).map(|thread| Timed { at, event: Event::Deaf { thread, length } }));
        into.push(Timed {
            at: at + random.spread(MS, age),
            event: Event::Send { messages: random.between(1, 4) },
        });
    }
    for _ in 0..random.between(1, 5) {
        let at = random.between(0, end);
        #[allow(clippy::cast_possible_truncation, reason = "a handful")]
        let event = match random.between(0, 9) {
            0..=3 => Event::Send { messages: random.between(1, 4) },
            4..=5 => Event::Flood {
                messages: random.between(1, 3),
                times: random.between(2, 12) as u32,
                every: random.spread(age / 8, age),
            },
            6 => Event::Take { messages: random.between(1, 10) },
            7 => {
                if random.one_in(3) {
                    Event::Reopen
                } else {
                    Event::Send { messages: rule.max_depth }
                }
            }
            _ => Event::Deaf {
                thread: random.between(0, threads as u64 - 1) as usize,
                length: random.spread(MS, 4 * age),
            },
        };
        into.push(Timed { at, event });
    }
}

/// What a person does, alone and at the seams: when a pause ends, something else keeps a due kill
/// from going out.
fn hand(random: &mut Random, threads: usize, stall: Nanos, end: Nanos, into: &mut Vec<Timed>) {
    #[allow(clippy::cast_possible_truncation, reason = "a few threads")]
    let thread = random.between(0, threads as u64 - 1) as usize;
    let at = random.between(0, end);
    let length = random.spread(stall / 4, 3 * stall);
    let pause = Event::Pause { length };
    let mut add = |at: Nanos, event: Event| into.push(Timed { at, event });
    match random.between(0, 6) {
        0 => {
            add(at, pause);
            add(at + random.between(0, length), Event::Resume);
        }
        1 => {
            add(at, pause);
            add(at + random.between(0, length), Event::Kill);
        }
        2 => {
            add(at, Event::Kill);
            // The order is repeated: for the same process, or for the next.
            add(at + random.spread(MS, stall), Event::Kill);
        }
        3 => add(at, Event::Clear { key: random.pick(&[None, Some(1), Some(2), Some(3)]) }),
        _ => {
            let at = at / 3;
            let how = random.pick(&[Hang::Deadlock, Hang::Livelock, Hang::Blocked]);
            add(at, if random.one_in(4) { Event::End { thread } } else { Event::Hang { thread, how } });
            add(at, Event::Pause { length: 2 * stall + random.between(0, stall) });
            let at = at + 2 * stall + random.spread(MS, stall / 4);
            let length = random.spread(MS, stall * 2);
            add(
                at,
                match random.between(0, 5) {
                    0..=1 => Event::Core { length },
                    2 => Event::Trace { thread, length },
                    3 => Event::Freeze { length },
                    4 => Event::Stop { length },
                    _ => Event::Suspend { mono: MS, boot: random.spread(MS, 1 << 45) },
                },
            );
            // The order comes during the hold all the same, or in the moment in which it ends.
            match random.between(0, 3) {
                0 => add(at + random.spread(MS, length), Event::Kill),
                1 => {
                    add(at, Event::Unhang { thread });
                    add(at, Event::Kill);
                }
                _ => {}
            }
        }
    }
}

/// Every thread that takes up this work dies of it, again and again; and a person may declare that
/// it does not kill.
fn poison(random: &mut Random, threads: usize, end: Nanos, into: &mut Vec<Timed>) {
    for _ in 0..random.between(3, 6) {
        #[allow(clippy::cast_possible_truncation, reason = "a few threads")]
        let thread = random.between(0, threads as u64 - 1) as usize;
        let at = random.between(0, end);
        let event = match random.between(0, 5) {
            0 => Event::Core { length: random.spread(MS, 50 * MS) },
            1 => Event::Exit { said: false },
            2 => Event::End { thread },
            _ => Event::Hang { thread, how: random.pick(&[Hang::Deadlock, Hang::Livelock, Hang::Blocked]) },
        };
        // At work, so that it counts.
        into.push(Timed { at, event: Event::Hang { thread, how: Hang::Deadlock } });
        into.push(Timed { at, event });
    }
    for _ in 0..random.between(0, 2) {
        let key = random.pick(&[None, Some(1), Some(2)]);
        into.push(Timed { at: random.between(end / 2, end), event: Event::Clear { key } });
    }
}

/// The hypervisor takes the CPUs: once or twice, for a part of each period or altogether.
fn steal(random: &mut Random, stall: Nanos, end: Nanos, into: &mut Vec<Timed>) {
    for _ in 0..random.between(1, 2) {
        let share = if random.one_in(2) { quota(random) } else { share(random) };
        let event = Event::Steal { share, length: random.spread(MS, stall * 4) };
        into.push(Timed { at: random.between(0, end), event });
    }
}

/// Repeated holds that let the thread run in between: a cgroup over `memory.high`, for up to 2 s at
/// a time, or a tracer that stops it at each system call.
fn now_and_then(random: &mut Random, threads: usize, stall: Nanos, end: Nanos, into: &mut Vec<Timed>) {
    #[allow(clippy::cast_possible_truncation, reason = "a few threads")]
    let thread = random.between(0, threads as u64 - 1) as usize;
    let memory = random.one_in(2);
    let longest = if memory { random.spread(10 * MS, 2_000 * MS) } else { random.spread(MS, 20 * MS) };
    let mut at = random.between(0, end);
    let until = at + random.spread(MS, 3 * stall);
    for _ in 0..200 {
        let length = random.spread(MS, longest);
        let event = if memory { Event::Memory { thread, length } } else { Event::Trace { thread, length } };
        into.push(Timed { at, event });
        at += length + random.spread(100_000, if memory { 10 * MS } else { 20 * MS });
        if at >= until.min(end) {
            return;
        }
    }
}

fn misfortune(random: &mut Random, thread: usize, stall: Nanos, rules: &Rules) -> Event {
    let length = random.spread(MS, stall * 3);
    match random.between(0, 52) {
        0..=6 => Event::Hang {
            thread,
            how: random.pick(&[
                Hang::Deadlock,
                Hang::Blocked,
                Hang::Livelock,
                Hang::Livelock,
                Hang::Disk,
                Hang::Answer,
            ]),
        },
        7 => Event::Unhang { thread },
        8..=10 => Event::Starve { thread, share: share(random), length },
        11 => Event::Trace { thread, length },
        12 => Event::End { thread },
        13 => Event::Drop { thread, then: random.spread(MS, 400 * MS) },
        14 => Event::Leave { thread },
        15 => Event::Register { thread },
        16..=17 => Event::Stop { length },
        18 => {
            if random.one_in(2) {
                Event::Freeze { length }
            } else {
                Event::Memory { thread, length }
            }
        }
        19 => Event::Throttle { share: share(random), length },
        20 => Event::Core { length },
        21 => Event::Exit { said: random.one_in(2) },
        22 => {
            if random.one_in(2) {
                Event::SaysStopping
            } else {
                Event::SaysRunning
            }
        }
        23 => Event::ExitHangs,
        24 => Event::LeaderEnds,
        25 => Event::Exec,
        26 => Event::Suspend { mono: random.spread(MS, 2_000 * MS), boot: random.spread(MS, 1 << 45) },
        27 => Event::WallClock { seconds: random.between(0, 2_000_000).cast_signed() - 1_000_000 },
        28 => Event::Unreadable { length },
        29 => Event::Garbage { length: length.min(200 * MS) },
        30..=31 => Event::Away { length },
        32 => Event::Restart { after: random.spread(MS, 500 * MS) },
        33..=34 => {
            let how = random.pick(&[Hang::Deadlock, Hang::Livelock, Hang::Blocked]);
            Event::HangWorker { thread, worker: random.pick(&[0, 0, 1, 2]), how }
        }
        35..=38 => {
            let share = share(random);
            Event::StarveWorker { thread, worker: random.pick(&[0, 0, 1, 2]), share, length }
        }
        40..=41 => Event::Flaky { one_in: random.pick(&[2, 4, 10, 30]), length },
        42 => Event::Throttle { share: share(random), length },
        43 => Event::Throttle { share: quota(random), length },
        39 => Event::LoseWorker { thread, worker: random.pick(&[0, 0, 1, 2]), said: random.one_in(2) },
        44..=46 => Event::Deadline {
            thread,
            // A word of the segment, as hostile as any other.
            deadline: match random.between(0, 5) {
                0 => 0,
                1 => 1,
                2 => Nanos::MAX,
                _ => deadline(random, stall),
            },
        },
        47 => Event::Core { length },
        48 => Event::Suspend { mono: random.spread(MS, 90 * MS), boot: random.spread(MS, 1 << 45) },
        49 => Event::Pause { length },
        50 => Event::Kill,
        51 => Event::Clear { key: random.pick(&[None, Some(1), Some(2)]) },
        _ => Event::Reload {
            stall_after: rules.stall_after * random.pick(&[1, 2, 3]) / 2,
            on: random.pick(&[On::Kill, On::Kill, On::Report]),
            channel: random.pick(&[On::Kill, On::Kill, On::Report, On::Ignore]),
            mode: random.pick(&[KillMode::Enforce, KillMode::Enforce, KillMode::Observe]),
        },
    }
}

/// A quota as people write it: a share of every period of 100 ms.
fn quota(random: &mut Random) -> Share {
    let run = random.spread(MS, 80 * MS);
    Share { run, wait: 100 * MS - run }
}

fn share(random: &mut Random) -> Share {
    let run = if random.one_in(3) { 0 } else { random.spread(100_000, 20 * MS) };
    Share { run, wait: random.spread(MS, 400 * MS) }
}
