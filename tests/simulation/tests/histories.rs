//! A hundred thousand histories, none of which may break a rule. `simulate --histories 10000000` is for a longer evening.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_simulation::run;

/// What every run of the tests lives through. A mutant of the judge is tried with fewer: `SHARD_SIMULATE_HISTORIES`.
const HISTORIES: u64 = 100_000;
/// Another seed on every day finds more (`SHARD_SIMULATE_SEED`); the same one every time makes a failure everybody's.
const SEED: u64 = 1;

#[test]
fn no_history_breaks_a_rule() {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let histories = asked("SHARD_SIMULATE_HISTORIES").unwrap_or(HISTORIES);
    let seed = asked("SHARD_SIMULATE_SEED").unwrap_or(SEED);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = run::run(seed, histories, threads, |_| {});
    println!("{} histories, {} looks, {:.0} histories/s", summary.histories, summary.looks, summary.rate());
    assert!(summary.violations == 0, "{}", summary.report());
    assert_eq!(summary.histories, histories);
    // A simulation in which nothing happens proves nothing.
    assert!(summary.kills > histories / 10 && summary.stalls > histories / 20, "{summary:?}");
    assert!(summary.lags > histories / 100, "{summary:?}");
    let rare = [summary.hastened, summary.asked, summary.spared, summary.cores];
    assert!(rare.iter().all(|times| *times > histories / 100), "{summary:?}");
}

#[test]
fn a_seed_gives_the_same_histories_every_time() {
    let once = || {
        let run::Summary { histories, looks, kills, stalls, violations, .. } = run::run(7, 200, 2, |_| {});
        (histories, looks, kills, stalls, violations)
    };
    assert_eq!(once(), once());
}
