//! Random small blocks that combine everything awkward: contracts that destroy themselves and come
//! back, pay, read and call the beneficiary, touch empty accounts, fail halfway. There are few
//! accounts and few slots, so that everything collides.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use revm::bytecode::opcode::*;
use revm::database::{AccountState, InMemoryDB};
use revm::primitives::{Address, Bytes, U256, keccak256};
use revm::state::{AccountInfo as RevmAccount, Bytecode};
use revm::{Context, ExecuteCommitEvm, MainBuilder, MainContext};
use shard_executor::block::{Block, Fork, PreState};
use shard_executor::vm::{self, TxOutcome};

use crate::support::{BENEFICIARY, block, in_order, in_parts, transaction, with_balance, with_code};

const FORKS: [Fork; 9] = [
    Fork::Frontier,
    Fork::Homestead,
    Fork::Tangerine,
    Fork::SpuriousDragon,
    Fork::Byzantium,
    Fork::Petersburg,
    Fork::London,
    Fork::Shanghai,
    Fork::Cancun,
];

fn sender(n: u8) -> Address {
    Address::repeat_byte(0x10 + n)
}

fn contract(n: u8) -> Address {
    Address::repeat_byte(0xc0 + n)
}

/// Addresses that code refers to; the last two have no account.
fn target(n: u8) -> Address {
    match n {
        0..=2 => contract(n),
        3 => sender(0),
        4 => BENEFICIARY,
        5 => Address::repeat_byte(0xee),
        _ => Address::repeat_byte(0xef),
    }
}

fn push_address(code: &mut Vec<u8>, address: Address) {
    code.push(PUSH20);
    code.extend(address);
}

/// One awkward action, as code that leaves the stack unchanged.
fn action() -> impl Strategy<Value = Vec<u8>> {
    let slot = 0_u8..3;
    let who = 0_u8..7;
    prop_oneof![
        4 => (slot.clone(), 0_u8..3).prop_map(|(slot, value)| vec![PUSH1, value, PUSH1, slot, SSTORE]),
        4 => (slot.clone(), slot).prop_map(|(a, b)| vec![PUSH1, a, SLOAD, PUSH1, 1, ADD, PUSH1, b, SSTORE]),
        3 => (who.clone(), 0_u8..2).prop_map(|(who, slot)| {
            let mut code = Vec::new();
            push_address(&mut code, target(who));
            code.extend([BALANCE, PUSH1, slot, SSTORE]);
            code
        }),
        2 => who.clone().prop_map(|who| {
            let mut code = Vec::new();
            push_address(&mut code, target(who));
            code.extend([EXTCODESIZE, PUSH1, 2, SSTORE]);
            code
        }),
        4 => (who.clone(), 0_u8..3).prop_map(|(who, value)| {
            let mut code = vec![PUSH1, 0, PUSH1, 0, PUSH1, 0, PUSH1, 0, PUSH1, value];
            push_address(&mut code, target(who));
            code.extend([PUSH2, 0xc0, 0x00, CALL, POP]);
            code
        }),
        1 => who.prop_map(|who| {
            let mut code = Vec::new();
            push_address(&mut code, target(who));
            code.push(SELFDESTRUCT);
            code
        }),
        // A child that destroys itself at once, paying the beneficiary.
        1 => Just({
            let mut init = vec![];
            push_address(&mut init, BENEFICIARY);
            init.push(SELFDESTRUCT);
            let mut code = vec![PUSH32];
            code.extend(&init);
            code.resize(33, 0);
            code.extend([PUSH1, 0, MSTORE, PUSH1, init.len() as u8, PUSH1, 0, PUSH1, 1, CREATE, POP]);
            code
        }),
        1 => Just(vec![PUSH1, 7, PUSH1, 0, PUSH1, 0, LOG1]),
        1 => Just(vec![INVALID]),
    ]
}

fn program() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(action(), 1..5).prop_map(|actions| actions.concat().into())
}

/// A block with three contracts and four senders, one of which may be the beneficiary itself.
pub(crate) fn hostile_block() -> impl Strategy<Value = Block> {
    let transaction_plan = (0_u8..5, 0_u8..9, 0_u64..3);
    (
        prop::sample::select(FORKS.to_vec()),
        [program(), program(), program()],
        prop::collection::vec(transaction_plan, 1..14),
        any::<bool>(),
        program(),
    )
        .prop_map(|(fork, programs, plans, beneficiary_is_contract, init)| {
            let mut pre = PreState::new();
            for n in 0..4 {
                pre.insert(sender(n), with_balance(1_000_000_000));
            }
            for (n, program) in programs.into_iter().enumerate() {
                let mut account = with_code(program.clone());
                account.balance = U256::from(n);
                account.storage = BTreeMap::from([(U256::ZERO, U256::from(5))]);
                pre.insert(contract(n as u8), account);
                if n == 0 && beneficiary_is_contract {
                    pre.insert(BENEFICIARY, with_code(program));
                }
            }
            // An account that exists and is empty is possible only before Spurious Dragon.
            if !fork.clears_empty_accounts() {
                pre.insert(target(5), with_balance(0));
            }
            let mut nonces = BTreeMap::<Address, u64>::new();
            let mut transactions = Vec::new();
            for (from, to, value) in plans {
                let from = if from == 4 { BENEFICIARY } else { sender(from) };
                // Only accounts with a balance and without code can send.
                if from == BENEFICIARY && beneficiary_is_contract {
                    continue;
                }
                if from == BENEFICIARY {
                    pre.entry(from).or_insert_with(|| with_balance(1_000_000_000));
                }
                let nonce = nonces.entry(from).or_default();
                let (to, input) =
                    if to < 7 { (Some(target(to)), Bytes::new()) } else { (None, init.clone()) };
                transactions.push(transaction(from, *nonce, to, value, input));
                *nonce += 1;
            }
            block(fork, pre, transactions)
        })
}

