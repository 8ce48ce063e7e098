//! What an archive node knows about a generated chain.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use alloy_consensus::Header;
use alloy_rlp::Decodable;
use revm::primitives::{Address, B256, U256};
use serde_json::{Map, Value, json};
use shard_executor::block::{Block, Blocks, load_chain};
use shard_executor::generate::{Generator, Kind, Plan};
use shard_executor::local::Local;
use shard_executor::report::BlockReport;
use shard_executor::state::State;
use shard_executor::validate;
use shard_executor::vm::{ExecutionEnv, Overlay, StateView, execute};

/// Blocks, and the state before each of them.
pub(crate) struct Chain {
    pub(crate) blocks: Blocks,
    before: Vec<State>,
}

impl Chain {
    pub(crate) fn new(kind: Kind, blocks: usize) -> Self {
        let plan = Plan { transactions: 12, conflict: 0.8, seed: 11, kind, ..Plan::default() };
        let mut generator = Generator::new(plan);
        let blocks: Blocks = (0..blocks).map(|_| Arc::new(generator.next_block().unwrap())).collect();
        let mut before = vec![State::from_pre(blocks[0].pre.as_ref().unwrap())];
        let (local, mut state) = (Local::new(1).unwrap(), None);
        for block in &blocks {
            let (report, after) = local.run(block, state.take(), &|| {}).unwrap();
            assert!(report.verified);
            before.push(after.clone());
            state = Some(after);
        }
        Self { blocks, before }
    }

    pub(crate) fn block(&self, number: u64) -> &Arc<Block> {
        &self.blocks[number as usize - 1]
    }

    /// The state at the end of block `number`; 0: before the first.
    pub(crate) fn state(&self, number: u64) -> &State {
        &self.before[number as usize]
    }

    /// What `eth_getBlockByNumber` answers.
    pub(crate) fn header(&self, number: u64, whole: bool) -> Value {
        if number == 0 {
            return of_header(
                &Header::decode(&mut self.block(1).witness.as_ref().unwrap().parent()).unwrap(),
            );
        }
        let mut block = file(self.block(number))["block"].take();
        if !whole {
            for tx in block["transactions"].as_array_mut().unwrap() {
                *tx = tx["hash"].take();
            }
        }
        block
    }

    /// What `debug_executionWitness` answers, in geth's form or that of other clients.
    pub(crate) fn witness(&self, number: u64, as_geth: bool) -> Value {
        let mut witness = file(self.block(number))["witness"].take();
        if as_geth {
            let rlp = self.block(number).witness.as_ref().unwrap().clone();
            witness["headers"] = json!([of_header(&Header::decode(&mut rlp.parent()).unwrap())]);
            witness["keys"] = Value::Null;
        } else {
            witness["keys"] = json!(["0x0000000000000000000000000000000000000001"]);
        }
        witness
    }

    /// What `debug_traceBlockByNumber` answers with prestateTracer.
    pub(crate) fn traces(&self, number: u64, with_empty: bool) -> Value {
        let block = self.block(number);
        let mut state = self.state(number - 1).clone();
        // The protocol's calls before the first transaction.
        shard_executor::vm::before_transactions(block, &mut state).unwrap();
        let env = ExecutionEnv::of(block);
        let mut view = Overlay::new(&env, &state);
        let mut list = Vec::new();
        for (index, tx) in block.transactions.iter().enumerate() {
            let outcome = execute(&env, tx, index as u32, &view).unwrap();
            let mut touched = Map::new();
            let accounts = outcome.reads.accounts.iter().map(|(address, _)| *address);
            for address in accounts.chain([block.header.beneficiary]) {
                let slots = outcome.reads.storage.iter().filter(|(of, ..)| *of == address);
                let storage: Map<String, Value> =
                    slots.map(|(_, slot, value)| (word(*slot), json!(word(*value)))).collect();
                match account(&view, address) {
                    Some(mut traced) => {
                        if !storage.is_empty() {
                            traced["storage"] = Value::Object(storage);
                        }
                        touched.insert(address.to_string(), traced);
                    }
                    None if with_empty => _ = touched.insert(address.to_string(), json!({"balance": "0x0"})),
                    None => {}
                }
            }
            list.push(json!({"txHash": tx.hash, "result": touched}));
            view.apply(&outcome);
        }
        Value::Array(list)
    }

