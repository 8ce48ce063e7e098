//! The checks that revm leaves to its caller: each rule is tested with a block that just meets it
//! and one that just exceeds it.

use alloy_eips::{eip2935, eip7002, eip7251};
use revm::bytecode::opcode::*;
use revm::primitives::{Address, B256, Bytes, U256};
use shard_executor::block::{
    self, Blobs, Block, Blocks, Fork, Parent, PreAccount, PreState, Transaction, Withdrawal, blob_gas,
    load_chain,
};
use shard_executor::validate::{Difference, Mismatch};

use crate::support::{block, in_order, in_parts, run, transaction, with_balance, with_code};

const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb0);

fn rich() -> PreState {
    PreState::from([(ALICE, with_balance(u64::MAX))])
}

fn with_blobs(nonce: u64, blobs: u8) -> Transaction {
    let hash = |blob: u8| {
        let mut hash = B256::repeat_byte(blob);
        hash[0] = 1;
        hash
    };
    Transaction {
        tx_type: 3,
        chain_id: Some(1337),
        gas_limit: 21_000,
        max_priority_fee: Some(0),
        max_fee_per_blob_gas: 1,
        blob_hashes: (0..blobs).map(hash).collect(),
        ..transaction(ALICE, nonce, Some(BOB), 0, Bytes::new())
    }
}

fn with_gas(nonce: u64, gas_limit: u64) -> Transaction {
    Transaction { gas_limit, ..transaction(ALICE, nonce, Some(BOB), 0, Bytes::new()) }
}

/// Why the block is invalid, the same whichever way it is run. Differences from the header do not
/// count: these blocks promise no results.
fn fault(block: &Block) -> Option<String> {
    let (result, _) = in_order(block);
    let (apart, _) = in_parts(block, &[(0..block.transactions.len()).collect()]);
    assert_eq!(apart.mismatch, result.mismatch);
    match result.mismatch? {
        Mismatch::InvalidTransaction { index, reason, .. } => Some(format!("{index}: {reason}")),
        Mismatch::InvalidBlock { reason } => Some(reason),
        Mismatch::Header { .. } => None,
    }
}

fn assert_fault(block: &Block, because: &str) {
    let fault = fault(block).unwrap_or_else(|| panic!("valid, not: {because}"));
    assert!(fault.contains(because), "expected `{because}` in: {fault}");
}

/// The header fields that differ, apart from those that every block of these tests gets wrong.
fn differences(block: &Block) -> Vec<Difference> {
    let Some(Mismatch::Header { differences, .. }) = in_order(block).0.mismatch else { return Vec::new() };
    differences.into_iter().filter(|found| !["gasUsed", "receiptsRoot"].contains(&found.field)).collect()
}

#[test]
fn a_transaction_has_at_most_six_blobs_since_osaka() {
    for (fork, most) in [(Fork::Prague, 9), (Fork::Osaka, 6), (Fork::Bpo2, 6), (Fork::Amsterdam, 6)] {
        assert_eq!(fault(&block(fork, rich(), vec![with_blobs(0, most)])), None, "{fork}");
        let over = block(fork, rich(), vec![with_blobs(0, most + 1)]);
        assert!(fault(&over).is_some_and(|fault| fault.starts_with("0: ")), "{fork}");
    }
}

#[test]
fn the_blobs_of_a_block_have_a_maximum() {
    for (fork, max) in
        [(Fork::Cancun, 6), (Fork::Prague, 9), (Fork::Osaka, 9), (Fork::Bpo1, 15), (Fork::Bpo2, 21)]
    {
        let fill = |last: u8| {
            let mut all: Vec<_> = (0..max / 3 - 1).map(|nonce| with_blobs(nonce, 3)).collect();
            all.push(with_blobs(max / 3 - 1, last));
            block(fork, rich(), all)
        };
        assert_eq!(fault(&fill(3)), None, "{fork}");
        let because = format!("{}: it has 4 blobs and the block has room for 3 more of {max}", max / 3 - 1);
        assert_fault(&fill(4), &because);
    }
    let mut own = block(Fork::Osaka, rich(), vec![with_blobs(0, 2), with_blobs(1, 1)]);
    own.chain.blobs = Some(Blobs { target: 1, max: 2, update_fraction: 5_007_716 });
    assert_fault(&own, "1: it has 1 blobs and the block has room for 0 more of 2");
}

