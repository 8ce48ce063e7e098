//! A Merkle-Patricia trie of which only some nodes are known, by their hashes.
//!
//! Reading and changing request nodes as they go. If a needed node is missing, the error names it
//! ([`TrieError::Missing`]); nothing is guessed. All changes to a trie are made at once: a branch
//! collapses only if one child is left after all of them, so this needs no more siblings than a
//! client that inserts before it deletes.
//!
//! Nodes are untrusted. Keys have 64 nibbles and every step down takes at least one, which bounds
//! the depth whatever the nodes contain. Each node is read once for each key or set of changes that
//! passes it.

use alloy_rlp::{Decodable, Encodable};
use alloy_trie::nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};
use revm::primitives::map::HashMap;
use revm::primitives::{B256, Bytes, keccak256};

/// Nibbles in a key, which is a hash.
const KEY: usize = 64;

/// Nodes by their hashes.
pub(super) type Nodes = HashMap<B256, Bytes>;

/// A source of nodes.
pub(super) trait Store {
    /// The RLP of the node with this hash, if it is known.
    fn node(&self, hash: &B256) -> Option<Bytes>;
}

impl Store for Nodes {
    fn node(&self, hash: &B256) -> Option<Bytes> {
        self.get(hash).cloned()
    }
}

/// Why a trie cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TrieError {
    /// A node that is needed is not known.
    #[error("the trie node {hash} at path 0x{}", hex(path))]
    Missing {
        /// The node's hash.
        hash: B256,
        /// The nibbles that lead to the node.
        path: Nibbles,
    },
    /// A node that cannot occur at this place in a trie.
    #[error("the trie node at path 0x{} is malformed: {reason}", hex(path))]
    Malformed {
        /// The nibbles that lead to the node.
        path: Nibbles,
        /// What is wrong with the node.
        reason: String,
    },
}

