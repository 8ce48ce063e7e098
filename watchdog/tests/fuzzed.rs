//! What the fuzz targets of watchdog/fuzz do, on the stored part of their corpora and on bounded
//! changes of it, without a special toolchain. The segment has a test of its own,
//! `hostile_segment`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

#[path = "../fuzz/src/inputs.rs"]
mod inputs;

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

type Target = (&'static str, fn(&[u8]), LazyLock<Vec<Vec<u8>>>);

/// Each target, and the inputs stored for it.
static TARGETS: [Target; 4] = [
    ("command", inputs::command, LazyLock::new(|| kept("command"))),
    ("config", inputs::config, LazyLock::new(|| kept("config"))),
    ("kept_file", inputs::kept_file, LazyLock::new(|| kept("kept_file"))),
    ("recording", inputs::recording, LazyLock::new(|| kept("recording"))),
];

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing is kept in {}", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Sets, inserts or removes bytes here and there.
fn change(bytes: &mut Vec<u8>, changes: &[(Index, u8, u8)]) {
    for (place, what, byte) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match what % 3 {
            0 => bytes[place] = *byte,
            1 => bytes.insert(place, *byte),
            _ => drop(bytes.drain(place..(place + usize::from(*byte)).min(bytes.len()))),
        }
    }
}

#[test]
fn whatever_is_kept_is_understood_or_refused() {
    for (_, target, kept) in &TARGETS {
        kept.iter().for_each(|input| target(input));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_it_makes_a_parser_panic(
        which in any::<Index>(),
        seed in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<u8>()), 0..8),
    ) {
        let (_, target, kept) = &TARGETS[which.index(TARGETS.len())];
        let mut input = kept[seed.index(kept.len())].clone();
        change(&mut input, &changes);
        target(&input);
    }
}
