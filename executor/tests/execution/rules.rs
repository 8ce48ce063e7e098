//! Single rules that a block of transfers never exercises, each shown by a small block.

use std::collections::BTreeMap;

use alloy_eips::{eip2935, eip4788};
use revm::bytecode::opcode::*;
use revm::primitives::{Address, B256, Bytes, U256};
use shard_executor::block::{Fork, PreState, Withdrawal};
use shard_executor::state::State;
use shard_executor::validate::{self, Mismatch, ValidateError};
use shard_executor::vm::{Effect, ExecutionEnv, execute};

use crate::support::{BENEFICIARY, block, in_order, in_parts, transaction, with_balance, with_code};

const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb0);
const CODE: Address = Address::repeat_byte(0xcc);

fn rich() -> PreState {
    PreState::from([(ALICE, with_balance(1_000_000_000)), (BOB, with_balance(1_000_000_000))])
}

#[test]
fn digest_changes_when_a_slot_changes() {
    let mut pre = rich();
    let mut account = with_code(vec![STOP]);
    account.storage = BTreeMap::from([(U256::from(1), U256::from(1))]);
    pre.insert(CODE, account.clone());
    let before = State::from_pre(&pre).digest();
    assert_eq!(before, State::from_pre(&pre).digest());
    account.storage.insert(U256::from(1), U256::from(2));
    pre.insert(CODE, account.clone());
    assert_ne!(before, State::from_pre(&pre).digest());
    account.storage = BTreeMap::from([(U256::from(1), U256::from(1)), (U256::from(2), U256::ZERO)]);
    pre.insert(CODE, account);
    pre.insert(Address::ZERO, with_balance(0));
    assert_eq!(
        before,
        State::from_pre(&pre).digest(),
        "a zero slot and an empty account are as good as absent"
    );
}

#[test]
fn fees_alone_are_no_conflict() {
    let txs = vec![
        transaction(ALICE, 0, Some(CODE), 1, Bytes::new()),
        transaction(BOB, 0, Some(BOB), 0, Bytes::new()),
    ];
    let block = block(Fork::London, rich(), txs);
    let (result, state) = in_parts(&block, &[vec![0], vec![1]]);
    assert_eq!(result.reexecuted, 0);
    assert_eq!(state.account(&BENEFICIARY).unwrap().balance, U256::from(2 * 21_000 * 3));
}

#[test]
fn looking_at_the_beneficiary_is_a_conflict() {
    let mut pre = rich();
    // sstore(0, balance(beneficiary))
    let code = [&[PUSH20][..], BENEFICIARY.as_slice(), &[BALANCE, PUSH1, 0, SSTORE]].concat();
    pre.insert(CODE, with_code(code));
    let txs = vec![
        transaction(ALICE, 0, Some(ALICE), 0, Bytes::new()),
        transaction(BOB, 0, Some(CODE), 0, Bytes::new()),
    ];
    let block = block(Fork::London, pre, txs);
    let (result, state) = in_parts(&block, &[vec![0], vec![1]]);
    assert_eq!(result.reexecuted, 1);
    assert_eq!(state.slot(&CODE, &U256::ZERO), U256::from(21_000 * 3));
    let (together, _) = in_parts(&block, &[vec![0, 1]]);
    assert_eq!(together.reexecuted, 0, "within a part the fee is seen");
}

#[test]
fn absence_is_a_value_that_is_read() {
    let mut pre = rich();
    let newcomer = Address::repeat_byte(0x77);
    let code = [&[PUSH20][..], newcomer.as_slice(), &[BALANCE, PUSH1, 0, SSTORE]].concat();
    pre.insert(CODE, with_code(code));
    let block = block(Fork::Shanghai, pre, vec![transaction(ALICE, 0, Some(CODE), 0, Bytes::new())]);
    let state = validate::open(&block, None).unwrap();
    let outcome = execute(&ExecutionEnv::of(&block), &block.transactions[0], 0, &state).unwrap();
    assert!(outcome.reads.accounts.contains(&(newcomer, None)));
    assert!(outcome.reads.storage.contains(&(CODE, U256::ZERO, U256::ZERO)));
    assert!(!outcome.reads.accounts.iter().any(|(address, _)| *address == BENEFICIARY));
}