fn hex(path: &Nibbles) -> String {
    path.iter().filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

/// A key with the value to write, or `None` to delete.
pub(super) type Change = (Nibbles, Option<Vec<u8>>);

/// The trie's key for an address or a slot: the nibbles of its hash.
pub(super) fn key(name: impl AsRef<[u8]>) -> Nibbles {
    Nibbles::unpack(keccak256(name))
}

/// The value at `key`, or `None` if the trie proves that there is none.
pub(super) fn get(store: &dyn Store, root: B256, key: &Nibbles) -> Result<Option<Vec<u8>>, TrieError> {
    let mut node = top(store, root)?;
    let mut depth = 0;
    loop {
        let below = key.slice(depth..);
        let (child, step) = match node {
            TrieNode::EmptyRoot => return Ok(None),
            TrieNode::Leaf(leaf) => return Ok((leaf.key == below).then_some(leaf.value)),
            TrieNode::Extension(extension) => {
                if !below.starts_with(&extension.key) {
                    return Ok(None);
                }
                (extension.child, extension.key.len())
            }
            TrieNode::Branch(branch) => match child_of(&branch, below.first().unwrap_or_default()) {
                Some(child) => (child, 1),
                None => return Ok(None),
            },
        };
        depth += step;
        node = load(store, &child, key.slice(..depth))?;
    }
}

/// The root after `changes`, which are sorted by key and have distinct keys. `made` receives every
/// new node, with its hash, and some that existed before.
pub(super) fn update(
    store: &dyn Store,
    root: B256,
    changes: &[Change],
    made: &mut dyn FnMut(B256, Vec<u8>),
) -> Result<B256, TrieError> {
    if changes.is_empty() {
        return Ok(root);
    }
    let node = top(store, root)?;
    let mut update = Update { store, made };
    Ok(match update.apply(node, 0, changes)? {
        TrieNode::EmptyRoot => EMPTY_ROOT_HASH,
        node => {
            let rlp = alloy_rlp::encode(&node);
            let hash = keccak256(&rlp);
            (update.made)(hash, rlp);
            hash
        }
    })
}

/// The hashes of a node's children, for walking a whole trie, and its value if it is a leaf.
pub(super) fn below(rlp: &[u8]) -> (Vec<B256>, Option<Vec<u8>>) {
    let mut buffer = rlp;
    match TrieNode::decode(&mut buffer) {
        Ok(TrieNode::Branch(branch)) => (branch.stack.iter().filter_map(RlpNode::as_hash).collect(), None),
        Ok(TrieNode::Extension(extension)) => (extension.child.as_hash().into_iter().collect(), None),
        Ok(TrieNode::Leaf(leaf)) => (Vec::new(), Some(leaf.value)),
        Ok(TrieNode::EmptyRoot) | Err(_) => (Vec::new(), None),
    }
}

fn top(store: &dyn Store, root: B256) -> Result<TrieNode, TrieError> {
    if root == EMPTY_ROOT_HASH {
        return Ok(TrieNode::EmptyRoot);
    }
    load(store, &RlpNode::word_rlp(&root), Nibbles::new())
}

/// Loads the node at `path` that `child` refers to.
fn load(store: &dyn Store, child: &RlpNode, path: Nibbles) -> Result<TrieNode, TrieError> {
    let malformed = |reason: &str| TrieError::Malformed { path, reason: reason.to_owned() };
    let rlp = match child.as_hash() {
        Some(hash) => store.node(&hash).ok_or(TrieError::Missing { hash, path })?,
        None => Bytes::copy_from_slice(child),
    };
    let mut rest = rlp.as_ref();
    let node = TrieNode::decode(&mut rest).map_err(|error| malformed(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes are left over"));
    }
    let depth = path.len();
    let fits = match &node {
        TrieNode::EmptyRoot => false,
        TrieNode::Leaf(leaf) => depth + leaf.key.len() == KEY,
        TrieNode::Extension(extension) => !extension.key.is_empty() && depth + extension.key.len() < KEY,
        TrieNode::Branch(_) => depth < KEY,
    };
    if fits { Ok(node) } else { Err(malformed("it does not fit a key of 32 bytes")) }
}

fn child_of(branch: &BranchNode, nibble: u8) -> Option<RlpNode> {
    branch.as_ref().children().find(|(at, _)| *at == nibble).and_then(|(_, child)| child.cloned())
}

/// A child of a branch that is being changed.
#[derive(Clone, Default)]
enum Child {
    #[default]
    None,
    /// Unchanged.
    Old(RlpNode),
    /// New and not encoded yet: it may have to be merged with the node above it.
    New(TrieNode),
}

struct Update<'a> {
    store: &'a dyn Store,
    made: &'a mut dyn FnMut(B256, Vec<u8>),
}

impl Update<'_> {
    /// Applies `changes` to `node`, which is `depth` nibbles down. There is at least one change,
    /// and all are below the node.
    fn apply(&mut self, node: TrieNode, depth: usize, changes: &[Change]) -> Result<TrieNode, TrieError> {
        match node {
            TrieNode::EmptyRoot => Ok(self.build(&written(changes), depth)),
            TrieNode::Leaf(leaf) => {
                let mut entries = written(changes);
                let Some((first, _)) = changes.first() else { return Ok(TrieNode::Leaf(leaf)) };
                let whole = first.slice(..depth).join(&leaf.key);
                if changes.binary_search_by(|(key, _)| key.cmp(&whole)).is_err() {
                    let place = entries.partition_point(|(key, _)| *key < whole);
                    entries.insert(place, (whole, leaf.value));
                }
                Ok(self.build(&entries, depth))
            }
            TrieNode::Extension(extension) => self.extension(extension, depth, changes),
            TrieNode::Branch(branch) => {
                let mut children: [Child; 16] = Default::default();
                for (place, (_, child)) in children.iter_mut().zip(branch.as_ref().children()) {
                    *place = child.cloned().map_or(Child::None, Child::Old);
                }
                self.branch(children, depth, changes)
            }
        }
    }

    fn extension(
        &mut self,
        extension: ExtensionNode,
        depth: usize,
        changes: &[Change],
    ) -> Result<TrieNode, TrieError> {
        let ExtensionNode { key: along, child } = extension;
        let shared = |key: &Nibbles| key.slice(depth..).common_prefix_length(&along);
        // Keys to be deleted that do not follow the extension were not in the trie.
        let inserts = changes.iter().filter(|(_, value)| value.is_some());
        let stays = inserts.map(|(key, _)| shared(key)).min().unwrap_or(along.len()).min(along.len());
        let concerned: Vec<Change> =
            changes.iter().filter(|(key, _)| shared(key) >= stays).cloned().collect();
        let Some((first, _)) = concerned.first() else {
            return Ok(TrieNode::Extension(ExtensionNode::new(along, child)));
        };
        if stays == along.len() {
            let node = load(self.store, &child, first.slice(..depth + stays))?;
            let node = self.apply(node, depth + stays, &concerned)?;
            return Ok(self.join(along, node));
        }
        let mut children: [Child; 16] = Default::default();
        let rest = along.slice(stays + 1..);
        if let Some(place) = along.get(stays).and_then(|nibble| children.get_mut(usize::from(nibble))) {
            *place = if rest.is_empty() {
                Child::Old(child)
            } else {
                Child::New(TrieNode::Extension(ExtensionNode::new(rest, child)))
            };
        }
        let node = self.branch(children, depth + stays, &concerned)?;
        Ok(self.join(along.slice(..stays), node))
    }

    fn branch(
        &mut self,
        mut children: [Child; 16],
        depth: usize,
        changes: &[Change],
    ) -> Result<TrieNode, TrieError> {
        let Some((first, _)) = changes.first() else { return Ok(TrieNode::EmptyRoot) };
        let path = first.slice(..depth);
        let below = |nibble: usize| path.join(&Nibbles::from_nibbles([nibble as u8]));
        let mut rest = changes;
        while let Some(nibble) = rest.first().and_then(|(key, _)| key.get(depth)) {
            let (these, after) =
                rest.split_at(rest.partition_point(|(key, _)| key.get(depth) <= Some(nibble)));
            rest = after;
            let nibble = usize::from(nibble);
            let Some(place) = children.get_mut(nibble) else { break };
            let node = match std::mem::take(place) {
                Child::None => TrieNode::EmptyRoot,
                Child::Old(child) => load(self.store, &child, below(nibble))?,
                Child::New(node) => node,
            };
            *place = match self.apply(node, depth + 1, these)? {
                TrieNode::EmptyRoot => Child::None,
                node => Child::New(node),
            };
        }
        let mut left = children.iter().enumerate().filter(|(_, child)| !matches!(child, Child::None));
        match (left.next(), left.next()) {
            (None, _) => Ok(TrieNode::EmptyRoot),
            // The child takes the branch's place, for which its node must be known.
            (Some((nibble, child)), None) => {
                let node = match child.clone() {
                    Child::Old(child) => load(self.store, &child, below(nibble))?,
                    Child::New(node) => node,
                    Child::None => TrieNode::EmptyRoot,
                };
                Ok(self.join(Nibbles::from_nibbles([nibble as u8]), node))
            }
            _ => Ok(self.encode(children)),
        }
    }

    /// A trie of exactly these entries, sorted by key, that share their first `depth` nibbles.
    fn build(&mut self, entries: &[(Nibbles, Vec<u8>)], depth: usize) -> TrieNode {
        let (first, last) = match entries {
            [] => return TrieNode::EmptyRoot,
            [(key, value)] => return TrieNode::Leaf(LeafNode::new(key.slice(depth..), value.clone())),
            [(first, _), .., (last, _)] => (first, last),
        };
        let fork = first.common_prefix_length(last);
        debug_assert!(fork < KEY, "keys are each another one");
        let mut children: [Child; 16] = Default::default();
        for (nibble, place) in children.iter_mut().enumerate() {
            let has = |(key, _): &(Nibbles, Vec<u8>)| key.get(fork).map_or(0, usize::from);
            let from = entries.partition_point(|entry| has(entry) < nibble);
            let to = entries.partition_point(|entry| has(entry) <= nibble);
            if let Some(these @ [_, ..]) = entries.get(from..to) {
                *place = Child::New(self.build(these, fork + 1));
            }
        }
        let node = self.encode(children);
        self.join(first.slice(depth..fork), node)
    }

    /// `node` with `path` above it.
    fn join(&mut self, path: Nibbles, node: TrieNode) -> TrieNode {
        if path.is_empty() {
            return node;
        }
        match node {
            TrieNode::EmptyRoot => TrieNode::EmptyRoot,
            TrieNode::Leaf(leaf) => TrieNode::Leaf(LeafNode::new(path.join(&leaf.key), leaf.value)),
            TrieNode::Extension(extension) => {
                TrieNode::Extension(ExtensionNode::new(path.join(&extension.key), extension.child))
            }
            branch @ TrieNode::Branch(_) => {
                let child = self.put(&branch);
                TrieNode::Extension(ExtensionNode::new(path, child))
            }
        }
    }

    fn encode(&mut self, children: [Child; 16]) -> TrieNode {
        let mut mask = TrieMask::default();
        let mut stack = Vec::with_capacity(children.len());
        for (nibble, child) in (0..).zip(children) {
            let child = match child {
                Child::None => continue,
                Child::Old(child) => child,
                Child::New(node) => self.put(&node),
            };
            mask.set_bit(nibble);
            stack.push(child);
        }
        TrieNode::Branch(BranchNode::new(stack, mask))
    }

    /// The form in which a node is referenced in its parent.
    fn put(&mut self, node: &TrieNode) -> RlpNode {
        let mut rlp = Vec::with_capacity(node.length());
        node.encode(&mut rlp);
        let child = RlpNode::from_rlp(&rlp);
        if let Some(hash) = child.as_hash() {
            (self.made)(hash, rlp);
        }
        child
    }
}

fn written(changes: &[Change]) -> Vec<(Nibbles, Vec<u8>)> {
    changes.iter().filter_map(|(key, value)| Some((*key, value.clone()?))).collect()
}

#[cfg(test)]
mod tests;
