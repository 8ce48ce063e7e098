//! The checks of the fuzz targets in executor/fuzz, on a bounded number of inputs and without a
//! special toolchain: the fuzzers' seeds, changed at random, and arbitrary bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

#[path = "../fuzz/src/harness.rs"]
mod harness;

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(harness::message_seeds);
static BLOCKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(harness::block_seeds);
static ORDERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| kept("orders"));

/// Inputs that fuzzers found and that are worth keeping.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing is kept in {}", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One change to a run of bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// Cuts off the rest.
    End(Index),
    /// Replaces a number, in JSON's hex, by another.
    Number(Index, &'static str),
    /// The same for a number with that name.
    Named(Index, &'static str, &'static str),
}

/// Names of numbers that influence decisions.
const NAMES: [&str; 16] = [
    "type",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "nonce",
    "value",
    "number",
    "timestamp",
    "baseFeePerGas",
    "excessBlobGas",
    "balance",
    "amount",
    "status",
    "cumulativeGasUsed",
    "yParity",
    "chainId",
];

/// Limits of arithmetic, and values that are not numbers.
const NUMBERS: [&str; 8] =
    ["0x0", "0x1", "0xffffffffffffffff", "0x10000000000000000", "0x", "0xffffffff", "-1", "null"];

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        6 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (at(), 1_usize..40).prop_map(|(at, count)| Change::Remove(at, count)),
        2 => (at(), 1_usize..200).prop_map(|(at, count)| Change::Repeat(at, count)),
        1 => at().prop_map(Change::End),
        6 => (at(), prop::sample::select(&NUMBERS)).prop_map(|(at, number)| Change::Number(at, number)),
        12 => (at(), prop::sample::select(&NAMES), prop::sample::select(&NUMBERS))
            .prop_map(|(at, name, number)| Change::Named(at, name, number)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Set(at, byte) => bytes[at.index(length)] = *byte,
            Change::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Change::Repeat(at, count) => {
                let at = at.index(length);
                let again = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
            Change::End(at) => bytes.truncate(at.index(length)),
            Change::Number(at, number) => set_number(&mut bytes, at.index(length), b"\"0x", number),
            Change::Named(at, name, number) => {
                set_number(&mut bytes, at.index(length), format!("\"{name}\":\"0x").as_bytes(), number);
            }
        }
    }
    bytes
}

/// Replaces the first number after `begins`, which ends in the number's `"0x`, at or after `from`,
/// or else from the start of `bytes`.
fn set_number(bytes: &mut Vec<u8>, from: usize, begins: &[u8], number: &str) {
    let find = |from: usize| {
        let found = bytes[from..].windows(begins.len()).position(|window| window == begins);
        found.map(|at| from + at + begins.len() - "0x".len())
    };
    let Some(start) = find(from).or_else(|| find(0)) else { return };
    let Some(size) = bytes[start..].iter().position(|byte| *byte == b'"') else { return };
    bytes.splice(start..start + size, number.bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_either_end_panic(
        seed in any::<Index>(),
        changes in prop::collection::vec(change(), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        harness::messages(&changed(MESSAGES[seed.index(MESSAGES.len())].clone(), &changes));
        harness::messages(&noise);
    }

    #[test]
    fn no_line_to_the_fault_port_makes_it_panic(
        seed in any::<Index>(),
        changes in prop::collection::vec(change(), 0..6),
    ) {
        harness::orders(&changed(ORDERS[seed.index(ORDERS.len())].clone(), &changes));
    }

    #[test]
    fn no_block_file_panics_or_comes_out_differently_in_parts(
        seed in any::<Index>(),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        harness::block(&changed(BLOCKS[seed.index(BLOCKS.len())].clone(), &changes));
    }
}

#[test]
fn whatever_is_kept_is_understood_or_refused() {
    kept("messages").iter().for_each(|input| harness::messages(input));
    kept("blocks").iter().for_each(|input| harness::block(input));
    ORDERS.iter().for_each(|input| harness::orders(input));
}

/// With `WRITE_SEEDS=1` they are written to executor/fuzz/corpus, for `cargo fuzz` to start from.
#[test]
fn seeds_are_understood() {
    for seed in BLOCKS.iter() {
        shard_executor::block::Block::from_json("seed.json", seed).unwrap();
    }
    BLOCKS.iter().for_each(|seed| harness::block(seed));
    MESSAGES.iter().for_each(|seed| harness::messages(seed));
    if std::env::var_os("WRITE_SEEDS").is_none() {
        return;
    }
    for (target, seeds) in [("messages", &MESSAGES), ("blocks", &BLOCKS)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}

/// Replaces every number with such a name in every seed, one after the other, by every other value.
#[test]
fn every_number_that_decides_something_may_be_any_other() {
    for seed in BLOCKS.iter() {
        for name in NAMES {
            let begins = format!("\"{name}\":\"0x");
            let places = seed.windows(begins.len()).enumerate();
            let places: Vec<usize> =
                places.filter(|(_, text)| *text == begins.as_bytes()).map(|(at, _)| at).collect();
            for (at, number) in places.iter().flat_map(|at| NUMBERS.map(|number| (*at, number))) {
                let mut bytes = seed.clone();
                set_number(&mut bytes, at, begins.as_bytes(), number);
                harness::block(&bytes);
            }
        }
    }
}
