//! What `generate` promises about the chains it makes.

use std::collections::{BTreeMap, BTreeSet};

use revm::primitives::{Address, U256};
use shard_executor::block::{Block, Blocks};
use shard_executor::generate::{Kind, Plan};
use shard_executor::validate;
use shard_executor::vm::{Effect, ExecutionEnv, TxOutcome, execute};

use crate::support::{generated, in_parts, run};

/// A piece of state: an account, or a slot of one.
type Piece = (Address, Option<U256>);

fn first_block(plan: Plan) -> Block {
    Block::clone(&generated(plan, 1)[0])
}

/// Executes each transaction of `block` on the state before it, blind to all others.
fn outcomes(block: &Block) -> Vec<TxOutcome> {
    let state = validate::open(block, None).unwrap();
    let env = ExecutionEnv::of(block);
    let one = |(index, tx): (usize, _)| execute(&env, tx, index as u32, &state).unwrap();
    block.transactions.iter().enumerate().map(one).collect()
}

fn written(outcome: &TxOutcome) -> BTreeSet<Piece> {
    let Effect::Executed { changes, .. } = &outcome.effect else { return BTreeSet::new() };
    let of = |(address, change): &(Address, shard_executor::vm::AccountChange)| {
        let (address, slots) = (*address, change.storage.clone());
        [(address, None)].into_iter().chain(slots.into_iter().map(move |(slot, _)| (address, Some(slot))))
    };
    // If only a contract's slots change, it is no changed account: nonce, balance and code stay.
    let same = |piece: &Piece| {
        let account = changes.accounts.iter().find(|(address, _)| *address == piece.0);
        let before = outcome.reads.accounts.iter().find(|(address, _)| *address == piece.0);
        piece.1.is_none() && account.map(|a| a.1.info) == before.map(|b| b.1)
    };
    changes.accounts.iter().flat_map(of).filter(|piece| !same(piece)).collect()
}

fn read(outcome: &TxOutcome) -> impl Iterator<Item = Piece> + '_ {
    let accounts = outcome.reads.accounts.iter().map(|(address, _)| (*address, None));
    accounts.chain(outcome.reads.storage.iter().map(|(address, slot, _)| (*address, Some(*slot))))
}

/// How many transactions of a block touch what another one writes.
fn entangled(block: &Block) -> usize {
    let outcomes = outcomes(block);
    let mut writers = BTreeMap::<Piece, BTreeSet<u32>>::new();
    for outcome in &outcomes {
        for piece in written(outcome) {
            writers.entry(piece).or_default().insert(outcome.index);
        }
    }
    let touches_anothers = |outcome: &&TxOutcome| {
        read(outcome).chain(written(outcome)).any(|piece| {
            writers.get(&piece).is_some_and(|who| who.iter().any(|writer| *writer != outcome.index))
        })
    };
    outcomes.iter().filter(touches_anothers).count()
}

const KINDS: [Kind; 4] = [Kind::Transfers, Kind::Tokens, Kind::Swaps, Kind::Mixed];

#[test]
fn without_conflict_no_two_transactions_touch_the_same_state() {
    for kind in KINDS {
        let plan = Plan { transactions: 64, conflict: 0.0, seed: 3, kind, ..Plan::default() };
        for block in generated(plan, 1) {
            assert_eq!(entangled(&block), 0, "{kind}");
        }
        assert!(run(&generated(plan, 3), 4).iter().all(|report| report.reexecuted == 0), "{kind}");
    }
}

#[test]
fn the_share_that_conflicts_is_the_one_asked_for() {
    for kind in KINDS {
        for (conflict, allowed) in [(0.1, 2..=35), (0.5, 60..=125), (1.0, 170..=200)] {
            let plan = Plan { transactions: 200, conflict, seed: 9, kind, ..Plan::default() };
            let entangled = entangled(&first_block(plan));
            assert!(allowed.contains(&entangled), "{kind} at {conflict}: {entangled} of 200");
        }
        let plan = Plan { transactions: 64, conflict: 1.0, seed: 3, kind, ..Plan::default() };
        // Dealt out in turn; the partitioner would group what belongs together.
        let parts: Vec<Vec<usize>> = (0..4).map(|part| (part..64).step_by(4).collect()).collect();
        assert!(in_parts(&first_block(plan), &parts).0.reexecuted > 10, "{kind}");
    }
}

#[test]
fn skew_makes_one_account_more_popular_than_the_others() {
    let most_paid = |skew| {
        let plan = Plan { transactions: 400, conflict: 1.0, kind: Kind::Transfers, skew, ..Plan::default() };
        let mut paid = BTreeMap::<_, usize>::new();
        for tx in first_block(plan).transactions {
            *paid.entry(tx.to).or_default() += 1;
        }
        assert!(paid.len() <= 16, "{} are popular", paid.len());
        paid.into_values().max().unwrap()
    };
    let (even, usual, steep) = (most_paid(0.0), most_paid(1.0), most_paid(3.0));
    assert!(even < 50 && (90..160).contains(&usual) && steep > 280, "{even} {usual} {steep}");
}

#[test]
fn a_seed_names_a_chain() {
    let plan = Plan { transactions: 20, conflict: 0.5, seed: 7, ..Plan::default() };
    assert_eq!(generated(plan, 3), generated(plan, 3));
    assert_ne!(generated(plan, 1)[0].hash, generated(Plan { seed: 8, ..plan }, 1)[0].hash);
}

/// Asserts that every transaction of `chain` succeeds; returns the gas and number of logs of each.
fn used(chain: &Blocks) -> Vec<(u64, usize)> {
    let mut state = None;
    let mut used = Vec::new();
    for block in chain {
        let mut after = validate::open(block, state.take()).unwrap();
        let result = validate::run_in_order(block, &mut after, Vec::new(), &|| {}).unwrap();
        assert_eq!(result.mismatch, None);
        assert!(result.receipts.iter().all(|receipt| receipt.success));
        used.extend(result.receipts.iter().map(|receipt| (receipt.gas_used, receipt.logs.len())));
        state = Some(after);
    }
    used
}

#[test]
fn each_kind_does_what_it_says() {
    for (kind, gas, logs) in [
        (Kind::Transfers, 21_000..=21_000, 0),
        (Kind::Tokens, 33_000..=55_000, 1),
        // As much as a swap costs on mainnet, so that executing it in parallel is worthwhile.
        (Kind::Swaps, 90_000..=150_000, 4),
    ] {
        for conflict in [0.0, 0.5] {
            let plan = Plan { transactions: 40, conflict, kind, ..Plan::default() };
            for (used, left) in used(&generated(plan, 4)) {
                assert!(gas.contains(&used), "{kind}: {used} gas");
                assert_eq!(left, logs, "{kind}");
            }
        }
    }
    let mixed = used(&generated(Plan { transactions: 300, ..Plan::default() }, 1));
    for logs in [0, 1, 4] {
        let of_kind = mixed.iter().filter(|(_, left)| *left == logs).count();
        assert!((70..=130).contains(&of_kind), "{of_kind} of 300 with {logs} logs");
    }
}