#[test]
fn the_price_of_a_blob_follows_the_schedule_and_not_the_fork() {
    // One fee is exactly the price for the block's excess under the schedule of BPO2, the other one
    // wei less.
    let excess = 210_044_592;
    let price = Blobs::of(Fork::Bpo2).unwrap().price(excess).unwrap();
    let pay = |fee| {
        let blobs = Transaction { max_fee_per_blob_gas: fee, ..with_blobs(0, 1) };
        let mut block = block(Fork::Bpo2, rich(), vec![blobs]);
        block.header.excess_blob_gas = Some(excess);
        block
    };
    assert!(price > 60_000_000 && price < 70_000_000, "e to the power of 210,044,592 / 11,684,671: {price}");
    assert_eq!(fault(&pay(price)), None);
    assert_fault(&pay(price - 1), "0: ");
    let mut slower = pay(price - 1);
    slower.chain.blobs = Some(Blobs { target: 14, max: 21, update_fraction: 11_684_672 });
    assert_eq!(fault(&slower), None);
}

#[test]
fn a_transaction_has_at_most_16_777_216_gas_since_osaka() {
    for (fork, gas, is_valid) in [
        (Fork::Prague, 16_777_217, true),
        (Fork::Osaka, 16_777_216, true),
        (Fork::Osaka, 16_777_217, false),
        (Fork::Bpo2, 16_777_217, false),
        // Under Amsterdam the cap applies to execution instead.
        (Fork::Amsterdam, 16_777_217, true),
    ] {
        let fault = fault(&block(fork, rich(), vec![with_gas(0, gas)]));
        assert_eq!(fault.is_none(), is_valid, "{fork}, {gas}: {fault:?}");
    }
}

#[test]
fn a_block_is_at_most_8_mib_long_since_osaka() {
    for (fork, size, is_valid) in [
        (Fork::Prague, 8_388_609, true),
        (Fork::Osaka, 8_388_608, true),
        (Fork::Osaka, 8_388_609, false),
        (Fork::Bpo1, 8_388_609, false),
        (Fork::Amsterdam, 8_388_609, false),
    ] {
        let mut block = block(fork, rich(), Vec::new());
        block.size = Some(size);
        assert_eq!(fault(&block).is_none(), is_valid, "{fork}, {size}");
    }
}

#[test]
fn blob_gas_and_withdrawals_are_what_the_header_says() {
    let mut whole = block(Fork::Osaka, rich(), vec![with_blobs(0, 3), with_gas(1, 21_000)]);
    whole.expected.blob_gas_used = Some(blob_gas(3));
    whole.withdrawals = vec![Withdrawal { index: Some(7), validator_index: Some(8), address: BOB, gwei: 9 }];
    // Keccak of the trie's only leaf: its path, 0x80, and the list of 7, 8, the address and 9.
    let leaf = [&[0xde, 0x82, 0x20, 0x80, 0x99, 0xd8, 7, 8, 0x94][..], BOB.as_slice(), &[9]].concat();
    assert_eq!(leaf.len(), 30);
    let mut leaf = leaf;
    leaf[0] = 0xc0 + 29;
    let root = revm::primitives::keccak256(&leaf);
    whole.expected.withdrawals_root = Some(root);
    assert_eq!(differences(&whole), []);
    let mut wrong = whole.clone();
    wrong.expected.blob_gas_used = Some(blob_gas(3) - 1);
    wrong.withdrawals[0].validator_index = Some(9);
    let fields = differences(&wrong);
    assert_eq!(
        fields.iter().map(|found| found.field).collect::<Vec<_>>(),
        ["blobGasUsed", "withdrawalsRoot"]
    );
    assert_eq!((&*fields[0].expected, &*fields[0].got), ("393215", "393216"));
    assert_eq!(fields[1].expected, root.to_string());
    // Now only these two fields differ, and no transaction is blamed for it.
    let (result, _) = in_order(&wrong);
    wrong.expected.gas_used = result.gas_used;
    wrong.expected.receipts_root = result.receipts_root.unwrap();
    let said = in_order(&wrong).0.mismatch.unwrap().to_string();
    assert!(said.ends_with("; that is so whatever the transactions do"), "{said}");
}

/// Every contract of the protocol since Prague.
fn system() -> PreState {
    PreState::from([
        (ALICE, with_balance(u64::MAX)),
        (eip2935::HISTORY_STORAGE_ADDRESS, with_code(eip2935::HISTORY_STORAGE_CODE.clone())),
        (WITHDRAWALS, with_code(eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone())),
        (CONSOLIDATIONS, with_code(eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone())),
    ])
}

const WITHDRAWALS: Address = eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
const CONSOLIDATIONS: Address = eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;

