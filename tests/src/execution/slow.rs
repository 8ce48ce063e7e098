//! A slow state: each item read for the first time in a block takes a fixed time, as it would from
//! a disk or over a network. It waits by polling the clock, since a sleep this short takes twice as
//! long.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use shard_executor::block::Block;
use shard_executor::state::State;
use shard_executor::vm::{
    AccountInfo, Address, B256, Bytecode, Effect, ExecutionEnv, Executor, Overlay, StateView, U256, ViewError,
};

/// One item of state.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Account(Address),
    Code(B256),
    Slot(Address, U256),
}

/// A state with latency; see the module.
struct Slow<'a> {
    state: &'a State,
    latency: Duration,
    known: RefCell<HashSet<Key>>,
}

impl Slow<'_> {
    fn ask(&self, key: Key) {
        if self.known.borrow_mut().insert(key) {
            let until = Instant::now() + self.latency;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
}

impl StateView for Slow<'_> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        self.ask(Key::Account(address));
        StateView::account(self.state, address)
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        self.ask(Key::Code(code_hash));
        StateView::code(self.state, code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        self.ask(Key::Slot(address, slot));
        StateView::storage(self.state, address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        StateView::block_hash(self.state, number)
    }
}

/// Executes the transactions of `block` in order on `state`, where each item of state costs
/// `latency`. Returns milliseconds. Receipts and their root are left out: compared with the latency
/// they are negligible.
///
/// # Panics
/// If a transaction cannot be executed.
#[track_caller]
pub fn in_order(block: &Block, state: &State, latency: Duration) -> f64 {
    let env = ExecutionEnv::of(block);
    let slow = Slow { state, latency, known: RefCell::default() };
    let began = Instant::now();
    let mut executor = Executor::without_reads(&env, Overlay::new(&env, slow));
    for (index, transaction) in block.transactions.iter().enumerate() {
        let index = u32::try_from(index).expect("a place in a block");
        let outcome = executor.execute(index, transaction).expect("executed");
        assert!(matches!(outcome.effect, Effect::Executed { .. }), "transaction {index} is valid");
        executor.view().apply(&outcome);
    }
    began.elapsed().as_secs_f64() * 1e3
}
