//! What showed in runs of 600,000 histories on 2026-12-01: mostly CPU time that the hypervisor
//! took.

use std::time::Duration;

use shard_simulation::plan::{ChannelRule, Consumer, Event, Hang, MS, Nanos, Share};
use shard_simulation::silence::Horizon;
use shard_watchdog::config::{ByKind, KillMode, On};
use shard_watchdog::verdict::StallKind;

use super::{Found, found};

pub(super) fn all() -> Vec<Found> {
    vec![
        robbed_thread_that_fell_asleep_just_after_a_reading(),
        robbed_thread_that_fell_asleep_long_before_its_threshold(),
        theft_at_the_first_interval_of_a_standstill(),
        theft_before_a_section_that_shows_in_it(),
        theft_before_a_section_that_is_no_debt(),
        theft_for_longer_than_there_is_room(),
        theft_after_a_throttle_that_no_counter_shows(),
        theft_that_was_called_lost_before_it_showed(),
        tracer_that_stops_workers_again_and_again(),
        reload_of_a_rule_that_only_reported(),
        evidence_beside_random_words(),
        idle_thread_beside_one_that_seems_to_wait_for_a_cpu(),
    ]
}

/// The same on a kernel that takes what the hypervisor had for CPU time.
fn robbed(mut found: Found) -> Found {
    found.plan.machine.steal_in_cpu = true;
    found.plan.rules.excuse_cap = found.plan.rules.stall_after * 2;
    found
}

fn robbed_thread_that_fell_asleep_just_after_a_reading() -> Found {
    let events = [
        (2_702_940_290, Event::Steal { share: Share { run: 0, wait: 4_205_434 }, length: 8_607_383_174 }),
        (
            2_838_678_862,
            Event::Work { thread: 0, beat: 1_788_142, beats: 6, on_cpu: false, more: 0, deadline: 0 },
        ),
        (6_493_815_764, Event::Resume),
        (10_127_894_218, Event::Hang { thread: 0, how: Hang::Answer }),
    ];
    robbed(found(
        17_025_026_546_107_088_294,
        5_000,
        5_307_705,
        &events,
        "the probe forgot, at each reading of what was stolen, on which CPU a thread was: nothing was taken off one that slept by the next \
         (false stall)",
    ))
}

fn robbed_thread_that_fell_asleep_long_before_its_threshold() -> Found {
    let events = [
        (
            305_895_484,
            Event::Work { thread: 0, beat: 498_898_001, beats: 4, on_cpu: true, more: 2, deadline: 0 },
        ),
        (6_101_325_196, Event::Steal { share: Share { run: 0, wait: 3_065_493 }, length: 3_915_629_895 }),
        (8_583_712_542, Event::Hang { thread: 0, how: Hang::Deadlock }),
    ];
    let mut found = robbed(found(
        15_379_205_573_698_322_090,
        5_000,
        1_340_345,
        &events,
        "once no thread was runnable, the probe read what was stolen only when a verdict was near, and called it too old by then (false \
         stall)",
    ));
    found.plan.end = 11_000 * MS;
    found
}

fn theft_at_the_first_interval_of_a_standstill() -> Found {
    let events = [
        (
            3_082_692_132,
            Event::Join { thread: 0, workers: 1, beat: 4_123_260_262, beats: 1, on_cpu: true, deadline: 0 },
        ),
        (4_964_456_849, Event::Hang { thread: 0, how: Hang::Livelock }),
        (
            12_074_260_533,
            Event::Steal { share: Share { run: 11_015_056, wait: 88_984_944 }, length: 2_189_800_658 },
        ),
    ];
    robbed(found(
        3_374_479_809_489_947_193,
        5_000,
        11_565_520,
        &events,
        "the judge took the first interval of a standstill, of which it knows no CPU time, for time without any: as much of what was stolen \
         later counted (false stall)",
    ))
}

