//! Measures the cost of a beat, a piece of work, a message and a sample of a segment, and with
//! `--features faults` of a fault point. `cargo bench -p shard-heartbeat --features faults`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make public items; a bench may stop where it fails"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use shard_heartbeat::{Heartbeat, Reader, Sample, Section, SegmentOptions, TraceContext, WatchdogBeat, Work};

fn segment() -> (tempfile::TempDir, Heartbeat) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let heartbeat =
        Heartbeat::create(&folder.path().join("bench.heartbeat"), &SegmentOptions::new("bench")).unwrap();
    (folder, heartbeat)
}

fn writer(c: &mut Criterion) {
    let (_folder, heartbeat) = segment();
    let beat = heartbeat.register("bench").unwrap();
    let lane = beat.lanes().join().unwrap();
    let channel = heartbeat.channel("bench", None).unwrap();
    let counter = AtomicU64::new(0);
    let trace = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
    let work = Work::new(7).attempt(1).deadline(Duration::from_secs(1)).trace(trace);

    let mut group = c.benchmark_group("writer");
    group.bench_function("beat", |b| b.iter(|| black_box(&beat).progress()));
    group.bench_function("beat of a lane", |b| b.iter(|| black_box(&lane).progress()));
    group.bench_function("for comparison: fetch_add", |b| {
        b.iter(|| black_box(&counter).fetch_add(1, Ordering::Relaxed));
    });
    group.bench_function("for comparison: Instant::now", |b| b.iter(std::time::Instant::now));
    group.bench_function("work begun and ended", |b| b.iter(|| drop(beat.working(black_box(work)))));
    let outer = beat.working(work);
    let section = Section::new("executing");
    group.bench_function("section entered", |b| b.iter(|| black_box(&beat).enter(black_box(section))));
    group.bench_function("nested work begun and ended", |b| b.iter(|| drop(beat.working(black_box(work)))));
    drop(outer);
    group.bench_function("message sent", |b| b.iter(|| black_box(&channel).sent()));
    group.bench_function("thread registered and left", |b| {
        b.iter(|| heartbeat.register("again").unwrap().leave());
    });
    group.bench_function("lane joined and left", |b| b.iter(|| beat.lanes().join().unwrap().leave()));
    group.finish();
    lane.leave();
    beat.leave();
}

fn reader(c: &mut Criterion) {
    let mut group = c.benchmark_group("reader");
    for threads in [8, 64] {
        let (_folder, heartbeat) = segment();
        let beats: Vec<_> = (0..threads).map(|_| heartbeat.register("bench").unwrap()).collect();
        let reader = Reader::open(heartbeat.path()).unwrap();
        let mut sample = Sample::default();
        group.bench_function(format!("sample of {threads} threads"), |b| {
            b.iter(|| reader.sample(black_box(&mut sample)).unwrap());
        });
        group.bench_function(format!("one description of {threads}"), |b| {
            b.iter(|| reader.describe(black_box(0)));
        });
        beats.into_iter().for_each(shard_heartbeat::ThreadBeat::leave);
    }
    let (_folder, heartbeat) = segment();
    let mut watchdog = WatchdogBeat::claim(heartbeat.path()).unwrap();
    group.bench_function("the watchdog's beat", |b| b.iter(|| watchdog.beat().unwrap()));
    group.finish();
}

/// The cost of a fault point at which no fault strikes. Without the feature there is none.
#[cfg(feature = "faults")]
fn faults(c: &mut Criterion) {
    use std::io::Write;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults");
    let _port = shard_heartbeat::faults::serve(&path).unwrap();
    let point = |b: &mut criterion::Bencher<'_>| b.iter(|| shard_heartbeat::faults::point(black_box("here")));
    let mut group = c.benchmark_group("faults");
    group.bench_function("a point, nothing armed", point);
    #[expect(clippy::disallowed_methods, reason = "the one who accepts is this process")]
    let mut order = std::os::unix::net::UnixStream::connect(&path).unwrap();
    order.write_all(b"arm hang at elsewhere\n").unwrap();
    std::io::Read::read_exact(&mut order, &mut [0; 3]).unwrap();
    group.bench_function("a point, another one armed", point);
    group.finish();
}

#[cfg(not(feature = "faults"))]
fn faults(_: &mut Criterion) {}

criterion_group! {
    name = benches;
    // A second each: the figures are steady to a few percent, and the whole run ends within a
    // minute.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .without_plots();
    targets = writer, reader, faults
}
criterion_main!(benches);
