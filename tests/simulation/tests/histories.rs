//! A hundred thousand histories, none of which may break a rule. `simulate --histories 10000000` is
//! for a longer evening.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_simulation::generator;
use shard_simulation::history::Stage;
use shard_simulation::run;

/// How many histories each test run lives through. A mutant of the judge is tried with fewer:
/// `SHARD_SIMULATE_HISTORIES`.
const HISTORIES: u64 = 100_000;
/// Another seed every day finds more (`SHARD_SIMULATE_SEED`); a fixed one lets everybody reproduce
/// a failure.
const SEED: u64 = 1;

#[test]
fn no_history_breaks_a_rule() {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let histories = asked("SHARD_SIMULATE_HISTORIES").unwrap_or(HISTORIES);
    let seed = asked("SHARD_SIMULATE_SEED").unwrap_or(SEED);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = run::run(seed, histories, threads, |_| {});
    println!("{} histories, {} looks, {:.0} histories/s", summary.histories, summary.looks, summary.rate());
    assert!(summary.violations == 0, "{}", summary.report(&Stage::default()));
    assert_eq!(summary.histories, histories);
    // A simulation in which nothing happens proves nothing.
    assert!(summary.kills > histories / 10 && summary.stalls > histories / 20, "{summary:?}");
    assert!(summary.lags > histories / 100, "{summary:?}");
    assert!(summary.silences > histories / 500, "{summary:?}");
    let rare = [summary.hastened, summary.asked, summary.spared, summary.cores];
    assert!(rare.iter().all(|times| *times > histories / 100), "{summary:?}");
}

/// A simulation that cannot find a fault proves nothing.
#[test]
fn a_judge_that_is_misled_breaks_a_rule() {
    let summary = run::run_on(&Stage::with_canary(true), SEED, 2_000, 2, |_| {});
    assert!(summary.violations > 20, "{summary:?}");
    assert!(summary.broken.contains_key("false stall"), "{:?}", summary.broken.keys());
}

/// Seeds whose histories once broke a rule, each with what it showed. A change in how plans are
/// made from seeds turns them into other histories: what must stay is stored as a plan
/// (`found/`), or covered by a hand-written test of the judge (`watchdog/judge/tests/seams.rs`).
const BROKE_A_RULE: &[(u64, &str)] = &[
    (
        16_875_358_739_830_156_593,
        "the judge condemned a deaf consumer by a look that came late, when a reload took back what else stood",
    ),
    (
        12_088_593_763_197_868_693,
        "the judge excused a wait for a CPU once for a worker and once more for the thread",
    ),
    (
        5_141_078_128_299_917_069,
        "the judge forgot what a thread had run when it fell asleep beside one that was starved",
    ),
    (1_076_093_411_060_471_268, "the same beside one that its cgroup gave no memory"),
    (2_765_683_661_385_084_421, "the same, of one that waits for something else than a lock"),
    (
        12_766_219_356_219_464_436,
        "the account asked for the CPU time of a worker at which a tracer comes and goes",
    ),
    (
        3_933_850_917_382_075_964,
        "the account called starved what is called traced while a tracer comes and goes",
    ),
    (
        17_805_337_281_922_484_451,
        "the account asked for a verdict on a channel at a look that counts for nobody, since the consumer had moved before it",
    ),
    (2_755_382_148_277_151_015, "the same, with a threshold of seconds"),
    (
        14_834_384_816_975_843_951,
        "the account let an end begin when it was announced, although that was taken back before it came",
    ),
];

#[test]
fn no_seed_that_broke_a_rule_once_breaks_one_now() {
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
