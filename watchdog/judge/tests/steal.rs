//! What the hypervisor takes of the CPUs: readings that are rarer than observations, and verdicts
//! that wait for them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what went wrong by failing")]

use std::time::Duration;

use shard_judge::observation::{TaskState, WaitChannel, WorkerObservation};
use shard_judge::testing::{self, Scene, ns};
use shard_judge::verdict::{ExcuseKind, StallKind};

const LOOK: Duration = Duration::from_millis(10);
const STALL: Duration = Duration::from_secs(2);

/// One thread at work, of which the first reading has been made.
fn scene() -> Scene {
    let policy = testing::policy(vec![testing::rule("exec-s*", STALL, STALL / 2)]);
    let mut scene = Scene::begin(policy, LOOK, vec![testing::thread(0, "exec-s0")], Vec::new());
    scene.begin_work(7);
    scene.shows(TaskState::Running, None, 0);
    scene.now.stolen_ns = Some(0);
    scene.pass(LOOK);
    scene
}

/// Lets the thread use all of its time for `time`, of which the hypervisor has `stolen` in 10, as a
/// kernel shows it that calls this the thread's own. Read every `every`, or when the judge asks.
/// Returns how long it was until the process was condemned.
fn spin(scene: &mut Scene, time: Duration, stolen: u32, every: u32) -> Option<Duration> {
    let mut taken = Duration::ZERO;
    let began = scene.now.at;
    for look in 1..=u32::try_from(time.as_millis() / LOOK.as_millis()).unwrap() {
        taken += LOOK * stolen / 10;
        let read = look % every == 0 || scene.judge.wants_steal();
        scene.now.stolen_ns = read.then(|| ns(taken));
        let used = scene.thread().task.unwrap().cpu_ns.unwrap() + ns(LOOK);
        scene.shows(TaskState::Running, None, used);
        if scene.pass(LOOK).condemned {
            return Some(scene.now.at.since(began));
        }
    }
    None
}

#[test]
fn a_machine_without_steal_finds_a_livelock_as_soon_as_ever() {
    let mut scene = scene();
    let after = spin(&mut scene, 2 * STALL, 0, 10).unwrap();
    assert!(after <= STALL + LOOK, "{after:?}");
    assert_eq!(scene.trial().kind(), StallKind::Livelock);
}

#[test]
fn what_is_excused_and_what_counts_are_together_no_longer_than_the_standstill() {
    for (stolen, every) in [(9, 10), (9, 3), (5, 10), (10, 10)] {
        let mut scene = scene();
        let (began, before) = (scene.now.at, scene.trial().excused.of(ExcuseKind::Stolen));
        assert_eq!(before, Duration::ZERO);
        spin(&mut scene, STALL, stolen, every);
        let excused: Duration = ExcuseKind::ALL.iter().map(|kind| scene.trial().excused.of(*kind)).sum();
        let stood = scene.now.at.since(began) + LOOK;
        assert!(excused + scene.trial().counted() <= stood, "{stolen}, {every}: {excused:?} of {stood:?}");
        assert!(excused >= STALL * stolen / 20, "{stolen}, {every}: {excused:?}");
    }
}

#[test]
fn what_a_reading_takes_off_is_no_time_in_the_freezer() {
    let mut scene = scene();
    assert_eq!(spin(&mut scene, 9 * LOOK, 10, 1_000), None);
    let used = scene.thread().task.unwrap().cpu_ns.unwrap();
    scene.shows(TaskState::DiskSleep, Some(WaitChannel::Frozen), used);
    scene.now.stolen_ns = Some(ns(9 * LOOK));
    scene.pass(LOOK);
    assert_eq!(scene.trial().excuse, Some(ExcuseKind::Frozen));
    assert_eq!(scene.trial().excused.of(ExcuseKind::Frozen), LOOK);
}

#[test]
fn a_livelock_is_found_once_it_has_had_its_time_however_much_is_taken() {
    for stolen in [1, 5, 8, 9] {
        let mut scene = scene();
        let after = spin(&mut scene, 11 * STALL, stolen, 10).unwrap();
        let least = STALL * 10 / (10 - stolen);
        assert!(after >= least - Duration::from_millis(100), "{stolen}: {after:?}");
        assert!(after <= least + Duration::from_millis(300), "{stolen}: {after:?}");
    }
}

