//! With a witness the state root after a block is computed and compared, however the block is run;
//! what a witness does not prove is refused, never guessed.

use std::sync::Arc;

use alloy_eips::eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE};
use revm::primitives::{B256, Bytes, U256, keccak256};
use serde_json::Value;
use shard_executor::block::{self, Block, BlockError, Blocks, Fork, PreAccount, load_chain};
use shard_executor::generate::{Kind, Plan};
use shard_executor::local::Local;
use shard_executor::validate::{Mismatch, StateRoot, ValidateError};

use crate::support::{generated, run_on};

fn chain(blocks: usize) -> Blocks {
    generated(Plan { transactions: 40, conflict: 0.3, seed: 3, ..Plan::default() }, blocks)
}

#[test]
fn the_state_root_is_checked_on_every_way_of_running() {
    let blocks = chain(3);
    for (shards, threads) in [(1, 1), (1, 4), (3, 1), (2, 2)] {
        for report in run_on(&blocks, shards, threads) {
            assert!(report.verified, "{shards} shards, {threads} threads: {:?}", report.mismatch);
            assert!(report.state_not_checked.is_none(), "{shards} shards, {threads} threads");
        }
    }
}

/// The block after being written to a file's text and read again.
fn reread(block: &Block) -> Result<Block, BlockError> {
    Block::from_json("reread.json", &block.to_json().unwrap())
}

fn run(block: &Block) -> Result<(Option<Mismatch>, StateRoot), ValidateError> {
    let state = shard_executor::validate::open(block, None)?;
    let local = Local::new(1).unwrap();
    let (result, _) = local.execute(&Arc::new(block.clone()), state, &|| {})?;
    Ok((result.mismatch, result.state_root))
}

#[test]
fn a_header_with_another_state_root_is_a_wrong_block() {
    let mut block = Block::clone(&chain(1)[0]);
    block.expected.state_root = Some(B256::repeat_byte(7));
    let (mismatch, _) = run(&reread(&block).unwrap()).unwrap();
    let Some(Mismatch::Header { differences, .. }) = mismatch else { panic!("{mismatch:?}") };
    assert_eq!(differences.iter().map(|d| d.field).collect::<Vec<_>>(), ["stateRoot"]);
}

/// Gas, bloom and receipts do not reveal this change, and the withdrawals root is removed: only the
/// state root does.
#[test]
fn a_withdrawal_of_another_amount_is_found_by_the_state_root_alone() {
    let mut block = Block::clone(&chain(1)[0]);
    block.withdrawals[0].gwei += 1;
    block.expected.withdrawals_root = None;
    let (mismatch, _) = run(&block).unwrap();
    let Some(Mismatch::Header { differences, .. }) = mismatch else { panic!("{mismatch:?}") };
    assert_eq!(differences.iter().map(|d| d.field).collect::<Vec<_>>(), ["stateRoot"]);
    block.witness = None;
    assert_eq!(run(&block).unwrap().0, None);
}

#[test]
fn without_a_witness_the_state_is_not_checked_and_that_is_said() {
    let mut block = Block::clone(&chain(1)[0]);
    block.witness = None;
    let reports = run_on(&vec![Arc::new(block)], 1, 1);
    assert!(reports[0].verified);
    assert_eq!(reports[0].state_not_checked.as_deref(), Some("no witness"));
}

#[test]
fn pre_that_the_witness_does_not_prove_is_refused_by_the_name_of_the_account() {
    let blocks = chain(1);
    let good = &blocks[0];
    let refused = |change: &dyn Fn(&mut PreAccount)| {
        let mut block = Block::clone(good);
        let pre = block.pre.as_mut().unwrap();
        let touched = block.transactions[0].sender;
        change(pre.entry(touched).or_default());
        let said = reread(&block).unwrap_err().to_string();
        assert!(said.contains(&touched.to_string()), "{said}");
        said
    };
    assert!(refused(&|account| account.balance += U256::from(1)).contains("balance"));
    assert!(refused(&|account| account.nonce += 1).contains("nonce"));
    assert!(refused(&|account| account.code = vec![0].into()).contains("code with hash"));
    let said = refused(&|account| {
        account.storage.insert(U256::from(5), U256::from(6));
    });
    assert!(said.contains("slot 0x5 = 0x6"), "{said}");
}

