use super::*;

use crate::board::sample;
use crate::verdict::Health;

const MS: u64 = 1_000_000;

/// A snapshot at this moment of threads that have spent their time so.
fn at(millis: u64, threads: &[(&str, i32, Spent)]) -> Snapshot {
    let mut snapshot = sample::snapshot();
    let template = snapshot.threads[0].clone();
    let at = Monotonic(millis * MS);
    snapshot.at = at;
    snapshot.threads = (threads.iter())
        .map(|(name, tid, spent)| ThreadStatus {
            name: (*name).to_owned(),
            tid: Some(*tid),
            spent: *spent,
            last_beat: Some(Monotonic((millis - 300) * MS)),
            work_since: None,
            ..template.clone()
        })
        .collect();
    snapshot
}

fn spent(idle: u64, working: u64, counted: u64, starved: u64) -> Spent {
    let mut spent =
        Spent { idle_ns: idle * MS, working_ns: working * MS, counted_ns: counted * MS, ..Spent::default() };
    spent.excused_ns[ExcuseKind::Starved as usize] = starved * MS;
    spent
}

fn assert_whole(history: &HistoryJson) {
    for thread in &history.threads {
        let parts = [&thread.idle_us, &thread.working_us, &thread.counted_us, &thread.other_us];
        for (index, length) in thread.length_us.iter().enumerate() {
            let excused: u32 = thread.excused_us.values().map(|micros| micros[index]).sum();
            let sum: u32 = parts.iter().map(|part| part[index]).sum();
            assert_eq!(sum + excused, *length, "entry {index} of {}", thread.name);
        }
    }
}

#[test]
fn the_parts_of_each_second_add_up_to_it() {
    let history = History::default();
    history.record(&at(10_000, &[("exec-s0", 7, spent(0, 0, 0, 0))]));
    history.record(&at(10_250, &[("exec-s0", 7, spent(100, 150, 0, 0))]));
    history.record(&at(11_000, &[("exec-s0", 7, spent(300, 500, 0, 200))]));
    history.record(&at(12_250, &[("exec-s0", 7, spent(300, 600, 900, 250))]));
    let told = history.json(None);
    assert_whole(&told);
    let [thread] = &told.threads[..] else { panic!("{told:?}") };
    assert_eq!(thread.length_us, [1_000_000, 1_250_000], "one entry a second, however many snapshots");
    assert_eq!(thread.idle_us, [300_000, 0]);
    assert_eq!(thread.working_us, [500_000, 100_000]);
    assert_eq!(thread.counted_us, [0, 900_000]);
    assert_eq!(thread.excused_us[&ExcuseKind::Starved], [200_000, 50_000]);
    assert_eq!(thread.other_us, [0, 200_000], "what nothing accounts for is said to be so");
    assert_eq!(thread.heartbeat_age_ms, [Some(300), Some(300)]);
    assert_eq!(thread.work_age_ms, [None, None]);
}

#[test]
fn a_pause_that_becomes_a_standstill_is_counted_in_the_second_in_which_it_began() {
    let history = History::default();
    history.record(&at(10_000, &[("exec-s0", 7, spent(0, 2_000, 0, 0))]));
    history.record(&at(11_000, &[("exec-s0", 7, spent(0, 3_000, 0, 0))]));
    // 0.6 s of the last second were no work.
    history.record(&at(12_000, &[("exec-s0", 7, spent(0, 2_400, 1_600, 0))]));
    let told = history.json(None);
    assert_whole(&told);
    assert_eq!(told.threads[0].working_us, [400_000, 0]);
    assert_eq!(told.threads[0].counted_us, [600_000, 1_000_000]);
    // Then half of what had counted turns out to have been starved.
    history.record(&at(13_000, &[("exec-s0", 7, spent(0, 2_400, 800, 1_800))]));
    let told = history.json(None);
    assert_whole(&told);
    let sum = |micros: &[u32]| micros.iter().sum::<u32>();
    assert_eq!(sum(&told.threads[0].counted_us), 800_000);
    assert_eq!(sum(&told.threads[0].excused_us[&ExcuseKind::Starved]), 1_800_000);
}

