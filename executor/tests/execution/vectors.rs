//! Blocks written out as files, with the state after them derived by hand from the EIPs:
//! withdrawals (4895), the parent's beacon root (4788), the parent's hash (2935), and the queues of
//! withdrawal (7002) and consolidation (7251) requests.
//!
//! The contracts are those that the EIPs have deployed; this crate computed none of the expected
//! values.

use std::sync::Arc;

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use revm::bytecode::opcode::*;
use revm::primitives::{Address, B256, U256};
use serde_json::{Value, json};
use shard_executor::block::Block;
use shard_executor::local::Local;
use shard_executor::state::State;
use shard_executor::validate;

const ALICE: Address = Address::repeat_byte(0xa1);
const ASKS: Address = Address::repeat_byte(0xc0);
const ETHER: u64 = 1_000_000_000_000_000_000;

const NUMBER: u64 = 20_000;
/// 1,700,000,000 = 207,544 × 8,191 + 7,096.
const TIME: u64 = 1_700_000_000;
const TIME_IN_RING: u64 = 7_096;
/// The parent's number, 19,999 = 2 × 8,191 + 3,617.
const PARENT_IN_RING: u64 = 3_617;

fn file(fork: &str, number: u64) -> Value {
    let mut file = json!({
        "block": {
            "number": format!("{number:#x}"),
            "hash": B256::from(U256::from(number)),
            "parentHash": B256::from(U256::from(number - 1)),
            "miner": Address::repeat_byte(0xbe),
            "timestamp": format!("{TIME:#x}"),
            "gasLimit": "0x1c9c380",
            "gasUsed": "0x0",
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "receiptsRoot": B256::ZERO,
            "mixHash": B256::ZERO,
            "baseFeePerGas": "0x7",
            "withdrawals": [],
            "transactions": [],
        },
        "chain": { "id": 1337, "fork": fork },
    });
    if fork != "shanghai" {
        file["block"]["excessBlobGas"] = json!("0x0");
        file["block"]["parentBeaconBlockRoot"] = json!(B256::repeat_byte(0x47));
    }
    file
}

fn call(nonce: u64, to: Address, value: u64, input: &[u8]) -> Value {
    json!({
        "hash": B256::with_last_byte(nonce as u8),
        "from": ALICE,
        "to": to,
        "nonce": format!("{nonce:#x}"),
        "value": format!("{value:#x}"),
        "input": format!("0x{}", revm::primitives::hex::encode(input)),
        "gas": "0x7a120",
        "gasPrice": "0x7",
    })
}

fn contract(code: &[u8], storage: &[(u64, U256)]) -> Value {
    let storage: serde_json::Map<String, Value> =
        storage.iter().map(|(slot, value)| (format!("{slot:#x}"), json!(value))).collect();
    json!({ "nonce": "0x1", "code": format!("0x{}", revm::primitives::hex::encode(code)), "storage": storage })
}

fn pre(accounts: &[(Address, Value)]) -> Value {
    let alice = (ALICE, json!({ "balance": format!("{ETHER:#x}") }));
    accounts.iter().cloned().chain([alice]).map(|(a, account)| (a.to_string(), account)).collect()
}

/// Runs the files as a chain, in order and over two shards; returns the state after each.
fn run(files: &[Value]) -> Vec<State> {
    let spread = Local::new(2).unwrap();
    let (mut ordered, mut states) = (None, Vec::<State>::new());
    for file in files {
        let block = Arc::new(Block::from_json("vector.json", file.to_string().as_bytes()).unwrap());
        let (_, in_parts) = spread.run(&block, states.last().cloned(), &|| {}).unwrap();
        let mut state = validate::open(&block, ordered.take()).unwrap();
        let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).unwrap();
        assert_eq!(result.receipts.len(), block.transactions.len(), "{:?}", result.mismatch);
        assert_eq!(in_parts.digest(), state.digest());
        states.push(state.clone());
        ordered = Some(state);
    }
    states
}

