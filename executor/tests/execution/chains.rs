//! The key `chain` of a block file: it sets chain and rules, and a wrong one is reported.

use revm::primitives::{Address, B256};
use serde_json::{Value, json};
use shard_executor::block::{self, Blobs, Block, BlockError, Fork};
use shard_executor::generate::Plan;

use crate::support::generated;

/// The fields that came with each fork, in order, each with a neutral value.
fn fields() -> [(Fork, &'static str, Value); 9] {
    [
        (Fork::London, "baseFeePerGas", json!("0x7")),
        (Fork::Shanghai, "withdrawalsRoot", json!(alloy_consensus::constants::EMPTY_ROOT_HASH)),
        (Fork::Shanghai, "withdrawals", json!([])),
        (Fork::Cancun, "excessBlobGas", json!("0x0")),
        (Fork::Cancun, "blobGasUsed", json!("0x0")),
        (Fork::Cancun, "parentBeaconBlockRoot", json!(B256::ZERO)),
        (Fork::Prague, "requestsHash", json!(alloy_eips::eip7685::EMPTY_REQUESTS_HASH)),
        (Fork::Amsterdam, "slotNumber", json!("0x5")),
        (Fork::Amsterdam, "blockAccessListHash", json!(B256::ZERO)),
    ]
}

/// An empty block with the given number and timestamp whose header is one of `fork`.
fn header_of(fork: Fork, number: u64, timestamp: u64, chain: &Value) -> Value {
    let mut file = json!({
        "block": {
            "number": format!("{number:#x}"),
            "hash": B256::repeat_byte(1),
            "parentHash": B256::repeat_byte(2),
            "miner": Address::ZERO,
            "timestamp": format!("{timestamp:#x}"),
            "gasLimit": "0x1c9c380",
            "gasUsed": "0x0",
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "receiptsRoot": B256::ZERO,
            "difficulty": if fork < Fork::Merge { "0x7" } else { "0x0" },
            "transactions": [],
        },
        "pre": {},
        "chain": chain,
    });
    for (_, field, value) in fields().into_iter().filter(|(since, _, _)| fork >= *since) {
        file["block"][field] = value;
    }
    file
}

/// The same, with the fields of whichever fork fits.
fn file(number: u64, timestamp: u64, chain: &Value) -> Value {
    let forks = [Fork::Frontier, Fork::London, Fork::Merge, Fork::Shanghai, Fork::Cancun, Fork::Prague];
    let of = |fork| header_of(fork, number, timestamp, chain);
    let fits = forks.into_iter().chain([Fork::Amsterdam]).map(of).find(|file| load(file).is_ok());
    fits.unwrap_or_else(|| of(Fork::Frontier))
}

fn load(file: &Value) -> Result<Block, BlockError> {
    Block::from_json("made-by-test.json", file.to_string().as_bytes())
}

fn fork(number: u64, timestamp: u64, chain: &Value) -> Fork {
    load(&file(number, timestamp, chain)).unwrap().chain.fork
}

#[test]
fn a_block_without_the_key_is_mainnets() {
    let block = load(&file(18_000_000, 1_693_066_895, &Value::Null)).unwrap();
    assert_eq!((block.chain.id, block.chain.fork), (1, Fork::Shanghai));
    let block = load(&file(24_180_001, 1_767_747_671, &Value::Null)).unwrap();
    assert_eq!((block.chain.id, block.chain.fork), (1, Fork::Bpo2));
}

#[test]
fn an_id_alone_is_enough_for_a_public_chain_and_for_no_other() {
    for (id, timestamp, wanted) in [
        (1, 1_764_798_551, Fork::Osaka),
        (1, 1_765_290_071, Fork::Bpo1),
        (11_155_111, 1_760_427_360, Fork::Osaka),
        (11_155_111, 1_791_294_815, Fork::Bpo2),
        (11_155_111, 1_791_294_816, Fork::Amsterdam),
        (17_000, 1_759_308_480, Fork::Osaka),
        (560_048, 1_762_955_544, Fork::Bpo2),
    ] {
        let block = load(&file(30_000_000, timestamp, &json!({ "id": id }))).unwrap();
        assert_eq!((block.chain.id, block.chain.fork), (id, wanted), "second {timestamp}");
        let fork = if wanted == Fork::Amsterdam { Fork::Bpo2 } else { wanted };
        assert_eq!(block.chain.blobs, Blobs::of(fork), "Amsterdam brings no blobs of its own");
    }
    for id in [1337, 10, 42_161] {
        for fork in [Fork::Shanghai, Fork::Prague] {
            let error = load(&header_of(fork, 18_000_000, 1_693_066_895, &json!({ "id": id }))).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(&format!("the forks of chain {id} are not known")), "{said}");
        }
    }
}

