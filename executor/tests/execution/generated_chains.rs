use proptest::prelude::*;
use shard_executor::generate::Plan;

use crate::support::{generated, run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sharded_equals_sequential(
        transactions in 0_u32..60,
        conflict in prop_oneof![Just(0.0), Just(0.1), Just(0.5), Just(1.0)],
        seed: u64,
        shards in 2_usize..6,
    ) {
        let chain = generated(Plan { transactions, conflict, seed }, 3);
        let sequential = run(&chain, 1);
        let sharded = run(&chain, shards);
        for (a, b) in sequential.iter().zip(&sharded) {
            prop_assert!(a.verified && b.verified, "{:?} {:?}", a.mismatch, b.mismatch);
            prop_assert_eq!(a.digest, b.digest);
        }
    }
}

#[test]
fn a_seed_names_a_chain() {
    let plan = Plan { transactions: 20, conflict: 0.5, seed: 7 };
    assert_eq!(generated(plan, 3), generated(plan, 3));
    assert_ne!(generated(plan, 1)[0].hash, generated(Plan { seed: 8, ..plan }, 1)[0].hash);
}

#[test]
fn without_conflict_nothing_is_executed_twice() {
    let chain = generated(Plan { transactions: 64, conflict: 0.0, seed: 3 }, 2);
    assert!(run(&chain, 4).iter().all(|report| report.reexecuted == 0));
    let conflicting = generated(Plan { transactions: 64, conflict: 1.0, seed: 3 }, 2);
    assert!(run(&conflicting, 4).iter().any(|report| report.reexecuted > 0));
}

#[test]
fn token_transfers_succeed_and_log() {
    let chain = generated(Plan { transactions: 64, conflict: 0.2, seed: 5 }, 2);
    for block in &chain {
        let tokens = block.transactions.iter().filter(|tx| !tx.input.is_empty()).count();
        assert!(tokens > 10);
        assert!(!block.expected.logs_bloom.is_zero());
    }
    let (result, _) = crate::support::in_order(&chain[0]);
    assert!(result.receipts.iter().all(|receipt| receipt.success));
    let logs: usize = result.receipts.iter().map(|receipt| receipt.logs.len()).sum();
    assert_eq!(logs, chain[0].transactions.iter().filter(|tx| !tx.input.is_empty()).count());
}