/// Executes the same block through revm's own handler and database, without this crate's code for
/// fees or writes.
fn through_plain_revm(block: &Block) -> InMemoryDB {
    let mut db = InMemoryDB::default();
    for (address, account) in block.pre.iter().flatten() {
        let code = Bytecode::new_raw(account.code.clone());
        let info = RevmAccount::new(account.balance, account.nonce, keccak256(&account.code), code);
        db.insert_account_info(*address, info);
        for (slot, value) in &account.storage {
            db.insert_account_storage(*address, *slot, *value).unwrap();
        }
    }
    let header = &block.header;
    let mut evm = Context::mainnet()
        .with_db(db)
        .modify_cfg_chained(|cfg| cfg.set_spec_and_mainnet_gas_params(block.chain.fork.spec()))
        .modify_block_chained(|env| {
            env.number = U256::from(header.number);
            env.beneficiary = header.beneficiary;
            env.timestamp = U256::from(header.timestamp);
            env.gas_limit = header.gas_limit;
            env.basefee = header.base_fee;
            env.difficulty = header.difficulty;
            env.prevrandao = Some(header.prev_randao);
        })
        .build_mainnet();
    for tx in &block.transactions {
        let tx = revm::context::TxEnv::builder()
            .caller(tx.sender)
            .nonce(tx.nonce)
            .gas_limit(tx.gas_limit)
            .gas_price(tx.max_fee)
            .kind(tx.to.into())
            .value(tx.value)
            .data(tx.input.clone())
            .chain_id(None)
            .build()
            .unwrap();
        evm.transact_commit(tx).unwrap();
    }
    evm.ctx.journaled_state.database
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn parts_of_any_shape_give_what_block_order_gives(
        block in hostile_block(),
        assignment in prop::collection::vec(0_usize..4, 14),
    ) {
        let mut parts = vec![Vec::new(); 4];
        for (index, part) in (0..block.transactions.len()).zip(&assignment) {
            parts[*part].push(index);
        }
        let (expected, reference) = in_order(&block);
        let (result, state) = in_parts(&block, &parts);
        prop_assert_eq!(&result.receipts, &expected.receipts);
        prop_assert_eq!(result.receipts_root, expected.receipts_root);
        prop_assert_eq!(state.digest(), reference.digest());
        // The digest does not distinguish absent from empty, which matters before Spurious Dragon.
        let of = |s: &shard_executor::state::State| s.addresses().copied().collect::<BTreeSet<_>>();
        prop_assert_eq!(of(&state), of(&reference));
    }

    #[test]
    fn a_part_that_is_the_whole_block_is_never_executed_again(block in hostile_block()) {
        let whole: Vec<usize> = (0..block.transactions.len()).collect();
        let (result, _) = in_parts(&block, &[whole]);
        prop_assert_eq!(result.reexecuted, 0);
    }

    #[test]
    fn block_order_gives_what_plain_revm_gives(block in hostile_block()) {
        let (result, state) = in_order(&block);
        let invalid = format!("{:?}", result.mismatch);
        prop_assert!(!invalid.contains("InvalidTransaction"), "{}", invalid);
        let db = through_plain_revm(&block);
        for (address, theirs) in &db.cache.accounts {
            let absent = theirs.account_state == AccountState::NotExisting;
            let ours = state.account(address);
            let cleared = block.chain.fork.clears_empty_accounts() && theirs.info.is_empty();
            if absent || cleared {
                prop_assert_eq!(ours, None, "{}", address);
                continue;
            }
            let Some(ours) = ours else {
                return Err(TestCaseError::fail(format!("{address} is missing, should be {:?}", theirs.info)));
            };
            prop_assert_eq!(ours.balance, theirs.info.balance, "balance of {}", address);
            prop_assert_eq!(ours.nonce, theirs.info.nonce, "nonce of {}", address);
            prop_assert_eq!(ours.code_hash, theirs.info.code_hash, "code of {}", address);
            for slot in (0..4).map(U256::from) {
                let expected = theirs.storage.get(&slot).copied().unwrap_or_default();
                prop_assert_eq!(state.slot(address, &slot), expected, "slot {} of {}", slot, address);
            }
        }
        for address in state.addresses() {
            prop_assert!(db.cache.accounts.contains_key(address), "{} is too much", address);
        }
    }

    #[test]
    fn outcomes_survive_the_wire(block in hostile_block()) {
        let state = shard_executor::validate::open(&block, None).unwrap();
        let env = vm::ExecutionEnv::of(&block);
        for (index, tx) in block.transactions.iter().enumerate() {
            let outcome = vm::execute(&env, tx, index as u32, &state).unwrap();
            let bytes = vm::encode(&outcome).unwrap();
            prop_assert_eq!(&vm::decode::<TxOutcome>(&bytes).unwrap(), &outcome);
            prop_assert!(vm::decode::<TxOutcome>(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = vm::decode::<TxOutcome>(&bytes);
        let _ = vm::decode::<Vec<TxOutcome>>(&bytes);
        let _ = vm::decode::<(vm::ExecutionEnv, Vec<shard_executor::block::Transaction>)>(&bytes);
    }
}
