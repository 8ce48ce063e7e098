//! Decides which transactions shards should execute again, in which groups and on which state.
//!
//! After a round, what is stale is known exactly only up to the first stale transaction. For later
//! ones, what they did in the last round predicts what they will do: it shows which of them touch
//! the same state and so belong in the same part. A wrong guess costs another round or an execution
//! in order, never a wrong result.

use revm::primitives::map::{HashMap, HashSet};
use revm::primitives::{Address, U256};

use super::holds;
use crate::block::Block;
use crate::partition::{Forest, Piece, deal};
use crate::vm::{Effect, ExecutionEnv, Overlay, StateView, TxOutcome};

/// Fewer stale transactions than this are executed in order faster than a shard can receive the
/// message and request their state.
const WORTH_A_ROUND: usize = 8;

/// The largest share of a round's gas that one group may have, in percent. Transactions that depend
/// on each other are executed one after the other anyway, so a round with one large group only adds
/// messages.
const LARGEST_GROUP: u64 = 75;

/// A further round.
#[derive(Debug)]
pub struct Again<V> {
    /// The state after all settled transactions, on which the round is executed.
    pub state: Overlay<V>,
    /// The positions of the transactions to execute: at least two parts, each ascending and not
    /// empty.
    pub parts: Vec<Vec<usize>>,
}

/// The transactions of `block` that up to `parts` shards should execute again, if that pays.
/// `state` is the state before the first transaction; `outcomes` has a place for each transaction.
///
/// Besides stale transactions a part holds all those after the first stale one that touch the same
/// state: the round sees nothing of what is not settled.
pub fn again<V: StateView + Clone>(
    block: &Block,
    state: V,
    outcomes: &[Option<TxOutcome>],
    parts: usize,
) -> Option<Again<V>> {
    if parts < 2 {
        return None;
    }
    let env = ExecutionEnv::of(block);
    let mut settled = Overlay::new(&env, state);
    let fits = |outcome: &TxOutcome, view: &Overlay<V>| is_good(outcome) && holds(&outcome.reads, view);
    let mut from = 0;
    while let Some(outcome) = outcomes.get(from).and_then(Option::as_ref).filter(|o| fits(o, &settled)) {
        settled.apply(outcome);
        from += 1;
    }
    let stale = stale(&env, &settled, outcomes, from);
    if stale.len() < WORTH_A_ROUND {
        return None;
    }
    let beneficiary = block.header.beneficiary;
    // A transaction that reads the beneficiary needs all earlier fees, known only in block order.
    let sendable = |index: &usize| {
        let outcome = outcomes.get(*index).and_then(Option::as_ref);
        outcome.is_some_and(|outcome| !outcome.reads.accounts.iter().any(|(read, _)| *read == beneficiary))
    };
    let mut pieces = Vec::new();
    for group in touching(outcomes, from, beneficiary) {
        let transactions: Vec<usize> = group.into_iter().filter(sendable).collect();
        if transactions.iter().any(|index| stale.contains(index)) {
            let weight = transactions.iter().map(|index| gas(outcomes.get(*index))).sum();
            pieces.push(Piece { weight, transactions });
        }
    }
    let total: u64 = pieces.iter().map(|piece| piece.weight).sum();
    let largest = pieces.iter().map(|piece| piece.weight).max().unwrap_or(0);
    if largest.saturating_mul(100) > total.saturating_mul(LARGEST_GROUP) {
        return None;
    }
    let mut parts = deal(pieces, parts);
    parts.retain(|part| !part.is_empty());
    (parts.len() > 1).then_some(Again { state: settled, parts })
}

/// Which transactions from `from` on will not hold, if those before them do the same as last time.
fn stale<V: StateView>(
    env: &ExecutionEnv,
    settled: &Overlay<V>,
    outcomes: &[Option<TxOutcome>],
    from: usize,
) -> HashSet<usize> {
    let mut view = Overlay::new(env, settled);
    let mut stale = HashSet::default();
    for (index, outcome) in outcomes.iter().enumerate().skip(from) {
        let Some(outcome) = outcome else { continue };
        if !is_good(outcome) || !holds(&outcome.reads, &view) {
            stale.insert(index);
        }
        view.apply(outcome);
    }
    stale
}

const fn is_good(outcome: &TxOutcome) -> bool {
    matches!(outcome.effect, Effect::Executed { .. })
}

fn gas(outcome: Option<&Option<TxOutcome>>) -> u64 {
    match outcome {
        Some(Some(TxOutcome { effect: Effect::Executed { receipt, .. }, .. })) => receipt.gas_used,
        // The least that a transaction costs: this one was invalid or has no outcome.
        _ => 21_000,
    }
}

/// A piece of state over which transactions can conflict.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Touched {
    Account(Address),
    Slot(Address, U256),
}

/// The transactions from `from` on, grouped by state that one of them writes and another reads or
/// writes.
fn touching(outcomes: &[Option<TxOutcome>], from: usize, beneficiary: Address) -> Vec<Vec<usize>> {
    let rest = || outcomes.iter().enumerate().skip(from).filter_map(|(at, o)| Some((at, o.as_ref()?)));
    let mut written: HashSet<Touched> = HashSet::default();
    for (_, outcome) in rest() {
        written.extend(writes(outcome));
    }
    // Transactions that read the beneficiary are not sent out, so it need not join any others.
    written.remove(&Touched::Account(beneficiary));
    let mut forest = Forest::new(outcomes.len());
    let mut first_use: HashMap<Touched, usize> = HashMap::default();
    for (index, outcome) in rest() {
        let accounts = outcome.reads.accounts.iter().map(|(address, _)| Touched::Account(*address));
        let slots = outcome.reads.storage.iter().map(|(address, slot, _)| Touched::Slot(*address, *slot));
        for touched in accounts.chain(slots).chain(writes(outcome)).filter(|it| written.contains(it)) {
            forest.join(*first_use.entry(touched).or_insert(index), index);
        }
    }
    let mut groups = forest.groups();
    groups.retain(|group| group.first().is_some_and(|first| *first >= from));
    groups
}

/// What a transaction changed. If an account's balance, nonce and code are the same as it read,
/// only its slots were written.
fn writes(outcome: &TxOutcome) -> impl Iterator<Item = Touched> + '_ {
    let changed = match &outcome.effect {
        Effect::Executed { changes, .. } => changes.accounts.as_slice(),
        Effect::Invalid { .. } => &[],
    };
    changed.iter().flat_map(|(address, change)| {
        let before = outcome.reads.accounts.iter().find(|(read, _)| read == address);
        let same = !change.wiped && before.is_some_and(|(_, seen)| *seen == change.info);
        let slots = change.storage.iter().map(|(slot, _)| Touched::Slot(*address, *slot));
        (!same).then_some(Touched::Account(*address)).into_iter().chain(slots)
    })
}
