//! What the heartbeat costs the executor: one generated block is executed in order without beats,
//! with a beat after every transaction, and with a sidecar's reader polling the segment as well.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark is its own documentation, and waits for threads of its own"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use shard_executor::block::Block;
use shard_executor::generate::{Generator, Plan};
use shard_executor::validate;
use shard_heartbeat::{Heartbeat, Reader, Sample, SegmentOptions, Work};

/// How often a sidecar polls with the default `stall_after` of 5 s.
const LOOK: Duration = Duration::from_millis(40);

fn execute(block: &Block, progress: &dyn Fn()) {
    let mut state = validate::open(block, None).unwrap();
    black_box(validate::run_in_order(block, &mut state, Vec::new(), progress).unwrap());
}

fn polled<T>(path: &Path, run: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let reader = Reader::open(path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sample = Sample::default();
            while !stop.load(Ordering::Relaxed) {
                reader.sample(&mut sample).unwrap();
                std::thread::sleep(LOOK);
            }
        });
        let result = run();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn heartbeat(criterion: &mut Criterion) {
    let block =
        Generator::new(Plan { transactions: 500, conflict: 0.1, ..Plan::default() }).next_block().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.heartbeat");
    let heartbeat = Heartbeat::create(&path, &SegmentOptions::new("bench")).unwrap();
    let thread = heartbeat.register("bench").unwrap();

    let mut group = criterion.benchmark_group("block_of_500");
    group.bench_function("without_heartbeat", |b| b.iter(|| execute(&block, &|| {})));
    let beating = || {
        let working = thread.working(Work::new(1));
        execute(&block, &|| thread.progress());
        drop(working);
    };
    group.bench_function("with_heartbeat", |b| b.iter(beating));
    polled(&path, || group.bench_function("with_heartbeat_and_sidecar", |b| b.iter(beating)));
    group.finish();
    thread.leave();
}

criterion_group!(benches, heartbeat);
criterion_main!(benches);