#[test]
fn who_never_has_a_cpu_is_never_condemned_though_the_kernel_calls_it_his() {
    let mut scene = scene();
    assert_eq!(spin(&mut scene, 10 * STALL, 10, 10), None);
    // The first observation has nothing to be compared with.
    assert!(scene.counted() <= LOOK, "{:?}", scene.counted());
    assert_eq!(scene.trial().excuse, Some(ExcuseKind::Stolen));
    assert!(scene.excused(ExcuseKind::Stolen) >= 9 * STALL, "{:?}", scene.excused(ExcuseKind::Stolen));
}

#[test]
fn no_verdict_is_given_before_a_reading_confirms_it() {
    let mut scene = scene();
    assert_eq!(spin(&mut scene, STALL - 5 * LOOK, 0, 10), None);
    // More than the rest at once, as after the hypervisor has let the CPU go.
    let used = scene.thread().task.unwrap().cpu_ns.unwrap() + ns(STALL);
    scene.shows(TaskState::Running, None, used);
    scene.now.stolen_ns = None;
    for _ in 0..5 {
        assert!(!scene.pass(4 * LOOK).condemned);
        assert!(scene.judge.wants_steal());
    }
    scene.now.stolen_ns = Some(ns(STALL));
    assert!(!scene.pass(LOOK).condemned, "the hypervisor had it");
    assert!(scene.counted() < STALL, "{:?}", scene.counted());
}

#[test]
fn a_worker_that_is_robbed_excuses_the_thread_that_waits_for_it() {
    let mut scene = scene();
    scene.stand_in(TaskState::Sleeping);
    let mut condemned = false;
    for look in 1..=1_000_u64 {
        let task = testing::task(TaskState::Running, None, look * ns(LOOK));
        let worker: WorkerObservation = testing::worker(1, Some(task));
        scene.thread().workers = vec![worker];
        scene.now.stolen_ns = (look % 10 == 0).then(|| look * ns(LOOK));
        condemned |= scene.pass(LOOK).condemned;
    }
    assert!(!condemned, "counted: {:?}", scene.counted());
}

#[test]
fn a_verdict_waits_for_a_reading_that_confirms_the_cpu_time_of_a_worker() {
    let mut scene = scene();
    let shows = |scene: &mut Scene, used: Duration, read: Option<Duration>| {
        let task = testing::task(TaskState::Running, None, ns(used));
        scene.stand_in(TaskState::Sleeping);
        scene.thread().workers = vec![testing::worker(1, Some(task))];
        scene.now.stolen_ns = read.map(ns);
        scene.pass(LOOK).condemned
    };
    for look in 1..=2 * u32::try_from(STALL.as_millis() / LOOK.as_millis()).unwrap() {
        let read = (look % 10 == 0).then_some(Duration::ZERO);
        assert!(!shows(&mut scene, Duration::ZERO, read), "the worker gets no CPU");
    }
    // It seems to have used enough of it at once.
    for _ in 0..10 {
        assert!(!shows(&mut scene, STALL + 2 * LOOK, None));
        assert!(scene.judge.wants_steal());
    }
    assert!(!shows(&mut scene, STALL + 2 * LOOK, Some(STALL)), "the hypervisor had it");
    assert!(scene.counted() < STALL / 2, "{:?}", scene.counted());
}

#[test]
fn an_old_recording_without_readings_is_judged_as_before() {
    let mut scene = scene();
    scene.judge = shard_judge::Judge::new(testing::BEGAN);
    scene.now.stolen_ns = None;
    let mut looks = 0;
    while !scene.pass(LOOK).condemned {
        looks += 1;
        assert!(looks < 300 && !scene.judge.wants_steal());
        let used = scene.thread().task.unwrap().cpu_ns.unwrap() + ns(LOOK);
        scene.shows(TaskState::Running, None, used);
    }
}