/// The first slots of a request queue: excess, count, head, tail.
fn queue(state: &State, contract: Address) -> [U256; 4] {
    [0, 1, 2, 3].map(|slot| state.slot(&contract, &U256::from(slot)))
}

fn words<const N: usize>(words: [u64; N]) -> [U256; N] {
    words.map(U256::from)
}

#[test]
fn withdrawals_credit_gwei_and_touch_whom_they_pay() {
    let (new, twice, nobody, empty) =
        (Address::repeat_byte(1), Address::repeat_byte(2), Address::repeat_byte(3), Address::repeat_byte(4));
    let mut file = file("shanghai", NUMBER);
    // A contract that would refuse any call: withdrawals call no code.
    file["pre"] = pre(&[
        (ASKS, contract(&[PUSH0, PUSH0, REVERT], &[(0, U256::from(5))])),
        (twice, json!({ "balance": "0x7" })),
        (empty, json!({})),
    ]);
    let pay = |to: Address, gwei: u64| json!({ "index": "0x0", "validatorIndex": "0x0", "address": to, "amount": format!("{gwei:#x}") });
    file["block"]["withdrawals"] =
        json!([pay(new, 1), pay(twice, 2), pay(ASKS, 3), pay(twice, 40), pay(nobody, 0), pay(empty, 0)]);
    let state = run(&[file]).remove(0);
    let balance = |who: Address| state.account(&who).map(|account| account.balance);
    assert_eq!(balance(new), Some(U256::from(1_000_000_000_u64)));
    assert_eq!(balance(twice), Some(U256::from(42_000_000_007_u64)));
    assert_eq!(balance(ASKS), Some(U256::from(3_000_000_000_u64)));
    assert_eq!(state.slot(&ASKS, &U256::ZERO), U256::from(5));
    assert_eq!(balance(nobody), None, "nothing to pay, nobody to create");
    assert_eq!(balance(empty), None, "touched and empty");
    assert_eq!(balance(ALICE), Some(U256::from(ETHER)), "nobody else pays for it");
}

#[test]
fn what_is_withdrawn_cannot_be_spent_in_the_same_block() {
    let poor = Address::repeat_byte(5);
    let mut file = file("shanghai", NUMBER);
    file["pre"] = pre(&[]);
    let mut spend = call(0, ALICE, 1, &[]);
    spend["from"] = json!(poor);
    file["block"]["transactions"] = json!([spend]);
    file["block"]["withdrawals"] = json!([{ "address": poor, "amount": "0xffffffff" }]);
    let block = Block::from_json("vector.json", file.to_string().as_bytes()).unwrap();
    let mut state = validate::open(&block, None).unwrap();
    let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).unwrap();
    let mismatch = result.mismatch.unwrap().to_string();
    assert!(mismatch.contains("transaction 0") && mismatch.contains("fund"), "{mismatch}");
}

/// Calls `contract` with one word, made by the code `word`; stores the answer at `slot` and whether
/// the call succeeded at `slot` + 1.
fn ask(contract: Address, word: &[u8], slot: u8) -> Vec<u8> {
    let mut code = word.to_vec();
    code.extend([PUSH0, MSTORE, PUSH1, 0x20, PUSH1, 0x40, PUSH1, 0x20, PUSH0, PUSH20]);
    code.extend(contract);
    code.extend([GAS, STATICCALL, PUSH1, slot + 1, SSTORE, PUSH1, 0x40, MLOAD, PUSH1, slot, SSTORE]);
    // Cleared, so that a later call without an answer does not store this one.
    code.extend([PUSH0, PUSH1, 0x40, MSTORE]);
    code
}

