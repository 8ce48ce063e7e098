//! The owner and its helpers: whatever happens to a helper, the result is that of execution in
//! order, and nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use revm::bytecode::Bytecode;
use revm::primitives::{Address, B256, U256};
use shard_executor::block::Block;
use shard_executor::parallel::{self, Batch, Pool, WorkerBeat};
use shard_executor::state::State;
use shard_executor::validate;
use shard_executor::vm::{
    AccountInfo, ExecutionEnv, PartRun, StateView, TxOutcome, ViewError, VmError, execute_part,
};

use crate::support::generated;
use shard_executor::generate::Plan;

/// Far longer than anything here takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A state on which helpers meet trouble; helpers are recognised by their threads' names.
struct Hostile {
    state: State,
    helpers: AtomicUsize,
    what: What,
}

enum What {
    Nothing,
    Panic,
    Hang(AtomicBool),
    Lie,
}

impl Hostile {
    fn meet(&self) {
        if !std::thread::current().name().is_some_and(|name| name.contains("-w")) {
            return;
        }
        self.helpers.fetch_add(1, Ordering::Relaxed);
        match &self.what {
            What::Nothing | What::Lie => {}
            What::Panic => panic!("a helper was told to panic"),
            What::Hang(released) => {
                while !released.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn lies(&self) -> bool {
        matches!(self.what, What::Lie)
            && std::thread::current().name().is_some_and(|name| name.contains("-w"))
    }
}

impl StateView for Hostile {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        self.meet();
        let account = StateView::account(&self.state, address)?;
        Ok(account.map(|account| AccountInfo {
            balance: if self.lies() { account.balance + U256::from(1) } else { account.balance },
            ..account
        }))
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        StateView::code(&self.state, code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        StateView::storage(&self.state, address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        StateView::block_hash(&self.state, number)
    }
}

fn block() -> Arc<Block> {
    let plan = Plan { transactions: 200, conflict: 0.2, seed: 7, ..Plan::default() };
    generated(plan, 1).remove(0)
}

fn in_order(block: &Block) -> Vec<TxOutcome> {
    let state = validate::open(block, None).unwrap();
    let transactions = block.transactions.iter().enumerate().map(|(index, tx)| (index as u32, tx));
    execute_part(&ExecutionEnv::of(block), transactions, &state, &mut |_| {}).unwrap()
}

/// Runs the block as one part on two threads; the `Hostile` counts how often helpers read it.
fn with_a_helper_that(what: What, patience: Duration) -> (Vec<TxOutcome>, Arc<Hostile>, Pool) {
    let block = block();
    let view = Arc::new(Hostile {
        state: validate::open(&block, None).unwrap(),
        helpers: AtomicUsize::new(0),
        what,
    });
    let pool = Pool::start("exec-s0", 2, || None).unwrap();
    let env = ExecutionEnv::of(&block);
    let batch: Arc<dyn Batch> = block;
    // Slow enough for the helper to take part on any machine.
    let mut before = || {
        let seen = Instant::now() + LONG;
        while view.helpers.load(Ordering::Relaxed) == 0 && Instant::now() < seen {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok::<(), VmError>(())
    };
    let mut progress = || {};
    let mut part = PartRun::new(&env, &batch, Arc::clone(&view), &mut before, &mut progress);
    parallel::run(&pool, &env, &batch, &view, &mut part, Instant::now() + patience).unwrap();
    (part.into_outcomes(), Arc::clone(&view), pool)
}

#[test]
fn a_helper_changes_nothing_about_the_outcomes() {
    let (outcomes, view, pool) = with_a_helper_that(What::Nothing, LONG);
    assert_eq!(outcomes, in_order(&block()));
    assert!(view.helpers.load(Ordering::Relaxed) > 0, "it took part");
    assert_eq!(pool.missing(), None);
}

#[test]
fn a_helper_that_panics_costs_what_it_was_at() {
    let (outcomes, _view, pool) = with_a_helper_that(What::Panic, LONG);
    assert_eq!(outcomes, in_order(&block()));
    let lost = || pool.lost().is_some();
    let until = Instant::now() + LONG;
    while !lost() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(lost(), "whoever keeps watch over it sees that it is gone");
}

#[test]
fn a_helper_that_hangs_is_not_waited_for_past_the_deadline() {
    let began = Instant::now();
    let (outcomes, view, pool) =
        with_a_helper_that(What::Hang(AtomicBool::new(false)), Duration::from_millis(300));
    assert!(began.elapsed() < LONG, "nobody waits for it without end");
    assert_eq!(outcomes, in_order(&block()));
    assert_eq!(pool.missing(), Some("exec-s0-w1"), "and it is known by its name");
    if let What::Hang(released) = &view.what {
        released.store(true, Ordering::Relaxed);
    }
    let until = Instant::now() + LONG;
    while pool.missing().is_some() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pool.missing(), None, "one that comes back late may help again");
}

#[test]
fn what_a_helper_got_wrong_is_executed_again() {
    let (outcomes, _view, _pool) = with_a_helper_that(What::Lie, LONG);
    assert_eq!(outcomes, in_order(&block()));
}

#[test]
fn each_helper_gives_a_sign_of_life_of_its_own() {
    struct Counted(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl WorkerBeat for Counted {
        fn progress(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn leave(self: Box<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (beats, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, leaving) = (Arc::clone(&beats), Arc::clone(&left));
    let pool = Pool::start("exec-s0", 3, move || {
        Some(Box::new(Counted(Arc::clone(&counted), Arc::clone(&leaving))) as Box<dyn WorkerBeat>)
    })
    .unwrap();
    let block = block();
    let until = Instant::now() + LONG;
    while beats.load(Ordering::Relaxed) == 0 && Instant::now() < until {
        let state = validate::open(&block, None).unwrap();
        validate::run_parallel(&pool, &block, state, &|| {}, until).unwrap();
    }
    assert!(beats.load(Ordering::Relaxed) > 0);
    drop(pool);
    assert_eq!(left.load(Ordering::Relaxed), 2, "both end in an orderly way");
}