#[test]
fn a_wait_for_neighbours_hides_no_more_than_half_a_second_of_steal() {
    for delay in [None, Some(10 * STALL)] {
        let mut scene = scene();
        // No CPU for a long time, and nothing stolen.
        scene.thread().task.as_mut().unwrap().run_delay_ns = delay.map(|_| 0);
        scene.run(10 * STALL);
        scene.thread().task.as_mut().unwrap().run_delay_ns = delay.map(ns);
        scene.pass(LOOK);
        // Now it seems to run, and the hypervisor has all of it.
        for look in 1..=1_000_u64 {
            scene.now.stolen_ns = (look % 10 == 0).then(|| look * ns(LOOK));
            scene.thread().task.as_mut().unwrap().cpu_ns = Some(look * ns(LOOK));
            assert!(!scene.pass(LOOK).condemned, "{delay:?}");
        }
        let most = if delay.is_some() { 100 } else { 600 };
        assert!(scene.counted() <= Duration::from_millis(most), "{delay:?}: {:?}", scene.counted());
    }
}

#[test]
fn a_livelock_whose_cpu_comes_and_goes_counts_what_it_had() {
    // 300 ms without a CPU, which show only then; 100 ms with one: a fourth of the time.
    let mut scene = scene();
    let (mut used, mut taken, mut looks) = (0, 0, 0);
    loop {
        looks += 1;
        let turn = looks % 40;
        if turn >= 30 {
            used += ns(LOOK);
        }
        if turn == 30 {
            taken += 30 * ns(LOOK);
        }
        scene.now.stolen_ns = (looks % 10 == 0 || scene.judge.wants_steal()).then_some(taken);
        scene.shows(TaskState::Running, None, used);
        if scene.pass(LOOK).condemned {
            break;
        }
        assert!(looks < 1_000, "{:?}", scene.counted());
    }
    assert!(looks >= 790, "by the CPU time, 800 looks: {looks}");
}

#[test]
fn a_verdict_does_not_wait_for_a_file_that_can_no_longer_be_read() {
    let mut scene = scene();
    scene.now.stolen_ns = None;
    let began = scene.now.at;
    let mut used = 0;
    while !scene.pass(LOOK).condemned {
        used += ns(LOOK);
        scene.shows(TaskState::Running, None, used);
        assert!(scene.now.at.since(began) < 2 * STALL, "{:?}", scene.counted());
    }
    assert!(scene.now.at.since(began) <= STALL + 3 * LOOK);
}

#[test]
fn who_sleeps_after_its_cpu_was_taken_is_found_as_any_other() {
    let mut scene = scene();
    assert_eq!(spin(&mut scene, STALL / 4, 5, 10), None);
    let used = scene.thread().task.unwrap().cpu_ns.unwrap();
    scene.shows(TaskState::Sleeping, Some(shard_judge::observation::WaitChannel::Futex), used);
    let (taken, began) = (ns(STALL / 8), scene.now.at);
    loop {
        scene.now.stolen_ns = scene.judge.wants_steal().then_some(taken);
        if scene.pass(LOOK).condemned {
            break;
        }
        assert_eq!(scene.trial().excuse, None, "it was robbed, and sleeps now");
        assert!(scene.now.at.since(began) < STALL, "{:?}", scene.counted());
    }
    let least = STALL - STALL / 8;
    let waited = scene.now.at.since(began);
    assert!(waited + Duration::from_millis(150) >= least && waited <= least + 3 * LOOK, "{waited:?}");
}

/// Lets the thread use the CPU in the last `run` of every 100 ms for `time`, and the hypervisor
/// have it in the rest, as a kernel shows it that calls this the thread's own: once the CPU comes
/// back. Read every 100 ms, just before that.
fn come_and_go(scene: &mut Scene, time: Duration, run: u64, (used, taken): (&mut u64, &mut u64)) {
    for look in 1..=u64::try_from(time.as_millis() / LOOK.as_millis()).unwrap() {
        let turn = look % 10;
        if turn > 10 - run || turn == 0 {
            if turn == 11 - run {
                (*used, *taken) = (*used + (10 - run) * ns(LOOK), *taken + (10 - run) * ns(LOOK));
            }
            *used += ns(LOOK);
        }
        scene.now.stolen_ns = (turn == 10 - run || scene.judge.wants_steal()).then_some(*taken);
        scene.shows(TaskState::Running, None, *used);
        assert!(!scene.pass(LOOK).condemned, "{:?}", scene.counted());
    }
}

