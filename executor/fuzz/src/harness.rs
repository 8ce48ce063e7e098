//! The checks run on each input. The fuzz targets share them with a test that needs no special
//! toolchain.
//!
//! Every function here returns for every input, and panics only if the crate breaks a promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a panic is how a fuzz target says what it has found; each target uses one half of this"
)]

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use prost::Message;
use revm::primitives::{Address, B256, Bytes, U256};
use shard_executor::block::{Block, Chain, Fork, MAX_GAS};
use shard_executor::faults::{Faults, Order, Role};
use shard_executor::generate::{Generator, Kind, Plan};
use shard_executor::net::wire::{self, down, up};
use shard_executor::net::{Key, MAX_MESSAGE, Value, Work, WorkRef};
use shard_executor::partition::partition;
use shard_executor::state::State;
use shard_executor::validate::{self, BlockResult};
use shard_executor::vm::{self, AccountInfo, ExecutionEnv, TxOutcome};
use tonic::codec::{Codec, Streaming};
use tonic_prost::ProstCodec;

/// Reads `bytes` as a stream of gRPC frames, as a shard does and as the coordinator does, down to
/// the payloads.
pub fn messages(bytes: &[u8]) {
    frames::<wire::Up, wire::Down>(bytes, |message| {
        if let Some(message) = message.message {
            at_the_shard(message);
        }
    });
    frames::<wire::Down, wire::Up>(bytes, |message| {
        if let Some(message) = message.message {
            at_the_coordinator(message);
        }
    });
    // Also the payloads without a frame, which would hide them from mutation.
    outcomes(bytes);
    let _ = vm::decode::<Work>(bytes);
}

/// Reads frames until the stream ends or breaks. It terminates because each message takes at least
/// the five bytes of its header.
fn frames<Sent, Read>(bytes: &[u8], mut take: impl FnMut(Read))
where
    Sent: Message + Default + 'static,
    Read: Message + Default + 'static,
{
    let body = axum::body::Body::from(bytes.to_vec());
    let decoder = ProstCodec::<Sent, Read>::default().decoder();
    let mut stream = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..=bytes.len() / 5 {
        match pin!(stream.message()).poll(&mut context) {
            Poll::Ready(Ok(Some(message))) => take(message),
            Poll::Ready(Ok(None) | Err(_)) => return,
            Poll::Pending => panic!("all bytes are there: nothing is left to wait for"),
        }
    }
    panic!("more messages than {} bytes can hold", bytes.len());
}

/// Sends lines to the fault port of a shard and of a coordinator. Each line must get one line as
/// its answer, the number of armed faults must stay bounded, and each entry of the list of armed
/// faults must parse as an order again.
pub fn orders(bytes: &[u8]) {
    for role in [Role::Shard, Role::Coordinator] {
        let (to_main, _main) = crossbeam_channel::bounded(1);
        let faults = Faults::inert(role, to_main);
        for line in bytes.split(|byte| *byte == b'\n').take(MOST_ORDERS) {
            let order = String::from_utf8_lossy(line).parse::<Order>();
            let answer = order.and_then(|order| faults.obey(order)).unwrap_or_else(|error| error.to_string());
            assert!(!answer.contains('\n') && answer.len() < 4_096, "{answer:?}");
        }
        let list = faults.obey(Order::List).expect("it can always be asked for");
        let armed = list.split_once("armed: ").expect("what is armed").1;
        for one in armed.split(", ").filter(|one| *one != "none") {
            assert!(format!("arm {one}").parse::<Order>().is_ok(), "{one} of {list}");
        }
    }
}

/// The most lines taken from one input: more than can be armed.
const MOST_ORDERS: usize = 100;

fn at_the_shard(message: down::Message) {
    match message {
        down::Message::Run(run) => {
            if let Ok(work) = vm::decode::<Work>(&run.work) {
                assert!(work.transactions.len() <= run.work.len(), "memory is bounded by the input's length");
            }
        }
        down::Message::State(reply) => {
            for (value, key) in reply.values.into_iter().zip(keys().iter().cycle()) {
                if let Ok(value) = Value::answering(key, value) {
                    let again = wire::StateValue::from(value.clone());
                    assert_eq!(Value::answering(key, again).ok(), Some(value));
                }
            }
        }
        down::Message::Hello(_) | down::Message::Cancel(_) => {}
    }
}

