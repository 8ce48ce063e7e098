//! Histories that once broke a rule, found by runs of millions and then shortened. They are stored
//! as plans, not only as seeds, because a change in how plans are made from seeds turns them into
//! other histories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

mod robbed;

use std::time::Duration;

use shard_simulation::history::Stage;
use shard_simulation::plan::{
    ChannelRule, Consumer, Event, Hang, MS, Machine, Nanos, Plan, Rules, Share, Timed,
};
use shard_watchdog::config::{ByKind, KillMode, KillSignal, On};

/// One history: its seed, and what it showed.
struct Found {
    plan: Plan,
    showed: &'static str,
}

/// A calm machine on which only `events` happen, and a sidecar that finds a process `adopt` after
/// its start.
fn found(
    seed: u64,
    stall_after: u64,
    adopt: Nanos,
    events: &[(Nanos, Event)],
    showed: &'static str,
) -> Found {
    let stall_after = Duration::from_millis(stall_after);
    let machine = Machine {
        jitter: 0,
        tick: MS,
        schedstat: true,
        wchan: true,
        frozen_is_d: true,
        poll_threads: false,
        teardown: 10 * MS,
        alone: 800_000,
        restart: 50 * MS,
        adopt,
        same_pid: false,
        watched_leader: false,
        others: 2,
        throttled_off_queue: false,
        cpu_stat: false,
        limited_class: false,
        steal_in_cpu: false,
        core: 0,
    };
    let rules = Rules {
        stall_after,
        warm_up: Duration::ZERO,
        sections: Vec::new(),
        on: On::Kill,
        by_kind: ByKind::default(),
        exit_within: stall_after * 2,
        stopped_at_most: stall_after,
        stopped_kills: false,
        excuse_cap: stall_after / 2,
        poison_after: 2,
        restart_within: stall_after * 2,
        mode: KillMode::Enforce,
        brake: 0,
        jitter: Duration::ZERO,
        evidence: Duration::ZERO,
        signals: vec![(KillSignal::Kill, Duration::ZERO)],
        budget: (3, stall_after * 20),
        channel: None,
        silence: None,
    };
    let events = events.iter().map(|(at, event)| Timed { at: *at, event: *event }).collect::<Vec<_>>();
    // Long enough for anything that should have been reported a little later.
    let end = events.last().unwrap().at + 2_000 * MS;
    Found { plan: Plan { seed, machine, rules, threads: 1, events, end }, showed }
}

fn all() -> Vec<Found> {
    vec![
        busy_parent_of_a_starved_worker(),
        busy_parent_of_a_worker_that_sleeps_between_its_steps(),
        join_in_a_process_that_exits(),
        deafness_with_work_in_between(),
        slices_of_starving(),
        slot_first_seen_dropped_by_a_late_look(),
        debugger_after_a_worker_that_was_starved(),
        sleep_after_running_without_schedstat(),
        stalled_consumer_on_a_machine_that_slept(),
    ]
}

fn busy_parent_of_a_starved_worker() -> Found {
    let events = [
        (
            833_789_942,
            Event::Join {
                thread: 0,
                workers: 1,
                beat: 101_586_798,
                beats: 2,
                on_cpu: true,
                deadline: 128_491_187,
            },
        ),
        (
            960_874_082,
            Event::StarveWorker {
                thread: 0,
                worker: 0,
                share: Share { run: 197_545, wait: 120_104_632 },
                length: 217_234_306,
            },
        ),
        (1_066_823_283, Event::Hang { thread: 0, how: Hang::Livelock }),
    ];
    found(
        5_700_933_248_989_493_685,
        500,
        47_572_100,
        &events,
        "the account added the CPU time of a thread to what it slept before, while a worker of it was starved: no counter tells whether \
         that is the same time (missed stall)",
    )
}

fn busy_parent_of_a_worker_that_sleeps_between_its_steps() -> Found {
    let events = [
        (
            18_321_311,
            Event::Join {
                thread: 0,
                workers: 1,
                beat: 34_111_394,
                beats: 28,
                on_cpu: false,
                deadline: 111_151_341,
            },
        ),
        (
            380_579_397,
            Event::StarveWorker {
                thread: 0,
                worker: 0,
                share: Share { run: 0, wait: 3_591_618 },
                length: 203_043_058,
            },
        ),
        (386_887_604, Event::Hang { thread: 0, how: Hang::Livelock }),
    ];
    found(
        1_570_346_610_352_291_128,
        500,
        2_530_885,
        &events,
        "the same, of another kind of work (missed stall)",
    )
}

fn join_in_a_process_that_exits() -> Found {
    let events = [
        (857_053_833, Event::End { thread: 1 }),
        (
            929_814_154,
            Event::Join {
                thread: 0,
                workers: 2,
                beat: 253_300_297,
                beats: 1,
                on_cpu: true,
                deadline: 165_750_475,
            },
        ),
        // Wakes the watchdog.
        (935_710_892, Event::Clear { key: None }),
        (968_550_308, Event::Clear { key: Some(2) }),
        (1_105_550_111, Event::Exit { said: false }),
    ];
    let mut found = found(
        14_549_995_979_471_926_829,
        300,
        7_424_703,
        &events,
        "the judge took workers that nobody could ask for, in the first moments of an exit, for ended, and counted that time (false stall)",
    );
    found.plan.threads = 2;
    found.plan.machine = Machine {
        teardown: 19_174_601,
        alone: 522_400,
        restart: 32_108_278,
        others: 1,
        ..found.plan.machine
    };
    found
}