    /// What `eth_getBlockReceipts` answers, limited to the fields that are read.
    pub(crate) fn receipts(&self, number: u64) -> Value {
        let mut receipts = file(self.block(number))["receipts"].take();
        for (receipt, tx) in receipts.as_array_mut().unwrap().iter_mut().zip(&self.block(number).transactions)
        {
            receipt["transactionHash"] = json!(tx.hash);
        }
        receipts
    }

    /// The key `chain` of its files.
    pub(crate) fn id(&self) -> Value {
        file(self.block(1))["chain"].take()
    }
}

fn word(value: U256) -> String {
    B256::from(value).to_string()
}

/// An account as the tracer prints it: without fields that are zero.
fn account(view: &impl StateView, address: Address) -> Option<Value> {
    let info = view.account(address).unwrap()?;
    let code = view.code(info.code_hash).unwrap().original_bytes();
    let mut traced = json!({"balance": info.balance});
    if info.nonce > 0 {
        // Geth prints this one as a number.
        traced["nonce"] = json!(info.nonce);
    }
    if !code.is_empty() {
        traced["code"] = json!(code);
        traced["codeHash"] = json!(info.code_hash);
    }
    Some(traced)
}

pub(crate) fn file(block: &Block) -> Value {
    serde_json::from_slice(&block.to_json().unwrap()).unwrap()
}

fn of_header(header: &Header) -> Value {
    let quantity = |number: u64| json!(format!("{number:#x}"));
    let mut of = json!({
        "hash": header.hash_slow(), "parentHash": header.parent_hash, "sha3Uncles": header.ommers_hash,
        "miner": header.beneficiary, "stateRoot": header.state_root, "transactionsRoot": header.transactions_root,
        "receiptsRoot": header.receipts_root, "logsBloom": header.logs_bloom, "difficulty": header.difficulty,
        "number": quantity(header.number), "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used), "timestamp": quantity(header.timestamp),
        "extraData": header.extra_data, "mixHash": header.mix_hash, "nonce": header.nonce,
    });
    let later = [
        ("baseFeePerGas", header.base_fee_per_gas.map(quantity)),
        ("withdrawalsRoot", header.withdrawals_root.map(|root| json!(root))),
        ("blobGasUsed", header.blob_gas_used.map(quantity)),
        ("excessBlobGas", header.excess_blob_gas.map(quantity)),
        ("parentBeaconBlockRoot", header.parent_beacon_block_root.map(|root| json!(root))),
        ("requestsHash", header.requests_hash.map(|hash| json!(hash))),
    ];
    for (key, value) in later {
        if let Some(value) = value {
            of[key] = value;
        }
    }
    of
}

/// Runs `import`.
pub(crate) fn import(out: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shard-executor"));
    command.arg("import").arg("--out").arg(out).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The reports on the files in a folder, each on its own state.
pub(crate) fn reports(folder: &Path) -> Vec<BlockReport> {
    let local = Local::new(2).unwrap();
    load_chain(folder).unwrap().iter().map(|block| local.run(block, None, &|| {}).unwrap().0).collect()
}

/// Whether the state after a block is the chain's, as far as the accounts in its file show.
pub(crate) fn comes_to_the_state_of(chain: &Chain, folder: &Path) {
    for block in load_chain(folder).unwrap() {
        let mut state = validate::open(&block, None).unwrap();
        let result = validate::run_in_order(&block, &mut state, Vec::new(), &|| {}).unwrap();
        assert_eq!(result.mismatch, None);
        let wanted = chain.state(block.number());
        for address in block.pre.as_ref().unwrap().keys() {
            assert_eq!(state.account(address), wanted.account(address), "{address} after {}", block.number());
        }
    }
}