#[test]
fn what_had_room_while_the_cpu_was_away_is_a_debt_when_it_comes_back() {
    let mut scene = scene();
    let (mut used, mut taken) = (0, 0);
    come_and_go(&mut scene, STALL, 2, (&mut used, &mut taken));
    // From now on it has the CPU to itself.
    for _ in 0..30 {
        used += ns(LOOK);
        scene.now.stolen_ns = Some(taken);
        scene.shows(TaskState::Running, None, used);
        scene.pass(LOOK);
    }
    let had = STALL / 5 + 30 * LOOK;
    let counted = scene.counted();
    assert!(counted <= had + LOOK && counted + Duration::from_millis(100) >= had, "{counted:?} of {had:?}");
}

#[test]
fn cpu_time_that_shows_at_the_tick_is_not_taken_for_stolen() {
    let mut scene = scene();
    let mut used = 0;
    let mut counted = Duration::ZERO;
    for look in 1..=40_u64 {
        // It sleeps for a moment, and then runs; each tick shows what it ran until then.
        let sleeps = look == 5;
        let state = if sleeps { TaskState::Sleeping } else { TaskState::Running };
        if look > 5 && look % 3 == 0 {
            used = (look - 5) * ns(LOOK);
        }
        scene.now.stolen_ns = (look % 10 == 1).then_some(0);
        scene.shows(state, None, used);
        scene.pass(LOOK);
        assert!(scene.counted() >= counted, "at {look}: {:?} after {counted:?}", scene.counted());
        counted = scene.counted();
    }
    assert!(counted >= 33 * LOOK, "{counted:?}");
}

#[test]
fn a_recording_read_less_often_than_its_judge_wants_condemns_all_the_same() {
    let mut scene = scene();
    let mut looks = 0_u64;
    loop {
        looks += 1;
        scene.now.stolen_ns = looks.is_multiple_of(10).then_some(looks * ns(LOOK) / 2);
        scene.shows(TaskState::Running, None, looks * ns(LOOK));
        if scene.pass(LOOK).condemned {
            break;
        }
        assert!(looks < 450, "{:?}", scene.counted());
    }
    assert!(looks >= 390, "{looks}");
}

/// An idle thread that spins although a message waits for it, and of which the first reading has
/// been made.
fn deaf() -> Scene {
    let mut policy = testing::policy(vec![testing::rule("exec-s*", 10 * STALL, 5 * STALL)]);
    policy.channels.push(testing::limits("commands", STALL, None));
    let (threads, channels) = (vec![testing::thread(0, "exec-s0")], vec![testing::channel(0, "commands")]);
    let mut scene = Scene::begin(policy, LOOK, threads, channels);
    scene.shows(TaskState::Running, None, 0);
    scene.now.stolen_ns = Some(0);
    scene.send(1);
    scene
}

#[test]
fn a_consumer_that_the_hypervisor_keeps_from_receiving_is_not_deaf() {
    assert_eq!(spin(&mut deaf(), 5 * STALL, 10, 10), None);
    let after = spin(&mut deaf(), 5 * STALL, 5, 10).unwrap();
    assert!(after >= 2 * STALL - Duration::from_millis(100), "it had half of that time: {after:?}");
    let after = spin(&mut deaf(), 5 * STALL, 0, 10).unwrap();
    assert!(after >= STALL && after <= STALL + 3 * LOOK, "it had all of it: {after:?}");
}

#[test]
fn a_reading_is_asked_for_shortly_before_a_verdict_and_the_verdict_waits_for_it() {
    for mut scene in [scene(), deaf()] {
        let began = scene.now.at;
        let mut asked = None;
        while scene.now.at.since(began) < STALL + 20 * LOOK {
            let used = scene.thread().task.unwrap().cpu_ns.unwrap() + ns(LOOK);
            scene.shows(TaskState::Running, None, used);
            // As long as nobody asks, now and then.
            scene.now.stolen_ns = (asked.is_none() && used.is_multiple_of(ns(10 * LOOK))).then_some(0);
            assert!(!scene.pass(LOOK).condemned, "no reading confirms it");
            if scene.judge.wants_steal() {
                asked.get_or_insert(scene.now.at.since(began));
            }
        }
        // Two observations and two of a kernel's ticks.
        let before = STALL - asked.unwrap();
        assert!(before >= Duration::from_millis(40) && before <= Duration::from_millis(60), "{before:?}");
        scene.now.stolen_ns = Some(ns(STALL / 2));
        assert!(!scene.pass(LOOK).condemned && !scene.judge.wants_steal(), "the hypervisor had half");
    }
}

