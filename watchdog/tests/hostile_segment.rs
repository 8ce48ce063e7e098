//! What the fuzz target of watchdog/fuzz does, on a bounded number of inputs and without a special
//! toolchain: a segment as a hostile target may write it, through the probe to the judge. No panic,
//! and no kill without a reason in the segment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

#[path = "../fuzz/src/harness.rs"]
mod harness;

use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use proptest::prelude::*;
use proptest::sample::Index;

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(harness::seeds);

/// The harness has one file for all its inputs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn segment(input: &[u8]) -> harness::Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    harness::segment(input)
}

#[test]
fn what_the_fuzzer_kept_condemns_for_nothing_but_what_stands_in_it() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept/segment");
    let files: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 50, "{} holds too little", kept.display());
    for file in files {
        segment(&std::fs::read(file).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_segment_condemns_for_nothing_but_what_stands_in_it(
        seed in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 0..8),
    ) {
        let mut input = SEEDS[seed.index(SEEDS.len())].clone();
        for (place, byte, insert) in changes {
            let place = place.index(input.len());
            if insert {
                input.insert(place, byte);
            } else {
                input[place] = byte;
            }
        }
        segment(&input);
    }

    #[test]
    fn bytes_that_are_like_nothing_are_refused(noise in prop::collection::vec(any::<u8>(), 0..512)) {
        let input: Vec<u8> = std::iter::once(0).chain(noise).collect();
        prop_assert_eq!(segment(&input), harness::Outcome::default());
    }

    #[test]
    fn any_changes_end_in_a_verdict(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let input: Vec<u8> = std::iter::once(1).chain(noise).collect();
        prop_assert!(segment(&input).opened);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_in_every_word_kills_nobody(mut state in 1_u64..) {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // Xorshift: not good, but all its 64 bits look random.
        let outcome = harness::noise(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        prop_assert_eq!(outcome, harness::Outcome { opened: true, condemned: false });
    }
}

/// With `WRITE_SEEDS=1` they are written to watchdog/fuzz/corpus, for `cargo fuzz` to begin with.
#[test]
fn seeds_are_understood() {
    let outcomes: Vec<_> = SEEDS.iter().map(|seed| segment(seed)).collect();
    assert!(outcomes.iter().all(|outcome| outcome.opened), "{outcomes:?}");
    // A segment that shows a standstill is believed; one that shows rest does not lead to a kill.
    assert!(outcomes.iter().any(|outcome| outcome.condemned), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| !outcome.condemned), "{outcomes:?}");
    if std::env::var_os("WRITE_SEEDS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/segment");
    std::fs::create_dir_all(&folder).unwrap();
    for (number, seed) in SEEDS.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
    }
}
