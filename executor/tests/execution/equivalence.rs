//! The promise that everything else rests on: however a block is executed, the result is that of
//! executing it in order.
//!
//! It is tested on thousands of small random blocks, generated ones at each rate of conflict and
//! awkward ones of every fork, each in order and spread out. Each receipt and each log is compared,
//! by the root that commits to them all, and every account and slot of the state after the block.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use shard_executor::block::{Block, Blocks, Fork};
use shard_executor::generate::{Kind, Plan};
use shard_executor::local::Local;
use shard_executor::state::State;
use shard_executor::validate::{self, BlockResult};

use crate::hostile_blocks::hostile_block;
use crate::support::generated;

/// Ways to execute a block that must give the result of executing it in order; their threads are
/// reused from block to block.
static WAYS: LazyLock<Vec<(String, Local)>> = LazyLock::new(|| {
    let ways = (1..=8).flat_map(|shards| (1..=4).map(move |threads| (shards, threads)));
    ways.map(|(shards, threads)| {
        // As many rounds as threads: every number of rounds meets every number of shards.
        let local = Local::with_threads(shards, threads).unwrap().with_rounds(threads as u32);
        (format!("{shards} shards of {threads} threads"), local)
    })
    .collect()
});

fn in_order(block: &Block, previous: Option<State>) -> (BlockResult, State) {
    let mut state = validate::open(block, previous).unwrap();
    let result = validate::run_in_order(block, &mut state, Vec::new(), &|| {}).unwrap();
    (result, state)
}

/// Compares whole states: the digest, which covers every slot, and the accounts one by one, since
/// the digest does not distinguish an empty account from an absent one.
fn same_state(state: &State, reference: &State) -> Result<(), TestCaseError> {
    let all: BTreeSet<_> = state.addresses().chain(reference.addresses()).collect();
    for address in all {
        prop_assert_eq!(state.account(address), reference.account(address), "account {}", address);
    }
    prop_assert_eq!(state.digest(), reference.digest(), "some slot differs");
    Ok(())
}

/// Runs `chain` in one way and compares each block with the reference.
fn same_in(way: usize, chain: &Blocks) -> Result<(), TestCaseError> {
    let (name, local) = &WAYS[way % WAYS.len()];
    let (mut spread, mut ordered) = (None, None);
    for block in chain {
        let (result, reference) = in_order(block, ordered.take());
        prop_assert_eq!(&result.mismatch, &None, "in order");
        let (report, state) = local.run(block, spread.take(), &|| {}).unwrap();
        prop_assert!(report.verified, "with {}: {:?}", name, report.mismatch);
        prop_assert_eq!(report.gas_used, result.gas_used);
        same_state(&state, &reference)?;
        (spread, ordered) = (Some(state), Some(reference));
    }
    Ok(())
}

fn plan(conflict: f64) -> impl Strategy<Value = Plan> {
    plan_of(0..14, conflict)
}

fn plan_of(transactions: Range<u32>, conflict: f64) -> impl Strategy<Value = Plan> {
    let kind = prop::sample::select(Kind::NAMES.map(|(_, kind)| kind).to_vec());
    let skew = prop::sample::select(vec![0.0, 1.0, 3.0]);
    let fork =
        prop::sample::select(vec![Fork::Shanghai, Fork::Cancun, Fork::Prague, Fork::Osaka, Fork::Bpo2]);
    (transactions, any::<u64>(), kind, skew, fork).prop_map(move |(transactions, seed, kind, skew, fork)| {
        Plan { transactions, conflict, seed, kind, skew, fork, ..Plan::default() }
    })
}

/// Blocks in a chain: the state is carried from block to block, so that an error in one shows in
/// the next.
const CHAIN: usize = 3;

/// With four rates 1,200 blocks, and 1,000 awkward ones: together less than 40 s in a debug build
/// on two cores.
const CHAINS: u32 = 100;

proptest! {
    #![proptest_config(ProptestConfig { cases: CHAINS, ..ProptestConfig::default() })]

    #[test]
    fn generated_blocks_without_conflict_come_out_as_in_order(plan in plan(0.0), way in 0_usize..32) {
        same_in(way, &generated(plan, CHAIN))?;
    }

    #[test]
    fn generated_blocks_with_few_conflicts_come_out_as_in_order(plan in plan(0.1), way in 0_usize..32) {
        same_in(way, &generated(plan, CHAIN))?;
    }

    #[test]
    fn generated_blocks_with_many_conflicts_come_out_as_in_order(plan in plan(0.5), way in 0_usize..32) {
        same_in(way, &generated(plan, CHAIN))?;
    }

    #[test]
    fn generated_blocks_of_conflicts_only_come_out_as_in_order(plan in plan(1.0), way in 0_usize..32) {
        same_in(way, &generated(plan, CHAIN))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Large enough for a second and a third round.
    #[test]
    fn large_blocks_of_many_conflicts_come_out_as_in_order(plan in plan_of(30..90, 0.7), way in 4_usize..32) {
        same_in(way, &generated(plan, CHAIN))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Contracts that destroy themselves and come back, that pay and read the beneficiary, and that
    /// fail halfway.
    #[test]
    fn awkward_blocks_of_every_fork_come_out_as_in_order(block in hostile_block(), way in 0_usize..32) {
        let mut block = block;
        let (result, _) = in_order(&block, None);
        block.expected.gas_used = result.gas_used;
        block.expected.logs_bloom = result.logs_bloom;
        // Before Byzantium there is no root to check; another test compares the receipts of awkward
        // blocks in those forks.
        prop_assert_eq!(result.receipts_root.is_some(), block.chain.fork >= Fork::Byzantium);
        block.expected.receipts_root = result.receipts_root.unwrap_or_default();
        same_in(way, &vec![Arc::new(block)])?;
    }
}