#[test]
fn the_parents_beacon_root_stands_in_two_rings_and_can_be_asked_for() {
    let known = ask(eip4788::BEACON_ROOTS_ADDRESS, &[TIMESTAMP], 0);
    let unknown = ask(eip4788::BEACON_ROOTS_ADDRESS, &[PUSH1, 12, TIMESTAMP, SUB], 2);
    for fork in ["shanghai", "cancun", "prague"] {
        let mut file = file(fork, NUMBER);
        file["pre"] = pre(&[
            (ASKS, contract(&[known.clone(), unknown.clone()].concat(), &[])),
            (eip4788::BEACON_ROOTS_ADDRESS, contract(&eip4788::BEACON_ROOTS_CODE, &[])),
        ]);
        file["block"]["transactions"] = json!([call(0, ASKS, 0, &[])]);
        let state = run(&[file]).remove(0);
        let at = |slot: u64| state.slot(&eip4788::BEACON_ROOTS_ADDRESS, &U256::from(slot));
        let answer = |slot: u64| state.slot(&ASKS, &U256::from(slot));
        let root = U256::from_be_bytes([0x47; 32]);
        let [time, beacon, told, found] =
            if fork == "shanghai" { [U256::ZERO; 4] } else { [U256::from(TIME), root, root, U256::ONE] };
        assert_eq!([at(TIME_IN_RING), at(TIME_IN_RING + 8_191)], [time, beacon], "{fork}");
        assert_eq!([answer(0), answer(1)], [told, found], "{fork}: seen by the block's own transactions");
        assert_eq!([answer(2), answer(3)], [U256::ZERO; 2], "{fork}: twelve seconds ago no block is known");
        let system: Address = "0xfffffffffffffffffffffffffffffffffffffffe".parse().unwrap();
        assert_eq!(state.account(&system), None, "{fork}: the caller leaves no trace");
    }
}

#[test]
fn the_parents_hash_stands_in_a_ring_and_can_be_asked_for() {
    let history = eip2935::HISTORY_STORAGE_ADDRESS;
    let code = [
        ask(history, &[PUSH1, 1, NUMBER_OPCODE, SUB], 0),
        ask(history, &[NUMBER_OPCODE], 2),
        // The instruction returns the hash as well.
        vec![PUSH1, 1, NUMBER_OPCODE, SUB, BLOCKHASH, PUSH1, 4, SSTORE],
    ]
    .concat();
    for fork in ["cancun", "prague"] {
        let mut file = file(fork, NUMBER);
        file["pre"] = pre(&[
            (ASKS, contract(&code, &[])),
            (history, contract(&eip2935::HISTORY_STORAGE_CODE, &[(PARENT_IN_RING, U256::from(77))])),
        ]);
        file["block"]["transactions"] = json!([call(0, ASKS, 0, &[])]);
        let state = run(&[file]).remove(0);
        let answer = |slot: u64| state.slot(&ASKS, &U256::from(slot));
        let parent = U256::from(NUMBER - 1);
        let in_ring = if fork == "prague" { parent } else { U256::from(77) };
        assert_eq!(state.slot(&history, &U256::from(PARENT_IN_RING)), in_ring, "{fork}");
        assert_eq!([answer(0), answer(1)], [in_ring, U256::ONE], "{fork}");
        assert_eq!([answer(2), answer(3)], [U256::ZERO; 2], "{fork}: the block itself is not yet history");
        assert_eq!(answer(4), parent, "{fork}");
    }
}

/// `NUMBER`, whose name is taken by the block's number here.
const NUMBER_OPCODE: u8 = revm::bytecode::opcode::NUMBER;

#[test]
fn withdrawal_requests_leave_their_queue_sixteen_a_block() {
    let address = eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
    let mut first = file("prague", NUMBER);
    // Excess 3, 18 requests in this block, all of them in the queue.
    let storage = [(0, U256::from(3)), (1, U256::from(18)), (3, U256::from(18)), (4, U256::from(0xaa))];
    first["pre"] = pre(&[(address, contract(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE, &storage))]);
    let states = run(&[first, file("prague", NUMBER + 1), file("prague", NUMBER + 2)]);
    // Sixteen leave the queue; the target is two per block, so the excess grows by 18 - 2.
    assert_eq!(queue(&states[0], address), words([3 + 18 - 2, 0, 16, 18]));
    // Two leave, and the empty queue is reset to its beginning; none was added, so the excess falls
    // by two.
    assert_eq!(queue(&states[1], address), words([19 - 2, 0, 0, 0]));
    assert_eq!(queue(&states[2], address), words([17 - 2, 0, 0, 0]));
    assert_eq!(states[2].slot(&address, &U256::from(4)), U256::from(0xaa), "what has gone is not wiped");
}

