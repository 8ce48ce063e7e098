//! Which transactions of a block shards should execute once more, together and on which state.
//!
//! What is stale after a round is known exactly only up to the first such transaction. For those
//! after it what they did in the last round stands in for what they will do: that tells which of
//! them touch the same state, and so belong into the same part. A wrong guess costs another round
//! or an execution in order, never a wrong result.

use revm::primitives::map::{HashMap, HashSet};
use revm::primitives::{Address, U256};

use super::holds;
use crate::block::Block;
use crate::partition::{Forest, Piece, deal};
use crate::vm::{Effect, ExecutionEnv, Overlay, StateView, TxOutcome};

/// Fewer stale transactions than this are executed in order before a shard has got the message and
/// asked for their state.
const WORTH_A_ROUND: usize = 8;

/// Up to which share of a round's gas its largest group may have, in percent: what depends on each
/// other is executed one after the other wherever it is, so a round of one large group only adds
/// messages.
const LARGEST_GROUP: u64 = 75;

/// A further round.
#[derive(Debug)]
pub struct Again<V> {
    /// The state after all that is settled: what the round is executed on.
    pub state: Overlay<V>,
    /// The places of the transactions to execute, ascending, at least two parts with at least one
    /// each.
    pub parts: Vec<Vec<usize>>,
}

/// What of `block` should be executed again by up to `parts` shards, if that pays. `state` is the
/// one before the first transaction, `outcomes` has a place for each transaction.
///
/// A part holds, besides what is stale, all that touches the same state and comes after the first
/// stale transaction: the round sees nothing of what is not settled.
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
    // Whoever reads the beneficiary needs the fees of all before it, which only block order knows.
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

/// Which transactions from `from` on will not hold, if those before them do what they did.
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
        // What a transaction costs at least: it was invalid where it was tried.
        _ => 21_000,
    }
}

/// A piece of state that transactions can conflict over.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Touched {
    Account(Address),
    Slot(Address, U256),
}

/// The transactions from `from` on, grouped by the state that one writes and another reads or
/// writes.
fn touching(outcomes: &[Option<TxOutcome>], from: usize, beneficiary: Address) -> Vec<Vec<usize>> {
    let rest = || outcomes.iter().enumerate().skip(from).filter_map(|(at, o)| Some((at, o.as_ref()?)));
    let mut written: HashSet<Touched> = HashSet::default();
    for (_, outcome) in rest() {
        written.extend(writes(outcome));
    }
    // All of them read it if any does, and those that do are not sent out.
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

/// What a transaction changed. An account whose balance, nonce and code are as they were read was
/// written for its slots only.
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