fn at_the_coordinator(message: up::Message) {
    match message {
        up::Message::State(request) => {
            for key in &request.keys {
                if let Ok(key) = Key::try_from(key) {
                    assert_eq!(Key::try_from(&wire::StateKey::from(&key)).ok(), Some(key));
                }
            }
        }
        up::Message::Result(result) => outcomes(&result.outcomes),
        up::Message::Hello(_) | up::Message::Error(_) => {}
    }
}

/// Outcomes that can be decoded can be encoded, and decode to the same again.
fn outcomes(bytes: &[u8]) {
    if let Ok(outcomes) = vm::decode::<Vec<TxOutcome>>(bytes) {
        let again = vm::encode(&outcomes).expect("what was read can be written");
        assert_eq!(vm::decode::<Vec<TxOutcome>>(&again).expect("and read again"), outcomes);
    }
}

/// The most gas and transactions that are executed, so that an input takes milliseconds.
const SMALL: (u64, usize) = (2_000_000, 16);

/// Reads the text of a block file, writes it and reads it again; then executes the block in order
/// and in parts, which must give the same result.
pub fn block(bytes: &[u8]) {
    let Ok(block) = Block::from_json("input.json", bytes) else { return };
    let gas = block.transactions.iter().fold(0_u64, |sum, tx| sum.saturating_add(tx.gas_limit));
    assert!(gas <= MAX_GAS, "{gas} gas");
    let text = block.to_json().expect("what was read can be written");
    assert_eq!(Block::from_json("input.json", &text).expect("and read again"), block);
    if gas > SMALL.0 || block.transactions.len() > SMALL.1 {
        return;
    }
    match (run(&block, 1), run(&block, 3)) {
        (Some((ordered, before)), Some((spread, after))) => {
            assert_eq!(spread.receipts, ordered.receipts);
            assert_eq!(spread.mismatch, ordered.mismatch);
            assert_eq!(after.digest(), before.digest());
        }
        (None, None) => {}
        (ordered, spread) => panic!("in order {}, in parts {}", ordered.is_some(), spread.is_some()),
    }
    // The state it reads, recovered from its witness, which may prove all, some or none of it.
    let mut alone = Block { pre: None, ..block };
    if alone.witness.is_some() && alone.find_out_pre().is_ok() {
        let _ = run(&alone, 1);
    }
}

/// `None` if the block cannot be executed, for instance because its state is missing.
fn run(block: &Block, parts: usize) -> Option<(BlockResult, State)> {
    let mut state = validate::open(block, None).ok()?;
    let mut speculated: Vec<Option<TxOutcome>> = Vec::new();
    if parts > 1 {
        speculated.resize_with(block.transactions.len(), || None);
        let env = ExecutionEnv::of(block);
        for part in partition(block, parts) {
            let part = part.iter().map(|index| (*index as u32, &block.transactions[*index]));
            for outcome in vm::execute_part(&env, part, &state, &mut |_| {}).into_iter().flatten() {
                let place = outcome.index as usize;
                speculated[place] = Some(outcome);
            }
        }
    }
    let result = validate::run_in_order(block, &mut state, speculated, &|| {}).ok()?;
    Some((result, state))
}

/// One key of each kind.
fn keys() -> [Key; 4] {
    let address = Address::repeat_byte(7);
    [
        Key::Account(address),
        Key::Slot(address, U256::from(5)),
        Key::Code(B256::repeat_byte(1)),
        Key::BlockHash(9),
    ]
}

fn small(kind: Kind, transactions: u32) -> Block {
    let plan = Plan { transactions, conflict: 0.0, kind, ..Plan::default() };
    Generator::new(plan).next_block().expect("the generator makes blocks")
}

/// Concatenates messages as gRPC frames them: one byte for compression, four for the length.
fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |message: &Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    messages.iter().flat_map(frame).collect()
}