#[test]
fn an_invalid_speculation_is_an_outcome() {
    let txs = vec![
        transaction(ALICE, 0, Some(BOB), 0, Bytes::new()),
        transaction(ALICE, 1, Some(BOB), 0, Bytes::new()),
    ];
    let block = block(Fork::Berlin, rich(), txs);
    let state = validate::open(&block, None).unwrap();
    let outcome = execute(&ExecutionEnv::of(&block), &block.transactions[1], 1, &state).unwrap();
    assert!(matches!(outcome.effect, Effect::Invalid { .. }));
    let (result, _) = in_parts(&block, &[vec![0], vec![1]]);
    assert_eq!((result.reexecuted, result.receipts.len()), (1, 2));
}

#[test]
fn a_transaction_no_block_may_contain_is_named() {
    let block = block(Fork::Berlin, rich(), vec![transaction(ALICE, 5, Some(BOB), 0, Bytes::new())]);
    let (result, _) = in_order(&block);
    assert!(
        matches!(result.mismatch, Some(Mismatch::InvalidTransaction { index: 0, .. })),
        "{:?}",
        result.mismatch
    );
}

#[test]
fn more_gas_than_the_block_has_is_named() {
    let txs = vec![
        transaction(ALICE, 0, Some(BOB), 0, Bytes::new()),
        transaction(BOB, 0, Some(ALICE), 0, Bytes::new()),
    ];
    let mut block = block(Fork::Berlin, rich(), txs);
    block.header.gas_limit = 510_000;
    let (result, _) = in_parts(&block, &[vec![0], vec![1]]);
    assert!(
        matches!(result.mismatch, Some(Mismatch::InvalidTransaction { index: 1, .. })),
        "{:?}",
        result.mismatch
    );
}

#[test]
fn storage_of_a_destroyed_and_recreated_contract_is_gone() {
    // Called with data it destroys itself; otherwise it only receives the payment.
    let runtime = [CALLDATASIZE, PUSH1, 5, JUMPI, STOP, JUMPDEST, CALLER, SELFDESTRUCT];
    let mut pre = rich();
    let mut account = with_code(runtime.to_vec());
    account.storage = BTreeMap::from([(U256::from(9), U256::from(9))]);
    pre.insert(CODE, account);
    let destroy = transaction(ALICE, 0, Some(CODE), 0, vec![1].into());
    let pay = transaction(BOB, 0, Some(CODE), 5, Bytes::new());
    let before_cancun = block(Fork::London, pre.clone(), vec![destroy.clone(), pay.clone()]);
    for (result, state) in [in_order(&before_cancun), in_parts(&before_cancun, &[vec![0], vec![1]])] {
        assert_eq!(result.receipts.len(), 2);
        let account = state.account(&CODE).unwrap();
        assert_eq!((account.balance, account.nonce), (U256::from(5), 0), "back as a plain account");
        assert_eq!(state.slot(&CODE, &U256::from(9)), U256::ZERO);
    }
    let from_cancun = block(Fork::Cancun, pre, vec![destroy, pay]);
    let (_, state) = in_order(&from_cancun);
    assert_eq!(
        state.slot(&CODE, &U256::from(9)),
        U256::from(9),
        "EIP-6780: only in the transaction that created it"
    );
}