fn theft_before_a_section_that_shows_in_it() -> Found {
    let events = [
        (1_106_000, Event::Steal { share: Share { run: 1_317_436, wait: 98_682_564 }, length: 738_504_977 }),
        (
            22_912_000,
            Event::Work { thread: 0, beat: 10_406_715, beats: 1, on_cpu: true, more: 1, deadline: 0 },
        ),
        (86_532_000, Event::Enter { thread: 0, section: SHORT, torn: true }),
    ];
    let mut found = robbed(found(
        1_617_733_502_591_021_793,
        200,
        7_312_216,
        &events,
        "CPU time from before a standstill, which shows all at once, counted bit by bit as the standstill grew long enough to have it (false \
         stall)",
    ));
    found.plan.rules.sections = vec![(SHORT, Duration::from_millis(50))];
    found
}

fn theft_before_a_section_that_is_no_debt() -> Found {
    let events = [
        (2_870_222_570, Event::Steal { share: Share { run: 0, wait: 5_472_691 }, length: 9_005_012_858 }),
        (3_903_599_240, Event::Hang { thread: 0, how: Hang::Livelock }),
        (11_377_285_960, Event::Enter { thread: 0, section: SHORT, torn: false }),
    ];
    let mut found = found(
        1_360_468_750_076_145_341,
        5_000,
        7_883_335,
        &events,
        "what was stolen before a standstill and shows within it was taken off the CPU time that the thread had afterwards (missed stall)",
    );
    found.plan.rules.sections = vec![(SHORT, Duration::from_millis(1_250))];
    found.plan.rules.excuse_cap = Duration::from_secs(5);
    found
}

fn theft_for_longer_than_there_is_room() -> Found {
    let deadline = 1_260_377_992;
    let events = [
        (
            48_483_000,
            Event::Work { thread: 0, beat: 2_878_587_743, beats: 2, on_cpu: true, more: 1, deadline },
        ),
        (4_134_000_000, Event::Steal { share: Share { run: 0, wait: 42_395_822 }, length: 1_908_409_828 }),
    ];
    let mut found = found(
        14_983_828_985_691_840_498,
        5_000,
        8_134_730,
        &events,
        "half a second of CPU time was taken off after a theft of two, although all of what was stolen fell in time without CPU (missed \
         stall)",
    );
    found.plan.rules.mode = KillMode::Observe;
    found.plan.rules.warm_up = Duration::from_secs(15);
    found.plan.rules.excuse_cap = Duration::from_secs(10);
    found.plan.end = 7_000 * MS;
    found
}

fn theft_after_a_throttle_that_no_counter_shows() -> Found {
    let events = [
        (
            41_137_582,
            Event::Work { thread: 1, beat: 220_456_435, beats: 1, on_cpu: true, more: 3, deadline: 0 },
        ),
        (
            303_814_809,
            Event::Throttle { share: Share { run: 3_195_167, wait: 96_804_833 }, length: 75_960_429 },
        ),
        (
            505_961_797,
            Event::Steal { share: Share { run: 13_269_181, wait: 24_283_931 }, length: 459_861_244 },
        ),
    ];
    let mut found = robbed(found(
        16_213_664_539_211_254_555,
        250,
        8_145_000,
        &events,
        "the account did not know that up to half a second of what is stolen may count after a wait that no counter shows (false stall)",
    ));
    found.plan.threads = 3;
    found.plan.machine.throttled_off_queue = true;
    found.plan.rules.warm_up = Duration::from_millis(750);
    found
}

fn theft_that_was_called_lost_before_it_showed() -> Found {
    let events = [
        (
            184_306_419,
            Event::Steal { share: Share { run: 113_440, wait: 51_924_044 }, length: 5_555_825_877 },
        ),
        (994_663_910, Event::Hang { thread: 0, how: Hang::Livelock }),
    ];
    let mut found = robbed(found(
        4_225_478_148_481_833_181,
        5_000,
        1_407_592,
        &events,
        "the judge excused the same time twice, when it was lost and when it was taken off: together more than had passed (cap told too \
         early)",
    ));
    found.plan.rules.excuse_cap = Duration::from_secs(5);
    found.plan.rules.warm_up = Duration::from_secs(15);
    found.plan.end = 5_000 * MS;
    found
}

