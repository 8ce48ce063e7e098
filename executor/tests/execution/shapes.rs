//! Blocks as clients print them: read, or refused with the field and the next step.

use revm::primitives::{Address, B256, keccak256};
use serde_json::{Value, json};
use shard_executor::block::{Block, Fork};
use shard_executor::generate::{Kind, Plan};

use crate::support::generated;

/// A small block in the form that nodes and our own files use.
fn file() -> Value {
    // A witness would prove, and so contradict, what is changed here.
    let plan = Plan { transactions: 4, kind: Kind::Transfers, witness: false, ..Plan::default() };
    let mut block = Block::clone(&generated(plan, 1)[0]);
    block.expected.receipts = None;
    serde_json::from_slice(&block.to_json().unwrap()).unwrap()
}

fn load(file: &Value) -> Block {
    Block::from_json("shape.json", file.to_string().as_bytes()).unwrap()
}

fn assert_refused(file: &Value, because: &[&str]) {
    let error = Block::from_json("shape.json", file.to_string().as_bytes()).unwrap_err().to_string();
    for because in because {
        assert!(error.contains(because), "expected `{because}` in: {error}");
    }
}

fn enveloped(value: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "result": value })
}

#[test]
fn an_envelope_is_opened_wherever_a_node_puts_one() {
    let plain = file();
    let wanted = load(&plain);
    assert_eq!(load(&enveloped(&plain)), wanted);
    for key in ["block", "pre"] {
        let mut file = plain.clone();
        file[key] = enveloped(&plain[key]);
        assert_eq!(load(&file), wanted, "{key}");
        // In another order, since clients differ.
        file[key] = json!({ "id": 1, "result": plain[key], "jsonrpc": "2.0" });
        assert_eq!(load(&file), wanted, "{key}");
    }
    let mut with_receipts = plain.clone();
    let receipt = |gas: u64| json!({ "cumulativeGasUsed": format!("{gas:#x}") });
    let receipts: Value = (1..=4).map(|n| receipt(n * 21_000)).collect();
    with_receipts["receipts"] = receipts.clone();
    let wanted = load(&with_receipts);
    with_receipts["receipts"] = enveloped(&receipts);
    assert_eq!(load(&with_receipts), wanted);
}

#[test]
fn a_nodes_error_is_told_as_one() {
    let mut file = file();
    file["block"] =
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32000, "message": "no such block" } });
    assert_refused(&file, &["answered with an error", "no such block", "shape.json:1:"]);
    file["block"] = enveloped(&Value::Null);
    assert_refused(&file, &["`result` is null", "does not know the block"]);
    file["block"] = json!({ "jsonrpc": "2.0", "id": 1 });
    assert_refused(&file, &["has no `result`"]);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let plain = file().to_string();
    let marked = [b"\xef\xbb\xbf", plain.as_bytes()].concat();
    assert_eq!(
        Block::from_json("shape.json", &marked).unwrap(),
        Block::from_json("shape.json", plain.as_bytes()).unwrap()
    );
}

#[test]
fn the_parity_of_an_authorization_goes_by_both_of_its_names() {
    let with = |names: Value| {
        let mut file = file();
        let tx = &mut file["block"]["transactions"][0];
        tx["type"] = json!("0x4");
        tx["maxFeePerGas"] = json!("0xb2d05e00");
        let mut signed =
            json!({ "chainId": "0x1", "address": Address::ZERO, "nonce": "0x0", "r": "0x1", "s": "0x2" });
        signed.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        tx["authorizationList"] = json!([signed]);
        file
    };
    for (names, parity) in [
        (json!({ "yParity": "0x1" }), 1),
        (json!({ "v": "0x1" }), 1),
        (json!({ "yParity": "0x1", "v": "0x1" }), 1),
        (json!({ "v": "0x0", "yParity": "0x0" }), 0),
        (json!({ "yParity": "0x1", "v": "0x1c" }), 1),
    ] {
        assert_eq!(load(&with(names.clone())).transactions[0].authorizations[0].y_parity, parity, "{names}");
    }
    assert_refused(
        &with(json!({ "yParity": "0x1", "v": "0x0" })),
        &["transaction 0", "yParity", "contradict each other", "Fetch the block again"],
    );
    assert_refused(&with(json!({})), &["an authorization has no `yParity`"]);
}