/// Streams that the ends really send, whole and message by message, and payloads without a frame.
pub fn message_seeds() -> Vec<Vec<u8>> {
    let block = small(Kind::Mixed, 4);
    let env = ExecutionEnv::of(&block);
    let work = vm::encode(&WorkRef::new(&env, &block, &[0, 1, 2, 3])).expect("small");
    let state = validate::open(&block, None).expect("it has its state");
    let part = block.transactions.iter().enumerate().map(|(index, tx)| (index as u32, tx));
    let outcomes = vm::execute_part(&env, part, &state, &mut |_| {}).expect("it can be executed");
    let outcomes = vm::encode(&outcomes).expect("small");
    let tag = Some(wire::Tag { coordinator: 1, shard: 2, sequence: 3, block: 1, part: 0, attempt: 1 });
    let info = AccountInfo { balance: U256::MAX, nonce: 3, code_hash: B256::repeat_byte(1) };
    let values = [
        Value::Account(Some(info)),
        Value::Slot(U256::from(9)),
        Value::Code(Some(Bytes::from_static(b"\x60"))),
        Value::BlockHash(Some(B256::repeat_byte(2))),
        Value::Account(None),
    ];
    let run = wire::RunPart {
        tag,
        round: 0,
        part_deadline_ms: 1_000,
        state_deadline_ms: 100,
        trace: vec![1; 25],
        work: work.clone(),
    };
    let down = [
        down::Message::Hello(wire::CoordinatorHello { incarnation: 1, version: 1 }),
        down::Message::Run(run),
        down::Message::State(wire::StateReply { tag, id: 1, values: values.map(Into::into).to_vec() }),
        down::Message::Cancel(wire::Cancel { sequence: 3, finished_blocks: 0 }),
    ]
    .map(|message| wire::Down { message: Some(message) }.encode_to_vec());
    let error = wire::PartError { tag, reason: 3, detail: "malformed".to_owned() };
    let up = [
        up::Message::Hello(wire::ShardHello {
            shard: "0".to_owned(),
            incarnation: 2,
            version: 2,
            quarantined: vec![7],
        }),
        up::Message::State(wire::StateRequest { tag, id: 1, keys: keys().iter().map(Into::into).collect() }),
        up::Message::Result(wire::PartResult { tag, outcomes: outcomes.clone() }),
        up::Message::Error(error),
    ]
    .map(|message| wire::Up { message: Some(message) }.encode_to_vec());
    let alone = down.iter().chain(&up).map(|message| framed(std::slice::from_ref(message)));
    [framed(&down), framed(&up), work, outcomes].into_iter().chain(alone).collect()
}

/// Generated blocks of each kind, one with a transaction of each type, and one for each way to name
/// a chain.
pub fn block_seeds() -> Vec<Vec<u8>> {
    let mut blocks = Kind::NAMES.map(|(_, kind)| small(kind, 2)).to_vec();
    let mut typed = small(Kind::Transfers, 5);
    for (tx_type, tx) in (0..).zip(&mut typed.transactions) {
        tx.tx_type = tx_type;
        tx.max_priority_fee = (tx_type >= 2).then_some(1);
        if tx_type >= 1 {
            tx.access_list = vec![(Address::repeat_byte(3), vec![B256::ZERO])];
        }
        if tx_type == 3 {
            tx.max_fee_per_blob_gas = 1;
            tx.blob_hashes = vec![B256::with_last_byte(1)];
        }
        if tx_type == 4 {
            tx.authorizations = vec![shard_executor::block::Authorization {
                chain_id: U256::from(1337),
                address: Address::repeat_byte(4),
                nonce: 0,
                y_parity: 1,
                r: U256::from(1),
                s: U256::from(2),
            }];
        }
    }
    blocks.push(typed);
    let mut empty = small(Kind::Transfers, 0);
    empty.pre = Some(Default::default());
    empty.hashes.insert(0, B256::repeat_byte(5));
    empty.witness = None;
    empty.withdrawals.clear();
    for fork in [Fork::Frontier, Fork::Byzantium, Fork::London, Fork::Cancun] {
        empty.chain = Chain::new(1, fork);
        let (of_london, of_cancun) = (fork >= Fork::London, fork >= Fork::Cancun);
        empty.header.base_fee = if of_london { 7 } else { 0 };
        empty.header.excess_blob_gas = of_cancun.then_some(0);
        empty.header.parent_beacon_root = of_cancun.then_some(B256::repeat_byte(6));
        let expected = &mut empty.expected;
        (expected.requests_hash, expected.withdrawals_root, expected.blob_gas_used) = (None, None, None);
        blocks.push(empty.clone());
    }
    let mut seeds: Vec<_> = blocks.iter().map(|block| block.to_json().expect("it can be written")).collect();
    let text = String::from_utf8(seeds.last().cloned().unwrap_or_default()).expect("JSON is text");
    let activations =
        r#""activations":{"homestead":0,"london":"0x5","merge":10,"shanghai":1000,"prague":2000}"#;
    seeds.push(text.replace(r#""fork":"cancun""#, activations).into_bytes());
    seeds
}