#[test]
fn a_queue_without_its_contract_makes_the_block_invalid() {
    for fork in [Fork::Prague, Fork::Bpo2] {
        assert_eq!(fault(&block(fork, system(), Vec::new())), None);
        for (address, name) in [(WITHDRAWALS, "EIP-7002"), (CONSOLIDATIONS, "EIP-7251")] {
            let mut pre = system();
            pre.remove(&address);
            let because = format!("({name}), {address:#x}, has no code");
            assert_fault(&block(fork, pre.clone(), Vec::new()), &because);
            // An account without code is not a contract either.
            pre.insert(address, with_balance(1));
            assert_fault(&block(fork, pre, Vec::new()), &because);
        }
    }
    let mut pre = system();
    pre.remove(&WITHDRAWALS);
    assert_eq!(fault(&block(Fork::Cancun, pre, Vec::new())), None, "there was no queue");
    // The presence of the history contract shows that the file includes system contracts.
    let mut pre = system();
    pre.remove(&WITHDRAWALS);
    pre.remove(&CONSOLIDATIONS);
    assert_fault(&block(Fork::Prague, pre, Vec::new()), "(EIP-7002)");
    // A file that includes none of them contains only what transactions touch.
    assert_eq!(fault(&block(Fork::Prague, rich(), Vec::new())), None);
}

#[test]
fn a_queue_whose_contract_fails_makes_the_block_invalid() {
    let fails = [PUSH0, PUSH0, REVERT].to_vec();
    let never_ends = [JUMPDEST, PUSH0, JUMP].to_vec();
    let invalid = [INVALID].to_vec();
    for (address, name) in [(WITHDRAWALS, "EIP-7002"), (CONSOLIDATIONS, "EIP-7251")] {
        for code in [&fails, &never_ends, &invalid] {
            let mut pre = system();
            pre.insert(address, with_code(code.clone()));
            assert_fault(&block(Fork::Prague, pre, Vec::new()), &format!("({name}), {address:#x}, fails"));
        }
    }
    // The contracts called before the first transaction may fail.
    let mut pre = system();
    pre.insert(eip2935::HISTORY_STORAGE_ADDRESS, with_code(fails));
    assert_eq!(fault(&block(Fork::Prague, pre, Vec::new())), None);
}

#[test]
fn a_system_call_has_thirty_million_gas_and_not_a_unit_more() {
    // The contract stores the gas left when it starts; the instruction that reads it has used two.
    let asks = [GAS, PUSH0, SSTORE].to_vec();
    let mut pre = system();
    pre.insert(WITHDRAWALS, PreAccount { storage: [(U256::ZERO, U256::ONE)].into(), ..with_code(asks) });
    let (_, state) = in_order(&block(Fork::Osaka, pre, Vec::new()));
    assert_eq!(state.slot(&WITHDRAWALS, &U256::ZERO), U256::from(29_999_998));
}

/// A block of `fork` that correctly follows its parent.
fn with_parent(fork: Fork) -> Block {
    let mut block = block(fork, rich(), Vec::new());
    let header = &block.header;
    block.parent = Some(Parent {
        number: header.number - 1,
        hash: header.parent_hash,
        timestamp: header.timestamp - 1,
        gas_limit: header.gas_limit,
        gas_used: header.gas_limit / 2,
        base_fee: (fork >= Fork::London).then_some(header.base_fee),
        blob_gas_used: (fork >= Fork::Cancun).then_some(0),
        excess_blob_gas: (fork >= Fork::Cancun).then_some(0),
    });
    block
}

fn follows(fork: Fork, change: impl FnOnce(&mut Block, &mut Parent)) -> Option<String> {
    let mut block = with_parent(fork);
    let mut parent = block.parent.take().unwrap();
    change(&mut block, &mut parent);
    block.parent = Some(parent);
    fault(&block)
}

#[test]
fn a_block_follows_its_parent_in_time_and_gas_limit() {
    let limit = 1_000_000_000_u64;
    let step = limit / 1_024;
    for (fork, other, is_valid) in [
        (Fork::Frontier, limit, true),
        (Fork::Frontier, limit + step - 1, true),
        (Fork::Frontier, limit + step, false),
        (Fork::Osaka, limit - (step - 1), true),
        (Fork::Osaka, limit - step, false),
    ] {
        let fault = follows(fork, |block, _| block.header.gas_limit = other);
        assert_eq!(fault.is_none(), is_valid, "{fork}, {other}: {fault:?}");
    }
    let low = |block: &mut Block, parent: &mut Parent| {
        (block.header.gas_limit, parent.gas_limit, parent.gas_used) = (4_999, 5_000, 2_500);
    };
    assert!(follows(Fork::Prague, low).unwrap().contains("less than 5000"));
    let same = follows(Fork::Prague, |block, parent| parent.timestamp = block.header.timestamp);
    assert!(same.unwrap().contains("timestamp"));
}