#[test]
fn an_old_transaction_may_be_signed_for_no_chain() {
    let mut file = file();
    let transactions = file["block"]["transactions"].as_array_mut().unwrap();
    let old = transactions.iter_mut().find(|tx| tx["type"] == "0x0").unwrap();
    old["chainId"] = json!("0x0");
    let block = load(&file);
    let chain_ids = block.transactions.iter().filter(|tx| tx.tx_type == 0).map(|tx| tx.chain_id);
    assert!(chain_ids.collect::<Vec<_>>().contains(&None));
    let transactions = file["block"]["transactions"].as_array_mut().unwrap();
    let new = transactions.iter_mut().find(|tx| tx["type"] == "0x2").unwrap();
    new["chainId"] = json!("0x0");
    assert_refused(&file, &["is signed for chain 0"]);
}

#[test]
fn nobody_is_paid_where_a_contract_is_created() {
    for nobody in [json!(null), json!(""), json!("0x")] {
        let mut file = file();
        file["block"]["transactions"][1]["to"] = nobody.clone();
        assert_eq!(load(&file).transactions[1].to, None, "{nobody}");
    }
    let mut file = file();
    file["block"]["transactions"][1]["to"] = json!("0x12");
    assert_refused(&file, &["`to`, an address of 20 bytes"]);
    file["block"]["transactions"][1].as_object_mut().unwrap().remove("to");
    assert_eq!(load(&file).transactions[1].to, None);
}

#[test]
fn hashes_in_place_of_transactions_are_told() {
    let mut file = file();
    let hash = file["block"]["transactions"][2]["hash"].clone();
    file["block"]["transactions"][2] = hash;
    assert_refused(&file, &["only the hash of transaction 2", "eth_getBlockByNumber(n, true)"]);
    file["block"]["transactions"][2] = json!("0x12");
    assert_refused(&file, &["expected a transaction"]);
}

#[test]
fn code_that_the_tracer_left_out_is_told_with_the_account() {
    let address = format!("{:#x}", Address::repeat_byte(0x7f));
    let mut file = file();
    file["pre"][&address] = json!({ "balance": "0x1", "codeHash": B256::repeat_byte(1) });
    assert_refused(&file, &[&address, "codeHash", "`disableCode`"]);
    file["pre"][&address]["code"] = json!("0x00");
    assert_refused(&file, &[&address, "whose hash is not its codeHash"]);
    file["pre"][&address]["codeHash"] = json!(keccak256([0x00]));
    load(&file);
}