#[test]
fn a_header_with_a_field_too_many_or_too_few_is_of_another_fork() {
    let forks = [
        Fork::Berlin,
        Fork::London,
        Fork::Merge,
        Fork::Shanghai,
        Fork::Cancun,
        Fork::Prague,
        Fork::Osaka,
        Fork::Bpo2,
        Fork::Amsterdam,
    ];
    for fork in forks {
        let chain = json!({ "id": 1337, "fork": fork.to_string() });
        let mut right = header_of(fork, 5, 5, &chain);
        // The whole header as a node prints it.
        right["block"]["stateRoot"] = json!(B256::ZERO);
        right["block"]["transactionsRoot"] = json!(B256::ZERO);
        assert_eq!(load(&right).unwrap().chain.fork, fork);
        for (since, field, value) in fields() {
            let mut wrong = right.clone();
            let because = if fork >= since {
                wrong["block"].as_object_mut().unwrap().remove(field);
                format!("runs under {fork} and has no `{field}`")
            } else if field == "withdrawals" {
                // An empty list specifies nothing.
                continue;
            } else {
                wrong["block"][field] = value;
                format!("has a `{field}` and runs under {fork}, before {since} brought that")
            };
            let said = load(&wrong).unwrap_err().to_string();
            assert!(said.contains(&because), "expected `{because}` in: {said}");
        }
    }
    let mut mined = header_of(Fork::Prague, 5, 5, &json!({ "fork": "prague" }));
    mined["block"]["difficulty"] = json!("0x1");
    assert!(load(&mined).unwrap_err().to_string().contains("nothing is mined any more"));
}

#[test]
fn what_only_a_whole_header_has_may_be_absent_from_a_file_of_ours() {
    for field in ["withdrawalsRoot", "blobGasUsed", "requestsHash"] {
        let mut file = header_of(Fork::Osaka, 5, 5, &json!({ "id": 1337, "fork": "osaka" }));
        file["block"].as_object_mut().unwrap().remove(field);
        load(&file).unwrap();
    }
}

fn blobs(target: u64, max: u64, fraction: u64) -> Value {
    json!({ "target": target, "max": max, "baseFeeUpdateFraction": fraction })
}

#[test]
fn the_schedule_of_blobs_is_the_files_own_where_it_has_one() {
    let parameters = |fork, timestamp, chain: &Value| {
        let Blobs { target, max, update_fraction } =
            load(&header_of(fork, 5, timestamp, chain)).unwrap().chain.blobs.unwrap();
        (target, max, update_fraction)
    };
    let chain = json!({ "id": 7, "fork": "bpo1", "blobSchedule": { "bpo1": blobs(1, 2, 3) } });
    assert_eq!(parameters(Fork::Osaka, 5, &chain), (1, 2, 3));
    let chain = json!({
        "id": 7,
        "activations": { "merge": 0, "cancun": 0, "prague": 10, "osaka": 20, "bpo3": 30, "amsterdam": 40, "bpo4": 50 },
        "blobSchedule": { "prague": blobs(4, 5, 6), "BPO3": blobs(7, 8, 9), "bpo4": blobs(10, 11, 12) },
    });
    for (fork, timestamp, wanted) in [
        (Fork::Cancun, 9, (3, 6, 3_338_477)),
        (Fork::Prague, 10, (4, 5, 6)),
        (Fork::Osaka, 20, (6, 9, 5_007_716)),
        (Fork::Osaka, 30, (7, 8, 9)),
        // Amsterdam does not change these values, and they may change after it.
        (Fork::Amsterdam, 40, (7, 8, 9)),
        (Fork::Amsterdam, 50, (10, 11, 12)),
    ] {
        assert_eq!(parameters(fork, timestamp, &chain), wanted, "second {timestamp}");
    }
    // It is written as it was read.
    let block = load(&header_of(Fork::Amsterdam, 5, 50, &chain)).unwrap();
    let again = Block::from_json("made-by-test.json", &block.to_json().unwrap()).unwrap();
    assert_eq!(again, block);
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
        assert_eq!(fork(1, 1, &json!({ "id": 1337, "fork": name })), wanted, "{name}");
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
        assert_eq!(fork(number, timestamp, &chain), wanted, "block {number}, second {timestamp}");
    }
    assert_eq!(fork(5, 5, &json!({ "activations": { "homestead": 6 } })), Fork::Frontier);
    // Two names for the same rules, as in many a genesis.
    assert_eq!(fork(5, 5, &json!({ "activations": { "eip155": 5, "eip158": 5 } })), Fork::SpuriousDragon);
    // Forks that only delay the difficulty bomb come after the fork whose rules they retain.
    let glaciers = json!({ "activations": { "muirGlacier": 3, "istanbul": 2, "london": 5, "arrowGlacier": 7, "grayGlacier": 9 } });
    for (number, wanted) in
        [(1, Fork::Frontier), (2, Fork::Istanbul), (4, Fork::Istanbul), (5, Fork::London), (9, Fork::London)]
    {
        assert_eq!(fork(number, 5, &glaciers), wanted, "block {number}");
    }
    assert_eq!(fork(7, 5, &json!({ "activations": { "grayGlacier": 9, "arrowGlacier": 7 } })), Fork::London);
}