#[test]
fn the_base_fee_follows_from_what_the_parent_used() {
    let fee = |used: u64, before: u64, now: u64| {
        follows(Fork::Osaka, |block, parent| {
            (parent.gas_used, parent.base_fee, block.header.base_fee) = (used, Some(before), now);
        })
    };
    let limit = 1_000_000_000;
    // Half full: unchanged; full: an eighth more; empty: an eighth less; at least one more.
    for (used, before, now) in
        [(limit / 2, 800, 800), (limit, 800, 900), (0, 800, 700), (limit / 2 + 1, 7, 8), (0, 7, 7)]
    {
        assert_eq!(fee(used, before, now), None, "{used} of {limit}, {before}");
        for wrong in [now - 1, now + 1] {
            let because = format!("its baseFeePerGas is {wrong}, and has to be {now}");
            assert!(fee(used, before, wrong).unwrap().contains(&because));
        }
    }
    assert!(fee(0, u64::MAX, 5).unwrap().contains("which no block can"));
    assert!(fee(limit + 1, 5, 5).unwrap().contains("which no block can"));
    // The first block with a base fee has one of a gwei, and twice the gas limit.
    let first = |limit: u64, now: u64| {
        follows(Fork::London, |block, parent| {
            (parent.base_fee, block.header.gas_limit, block.header.base_fee) = (None, limit, now);
        })
    };
    assert_eq!(first(2 * limit, 1_000_000_000), None);
    assert!(first(limit, 1_000_000_000).unwrap().contains("gasLimit"));
    assert!(first(2 * limit, 7).unwrap().contains("has to be 1000000000"));
}

#[test]
fn excess_blob_gas_follows_from_what_the_parent_used() {
    let excess = |fork, before, blobs, base_fee, now| {
        follows(fork, |block, parent| {
            (parent.excess_blob_gas, parent.blob_gas_used) = (Some(before), Some(blob_gas(blobs)));
            (parent.base_fee, block.header.base_fee) = (Some(base_fee), base_fee);
            block.header.excess_blob_gas = Some(now);
        })
    };
    for (fork, before, blobs, base_fee, now) in [
        (Fork::Cancun, 0, 6, 7, blob_gas(3)),
        (Fork::Prague, 5, 9, 1_000, 5 + blob_gas(3)),
        (Fork::Prague, 5, 5, 1_000, 0),
        // Blobs at one wei a unit are cheaper than 8,192 gas at more than 16 wei, so part of the
        // used blob gas stays in the excess.
        (Fork::Osaka, 5, 9, 16, 5 + blob_gas(3)),
        (Fork::Osaka, 5, 6, 17, 5 + blob_gas(6) / 3),
        (Fork::Bpo1, 5, 15, 17, 5 + blob_gas(15) / 3),
        (Fork::Bpo2, 0, 14, 16, 0),
    ] {
        assert_eq!(excess(fork, before, blobs, base_fee, now), None, "{fork}, {before}, {blobs} blobs");
        let because = format!("its excessBlobGas is {}, and has to be {now}", now + 1);
        assert!(excess(fork, before, blobs, base_fee, now + 1).unwrap().contains(&because));
    }
    assert!(excess(Fork::Prague, u64::MAX, 9, 7, 0).unwrap().contains("which no block can"));
    // The first block with blobs begins with an excess of zero.
    let first =
        follows(Fork::Cancun, |_, parent| (parent.excess_blob_gas, parent.blob_gas_used) = (None, None));
    assert_eq!(first, None);
}

#[test]
fn a_block_follows_the_one_before_it_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |blocks: &[&Block]| {
        for block in blocks {
            let mut block = Block::clone(block);
            // Otherwise the witness would provide the parent's header.
            (block.parent, block.witness) = (None, None);
            block::write(&block, &folder.path().join(format!("{}.json", block.number()))).unwrap();
        }
        load_chain(folder.path()).unwrap()
    };
    let plan = shard_executor::generate::Plan { transactions: 5, witness: false, ..Default::default() };
    let made = crate::support::generated(plan, 3);
    let chain: Blocks = write(&[&made[0], &made[1], &made[2]]);
    assert_eq!(chain[0].parent, None);
    assert_eq!([&chain[1].parent, &chain[2].parent], [&made[1].parent, &made[2].parent]);
    assert!(run(&chain, 2).iter().all(|report| report.verified));
    let mut dear = Block::clone(&made[1]);
    dear.header.base_fee += 1;
    let reports = run(&write(&[&dear]), 2);
    assert!(reports[1].mismatch.as_ref().unwrap().contains("its baseFeePerGas is"), "{:?}", reports[1]);
    // A block with a state of its own may belong to another chain.
    let mut other = Block::clone(&made[0]);
    (other.hash, other.header.number) = (B256::repeat_byte(0x77), 2);
    other.header.base_fee += 1;
    let chain = write(&[&other]);
    assert_eq!(chain[1].parent, None);
}
