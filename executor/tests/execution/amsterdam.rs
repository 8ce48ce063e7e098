//! What Amsterdam changes for callers of revm: slots, gas that is counted in two sums, and the
//! queues of builder requests.

use alloy_eips::{eip2935, eip7002, eip7251, eip8282};
use revm::bytecode::opcode::*;
use revm::primitives::{Address, Bytes, U256, b256};
use shard_executor::block::{Block, Fork, PreAccount, PreState, Transaction};
use shard_executor::validate::{BlockResult, Mismatch};
use shard_executor::vm::BlockGas;

use crate::support::{BENEFICIARY, block, in_order, in_parts, transaction, with_balance, with_code};

const ALICE: Address = Address::repeat_byte(0xa1);
const CODE: Address = Address::repeat_byte(0xc0);
/// The state gas of a new slot: 64 bytes at 1,530 each (EIP-8037).
const SLOT: u64 = 64 * 1_530;
/// `SLOTNUM` (EIP-7843).
const SLOTNUM: u8 = 0x4b;

fn pre(code: &[u8], storage: &[(u64, u64)]) -> PreState {
    let storage = storage.iter().map(|(slot, value)| (U256::from(*slot), U256::from(*value))).collect();
    PreState::from([
        (ALICE, with_balance(u64::MAX)),
        (BENEFICIARY, with_balance(1)),
        (CODE, PreAccount { storage, ..with_code(code.to_vec()) }),
    ])
}

fn call(nonce: u64, gas_limit: u64) -> Transaction {
    Transaction { gas_limit, ..transaction(ALICE, nonce, Some(CODE), 0, Bytes::new()) }
}

/// The block's result in order; asserts the same result on threads and in parts.
fn result(block: &Block) -> BlockResult {
    let (result, state) = in_order(block);
    let (apart, after) = in_parts(block, &[(0..block.transactions.len()).collect()]);
    assert_eq!(BlockResult { reexecuted: 0, ..apart }, result);
    assert_eq!(after.digest(), state.digest());
    result
}

#[test]
fn a_block_knows_its_slot() {
    let code = [SLOTNUM, PUSH0, SSTORE];
    let mut block = block(Fork::Amsterdam, pre(&code, &[]), vec![call(0, 500_000)]);
    block.header.slot_number = Some(12_345);
    assert_eq!(in_order(&block).1.slot(&CODE, &U256::ZERO), U256::from(12_345));
    // Before Amsterdam there is no such instruction.
    block.chain = shard_executor::block::Chain::new(1337, Fork::Osaka);
    assert!(!in_order(&block).0.receipts[0].success);
}

#[test]
fn the_header_has_the_larger_of_two_sums_and_receipts_what_senders_pay() {
    // Three new slots, in one transaction after the other.
    let code = [PUSH1, 1, NUMBER, PUSH0, SLOAD, ADD, SSTORE, PUSH1, 1, PUSH0, SLOAD, ADD, PUSH0, SSTORE];
    let transactions = (0..3).map(|nonce| call(nonce, 500_000)).collect();
    let result = result(&block(Fork::Amsterdam, pre(&code, &[]), transactions));
    let sum = result.receipts.iter().fold(BlockGas::default(), |sum, receipt| sum.plus(receipt.block_gas));
    // The counter is new only once.
    assert_eq!(sum.state, 4 * SLOT);
    assert!(sum.execution < sum.state);
    assert_eq!(result.gas_used, 4 * SLOT);
    let paid: u64 = result.receipts.iter().map(|receipt| receipt.gas_used).sum();
    assert_eq!(paid, sum.execution + sum.state, "nothing is refunded");
}

#[test]
fn what_is_refunded_to_the_sender_still_counts_for_the_block() {
    // Clears a slot.
    let code = [PUSH0, PUSH0, SSTORE];
    for fork in [Fork::Osaka, Fork::Amsterdam] {
        let result = result(&block(fork, pre(&code, &[(0, 7)]), vec![call(0, 500_000)]));
        let receipt = &result.receipts[0];
        assert_eq!(receipt.block_gas.state, 0);
        assert_eq!(result.gas_used, receipt.block_gas.execution);
        assert_eq!(result.gas_used > receipt.gas_used, fork == Fork::Amsterdam, "{fork}: {result:?}");
    }
}