#[test]
fn wrong_values_are_told() {
    for (chain, because) in [
        (json!({ "id": 0 }), "the id 0"),
        (json!({ "id": "mainnet" }), "made-by-test.json:1:"),
        (json!({ "id": -1 }), "made-by-test.json:1:"),
        (json!({ "fork": "oslo" }), "fork `oslo` is not one of frontier"),
        (json!({ "fork": "bpo3" }), "how many blobs a block may hold under bpo3 is not known"),
        (json!({ "activations": { "osaka": 0, "bpo4": 1 } }), "how many blobs a block may hold under bpo4"),
        (
            json!({ "fork": "osaka", "blobSchedule": { "london": blobs(1, 2, 3) } }),
            "london, which has no blobs",
        ),
        (
            json!({ "fork": "osaka", "blobSchedule": { "osaka": blobs(3, 2, 3) } }),
            "`target` is 3, more than `max`, 2",
        ),
        (json!({ "fork": "osaka", "blobSchedule": { "osaka": blobs(0, 0, 3) } }), "`max` is 0"),
        (
            json!({ "fork": "osaka", "blobSchedule": { "osaka": blobs(1, 2, 0) } }),
            "`baseFeeUpdateFraction` is 0",
        ),
        (json!({ "fork": "osaka", "blobSchedule": { "osaka": { "target": 1 } } }), "missing field"),
        (json!({ "fork": "" }), "fork `` is not one of frontier"),
        (json!({ "fork": 7 }), "made-by-test.json:1:"),
        (json!({ "hardfork": "prague" }), "unknown field `hardfork`"),
        (json!({ "fork": "prague", "activations": {} }), "both `fork` and `activations`"),
        (json!({ "activations": { "oslo": 1 } }), "`activations`: fork `oslo` is not one of"),
        (json!({ "activations": { "bpo2": 5, "bpo1": 6 } }), "bpo2 at 5, before bpo1 at 6"),
        (json!({ "activations": { "bpo1": 5, "osaka": 6 } }), "bpo1 at 5, before osaka at 6"),
        (json!({ "activations": { "london": 5, "berlin": 6 } }), "london at 5, before berlin at 6"),
        (json!({ "activations": { "prague": 5, "cancun": 6 } }), "prague at 5, before cancun at 6"),
        (json!({ "activations": { "paris": 5, "merge": 6 } }), "says twice since when merge"),
        (json!("prague"), "made-by-test.json:1:"),
    ] {
        let error = load(&file(1, 1, &chain)).expect_err(&chain.to_string()).to_string();
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
    let mut file = header_of(Fork::London, 1, 1, &json!({ "fork": "london" }));
    file["block"]["withdrawals"] =
        json!([{ "address": "0x0000000000000000000000000000000000000001", "amount": "0x1" }]);
    let error = load(&file).unwrap_err().to_string();
    assert!(error.contains("runs under london, which has no withdrawals"), "{error}");
}
