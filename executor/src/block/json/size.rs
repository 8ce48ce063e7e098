//! The length of a block in RLP, which is limited since Osaka (EIP-7934), computed from the file's
//! JSON.

use alloy_rlp::{Encodable, length_of_length};
use revm::primitives::alloy_primitives::U64;
use revm::primitives::{B256, U256};

use super::shape::{BlockJson, WithdrawalJson};
use super::transaction::{AccessJson, AuthorizationJson, TransactionJson};
use super::variants::Listed;

/// Encoded lengths of a hash, an address and a bloom, each with its RLP prefix, and of a nonce.
const HASH: usize = 33;
const ADDRESS: usize = 21;
const BLOOM: usize = 259;
const NONCE: usize = 9;
/// The encoded length of an empty string or an empty list.
const EMPTY: usize = 1;

/// The length of `block` under Osaka or a later fork. Exact if the file has the signatures and the
/// extra data; otherwise a lower bound, or the node's own figure if that is larger.
pub(super) fn of(block: &BlockJson) -> u64 {
    let whole = block.transactions.iter().filter_map(|listed| match listed {
        Listed::Whole(tx) => Some(tx),
        Listed::Hash => None,
    });
    let is_exact = block.extra_data.is_some() && whole.clone().all(|tx| is_signed(tx));
    let transactions = whole.map(|tx| transaction(tx)).sum();
    let withdrawals = block.withdrawals.iter().flatten().map(withdrawal).sum();
    let parts = list(header(block)) + list(transactions) + EMPTY + list(withdrawals);
    let length = list(parts) as u64;
    match block.size {
        Some(said) if !is_exact => length.max(said.to()),
        _ => length,
    }
}

fn is_signed(tx: &TransactionJson) -> bool {
    tx.r.is_some() && tx.s.is_some() && (tx.v.is_some() || !is_legacy(tx))
}

fn is_legacy(tx: &TransactionJson) -> bool {
    kind(tx) == 0
}

fn kind(tx: &TransactionJson) -> u64 {
    tx.tx_type.map_or(0, |kind| kind.to())
}

/// The length of a list with this many bytes of contents.
fn list(payload: usize) -> usize {
    payload + length_of_length(payload)
}

/// The length of a number; an absent one counts as zero.
fn number<T: Encodable + Default>(value: Option<T>) -> usize {
    value.unwrap_or_default().length()
}

fn header(block: &BlockJson) -> usize {
    let hashes = [
        Some(block.parent_hash),
        // Uncles, state, transactions, receipts and the mix hash.
        Some(B256::ZERO),
        Some(B256::ZERO),
        Some(B256::ZERO),
        Some(block.receipts_root),
        Some(B256::ZERO),
        block.withdrawals_root.or(Some(B256::ZERO)),
        block.parent_beacon_block_root.or(Some(B256::ZERO)),
        block.requests_hash.or(Some(B256::ZERO)),
        block.block_access_list_hash,
    ];
    let numbers = [
        Some(block.number),
        Some(block.timestamp),
        Some(block.gas_limit),
        Some(block.gas_used),
        block.base_fee_per_gas,
        block.blob_gas_used,
        block.excess_blob_gas,
    ];
    hashes.iter().flatten().count() * HASH
        + ADDRESS
        + BLOOM
        + NONCE
        + block.difficulty.unwrap_or_default().length()
        + numbers.into_iter().map(number::<U64>).sum::<usize>()
        + block.slot_number.map_or(0, |slot| slot.length())
        + block.extra_data.as_ref().map_or(EMPTY, Encodable::length)
}

fn transaction(tx: &TransactionJson) -> usize {
    let common = tx.nonce.length()
        + tx.gas.length()
        + tx.to.map_or(EMPTY, |_| ADDRESS)
        + tx.value.length()
        + tx.input.length()
        + number::<U256>(tx.r)
        + number::<U256>(tx.s);
    if is_legacy(tx) {
        return list(common + number(tx.gas_price) + number::<U256>(tx.v));
    }
    let mut payload =
        common + number(tx.chain_id) + access_list(tx.access_list.as_deref().unwrap_or_default());
    // The signature's parity, 0 or 1.
    payload += 1;
    payload += match kind(tx) {
        1 => number(tx.gas_price),
        _ => number(tx.max_fee_per_gas) + number(tx.max_priority_fee_per_gas),
    };
    if kind(tx) == 3 {
        let hashes = tx.blob_versioned_hashes.as_ref().map_or(0, Vec::len);
        payload += number(tx.max_fee_per_blob_gas) + list(hashes * HASH);
    }
    if kind(tx) == 4 {
        let signed = tx.authorization_list.iter().flatten().map(authorization);
        payload += list(signed.sum());
    }
    // The type and the list are wrapped in a string.
    list(1 + list(payload))
}

fn access_list(items: &[AccessJson]) -> usize {
    list(items.iter().map(|item| list(ADDRESS + list(item.storage_keys.len() * HASH))).sum())
}

fn authorization(signed: &AuthorizationJson) -> usize {
    let parity = number(signed.y_parity.or(signed.v));
    list(
        signed.chain_id.length()
            + ADDRESS
            + signed.nonce.length()
            + parity
            + signed.r.length()
            + signed.s.length(),
    )
}

fn withdrawal(paid: &WithdrawalJson) -> usize {
    list(number(paid.index) + number(paid.validator_index) + ADDRESS + paid.amount.length())
}

#[cfg(test)]
mod tests;
