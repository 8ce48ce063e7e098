//! Whatever is observed, however senseless: hundreds of streams of random observations, each from a
//! seed that a failure names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::observation::{
    Claim, Declared, Presence, Survivors, TaskObservation, TaskState, ThrottleObservation, WaitChannel,
    WorkerObservation,
};
use shard_judge::policy::{ByKind, On, SectionLimits};
use shard_judge::section::Section;
use shard_judge::testing::Scene;
use shard_judge::testing::well::{self};
use shard_judge::verdict::{Reason, StallKind};

const STREAMS: u64 = 400;
const LOOKS: u64 = 60;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.word().is_multiple_of(n)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.word() % of.len() as u64).unwrap()]
    }

    /// A counter: mostly slightly higher than before, now and then anything.
    fn counter(&mut self, before: u64) -> u64 {
        if self.one_in(40) { self.word() } else { before.wrapping_add(self.word() % 3) }
    }

    fn task(&mut self) -> Option<TaskObservation> {
        use TaskState as S;
        let states =
            [S::Running, S::Sleeping, S::Sleeping, S::DiskSleep, S::Stopped, S::Traced, S::Dead, S::Other];
        let waits = [
            None,
            Some(WaitChannel::Futex),
            Some(WaitChannel::Other),
            Some(WaitChannel::Frozen),
            Some(WaitChannel::Memory),
            Some(WaitChannel::Answer),
            Some(WaitChannel::RealTime),
        ];
        let task = TaskObservation {
            state: self.pick(&states),
            cpu_ns: self.pick(&[None, Some(0), Some(7_000_000), Some(u64::MAX)]),
            run_delay_ns: self.pick(&[None, Some(0), Some(9_000_000), Some(u64::MAX)]),
            wait: self.pick(&waits),
        };
        (!self.one_in(6)).then_some(task)
    }
}

/// Changes part of what is observed.
fn happens(scene: &mut Scene, random: &mut Random) {
    let after = random.pick(&[0, 1_000_000, 4_000_000, 4_000_000, 50_000_000, 10_000_000_000]);
    scene.now.at = scene.now.at.plus(Duration::from_nanos(after));
    let (task, worker) = (random.task(), random.task());
    let thread = scene.thread();
    thread.task = task;
    if random.one_in(8) {
        (thread.activity, thread.progress) =
            (random.counter(thread.activity), random.counter(thread.progress));
        thread.work_key = random.word() % 3;
        thread.section = random.pick(&[0, 1, 2, 40, u64::MAX]);
    }
    if random.one_in(12) {
        thread.claim = random.pick(&[Claim::Live, Claim::Live, Claim::Left, Claim::Dropped]);
        thread.presence = random.pick(&[
            Presence::Present,
            Presence::Present,
            Presence::Gone,
            Presence::Unknown,
            Presence::Unopened,
        ]);
        thread.generation = random.counter(thread.generation);
    }
    thread.workers.clear();
    for lane in 0..random.word() % 3 {
        let presence =
            random.pick(&[Presence::Present, Presence::Gone, Presence::Unknown, Presence::Unopened]);
        let lane = u32::try_from(lane).unwrap();
        thread.workers.push(WorkerObservation { lane, generation: 1, presence, task: worker });
    }
    scene.now.stolen_ns = match random.word() % 8 {
        0 => Some(random.counter(scene.now.stolen_ns.unwrap_or_default())),
        1 => Some(random.word()),
        _ => None,
    };
    let channel = &mut scene.now.channels[0];
    (channel.sent, channel.received) = (random.counter(channel.sent), random.counter(channel.received));
    let process = scene.process();
    if random.one_in(12) {
        process.declared =
            random.pick(&[Declared::Running, Declared::Boot, Declared::Stopping, Declared::Unknown]);
        process.survivors =
            random.pick(&[Survivors::NotAsked, Survivors::None, Survivors::Alone, Survivors::Some]);
        process.leader = random.pick(&[
            None,
            Some(TaskState::Sleeping),
            Some(TaskState::Stopped),
            Some(TaskState::Zombie),
        ]);
        process.segment_readable = !random.one_in(3);
        process.exited = random.one_in(20);
        process.throttle = Some(ThrottleObservation { periods: random.word() % 3, time_ns: random.word() });
        process.identity.pid = 100 + i32::from(random.one_in(20));
    }
}

/// Lives through one stream and returns all decisions, checking every answer against what always
/// holds.
fn live(seed: u64, on: On) -> Vec<String> {
    let mut random = Random(seed);
    let mut scene = well::begin();
    scene.policy.rules[0].on = on;
    let limits = scene.policy.rules[0].stall_after / 2;
    let section = Section::from_word(1).unwrap();
    scene.policy.rules[0].sections = vec![SectionLimits::new(section, limits, (2 * limits, limits))];
    if on == On::Kill && seed.is_multiple_of(2) {
        scene.policy.rules[0].by_kind = ByKind::default().with(StallKind::Deadlock, On::Report);
    }
    scene.policy.channels[0].on = on;
    let mut told = Vec::new();
    let (mut excused, mut beats) = (*scene.judge.excused(), 0);
    for _ in 0..LOOKS {
        happens(&mut scene, &mut random);
        let decision = scene.look();
        assert!(decision.look_at > scene.now.at, "seed {seed}: {decision:?}");
        assert!(decision.look_at.since(scene.now.at) <= Duration::from_secs(1), "seed {seed}: {decision:?}");
        let now = *scene.judge.excused();
        assert!(now.iter().zip(&excused).all(|(now, before)| now >= before), "seed {seed}: {now:?}");
        excused = now;
        if let Some(current) = scene.judge.incarnation() {
            assert!(current.threads().len() <= 1, "seed {seed}: a trial outlives its slot");
            beats = current.threads().iter().map(|thread| thread.beats).max().unwrap_or(0).max(beats);
            if let Some(condemned) = current.condemned() {
                let by_rule =
                    matches!(condemned.reason, Reason::Stalled | Reason::ThreadGone | Reason::ChannelLag);
                assert!(on == On::Kill || !by_rule, "seed {seed}: {condemned:?}");
                let reported = scene.policy.rules[0].by_kind.of(StallKind::Deadlock).is_some()
                    && condemned.at == scene.now.at
                    && condemned.reason == Reason::Stalled
                    && condemned.why.contains("deadlock");
                assert!(!reported, "seed {seed}: {condemned:?}");
                assert!(decision.condemned && !condemned.why.is_empty(), "seed {seed}");
            }
        }
        told.push(format!("{decision:?} {} {:?} {beats}", scene.judge.why(), scene.judge.notes()));
    }
    told
}

#[test]
fn no_stream_makes_it_panic_spin_or_forget_and_none_condemns_against_the_rules() {
    for seed in 0..STREAMS {
        for on in [On::Kill, On::Report, On::Ignore] {
            live(seed, on);
        }
    }
}

#[test]
fn the_same_stream_gives_the_same_decisions() {
    let mut condemned = 0;
    for seed in 0..STREAMS / 10 {
        let told = live(seed, On::Kill);
        condemned += usize::from(told.iter().any(|look| look.contains("condemned: true")));
        assert_eq!(told, live(seed, On::Kill), "seed {seed}");
    }
    assert!(condemned > 5, "{condemned}: a stream in which nothing happens proves nothing");
}
