//! The receipts of a block as its header commits to them, added one by one as transactions are
//! settled.

use alloy_consensus::{Eip658Value, Receipt as EncodedReceipt, ReceiptEnvelope, TxType};
use alloy_eips::Encodable2718;
use alloy_trie::{HashBuilder, Nibbles};
use revm::primitives::B256;
use revm::primitives::alloy_primitives::Bloom;

use crate::block::Fork;
use crate::vm::Receipt;

/// The last index that is its own RLP encoding, a single byte. Zero is encoded as 0x80, so among
/// the sorted keys of the trie it comes right after this one.
const LAST_OF_ONE_BYTE: usize = 0x7f;

/// Bloom and root of the receipts so far.
pub(super) struct Seal {
    trie: HashBuilder,
    /// The first receipt, until its turn in the trie comes.
    first: Option<Vec<u8>>,
    count: usize,
    cumulative_gas_used: u64,
    bloom: Bloom,
    with_root: bool,
    buffer: Vec<u8>,
}

impl Seal {
    /// A seal without receipts. Before Byzantium receipts held state roots, so there is no root to
    /// compare.
    pub(super) fn new(fork: Fork) -> Self {
        Self {
            trie: HashBuilder::default(),
            first: None,
            count: 0,
            cumulative_gas_used: 0,
            bloom: Bloom::ZERO,
            with_root: fork >= Fork::Byzantium,
            buffer: Vec::new(),
        }
    }

    /// Adds the next receipt.
    pub(super) fn add(&mut self, receipt: &Receipt) {
        self.cumulative_gas_used = self.cumulative_gas_used.saturating_add(receipt.gas_used);
        let encoded = EncodedReceipt {
            status: Eip658Value::Eip658(receipt.success),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: receipt.logs.clone(),
        }
        .with_bloom();
        self.bloom |= encoded.logs_bloom;
        if !self.with_root {
            return;
        }
        // Types are 0 to 4 by construction: files with other types are refused.
        let tx_type = TxType::try_from(receipt.tx_type).unwrap_or(TxType::Legacy);
        let envelope = ReceiptEnvelope::from_typed(tx_type, encoded);
        self.buffer.clear();
        envelope.encode_2718(&mut self.buffer);
        let index = self.count;
        self.count += 1;
        if index == 0 {
            self.first = Some(self.buffer.clone());
            return;
        }
        if index > LAST_OF_ONE_BYTE {
            self.add_first();
        }
        self.trie.add_leaf(key(index), &self.buffer);
    }

    fn add_first(&mut self) {
        if let Some(first) = self.first.take() {
            self.trie.add_leaf(key(0), &first);
        }
    }

    /// The root, if there is one, and the bloom over all logs.
    pub(super) fn finish(mut self) -> (Option<B256>, Bloom) {
        self.add_first();
        (self.with_root.then(|| self.trie.root()), self.bloom)
    }
}

fn key(index: usize) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode_fixed_size(&index))
}

#[cfg(test)]
mod tests {
    use alloy_consensus::proofs::calculate_receipt_root;

    use super::*;
    use crate::vm::BlockGas;

    #[test]
    fn the_root_is_that_of_all_receipts_at_once_whatever_their_number() {
        for count in [0, 1, 2, 127, 128, 129, 300_usize] {
            let receipts: Vec<Receipt> = (0..count)
                .map(|i| Receipt {
                    tx_type: (i % 5) as u8,
                    success: i % 3 > 0,
                    gas_used: 21_000 + i as u64,
                    block_gas: BlockGas::default(),
                    logs: Vec::new(),
                })
                .collect();
            let mut gas = 0;
            let at_once: Vec<ReceiptEnvelope> = receipts
                .iter()
                .map(|receipt| {
                    gas += receipt.gas_used;
                    let encoded = EncodedReceipt {
                        status: Eip658Value::Eip658(receipt.success),
                        cumulative_gas_used: gas,
                        logs: receipt.logs.clone(),
                    };
                    ReceiptEnvelope::from_typed(
                        TxType::try_from(receipt.tx_type).unwrap(),
                        encoded.with_bloom(),
                    )
                })
                .collect();
            let mut seal = Seal::new(Fork::Prague);
            receipts.iter().for_each(|receipt| seal.add(receipt));
            assert_eq!(seal.finish().0, Some(calculate_receipt_root(&at_once)), "{count} receipts");
        }
    }
}