#[test]
fn a_list_of_traces_is_the_state_before_the_block() {
    let plain = file();
    let wanted = load(&plain);
    let accounts = plain["pre"].as_object().unwrap();
    let hashes: Vec<Value> =
        plain["block"]["transactions"].as_array().unwrap().iter().map(|tx| tx["hash"].clone()).collect();
    // Each account is in one trace, and again in a later one with the values that a transaction has
    // given it.
    let mut traces: Vec<Value> = hashes.iter().map(|hash| json!({ "txHash": hash, "result": {} })).collect();
    for (index, (address, account)) in accounts.iter().enumerate() {
        traces[index % 3]["result"][address] = account.clone();
        traces[3]["result"][address] = json!({ "balance": "0x1234", "nonce": 77 });
    }
    let mut listed = plain.clone();
    listed["pre"] = json!(traces);
    assert_eq!(load(&listed), wanted);
    listed["pre"] = enveloped(&json!(traces));
    assert_eq!(load(&listed), wanted);

    // The account that the first transaction pays did not exist before; a later trace shows it with
    // that payment.
    let paid = plain["block"]["transactions"][0]["to"].as_str().unwrap().to_lowercase();
    let mut late = traces.clone();
    for trace in &mut late[..3] {
        trace["result"].as_object_mut().unwrap().retain(|address, _| address.to_lowercase() != paid);
    }
    late[3]["result"][&paid] = json!({ "balance": "0x77" });
    listed["pre"] = json!(late);
    assert!(!load(&listed).pre.unwrap().contains_key(&paid.parse::<Address>().unwrap()));

    listed["pre"] = json!(traces[..3]);
    assert_refused(&listed, &["traces of 3 transactions, and the block has 4", "debug_traceBlockByNumber"]);
    traces.swap(1, 2);
    listed["pre"] = json!(traces);
    assert_refused(&listed, &["trace 1 of `pre` is of another transaction"]);
    traces[0]["result"] = json!({ "pre": {}, "post": {} });
    listed["pre"] = json!(traces);
    assert_refused(&listed, &["without the tracer's option `diffMode`"]);
}

#[test]
fn withdrawals_are_there_with_their_indices_or_it_is_told() {
    let mut file = file();
    file["block"]["withdrawals"] = Value::Null;
    assert_refused(&file, &["runs under prague and has no `withdrawals`", "empty list"]);
    file["block"].as_object_mut().unwrap().remove("withdrawals");
    assert_refused(&file, &["has no `withdrawals`"]);
    file["block"]["withdrawals"] = json!([{ "address": Address::ZERO, "amount": "0x1" }]);
    assert_refused(&file, &["withdrawal 0", "`index` or `validatorIndex`"]);
    file["block"].as_object_mut().unwrap().remove("withdrawalsRoot");
    assert_eq!(load(&file).withdrawals.len(), 1);
}

#[test]
fn the_numbers_of_hashes_may_be_hex() {
    let mut file = file();
    file["hashes"] = json!({ "0x10": B256::repeat_byte(1), "17": B256::repeat_byte(2) });
    assert_eq!(load(&file).hashes.keys().copied().collect::<Vec<_>>(), [16, 17]);
    file["hashes"] = json!({ "latest": B256::ZERO });
    assert_refused(&file, &["`latest` of `hashes` is not a block number"]);
}

#[test]
fn a_parent_is_the_block_before() {
    let mut file = file();
    let right = json!({
        "number": "0x0", "hash": file["block"]["parentHash"], "timestamp": "0x1", "gasLimit": file["block"]["gasLimit"],
        "gasUsed": "0x0", "baseFeePerGas": "0x3b9aca00", "transactions": [], "stateRoot": B256::ZERO,
    });
    file["parent"] = enveloped(&right);
    let block = load(&file);
    assert_eq!(
        block.parent.as_ref().map(|parent| (parent.number, parent.base_fee)),
        Some((0, Some(1_000_000_000)))
    );
    assert_eq!(load(&serde_json::from_slice(&block.to_json().unwrap()).unwrap()), block);
    for (key, wrong) in [("number", json!("0x1")), ("hash", json!(B256::ZERO))] {
        file["parent"] = right.clone();
        file["parent"][key] = wrong;
        assert_refused(&file, &["`parent` is block", "Fetch the header of the block before it"]);
    }
}

#[test]
fn a_generated_chain_of_each_fork_is_read_as_it_was_written() {
    for fork in [Fork::Shanghai, Fork::Cancun, Fork::Prague, Fork::Osaka, Fork::Bpo1, Fork::Bpo2] {
        let made = generated(Plan { transactions: 3, fork, ..Plan::default() }, 2);
        let read = made.iter().map(|block| Block::from_json(&block.path, &block.to_json().unwrap()).unwrap());
        for (mut read, made) in read.zip(&made) {
            assert_eq!(read.size.take().is_some(), fork >= Fork::Osaka);
            assert_eq!(read, **made);
        }
    }
}