#[test]
fn consolidation_requests_leave_their_queue_two_a_block() {
    let address = eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
    let mut first = file("prague", NUMBER);
    // The excess is the inhibitor value, as when the contract was deployed, and counts as zero.
    let storage = [(0, U256::MAX), (1, U256::from(5)), (3, U256::from(5))];
    first["pre"] = pre(&[(address, contract(&eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE, &storage))]);
    let states = run(&[first, file("prague", NUMBER + 1), file("prague", NUMBER + 2)]);
    // The target is one per block.
    assert_eq!(queue(&states[0], address), words([5 - 1, 0, 2, 5]));
    assert_eq!(queue(&states[1], address), words([4 - 1, 0, 4, 5]));
    assert_eq!(queue(&states[2], address), words([3 - 1, 0, 0, 0]));
}

#[test]
fn before_prague_the_queues_are_left_alone() {
    let address = eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
    let mut file = file("cancun", NUMBER);
    let storage = [(0, U256::from(3)), (1, U256::from(18)), (3, U256::from(18))];
    file["pre"] = pre(&[(address, contract(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE, &storage))]);
    assert_eq!(queue(&run(&[file])[0], address), words([3, 18, 0, 18]));
}

#[test]
fn a_request_that_a_transaction_makes_goes_in_the_same_block() {
    let withdrawals = eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
    let consolidations = eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
    let mut file = file("prague", NUMBER);
    file["pre"] = pre(&[
        (withdrawals, contract(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE, &[])),
        (consolidations, contract(&eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE, &[])),
    ]);
    // A public key of 48 bytes and 8 bytes of gwei; two public keys.
    let withdrawal = [&[0x11; 32][..], &[0x22; 16], &[0x33; 8]].concat();
    let consolidation = [[0x44; 32], [0x55; 32], [0x66; 32]].concat();
    // SHA-256 over the SHA-256 of each list behind its type: sender, key and gwei; sender and both
    // keys. No deposits.
    let hash = "0xf4ab0ecf7921a83aadb528367809134e4bf8041b8c701889104afe0dc553f09e";
    file["block"]["requestsHash"] = json!(hash);
    // The fee is 1 wei as long as there is no excess.
    file["block"]["transactions"] =
        json!([call(0, withdrawals, 1, &withdrawal), call(1, consolidations, 1, &consolidation)]);
    assert_eq!(requests(&file), (Some(hash.to_owned()), None));
    let state = run(&[file]).remove(0);
    let entry = |contract: Address, slots: std::ops::Range<u64>| -> Vec<B256> {
        slots.map(|slot| B256::from(state.slot(&contract, &U256::from(slot)))).collect()
    };
    let mut rest = B256::ZERO;
    rest[..16].fill(0x22);
    rest[16..24].fill(0x33);
    assert_eq!(entry(withdrawals, 4..8), [ALICE.into_word(), B256::repeat_byte(0x11), rest, B256::ZERO]);
    let keys = [0x44, 0x55, 0x66].map(B256::repeat_byte);
    assert_eq!(entry(consolidations, 4..8), [&[ALICE.into_word()][..], &keys].concat());
    // One was added where the target is two, or one: no excess; both queues are empty again.
    assert_eq!(queue(&state, withdrawals), words([0; 4]));
    assert_eq!(queue(&state, consolidations), words([0; 4]));
    assert_eq!(state.account(&withdrawals).unwrap().balance, U256::ONE);
    assert_eq!(state.account(&consolidations).unwrap().balance, U256::ONE);
}