#[test]
fn gas_for_state_has_the_blocks_limit_to_itself() {
    // A hundred new slots, from the block's first free one on.
    let mut code = Vec::new();
    for slot in 0..100 {
        code.extend([PUSH1, 1, PUSH1, slot, CALLDATASIZE, PUSH1, 8, SHL, ADD, SSTORE]);
    }
    let fill = |gas: &[u64], limit: u64| {
        let call = |(nonce, gas): (usize, &u64)| Transaction {
            input: vec![0; nonce].into(),
            ..call(nonce as u64, *gas)
        };
        let mut block = block(Fork::Amsterdam, pre(&code, &[]), gas.iter().enumerate().map(call).collect());
        block.header.gas_limit = limit;
        result(&block)
    };
    // The cap applies to execution, so a transaction may buy more than 16,777,216 for its slots.
    let whole = fill(&[25_000_000, 25_000_000], 40_000_000);
    assert!(whole.receipts.iter().all(|receipt| receipt.success), "{:?}", whole.mismatch);
    assert_eq!(whole.gas_used, 200 * SLOT);
    assert!(whole.receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>() > 200 * SLOT);
    // The first transaction has used 9,792,000 of the second sum.
    let left = 40_000_000 - 100 * SLOT;
    assert_eq!(fill(&[25_000_000, left], 40_000_000).receipts.len(), 2);
    let Some(Mismatch::InvalidTransaction { index: 1, reason, .. }) =
        fill(&[25_000_000, left + 1], 40_000_000).mismatch
    else {
        panic!("the second has no room");
    };
    assert!(
        reason.contains(&format!("{} gas for state and the block has {left} left", left + 1)),
        "{reason}"
    );
}

/// Every contract of the protocol.
fn system() -> PreState {
    let mut pre = pre(&[STOP], &[]);
    for (address, code) in [
        (eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
        (eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE),
        (eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE),
        (eip8282::BUILDER_DEPOSIT_CONTRACT_ADDRESS, &eip8282::BUILDER_DEPOSIT_CONTRACT_CODE),
        (eip8282::BUILDER_EXIT_CONTRACT_ADDRESS, &eip8282::BUILDER_EXIT_CONTRACT_CODE),
    ] {
        pre.insert(address, with_code(code.clone()));
    }
    pre
}

#[test]
fn a_builders_exit_is_a_request_of_the_block() {
    let exits = eip8282::BUILDER_EXIT_CONTRACT_ADDRESS;
    let key = vec![0x77; 48];
    // The fee is 1 wei as long as there is no excess.
    let exit = Transaction { gas_limit: 1_000_000, ..transaction(ALICE, 0, Some(exits), 1, key.into()) };
    let result = result(&block(Fork::Amsterdam, system(), vec![exit]));
    assert!(result.receipts[0].success);
    // SHA-256 over the SHA-256 of 0x04, the sender and the key.
    let wanted = b256!("eb4db59200ff594b9ba7160511758eccd8619d0fe8e6e09a194dc3359222fe89");
    assert_eq!(result.requests_hash, Some(wanted));
    let nobody = in_order(&block(Fork::Amsterdam, system(), Vec::new())).0;
    assert_eq!(nobody.requests_hash, Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH));
}

#[test]
fn the_queues_of_builders_have_to_be_there() {
    for address in [eip8282::BUILDER_DEPOSIT_CONTRACT_ADDRESS, eip8282::BUILDER_EXIT_CONTRACT_ADDRESS] {
        let mut pre = system();
        pre.remove(&address);
        let Some(Mismatch::InvalidBlock { reason }) =
            in_order(&block(Fork::Amsterdam, pre.clone(), Vec::new())).0.mismatch
        else {
            panic!("{address} is missing");
        };
        assert!(reason.contains("EIP-8282") && reason.contains(&format!("{address:#x}")), "{reason}");
        let before = in_order(&block(Fork::Bpo2, pre, Vec::new())).0;
        assert!(!matches!(before.mismatch, Some(Mismatch::InvalidBlock { .. })), "they are Amsterdam's");
    }
}

#[test]
fn a_fee_is_not_burnt_with_a_beneficiary_that_destroys_itself() {
    // The beneficiary is a contract that the transaction creates, and that destroys itself in
    // favour of ALICE.
    let mut code = vec![PUSH20];
    code.extend(ALICE);
    code.push(SELFDESTRUCT);
    let create = transaction(ALICE, 0, None, 0, code.into());
    for (fork, is_kept) in [(Fork::Osaka, false), (Fork::Amsterdam, true)] {
        let mut block = block(fork, PreState::from([(ALICE, with_balance(u64::MAX))]), vec![create.clone()]);
        block.header.beneficiary = ALICE.create(0);
        let (result, state) = in_order(&block);
        assert!(result.receipts[0].success, "{fork}");
        let fee = U256::from(result.receipts[0].gas_used * (10 - 7));
        let kept = state.account(&block.header.beneficiary).map(|account| account.balance);
        assert_eq!(kept, is_kept.then_some(fee), "{fork}");
    }
}