fn tracer_that_stops_workers_again_and_again() -> Found {
    let join = Event::Join { thread: 0, workers: 3, beat: 832_892_509, beats: 2, on_cpu: true, deadline: 0 };
    let begin: [(Nanos, Event); 2] =
        [(38_446_262, join), (80_481_430, Event::Hang { thread: 0, how: Hang::Answer })];
    let stops = (0..56).map(|stop| {
        (1_285_385_589 + stop * 9_300_000, Event::Trace { thread: 0, length: 1_800_000 + stop % 4 * 300_000 })
    });
    let events: Vec<_> = begin.into_iter().chain(stops).collect();
    let mut found = found(
        2_524_836_997_587_263_323,
        1_000,
        5_818_346,
        &events,
        "the account did not call a thread traced whose workers a tracer stops again and again, as the judge does (cap told too early)",
    );
    found.plan.machine.jitter = 96_695;
    found
}

fn reload_of_a_rule_that_only_reported() -> Found {
    let reload = Event::Reload {
        stall_after: Duration::from_millis(75),
        on: On::Kill,
        channel: On::Kill,
        mode: KillMode::Enforce,
    };
    let events = [(97_039_454, Event::Hang { thread: 0, how: Hang::Disk }), (164_558_742, reload)];
    let mut found = found(
        9_645_502_645_954_039_501,
        50,
        9_574_003,
        &events,
        "the account did not know that a kind of stall that was only reported before a reload may kill only a second later (missed stall)",
    );
    found.plan.rules.on = On::Report;
    found.plan.rules.by_kind =
        ByKind::default().with(StallKind::Livelock, On::Report).with(StallKind::Unknown, On::Kill);
    found
}

fn evidence_beside_random_words() -> Found {
    let events = [
        (
            256_424_515,
            Event::Work { thread: 0, beat: 154_918_138, beats: 1, on_cpu: true, more: 2, deadline: 0 },
        ),
        (349_608_315, Event::Send { messages: 1 }),
        (706_272_098, Event::Flaky { one_in: 2, length: 319_871_489 }),
        (824_993_679, Event::Restart { after: 6_775_230 }),
        (897_662_907, Event::Flood { messages: 2, times: 12, every: 45_642_329 }),
    ];
    let mut found = found(
        17_990_875_248_902_411_956,
        200,
        8_093_237,
        &events,
        "the account took random words in a slot for a move of its thread, and passed over evidence at the very observation after them \
         (false silence)",
    );
    found.plan.machine.jitter = 1_136_813;
    found.plan.machine.alone = 71_372;
    found.plan.machine.teardown = 2_703_124;
    found.plan.machine.same_pid = true;
    found.plan.rules.on = On::Report;
    found.plan.rules.channel = Some(ChannelRule {
        max_age: Duration::from_millis(200),
        max_depth: 21,
        consumer: Consumer::First,
        on: On::Report,
        work: None,
    });
    let idle_at_most = Duration::from_millis(200);
    found.plan.rules.silence = Some(Horizon { idle_at_most, witness: true, kills: false });
    found
}

fn idle_thread_beside_one_that_seems_to_wait_for_a_cpu() -> Found {
    let events = [
        (
            99_746_632,
            Event::Work { thread: 0, beat: 6_230_266, beats: 20, on_cpu: false, more: 1, deadline: 0 },
        ),
        (
            2_090_626_970,
            Event::Work { thread: 0, beat: 216_191_642, beats: 40, on_cpu: true, more: 0, deadline: 0 },
        ),
        (3_964_270_972, Event::Flood { messages: 3, times: 4, every: 2_500 * MS }),
    ];
    let mut found = found(
        13_324_741_754_543_360_889,
        5_000,
        10_259_033,
        &events,
        "the account did not know that a thread which uses a CPU seems to wait for one where the kernel keeps no schedstat, and that idle \
         threads may be waiting for it (missed silence)",
    );
    found.plan.threads = 2;
    found.plan.machine.schedstat = false;
    found.plan.machine.tick = 4 * MS;
    found.plan.end = 18_000 * MS;
    found.plan.rules.sections = vec![(SHORT, Duration::from_millis(1_250))];
    found.plan.rules.on = On::Report;
    found.plan.rules.channel = Some(ChannelRule {
        max_age: Duration::from_millis(2_500),
        max_depth: 42,
        consumer: Consumer::First,
        on: On::Kill,
        work: None,
    });
    let idle_at_most = Duration::from_secs(10);
    found.plan.rules.silence = Some(Horizon { idle_at_most, witness: true, kills: true });
    found
}

/// The word of a section with a short threshold of its own.
const SHORT: u64 = 36_721_002_254_967;
