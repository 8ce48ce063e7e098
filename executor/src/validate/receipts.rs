//! The receipts of a block as its header commits to them.

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{Eip658Value, Receipt as EncodedReceipt, ReceiptEnvelope, TxType};
use revm::primitives::B256;
use revm::primitives::alloy_primitives::Bloom;

use crate::vm::Receipt;

pub(super) fn bloom(receipts: &[Receipt]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
        bloom.accrue_log(log);
    }
    bloom
}

/// Root over the receipts with their cumulative gas, as it is from Byzantium on.
pub(super) fn root(receipts: &[Receipt]) -> B256 {
    let mut cumulative_gas_used = 0_u64;
    let envelopes: Vec<ReceiptEnvelope> = receipts
        .iter()
        .map(|receipt| {
            cumulative_gas_used = cumulative_gas_used.saturating_add(receipt.gas_used);
            let encoded = EncodedReceipt {
                status: Eip658Value::Eip658(receipt.success),
                cumulative_gas_used,
                logs: receipt.logs.clone(),
            };
            // Types are 0 to 4 by construction: files with others are refused.
            let tx_type = TxType::try_from(receipt.tx_type).unwrap_or(TxType::Legacy);
            ReceiptEnvelope::from_typed(tx_type, encoded.with_bloom())
        })
        .collect();
    calculate_receipt_root(&envelopes)
}