#[test]
fn a_thread_that_comes_back_goes_on_and_one_that_does_not_is_forgotten_after_a_minute() {
    let history = History::default();
    let mut millis = 10_000;
    let mut tell = |threads: &[(&str, i32, Spent)]| {
        millis += 1_000;
        history.record(&at(millis, threads));
        let told = history.json(None);
        assert_whole(&told);
        told
    };
    tell(&[("exec-s0", 7, spent(500, 0, 0, 0))]);
    tell(&[("exec-s0", 7, spent(1_500, 0, 0, 0))]);
    assert_eq!(tell(&[]).threads[0].other_us.last(), Some(&1_000_000));
    let told = tell(&[("exec-s0", 9, spent(300, 0, 0, 0))]);
    let [thread] = &told.threads[..] else { panic!("{told:?}") };
    assert_eq!(thread.tid, Some(9), "the new process' thread of that name");
    assert_eq!(thread.idle_us, [500_000, 1_000_000, 0, 300_000]);
    assert_eq!(thread.other_us, [0, 0, 1_000_000, 700_000]);
    for _ in 0..ENTRIES - 1 {
        assert_eq!(tell(&[]).threads.len(), 1);
    }
    assert_eq!(tell(&[]).threads.len(), 0);
}

#[test]
fn it_is_bounded_and_says_how_many_threads_have_none() {
    let history = History::default();
    let names: Vec<String> = (0..THREADS + 3).map(|n| format!("t{n}")).collect();
    for second in 0..100u64 {
        let spent = spent(second * 1_000, 0, 0, 0);
        let threads: Vec<_> = names.iter().zip(0..).map(|(name, tid)| (name.as_str(), tid, spent)).collect();
        history.record(&at(10_000 + second * 1_000, &threads));
    }
    let told = history.json(None);
    assert_whole(&told);
    assert_eq!((told.threads.len(), told.without, told.entry), (THREADS, 3, 100));
    assert!(told.threads.iter().all(|thread| thread.idle_us == [1_000_000; ENTRIES]));
    let newer = history.json(Some(98));
    assert!(newer.threads.iter().all(|thread| thread.idle_us.len() == 2));
    assert!(history.json(Some(u64::MAX)).threads.iter().all(|thread| thread.length_us.is_empty()));
}

#[test]
fn two_threads_of_one_name_have_a_history_each() {
    let history = History::default();
    for second in 0..3 {
        let threads =
            [("pool", 1, spent(second * 1_000, 0, 0, 0)), ("pool", 2, spent(0, second * 1_000, 0, 0))];
        history.record(&at(10_000 + second * 1_000, &threads));
    }
    let told = history.json(None);
    assert_eq!(told.threads.len(), 2);
    assert_eq!(told.threads[0].idle_us.iter().sum::<u32>(), 2_000_000);
    assert_eq!(told.threads[1].working_us.iter().sum::<u32>(), 2_000_000);
}

#[test]
fn the_cpu_is_told_as_a_share_of_each_second_and_not_when_it_was_not_read() {
    let history = History::default();
    let read = |millis: u64, ran: u64, waited: u64| {
        let reading = CpuReading { tid: 7, ran_ns: ran * MS, waited_ns: waited * MS };
        history.read_cpu(Monotonic(millis * MS), &[reading]);
    };
    history.record(&at(10_000, &[("exec-s0", 7, spent(0, 500, 0, 0))]));
    read(10_100, 5_000, 100);
    read(11_100, 5_250, 600);
    history.record(&at(11_200, &[("exec-s0", 7, spent(0, 1_700, 0, 0))]));
    history.record(&at(14_200, &[("exec-s0", 7, spent(0, 4_700, 0, 0))]));
    let told = history.json(None);
    assert_eq!(told.threads[0].cpu_permille, [None, Some(250), None]);
    assert_eq!(told.threads[0].run_delay_permille, [None, Some(500), None]);
    assert_eq!(history.tids(), [7]);
}

#[test]
fn a_rule_that_no_thread_matched_has_no_history() {
    let history = History::default();
    let mut snapshot = at(10_000, &[("exec-s*", 1, spent(0, 0, 0, 0))]);
    snapshot.threads[0].tid = None;
    snapshot.threads[0].health = Health::Gone;
    history.record(&snapshot);
    let told = history.json(None);
    assert_eq!((told.threads.len(), told.without), (0, 0));
}
