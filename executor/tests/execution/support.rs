//! The blocks that tests use, and the ways to run them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, Bytes, U256};
use shard_executor::block::{
    Block, Blocks, Chain, Expected, Fork, Header, PreAccount, PreState, Transaction, load_chain,
};
use shard_executor::generate::{Generator, Plan};
use shard_executor::local::Local;
use shard_executor::report::BlockReport;
use shard_executor::state::State;
use shard_executor::validate::{self, BlockResult};
use shard_executor::vm::{ExecutionEnv, TxOutcome, execute_part};

/// The real blocks of `SHARD_BLOCKS` or of `shared/blocks` beside the repository. If there are
/// none, generated ones are used and a message is printed; in CI it is a failure.
pub(crate) fn blocks() -> Blocks {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/blocks");
    let path = std::env::var_os("SHARD_BLOCKS").map_or(beside, PathBuf::from);
    if path.exists() {
        return load_chain(&path).unwrap();
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "{} does not exist: CI runs real blocks; set SHARD_BLOCKS", path.display());
    eprintln!(
        "{} does not exist: running generated blocks instead; set SHARD_BLOCKS for real ones",
        path.display()
    );
    generated(Plan { transactions: 100, conflict: 0.3, seed: 1, ..Plan::default() }, 3)
}

pub(crate) fn generated(plan: Plan, blocks: usize) -> Blocks {
    let mut generator = Generator::new(plan);
    (0..blocks).map(|_| Arc::new(generator.next_block().unwrap())).collect()
}

/// One report per block, each block on the state after the one before it.
pub(crate) fn run(blocks: &Blocks, shards: usize) -> Vec<BlockReport> {
    run_on(blocks, shards, 1)
}

/// The same, with this many threads per shard.
pub(crate) fn run_on(blocks: &Blocks, shards: usize, threads: usize) -> Vec<BlockReport> {
    let local = Local::with_threads(shards, threads).unwrap();
    let mut state = None;
    let mut reports = Vec::new();
    for block in blocks {
        let (report, after) = local.run(block, state.take(), &|| {}).unwrap();
        reports.push(report);
        state = Some(after);
    }
    reports
}

/// A block of `transactions` on `pre` whose header promises nothing.
pub(crate) fn block(fork: Fork, pre: PreState, transactions: Vec<Transaction>) -> Block {
    Block {
        path: "made-by-test.json".into(),
        hash: B256::repeat_byte(1),
        chain: Chain::new(1337, fork),
        header: Header {
            number: 1_000,
            parent_hash: B256::repeat_byte(9),
            beneficiary: BENEFICIARY,
            timestamp: 1_000_000,
            gas_limit: 1_000_000_000,
            base_fee: if fork >= Fork::London { 7 } else { 0 },
            difficulty: if fork >= Fork::Merge { U256::ZERO } else { U256::from(1) },
            prev_randao: B256::repeat_byte(3),
            excess_blob_gas: (fork >= Fork::Cancun).then_some(0),
            parent_beacon_root: (fork >= Fork::Cancun).then_some(B256::repeat_byte(4)),
            slot_number: (fork >= Fork::Amsterdam).then_some(77),
        },
        expected: Expected {
            gas_used: 0,
            logs_bloom: Bloom::ZERO,
            receipts_root: B256::ZERO,
            requests_hash: None,
            withdrawals_root: None,
            blob_gas_used: None,
            block_access_list_hash: None,
            state_root: None,
            receipts: None,
        },
        size: None,
        transactions,
        withdrawals: Vec::new(),
        uncles: 0,
        pre: Some(pre),
        parent: None,
        hashes: BTreeMap::new(),
        witness: None,
    }
}

pub(crate) const BENEFICIARY: Address = Address::repeat_byte(0xbe);

pub(crate) fn transaction(
    sender: Address,
    nonce: u64,
    to: Option<Address>,
    value: u64,
    input: Bytes,
) -> Transaction {
    Transaction {
        hash: B256::ZERO,
        tx_type: 0,
        sender,
        nonce,
        to,
        value: U256::from(value),
        input,
        gas_limit: 500_000,
        max_fee: 10,
        max_priority_fee: None,
        chain_id: None,
        access_list: Vec::new(),
        max_fee_per_blob_gas: 0,
        blob_hashes: Vec::new(),
        authorizations: Vec::new(),
    }
}

pub(crate) fn with_balance(balance: u64) -> PreAccount {
    PreAccount { balance: U256::from(balance), ..PreAccount::default() }
}

pub(crate) fn with_code(code: impl Into<Bytes>) -> PreAccount {
    PreAccount { nonce: 1, code: code.into(), ..PreAccount::default() }
}

/// Sequential execution. Also asserts that execution on several threads has the same result, for
/// every block that a test makes.
pub(crate) fn in_order(block: &Block) -> (BlockResult, State) {
    let mut state = validate::open(block, None).unwrap();
    let result = validate::run_in_order(block, &mut state, Vec::new(), &|| {}).unwrap();
    for threads in [2, 4] {
        let (on_threads, after) = on_threads(block, threads);
        assert_eq!(BlockResult { reexecuted: 0, ..on_threads }, result, "on {threads} threads");
        assert_eq!(after.digest(), state.digest(), "on {threads} threads");
    }
    (result, state)
}

/// Execution on this many threads.
pub(crate) fn on_threads(block: &Block, threads: usize) -> (BlockResult, State) {
    let state = validate::open(block, None).unwrap();
    let local = Local::with_threads(1, threads).unwrap();
    local.execute(&Arc::new(block.clone()), state, &|| {}).unwrap()
}

/// Speculative execution of the given parts, each blind to the others, then settled in block order.
pub(crate) fn in_parts(block: &Block, parts: &[Vec<usize>]) -> (BlockResult, State) {
    let mut state = validate::open(block, None).unwrap();
    let env = ExecutionEnv::of(block);
    let mut speculated: Vec<Option<TxOutcome>> = vec![None; block.transactions.len()];
    for part in parts {
        let part = part.iter().map(|index| (*index as u32, &block.transactions[*index]));
        for outcome in execute_part(&env, part, &state, &mut |_| {}).unwrap() {
            let place = outcome.index as usize;
            speculated[place] = Some(outcome);
        }
    }
    let result = validate::run_in_order(block, &mut state, speculated, &|| {}).unwrap();
    (result, state)
}
