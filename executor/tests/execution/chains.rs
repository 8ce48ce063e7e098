//! The key `chain` of a block file: which chain and which rules, and what is said of a wrong one.

use serde_json::{Value, json};
use shard_executor::block::{self, Block, BlockError, Fork};
use shard_executor::generate::Plan;

use crate::support::generated;

/// A file with a legacy transaction, of the given number and second.
fn file(number: u64, timestamp: u64, chain: Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    let plan = Plan { transactions: 0, ..Plan::default() };
    block::write(&generated(plan, 1)[0], &path).unwrap();
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["block"]["number"] = json!(format!("{number:#x}"));
    file["block"]["timestamp"] = json!(format!("{timestamp:#x}"));
    file["block"]["withdrawals"] = Value::Null;
    file["chain"] = chain;
    file
}

fn load(file: &Value) -> Result<Block, BlockError> {
    Block::from_json("made-by-test.json", file.to_string().as_bytes())
}

fn fork(number: u64, timestamp: u64, chain: Value) -> Fork {
    load(&file(number, timestamp, chain)).unwrap().chain.fork
}

#[test]
fn a_block_without_the_key_is_mainnets() {
    let block = load(&file(18_000_000, 1_693_066_895, Value::Null)).unwrap();
    assert_eq!((block.chain.id, block.chain.fork), (1, Fork::Shanghai));
    // The same with an id only: another id, the forks of mainnet.
    let block = load(&file(18_000_000, 1_693_066_895, json!({ "id": "0x539" }))).unwrap();
    assert_eq!((block.chain.id, block.chain.fork), (1337, Fork::Shanghai));
}

#[test]
fn a_fork_goes_by_any_of_its_names() {
    for (name, wanted) in [
        ("Cancun", Fork::Cancun),
        ("PARIS", Fork::Merge),
        ("SpuriousDragon", Fork::SpuriousDragon),
        ("spurious dragon", Fork::SpuriousDragon),
        ("EIP150", Fork::Tangerine),
        ("ConstantinopleFix", Fork::Petersburg),
        ("MuirGlacier", Fork::Istanbul),
        ("GrayGlacier", Fork::London),
    ] {
        assert_eq!(fork(1, 1, json!({ "id": 1337, "fork": name })), wanted, "{name}");
    }
}

#[test]
fn activations_say_since_when_a_fork_is_in_force() {
    let chain = json!({ "id": 1337, "activations": {
        "homestead": 0, "london": 100, "merge": "0xc8", "shanghai": 5_000, "cancun": 6_000, "prague": 6_000,
    }});
    for (number, timestamp, wanted) in [
        (0, 0, Fork::Homestead),
        (99, 4_999, Fork::Homestead),
        (100, 4_999, Fork::London),
        (199, 4_999, Fork::London),
        (200, 4_999, Fork::Merge),
        (200, 5_000, Fork::Shanghai),
        (300, 5_999, Fork::Shanghai),
        (300, 6_000, Fork::Prague),
        (300, u64::MAX, Fork::Prague),
    ] {
        assert_eq!(fork(number, timestamp, chain.clone()), wanted, "block {number}, second {timestamp}");
    }
    assert_eq!(fork(5, 5, json!({ "activations": { "homestead": 6 } })), Fork::Frontier);
    // Two names of the same rules, as in many a genesis.
    assert_eq!(fork(5, 5, json!({ "activations": { "eip155": 5, "eip158": 5 } })), Fork::SpuriousDragon);
}

#[test]
fn wrong_values_are_told() {
    for (chain, because) in [
        (json!({ "id": 0 }), "the id 0"),
        (json!({ "id": "mainnet" }), "made-by-test.json:1:"),
        (json!({ "id": -1 }), "made-by-test.json:1:"),
        (json!({ "fork": "osaka" }), "fork `osaka` is not one of frontier"),
        (json!({ "fork": "" }), "fork `` is not one of frontier"),
        (json!({ "fork": 7 }), "made-by-test.json:1:"),
        (json!({ "hardfork": "prague" }), "unknown field `hardfork`"),
        (json!({ "fork": "prague", "activations": {} }), "both `fork` and `activations`"),
        (json!({ "activations": { "osaka": 1 } }), "`activations`: fork `osaka` is not one of"),
        (json!({ "activations": { "london": 5, "berlin": 6 } }), "london at 5, before berlin at 6"),
        (json!({ "activations": { "prague": 5, "cancun": 6 } }), "prague at 5, before cancun at 6"),
        (json!({ "activations": { "paris": 5, "merge": 6 } }), "says twice since when merge"),
        (json!("prague"), "made-by-test.json:1:"),
    ] {
        let error = load(&file(1, 1, chain.clone())).expect_err(&chain.to_string()).to_string();
        assert!(error.contains("made-by-test.json"), "{error}");
        assert!(error.contains(because), "expected `{because}` in: {error}");
    }
}

#[test]
fn a_transaction_signed_for_another_chain_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(&generated(Plan { transactions: 3, ..Plan::default() }, 1)[0], &path).unwrap();
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["chain"]["id"] = json!(1);
    let error = load(&file).unwrap_err().to_string();
    assert!(error.contains("transaction 0 is signed for chain 1337, and the block is of chain 1"), "{error}");
}

#[test]
fn withdrawals_before_there_were_any_are_told() {
    let mut file = file(1, 1, json!({ "fork": "london" }));
    file["block"]["withdrawals"] =
        json!([{ "address": "0x0000000000000000000000000000000000000001", "amount": "0x1" }]);
    let error = load(&file).unwrap_err().to_string();
    assert!(error.contains("runs under london, which has no withdrawals"), "{error}");
}