#[test]
fn the_fee_of_a_beneficiary_that_destroys_itself_is_burnt() {
    let mut pre = rich();
    let code = [&[PUSH20][..], BOB.as_slice(), &[SELFDESTRUCT]].concat();
    pre.insert(BENEFICIARY, with_code(code));
    for fork in [Fork::Homestead, Fork::Byzantium, Fork::London] {
        let txs = vec![transaction(ALICE, 0, Some(BENEFICIARY), 0, Bytes::new())];
        let (_, state) = in_order(&block(fork, pre.clone(), txs));
        assert_eq!(state.account(&BENEFICIARY), None, "{fork}");
    }
}

#[test]
fn an_empty_account_ends_when_it_is_touched_from_spurious_dragon_on() {
    let (touched, left_alone) = (Address::repeat_byte(0x71), Address::repeat_byte(0x72));
    let mut pre = rich();
    for empty in [touched, left_alone, BENEFICIARY] {
        pre.insert(empty, with_balance(0));
    }
    for fork in [Fork::Tangerine, Fork::SpuriousDragon, Fork::Shanghai] {
        let mut poke = transaction(ALICE, 0, Some(touched), 0, Bytes::new());
        // Nothing is left for the beneficiary, which is touched nevertheless.
        poke.max_fee = u128::from(block(fork, rich(), Vec::new()).header.base_fee);
        let block = block(fork, pre.clone(), vec![poke]);
        for (_, state) in [in_order(&block), in_parts(&block, &[vec![0]])] {
            let kept = !fork.clears_empty_accounts();
            assert_eq!(state.account(&touched).is_some(), kept, "{fork}");
            assert_eq!(state.account(&BENEFICIARY).is_some(), kept, "{fork}");
            assert!(state.account(&left_alone).is_some(), "{fork}");
        }
    }
}

#[test]
fn the_protocols_own_calls_are_made() {
    let mut pre = rich();
    pre.insert(eip4788::BEACON_ROOTS_ADDRESS, with_code(eip4788::BEACON_ROOTS_CODE.clone()));
    pre.insert(eip2935::HISTORY_STORAGE_ADDRESS, with_code(eip2935::HISTORY_STORAGE_CODE.clone()));
    let mut block = block(Fork::Prague, pre, Vec::new());
    block.withdrawals = [(CODE, 3), (Address::ZERO, 0)]
        .map(|(address, gwei)| Withdrawal { index: None, validator_index: None, address, gwei })
        .to_vec();
    let (_, state) = in_order(&block);
    let at = U256::from(block.header.timestamp % 8191);
    assert_eq!(state.slot(&eip4788::BEACON_ROOTS_ADDRESS, &at), U256::from(block.header.timestamp));
    let root = state.slot(&eip4788::BEACON_ROOTS_ADDRESS, &(at + U256::from(8191)));
    assert_eq!(B256::from(root), block.header.parent_beacon_root.unwrap());
    let history =
        state.slot(&eip2935::HISTORY_STORAGE_ADDRESS, &U256::from((block.header.number - 1) % 8191));
    assert_eq!(B256::from(history), block.header.parent_hash);
    assert_eq!(state.account(&CODE).unwrap().balance, U256::from(3_000_000_000_u64));
    assert_eq!(state.account(&Address::ZERO), None, "nothing withdrawn, nobody created");
}

#[test]
fn a_block_hash_that_the_file_lacks_is_asked_for_by_name() {
    let mut pre = rich();
    pre.insert(CODE, with_code(vec![PUSH2, 0x03, 0x80, BLOCKHASH, PUSH1, 0, SSTORE]));
    let mut block = block(Fork::Berlin, pre, vec![transaction(ALICE, 0, Some(CODE), 0, Bytes::new())]);
    let mut state = validate::open(&block, None).unwrap();
    let error = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).unwrap_err();
    assert!(matches!(error, ValidateError::Transaction { index: 0, .. }));
    assert!(error.to_string().contains("hash of block 896"), "{error}");
    block.hashes.insert(896, B256::repeat_byte(5));
    let (_, state) = in_parts(&block, &[vec![0]]);
    assert_eq!(state.slot(&CODE, &U256::ZERO), U256::from_be_bytes([5; 32]));
}
