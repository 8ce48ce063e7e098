use std::collections::BTreeMap;

use alloy_trie::HashBuilder;
use proptest::prelude::*;

use super::*;

/// A store with all nodes of a trie of these entries, and the trie's root.
fn build(entries: &BTreeMap<u16, u8>) -> (Nodes, B256) {
    let mut nodes = Nodes::default();
    let changes = changes(entries.iter().map(|(key, value)| (*key, Some(*value))));
    let mut made = Vec::new();
    let root = update(&nodes, EMPTY_ROOT_HASH, &changes, &mut |hash, rlp| made.push((hash, rlp))).unwrap();
    nodes.extend(made.into_iter().map(|(hash, rlp)| (hash, rlp.into())));
    (nodes, root)
}

/// Keys that share prefixes of every length: the first nibbles vary, and so do the last ones.
fn spread(key: u16) -> Nibbles {
    let nibble = |at: u32| ((key >> (4 * at)) & 0xf) as u8 & 0b11;
    let mut path = [0_u8; KEY];
    path[0] = nibble(3);
    path[1] = nibble(2);
    path[40] = nibble(1);
    path[63] = nibble(0);
    Nibbles::from_nibbles(path)
}

/// Some values are so short that a leaf is embedded in its parent.
fn value(byte: u8) -> Vec<u8> {
    vec![byte.max(1); if byte.is_multiple_of(3) { 1 } else { 40 }]
}

fn changes(of: impl Iterator<Item = (u16, Option<u8>)>) -> Vec<Change> {
    let sorted: BTreeMap<Nibbles, Option<Vec<u8>>> =
        of.map(|(key, byte)| (spread(key), byte.map(value))).collect();
    sorted.into_iter().collect()
}

/// The root as another implementation computes it.
fn root_of(entries: &BTreeMap<Nibbles, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in entries {
        builder.add_leaf(*key, value);
    }
    builder.root()
}

fn spread_out(entries: &BTreeMap<u16, u8>) -> BTreeMap<Nibbles, Vec<u8>> {
    entries.iter().map(|(key, byte)| (spread(*key), value(*byte))).collect()
}

proptest! {
    #[test]
    fn the_root_after_changes_is_that_of_a_trie_made_anew(
        before: BTreeMap<u16, u8>,
        after in prop::collection::btree_map(any::<u16>(), any::<Option<u8>>(), 0..40),
        deleted in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (nodes, root) = build(&before);
        let mut expected = spread_out(&before);
        prop_assert_eq!(root, root_of(&expected));
        // Most keys of `after` are not in the trie yet; some that are in it must be deleted.
        let keys: Vec<u16> = before.keys().copied().collect();
        let gone = deleted.iter().filter(|_| !keys.is_empty()).map(|index| (*index.get(&keys), None));
        let changes = changes(after.into_iter().chain(gone));
        for (key, value) in &changes {
            match value {
                Some(value) => expected.insert(*key, value.clone()),
                None => expected.remove(key),
            };
        }
        let got = update(&nodes, root, &changes, &mut |_, _| {}).unwrap();
        prop_assert_eq!(got, root_of(&expected));
    }

    #[test]
    fn what_is_in_a_trie_is_found_and_nothing_else(entries: BTreeMap<u16, u8>, others: Vec<u16>) {
        let (nodes, root) = build(&entries);
        let expected = spread_out(&entries);
        for key in others.iter().chain(entries.keys()).map(|key| spread(*key)) {
            prop_assert_eq!(get(&nodes, root, &key).unwrap(), expected.get(&key).cloned());
        }
    }

    #[test]
    fn with_nodes_left_out_the_root_is_the_same_or_a_missing_node_is_named(
        before: BTreeMap<u16, u8>,
        after in prop::collection::btree_map(any::<u16>(), any::<Option<u8>>(), 1..8),
        left_out: prop::sample::Index,
    ) {
        let (mut nodes, root) = build(&before);
        let changes = changes(after.into_iter());
        let whole = update(&nodes, root, &changes, &mut |_, _| {}).unwrap();
        let mut hashes: Vec<B256> = nodes.keys().copied().collect();
        hashes.sort();
        prop_assume!(!hashes.is_empty());
        let gone = *left_out.get(&hashes);
        nodes.remove(&gone);
        match update(&nodes, root, &changes, &mut |_, _| {}) {
            Ok(root) => prop_assert_eq!(root, whole),
            Err(error) => prop_assert!(matches!(error, TrieError::Missing { hash, .. } if hash == gone), "{error}"),
        }
    }

    #[test]
    fn nodes_of_any_bytes_end_in_an_answer_or_an_error(rlp: Vec<u8>, key: u16) {
        let root = keccak256(&rlp);
        let nodes = Nodes::from_iter([(root, rlp.into())]);
        let _ = get(&nodes, root, &spread(key));
        let _ = update(&nodes, root, &changes([(key, Some(1)), (key ^ 1, None)].into_iter()), &mut |_, _| {});
    }
}

/// Two leaves under one branch, one of which is deleted.
#[test]
fn a_branch_that_collapses_needs_the_sibling_that_is_left() {
    let entries = BTreeMap::from([(0x0000, 1), (0x1000, 2)]);
    let (mut nodes, root) = build(&entries);
    let delete = changes([(0x0000, None)].into_iter());
    let left = BTreeMap::from([(0x1000, 2)]);
    assert_eq!(update(&nodes, root, &delete, &mut |_, _| {}).unwrap(), root_of(&spread_out(&left)));
    let (sibling, path) = (spread(0x1000), Nibbles::from_nibbles([1]));
    let leaf = TrieNode::Leaf(LeafNode::new(sibling.slice(1..), value(2)));
    let hash = keccak256(alloy_rlp::encode(&leaf));
    assert!(nodes.remove(&hash).is_some());
    let error = update(&nodes, root, &delete, &mut |_, _| {}).unwrap_err();
    assert_eq!(error, TrieError::Missing { hash, path });
    // Nothing collapses if another key is inserted at the same time, so no node is requested.
    let moved = changes([(0x0000, None), (0x2000, Some(1))].into_iter());
    let moved_to = BTreeMap::from([(0x1000, 2), (0x2000, 1)]);
    assert_eq!(update(&nodes, root, &moved, &mut |_, _| {}).unwrap(), root_of(&spread_out(&moved_to)));
}

#[test]
fn a_leaf_or_an_extension_of_another_length_than_keys_have_is_refused() {
    let short = TrieNode::Leaf(LeafNode::new(Nibbles::from_nibbles([1, 2]), vec![7; 40]));
    let empty = TrieNode::Extension(ExtensionNode::new(Nibbles::new(), RlpNode::word_rlp(&B256::ZERO)));
    for node in [short, empty] {
        let rlp = alloy_rlp::encode(&node);
        let root = keccak256(&rlp);
        let nodes = Nodes::from_iter([(root, rlp.into())]);
        let refused = |error| matches!(error, TrieError::Malformed { .. });
        assert!(get(&nodes, root, &spread(0)).is_err_and(refused));
        let changes = changes([(0, Some(1))].into_iter());
        assert!(update(&nodes, root, &changes, &mut |_, _| {}).is_err_and(refused));
    }
}