/// The hash of the block's requests, and the reported difference from the header's, if any.
fn requests(file: &Value) -> (Option<String>, Option<(String, String)>) {
    let block = Arc::new(Block::from_json("vector.json", file.to_string().as_bytes()).unwrap());
    let local = Local::with_threads(1, 2).unwrap();
    let state = validate::open(&block, None).unwrap();
    let (result, _) = local.execute(&block, state, &|| {}).unwrap();
    let differences = match result.mismatch {
        Some(validate::Mismatch::Header { differences, .. }) => differences,
        _ => Vec::new(),
    };
    let other = differences.into_iter().find(|difference| difference.field == "requestsHash");
    (result.requests_hash.map(|hash| hash.to_string()), other.map(|other| (other.expected, other.got)))
}

/// A contract that logs its calldata as a deposit.
fn deposits() -> Vec<u8> {
    let mut code = vec![CALLDATASIZE, PUSH0, PUSH0, CALLDATACOPY, PUSH32];
    code.extend(revm::primitives::keccak256("DepositEvent(bytes,bytes,bytes,bytes,bytes)"));
    code.extend([CALLDATASIZE, PUSH0, LOG1]);
    code
}

/// The data of a deposit's log: five byte strings in ABI layout.
fn deposit() -> Vec<u8> {
    let fields = [vec![1; 48], vec![2; 32], vec![3; 8], vec![4; 96], vec![5; 8]];
    let word = |number: usize| U256::from(number).to_be_bytes::<32>();
    let (mut heads, mut tails) = (Vec::new(), Vec::new());
    for field in fields {
        heads.extend(word(5 * 32 + tails.len()));
        tails.extend(word(field.len()));
        tails.extend(&field);
        tails.resize(tails.len().next_multiple_of(32), 0);
    }
    [heads, tails].concat()
}

#[test]
fn deposits_are_requests_of_the_chains_own_contract_only() {
    // SHA-256 over the SHA-256 of 0x00 and two times the five fields, and that of nothing at all.
    let two = "0xb1b097ee2f60cce64dd4667b9770c6fc275280f48674f6e242a191373c82abe7";
    let none = "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let contract_of_mainnet: Address = "0x00000000219ab540356cbb839cbe05303d7705fa".parse().unwrap();
    for (chain, at, hash) in
        [(1, contract_of_mainnet, two), (1, ASKS, none), (1337, contract_of_mainnet, none)]
    {
        let mut file = file("prague", NUMBER);
        file["chain"]["id"] = json!(format!("{chain:#x}"));
        file["pre"] = pre(&[(at, contract(&deposits(), &[]))]);
        file["block"]["transactions"] = json!([call(0, at, 0, &deposit()), call(1, at, 0, &deposit())]);
        assert_eq!(
            requests(&file),
            (Some(hash.to_owned()), None),
            "the file says nothing: nothing to compare"
        );
        file["block"]["requestsHash"] = json!(hash);
        assert_eq!(requests(&file), (Some(hash.to_owned()), None), "chain {chain}, {at}");
        file["block"]["requestsHash"] = json!(B256::ZERO);
        assert_eq!(requests(&file).1, Some((B256::ZERO.to_string(), hash.to_owned())));
    }
}

#[test]
fn a_deposit_that_no_deposit_contract_lays_out_so_is_no_valid_block() {
    let address: Address = "0x00000000219ab540356cbb839cbe05303d7705fa".parse().unwrap();
    let whole = deposit();
    let mut moved = whole.clone();
    moved[31] += 1;
    for data in [&whole[..575], &moved] {
        let mut file = file("prague", NUMBER);
        file["chain"]["id"] = json!("0x1");
        file["pre"] = pre(&[(address, contract(&deposits(), &[]))]);
        file["block"]["transactions"] = json!([call(0, address, 0, data)]);
        file["block"]["requestsHash"] = json!(B256::ZERO);
        let (hash, other) = requests(&file);
        assert_eq!(hash, None);
        assert!(other.is_some_and(|(_, got)| got.contains("malformed")));
    }
}
