//! Decides which transaction goes to which shard.
//!
//! Transactions that will probably touch the same accounts belong together: those that share a
//! sender, a recipient or an address of an access list form a group. Whole groups are dealt out,
//! largest first, to the part with the least gas so far. A group larger than a fair share is cut: a
//! token everybody uses would otherwise put the whole block on one shard. A wrong guess here costs
//! a second execution, never a wrong result.

use std::cmp::Reverse;

use revm::primitives::Address;
use revm::primitives::map::HashMap;

use crate::block::{Block, Transaction};

/// Splits `block` into `parts` lists of transaction indices. Every transaction is in exactly one
/// list, each list is ascending, and the same block always splits the same way. Lists may be empty.
pub fn partition(block: &Block, parts: usize) -> Vec<Vec<usize>> {
    let parts = parts.max(1);
    if parts == 1 {
        return vec![(0..block.transactions.len()).collect()];
    }
    let fair_share = block.transactions.iter().map(weight).sum::<u64>().div_ceil(parts as u64);
    let mut pieces: Vec<Piece> = Vec::new();
    for group in groups(&block.transactions) {
        pieces.extend(cut(&block.transactions, group, fair_share));
    }
    deal(pieces, parts)
}

/// Deals pieces out, largest first, each to the list with the least weight so far.
pub(crate) fn deal(mut pieces: Vec<Piece>, parts: usize) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); parts];
    // Ties in weight are broken by the first transaction, so that no order depends on a hash map.
    pieces.sort_by_key(|piece| (Reverse(piece.weight), piece.transactions.first().copied()));
    let mut loads = vec![0_u64; parts];
    for piece in pieces {
        let lightest = (0..parts).min_by_key(|part| loads.get(*part).copied()).unwrap_or(0);
        if let (Some(load), Some(list)) = (loads.get_mut(lightest), lists.get_mut(lightest)) {
            *load = load.saturating_add(piece.weight);
            list.extend(piece.transactions);
        }
    }
    for list in &mut lists {
        list.sort_unstable();
    }
    lists
}

/// Transactions that stay together.
pub(crate) struct Piece {
    /// Estimated work, in gas.
    pub(crate) weight: u64,
    /// Their positions in the block.
    pub(crate) transactions: Vec<usize>,
}

/// Gas limits overestimate the work, but nothing better is known before execution. The cap keeps
/// one careless sender from counting as half a block.
fn weight(transaction: &Transaction) -> u64 {
    transaction.gas_limit.min(1_000_000)
}

/// Groups of transactions connected through common addresses, each ascending and ordered by their
/// first transaction.
fn groups(transactions: &[Transaction]) -> Vec<Vec<usize>> {
    let mut forest = Forest::new(transactions.len());
    let mut first_use: HashMap<Address, usize> = HashMap::default();
    for (index, transaction) in transactions.iter().enumerate() {
        let listed = transaction.access_list.iter().map(|(address, _)| *address);
        for address in [transaction.sender].into_iter().chain(transaction.to).chain(listed) {
            forest.join(*first_use.entry(address).or_insert(index), index);
        }
    }
    forest.groups()
}

/// Disjoint sets of numbers (union-find with path halving).
pub(crate) struct Forest {
    parents: Vec<usize>,
}

impl Forest {
    /// Each of `0..len` in a set of its own.
    pub(crate) fn new(len: usize) -> Self {
        Self { parents: (0..len).collect() }
    }

    /// Joins the sets of `a` and `b`.
    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller root becomes the parent, so that groups come out ordered.
        if let Some(parent) = self.parents.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
    }

    fn root(&mut self, mut at: usize) -> usize {
        loop {
            let parent = self.parents.get(at).copied().unwrap_or(at);
            if parent == at {
                return at;
            }
            let grandparent = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(slot) = self.parents.get_mut(at) {
                *slot = grandparent;
            }
            at = grandparent;
        }
    }

    /// All sets, each ascending, ordered by their first members.
    pub(crate) fn groups(mut self) -> Vec<Vec<usize>> {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.parents.len()];
        for index in 0..self.parents.len() {
            let root = self.root(index);
            if let Some(group) = members.get_mut(root) {
                group.push(index);
            }
        }
        members.retain(|group| !group.is_empty());
        members
    }
}

/// Cuts a group into pieces of at most a fair share. Each sender's transactions stay in one piece:
/// their nonces make them depend on each other for certain, whereas a common recipient only makes
/// it likely.
fn cut(transactions: &[Transaction], group: Vec<usize>, fair_share: u64) -> Vec<Piece> {
    let mut senders: Vec<Piece> = Vec::new();
    let mut place: HashMap<Address, usize> = HashMap::default();
    for index in group {
        let Some(transaction) = transactions.get(index) else { continue };
        let at = *place.entry(transaction.sender).or_insert(senders.len());
        if at == senders.len() {
            senders.push(Piece { weight: 0, transactions: Vec::new() });
        }
        if let Some(sender) = senders.get_mut(at) {
            sender.weight = sender.weight.saturating_add(weight(transaction));
            sender.transactions.push(index);
        }
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for sender in senders {
        match pieces.last_mut() {
            Some(piece) if piece.weight.saturating_add(sender.weight) <= fair_share => {
                piece.weight = piece.weight.saturating_add(sender.weight);
                piece.transactions.extend(sender.transactions);
            }
            _ => pieces.push(sender),
        }
    }
    pieces
}
