//! A hundred thousand histories, none of which may break a rule. `simulate --histories 10000000` is for a longer evening.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_simulation::generator;
use shard_simulation::history::Stage;
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

/// Histories that broke a rule once, each with what it showed. A change of how plans are made from seeds makes others of them: what
/// they showed is kept by tests by hand as well.
const BROKE_A_RULE: &[(u64, &str)] = &[
    (
        5_700_933_248_989_493_685,
        "the account added the CPU time of a thread to what it slept before, while a worker of it was starved: no counter tells whether that is the same time",
    ),
    (1_570_346_610_352_291_128, "the same, with workers that sleep between their steps"),
    (
        14_549_995_979_471_926_829,
        "the judge took workers that nobody could ask for, in the first moments of an exit, for ended, and counted that time",
    ),
    (
        9_176_276_202_703_533_508,
        "the judge counted CPU time that a consumer used at work as time in which it could have received",
    ),
    (
        6_037_634_187_484_696_816,
        "the judge called only the last part of each short wait for a CPU starved, and reached the cap four times too late",
    ),
    (
        33_513_457_065_700_547,
        "the judge gave a slot that a late look was the first to see dropped all of that lateness on top, and the account did, too",
    ),
    (
        16_830_835_882_020_373_412,
        "the judge let time in which a debugger held the thread hide in what a worker of it had lost before",
    ),
    (
        16_915_218_349_056_761_300,
        "without schedstat nobody knows whether a thread waited or ran before it fell asleep: the judge took all of it for waiting, the account none",
    ),
];

#[test]
fn no_history_that_broke_a_rule_once_breaks_one_now() {
    let stage = Stage::default();
    for (seed, showed) in BROKE_A_RULE {
        let violation = stage.live(&generator::plan(*seed)).violation;
        assert!(violation.is_none(), "seed {seed}: {}; once: {showed}", violation.unwrap());
    }
}

#[test]
fn a_seed_gives_the_same_histories_every_time() {
    let once = || {
        let run::Summary { histories, looks, kills, stalls, violations, .. } = run::run(7, 200, 2, |_| {});
        (histories, looks, kills, stalls, violations)
    };
    assert_eq!(once(), once());
}
