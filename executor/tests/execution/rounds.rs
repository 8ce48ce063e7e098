//! Rounds after the first: shards execute again what was stale, and the result stays that of
//! execution in order.

use std::sync::Arc;

use revm::primitives::{Address, Bytes};
use shard_executor::block::{Block, Fork};
use shard_executor::generate::{Kind, Plan};
use shard_executor::local::Local;
use shard_executor::report::BlockReport;
use shard_executor::validate::{self, Again};
use shard_executor::vm::{Effect, ExecutionEnv, TxOutcome, execute_part};

use crate::support::{BENEFICIARY, block, generated, run, transaction, with_balance};

/// Sixteen accounts that everybody pays, all equally popular.
fn popular(transactions: u32) -> Plan {
    Plan { transactions, conflict: 1.0, seed: 5, kind: Kind::Transfers, skew: 0.0, ..Plan::default() }
}

fn in_rounds(block: &Arc<Block>, shards: usize, rounds: u32) -> BlockReport {
    let local = Local::new(shards).unwrap().with_rounds(rounds);
    let (report, _) = local.run(block, None, &|| {}).unwrap();
    assert!(report.verified, "{rounds} rounds: {:?}", report.mismatch);
    report
}

#[test]
fn a_second_round_leaves_less_to_execute_in_order() {
    let blocks = generated(popular(200), 1);
    let in_order = run(&blocks, 1);
    let one = in_rounds(&blocks[0], 4, 1);
    let two = in_rounds(&blocks[0], 4, 2);
    assert!(one.reexecuted > 50, "{} were stale after the first round", one.reexecuted);
    assert!(two.reexecuted * 4 < one.reexecuted, "{} of {} after the second", two.reexecuted, one.reexecuted);
    for report in [one, two, in_rounds(&blocks[0], 4, 16)] {
        assert_eq!(report.digest, in_order[0].digest);
    }
}

/// The outcome of each transaction if it sees nothing of the others.
fn alone(block: &Block) -> Vec<Option<TxOutcome>> {
    let state = validate::open(block, None).unwrap();
    let env = ExecutionEnv::of(block);
    let one = |(at, transaction)| execute_part(&env, [(at as u32, transaction)], &state, &mut |_| {});
    block.transactions.iter().enumerate().map(|pair| one(pair).unwrap().pop()).collect()
}

fn address(number: usize) -> Address {
    Address::with_last_byte(u8::try_from(number + 1).unwrap())
}

/// A block in which each of `senders` pays the account that `to` returns.
fn payments(senders: usize, to: impl Fn(usize) -> Address) -> Block {
    let pre = (0..senders).map(|at| (address(at), with_balance(1 << 40))).collect();
    let pay = |at| transaction(address(at), 0, Some(to(at)), 1, Bytes::new());
    block(Fork::London, pre, (0..senders).map(pay).collect())
}

fn again(block: &Block, outcomes: &[Option<TxOutcome>], parts: usize) -> Option<Vec<Vec<usize>>> {
    let state = validate::open(block, None).unwrap();
    validate::again(block, &state, outcomes, parts).map(|Again { parts, .. }| parts)
}

#[test]
fn what_touches_the_same_state_goes_to_the_same_part() {
    let popular = |at: usize| address(100 + at % 4);
    let block = payments(40, popular);
    let parts = again(&block, &alone(&block), 4).expect("it pays");
    assert_eq!(parts.len(), 4);
    for part in &parts {
        assert!(part.iter().all(|at| at % 4 == part[0] % 4), "{part:?}");
        assert!(part.is_sorted());
    }
    // The first payment to each account is settled.
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 36);
}

#[test]
fn no_round_is_held_for_what_it_cannot_help() {
    let one_account = payments(40, |_| address(100));
    assert_eq!(again(&one_account, &alone(&one_account), 4), None, "all depend on each other");
    let few = payments(8, |at| address(100 + at % 2));
    assert_eq!(again(&few, &alone(&few), 4), None, "six are executed before a message has arrived");
    let nothing_stale = payments(40, |at| address(100 + at));
    assert_eq!(again(&nothing_stale, &alone(&nothing_stale), 4), None);
    let block = payments(40, |at| address(100 + at % 4));
    assert_eq!(again(&block, &alone(&block), 1), None, "there is one shard");
    assert_eq!(again(&block, &vec![None; 40], 4), None, "nothing is known of what they touch");
}

#[test]
fn who_looks_at_the_beneficiary_is_left_to_block_order() {
    let block = payments(60, |at| if at % 5 == 4 { BENEFICIARY } else { address(100 + at % 5) });
    let outcomes = alone(&block);
    assert!(outcomes.iter().flatten().all(|outcome| matches!(outcome.effect, Effect::Executed { .. })));
    let parts = again(&block, &outcomes, 4).expect("it pays");
    assert!(parts.iter().flatten().all(|at| at % 5 != 4), "{parts:?}");
    let mut expected = block.clone();
    let mut state = validate::open(&block, None).unwrap();
    let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).unwrap();
    expected.expected.gas_used = result.gas_used;
    expected.expected.logs_bloom = result.logs_bloom;
    expected.expected.receipts_root = result.receipts_root.unwrap();
    assert_eq!(in_rounds(&Arc::new(expected), 4, 3).digest, state.digest());
}