#[test]
fn a_block_with_nothing_but_a_witness_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let whole = chain(3);
    for block in &whole {
        let alone = Block { pre: None, ..Block::clone(block) };
        block::write(&alone, &folder.path().join(format!("{}.json.gz", block.number()))).unwrap();
    }
    let alone = load_chain(folder.path()).unwrap();
    for (of_all, found_out) in run_on(&whole, 1, 1).iter().zip(run_on(&alone, 2, 1)) {
        assert!(found_out.verified, "{:?}", found_out.mismatch);
        assert!(found_out.state_root.is_some());
        assert_eq!(found_out.state_root, of_all.state_root);
    }
}

/// The JSON of a block's file, for tests to corrupt.
fn file(block: &Block) -> Value {
    serde_json::from_slice(&block.to_json().unwrap()).unwrap()
}

#[test]
fn whatever_node_is_missing_is_named_and_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    let mut whole = file(&chain(1)[0]);
    whole.as_object_mut().unwrap().remove("pre");
    let nodes = whole["witness"]["state"].as_array().unwrap().len();
    let mut missing = 0;
    for gone in (0..nodes).step_by(nodes / 12) {
        let mut less = whole.clone();
        let node = less["witness"]["state"].as_array_mut().unwrap().remove(gone);
        let hash = keccak256(node.as_str().unwrap().parse::<Bytes>().unwrap());
        std::fs::write(&path, serde_json::to_vec(&less).unwrap()).unwrap();
        let said = match load_chain(&path) {
            Err(error) => error.to_string(),
            // The node is needed only for the state after the block, or not at all.
            Ok(blocks) => match run(&blocks[0]) {
                Err(ValidateError::Block(error)) => error.to_string(),
                Ok((None, StateRoot::Checked(_))) => continue,
                other => panic!("{other:?}"),
            },
        };
        assert!(said.contains(&hash.to_string()), "{hash} is missing: {said}");
        missing += 1;
    }
    assert!(missing > 3, "only {missing} were needed");
}

#[test]
fn a_witness_of_another_parent_or_with_a_header_that_lies_is_refused() {
    let blocks = chain(2);
    let refused = |spoil: &dyn Fn(&mut Value)| {
        let mut file = file(&blocks[1]);
        spoil(&mut file);
        Block::from_json("spoilt.json", &serde_json::to_vec(&file).unwrap()).unwrap_err().to_string()
    };
    let other = file(&blocks[0])["witness"]["headers"].clone();
    let parent = blocks[1].header.parent_hash.to_string();
    assert!(refused(&|file| file["witness"]["headers"] = other.clone()).contains(&parent));
    assert!(refused(&|file| file["witness"]["headers"] = serde_json::json!([])).contains(&parent));
    assert!(refused(&|file| file["witness"]["headers"] = serde_json::json!(["0x1234"])).contains(&parent));
    let hashes = |file: &mut Value| file["hashes"]["1"] = B256::repeat_byte(3).to_string().into();
    assert!(refused(&hashes).contains("block 1 has the hash"));
    let no_root = |file: &mut Value| {
        file["block"].as_object_mut().unwrap().remove("stateRoot");
    };
    assert!(refused(&no_root).contains("stateRoot"));
}

/// A witness has only code that runs. An account that is merely paid may still be a contract.
#[test]
fn an_account_is_paid_though_nobody_knows_its_code() {
    // Before Cancun nobody calls the contract of the beacon roots.
    let plan =
        Plan { transactions: 1, kind: Kind::Transfers, fork: Fork::Shanghai, seed: 3, ..Plan::default() };
    let mut block = Block::clone(&generated(plan, 1)[0]);
    let (paid, code) = (BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE.clone());
    assert_eq!(block.pre.as_ref().unwrap()[&paid].code, code);
    block.withdrawals[0].address = paid;
    block.expected.withdrawals_root = None;
    let mut file = file(&block);
    file["pre"] = Value::Null;
    file["witness"]["codes"]
        .as_array_mut()
        .unwrap()
        .retain(|known| known.as_str() != Some(&code.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let found_out = load_chain(&path).unwrap();
    let account = &found_out[0].pre.as_ref().unwrap()[&paid];
    assert_eq!((account.code.len(), account.code_hash), (0, Some(keccak256(&code))));
    // The state differs, since another account was paid, and nothing else does. It is the same with
    // the code and without it.
    let roots = [&found_out[0], &Arc::new(block)].map(|block| match run(block).unwrap() {
        (Some(Mismatch::Header { differences, .. }), StateRoot::Checked(root)) if differences.len() == 1 => {
            root
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(roots[0], roots[1]);
    // The block can also be written and read again.
    assert_eq!(reread(&found_out[0]).unwrap().pre, found_out[0].pre);
}