#[test]
fn who_sleeps_needs_no_reading_however_near_its_verdict_is() {
    let mut scene = deaf();
    scene.stand_in(TaskState::Sleeping);
    while !scene.pass(LOOK).condemned {
        assert!(!scene.judge.wants_steal());
    }
}

#[test]
fn lack_of_cpu_is_called_stolen_where_a_quarter_of_the_time_is_taken_and_for_two_seconds_more() {
    let tenth = |share: u64, look: u64| share * look * ns(LOOK) / 100;
    for (share, kind) in [(0, ExcuseKind::Starved), (24, ExcuseKind::Starved), (25, ExcuseKind::Stolen)] {
        let mut scene = scene();
        for look in 1..=100 {
            scene.now.stolen_ns = (look % 10 == 0).then(|| tenth(share, look));
            scene.pass(LOOK);
            let excuse = scene.trial().excuse;
            assert!(look < 20 || excuse == Some(kind), "{share} % at {look}: {excuse:?}");
        }
        scene.now.stolen_ns = None;
        scene.run(Duration::from_millis(1_990));
        assert_eq!(scene.trial().excuse, Some(kind));
        scene.run(3 * LOOK);
        assert_eq!(scene.trial().excuse, Some(ExcuseKind::Starved), "nobody has read it since");
    }
}

#[test]
fn who_seems_to_run_is_excused_where_the_hypervisor_had_half_of_that_and_not_with_less() {
    for (stolen, excuse) in [(4, None), (5, Some(ExcuseKind::Stolen)), (10, Some(ExcuseKind::Stolen))] {
        let mut scene = scene();
        assert_eq!(spin(&mut scene, STALL / 2, stolen, 10), None);
        assert_eq!(scene.trial().excuse, excuse, "{stolen} of 10");
    }
}

#[test]
fn a_reload_with_a_shorter_threshold_condemns_nobody_while_its_cpu_is_taken() {
    let mut scene = scene();
    assert_eq!(spin(&mut scene, STALL / 2, 0, 10), None);
    let used = scene.thread().task.unwrap().cpu_ns.unwrap();
    let goes_on = |scene: &mut Scene, look: u64, taken: u64| {
        scene.now.stolen_ns = (look.is_multiple_of(10) || scene.judge.wants_steal()).then_some(taken);
        scene.shows(TaskState::Running, None, used + look * ns(LOOK));
        scene.pass(LOOK).condemned
    };
    for look in 1..=200 {
        if look == 50 {
            scene.policy.rules[0].stall_after = STALL / 4;
        }
        assert!(!goes_on(&mut scene, look, look * ns(LOOK)), "at {look}");
    }
    let condemned = (201..=250).any(|look| goes_on(&mut scene, look, 200 * ns(LOOK)));
    assert!(condemned, "it has its CPU again");
}

#[test]
fn a_wait_before_a_sleep_hides_nothing_that_is_taken_after_it() {
    let mut scene = scene();
    // No CPU for a long time, and nothing stolen. Then it sleeps, at a single observation.
    scene.run(10 * STALL);
    (scene.now.stolen_ns, scene.thread().task.as_mut().unwrap().state) = (None, TaskState::Sleeping);
    scene.pass(LOOK);
    for look in 1..=1_000_u64 {
        scene.now.stolen_ns = (look % 10 == 9).then(|| look * ns(LOOK));
        scene.shows(TaskState::Running, None, look * ns(LOOK));
        assert!(!scene.pass(LOOK).condemned);
    }
    assert!(scene.counted() <= Duration::from_millis(200), "{:?}", scene.counted());
}

#[test]
fn what_was_taken_before_it_began_work_is_no_debt_of_that_work() {
    let policy = testing::policy(vec![testing::rule("exec-s*", STALL, STALL / 2)]);
    let mut scene = Scene::begin(policy, LOOK, vec![testing::thread(0, "exec-s0")], Vec::new());
    scene.now.stolen_ns = Some(0);
    scene.pass(LOOK);
    scene.now.stolen_ns = None;
    scene.run(Duration::from_millis(400));
    scene.begin_work(7);
    scene.shows(TaskState::Running, None, 0);
    scene.now.stolen_ns = Some(ns(Duration::from_millis(400)));
    scene.pass(LOOK);
    let after = spin(&mut scene, 2 * STALL, 0, 10).unwrap();
    assert!(after <= STALL + 2 * LOOK, "{after:?}");
}