fn deafness_with_work_in_between() -> Found {
    let events = [
        (
            122_559_688,
            Event::Starve { thread: 0, share: Share { run: 0, wait: 14_316_437 }, length: 450_416_318 },
        ),
        (129_040_862, Event::Flood { messages: 2, times: 7, every: 45_478_304 }),
        (
            444_545_295,
            Event::Work { thread: 0, beat: 2_538_264, beats: 16, on_cpu: true, more: 3, deadline: 0 },
        ),
        (699_626_590, Event::Deaf { thread: 0, length: 58_283_128 }),
    ];
    let mut found = found(
        9_176_276_202_703_533_508,
        200,
        1_771_325,
        &events,
        "the judge counted CPU time that a consumer used at work as time in which it could have received (false lag)",
    );
    found.plan.rules.excuse_cap = Duration::from_millis(400);
    found.plan.rules.channel = Some(ChannelRule {
        max_age: Duration::from_millis(100),
        max_depth: 73,
        consumer: Consumer::First,
        on: On::Kill,
        work: Some((11_421_812, 2)),
    });
    found
}

fn slices_of_starving() -> Found {
    let events = [
        (
            84_997_753,
            Event::Starve {
                thread: 0,
                share: Share { run: 7_547_588, wait: 10_802_756 },
                length: 1_494_757_149,
            },
        ),
        (414_454_537, Event::Hang { thread: 0, how: Hang::Livelock }),
    ];
    found(
        6_037_634_187_484_696_816,
        500,
        3_107_322,
        &events,
        "the judge called only the end of each short wait for a CPU starved, and reached the cap four times too late (cap not told)",
    )
}

fn slot_first_seen_dropped_by_a_late_look() -> Found {
    let events = [
        (230_540_401, Event::Drop { thread: 0, then: 1_135_824 }),
        (257_197_138, Event::Garbage { length: 12_669_886 }),
        (273_402_772, Event::Away { length: 100_523_643 }),
    ];
    let mut found = found(
        33_513_457_065_700_547,
        50,
        10_550_999,
        &events,
        "the judge gave a slot that a late look was the first to see dropped all of that lateness on top, and so did the account (missed loss)",
    );
    found.plan.machine.jitter = 594_514;
    found.plan.machine.watched_leader = true;
    found.plan.rules.channel = Some(ChannelRule {
        max_age: Duration::from_millis(25),
        max_depth: 71,
        consumer: Consumer::All,
        on: On::Report,
        work: None,
    });
    found
}

fn debugger_after_a_worker_that_was_starved() -> Found {
    let events = [
        (
            41_740_773,
            Event::Join { thread: 0, workers: 1, beat: 13_786_944, beats: 29, on_cpu: true, deadline: 0 },
        ),
        (
            252_437_434,
            Event::StarveWorker {
                thread: 0,
                worker: 0,
                share: Share { run: 5_239_153, wait: 15_691_212 },
                length: 194_914_390,
            },
        ),
        (408_201_845, Event::LoseWorker { thread: 0, worker: 0, said: false }),
        (633_280_103, Event::Trace { thread: 0, length: 23_685_306 }),
    ];
    let mut found = found(
        16_830_835_882_020_373_412,
        250,
        14_238_719,
        &events,
        "the judge let time in which a debugger held the thread hide in what a worker of it had lost before (excused)",
    );
    found.plan.rules.excuse_cap = Duration::from_millis(500);
    found
}

fn sleep_after_running_without_schedstat() -> Found {
    let events = [
        (157_077_790, Event::Hang { thread: 0, how: Hang::Livelock }),
        (157_077_790, Event::Pause { length: 66_437_198 }),
        (173_200_063, Event::LeaderEnds),
        (193_539_249, Event::Hang { thread: 0, how: Hang::Disk }),
    ];
    let mut found = found(
        16_915_218_349_056_761_300,
        50,
        24_013_382,
        &events,
        "nobody knows whether a thread waited or ran before it fell asleep: the judge took all of it for waiting, the account none (cap told \
         too early)",
    );
    found.plan.machine.schedstat = false;
    found
}

fn stalled_consumer_on_a_machine_that_slept() -> Found {
    let events = [
        (296_753_000, Event::Flood { messages: 2, times: 8, every: 200 * MS }),
        (488_486_000, Event::Hang { thread: 0, how: Hang::Blocked }),
        (781_574_000, Event::Suspend { mono: 88_594_756, boot: 6_881_615 }),
    ];
    let mut found = found(
        2_772_439_453_069_474_801,
        200,
        11_741_067,
        &events,
        "the account held a look against the judge that had nothing to be compared with: the one before it excused the stalled consumer \
         (missed lag)",
    );
    found.plan.machine.jitter = 69_496;
    found.plan.rules.on = On::Report;
    found.plan.rules.channel = Some(ChannelRule {
        max_age: Duration::from_millis(200),
        max_depth: 12,
        consumer: Consumer::First,
        on: On::Kill,
        work: Some((1_968_024, 1)),
    });
    found
}

#[test]
fn no_history_that_broke_a_rule_once_breaks_one_now() {
    let stage = Stage::default();
    for Found { plan, showed } in all().into_iter().chain(robbed::all()) {
        let violation = stage.live(&plan).violation;
        assert!(violation.is_none(), "{}; seed {} showed once that {showed}", violation.unwrap(), plan.seed);
    }
}
