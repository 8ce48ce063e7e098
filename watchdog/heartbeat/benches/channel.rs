//! Measures the cost of a message over a channel that publishes its lag, and over the bare one.
//! `cargo bench -p shard-heartbeat --features crossbeam --bench channel`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "criterion's macros make public items; a bench may stop where it fails, and waits for its own threads"
)]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use shard_heartbeat::crossbeam as counted;
use shard_heartbeat::{Heartbeat, Reader, Sample, SegmentOptions};

/// Capacity of the bounded channels: that of the executor's larger queues. Two senders that get
/// ahead of the receivers reach it.
const CAPACITY: usize = 1024;
/// Senders, and receivers, of the contended runs.
const ENDS: u64 = 2;
/// Far longer than a message takes; only a lost one would use it up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pairs of runs whose median the table shows: enough that a burst of load does not decide it.
const ROUNDS: usize = 41;
/// Messages in one run of the table, some milliseconds' worth.
const MESSAGES: u64 = 100_000;

fn segment() -> (tempfile::TempDir, Heartbeat) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let heartbeat =
        Heartbeat::create(&folder.path().join("bench.heartbeat"), &SegmentOptions::new("bench")).unwrap();
    (folder, heartbeat)
}

/// Instantiates the same timed code for both kinds of channel ends, which share these method names.
macro_rules! runs {
    ($alone:ident, $together:ident, $sender:ty, $receiver:ty) => {
        /// One thread sends a message, then receives it, `messages` times.
        fn $alone((sender, receiver): &($sender, $receiver), messages: u64) -> Duration {
            let start = Instant::now();
            for message in 0..messages {
                sender.try_send(message).unwrap();
                std::hint::black_box(receiver.try_recv().unwrap());
            }
            start.elapsed()
        }

        /// Two threads send and two receive `messages` in all, as fast as they can.
        fn $together((sender, receiver): &($sender, $receiver), messages: u64) -> Duration {
            let share = messages.div_ceil(ENDS);
            let ready = Barrier::new(2 * ENDS as usize + 1);
            thread::scope(|scope| {
                let mut running = Vec::new();
                for _ in 0..ENDS {
                    let (sender, receiver, ready) = (sender.clone(), receiver.clone(), &ready);
                    running.push(scope.spawn(move || {
                        ready.wait();
                        for message in 0..share {
                            sender.send_timeout(message, PATIENCE).unwrap();
                        }
                    }));
                    running.push(scope.spawn(move || {
                        ready.wait();
                        for _ in 0..share {
                            std::hint::black_box(receiver.recv_timeout(PATIENCE).unwrap());
                        }
                    }));
                }
                ready.wait();
                let start = Instant::now();
                running.into_iter().for_each(|thread| thread.join().unwrap());
                start.elapsed()
            })
        }
    };
}

runs!(bare_alone, bare_together, crossbeam_channel::Sender<u64>, crossbeam_channel::Receiver<u64>);
runs!(counted_alone, counted_together, counted::Sender<u64>, counted::Receiver<u64>);

type Run<'a> = Box<dyn Fn(u64) -> Duration + 'a>;

/// Each case with its bare and its counted run.
fn cases(heartbeat: &Heartbeat) -> Vec<(&'static str, Run<'static>, Run<'static>)> {
    let bare = |bounded: bool| match bounded {
        true => crossbeam_channel::bounded(CAPACITY),
        false => crossbeam_channel::unbounded(),
    };
    let counted = |bounded: bool| match bounded {
        true => counted::bounded(heartbeat, "bench", CAPACITY).unwrap(),
        false => counted::unbounded(heartbeat, "bench").unwrap(),
    };
    let mut cases: Vec<(&'static str, Run<'static>, Run<'static>)> = Vec::new();
    for (name, bounded) in [("bounded, one thread", true), ("unbounded, one thread", false)] {
        let (bare, counted) = (bare(bounded), counted(bounded));
        cases.push((
            name,
            Box::new(move |n| bare_alone(&bare, n)),
            Box::new(move |n| counted_alone(&counted, n)),
        ));
    }
    for (name, bounded) in [("bounded, 2 senders and 2 receivers", true), ("unbounded, 2 and 2", false)] {
        let (bare, counted) = (bare(bounded), counted(bounded));
        cases.push((
            name,
            Box::new(move |n| bare_together(&bare, n)),
            Box::new(move |n| counted_together(&counted, n)),
        ));
    }
    cases
}

fn channels(c: &mut Criterion) {
    let (_folder, heartbeat) = segment();
    for (name, bare, counted) in cases(&heartbeat) {
        let mut group = c.benchmark_group(name);
        group.bench_function("bare", |b| b.iter_custom(&bare));
        group.bench_function("counted", |b| b.iter_custom(&counted));
        group.finish();
    }
}

/// The difference from alternating runs, which a drift of the machine affects alike; criterion runs
/// one case after the other.
fn differences(_: &mut Criterion) {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (_folder, heartbeat) = segment();
    println!(
        "\nns a message, median of {ROUNDS} runs in turn (difference: of the pairs, with its quartiles)"
    );
    println!("{:<36} {:>8} {:>8} {:>11}", "", "bare", "counted", "difference");
    let cases = cases(&heartbeat);
    for (slot, (name, bare, counted)) in cases.iter().enumerate() {
        let a_message = |run: &Run<'_>| run(MESSAGES).as_nanos() as f64 / MESSAGES as f64;
        let mut runs: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            let (bare, counted) = (a_message(bare), a_message(counted));
            for (all, one) in runs.iter_mut().zip([bare, counted, counted - bare]) {
                all.push(one);
            }
        }
        runs.iter_mut().for_each(|all| all.sort_by(f64::total_cmp));
        let [bare, counted, difference] = &runs;
        let at = |all: &[f64], quarter: usize| all[(all.len() - 1) * quarter / 4];
        println!(
            "{name:<36} {:>8.1} {:>8.1} {:>11.1}   ({:.1} to {:.1})",
            at(bare, 2),
            at(counted, 2),
            at(difference, 2),
            at(difference, 1),
            at(difference, 3),
        );
        let mut seen = Sample::default();
        Reader::open(heartbeat.path()).unwrap().sample(&mut seen).unwrap();
        let (all, channel) = (MESSAGES * ROUNDS as u64, seen.channels[slot]);
        assert_eq!((channel.sent, channel.received), (all, all), "not what was to be timed");
    }
}

criterion_group! {
    name = benches;
    // A second each: the whole run ends within a minute.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .without_plots();
    targets = channels, differences
}
criterion_main!(benches);
