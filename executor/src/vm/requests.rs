//! The requests to the consensus layer that a block produces (EIP-7685), as its header commits to
//! them.

use alloy_eips::eip6110::{DEPOSIT_REQUEST_TYPE, MAINNET_DEPOSIT_CONTRACT_ADDRESS};
use revm::precompile::crypto;
use revm::primitives::{Address, B256, Bytes, Log, address, b256};

use super::Receipt;

/// The deposit contract, by chain: mainnet and the public test chains. Other chains have their own,
/// which no header and no block file names.
const DEPOSIT_CONTRACTS: [(u64, Address); 4] = [
    (1, MAINNET_DEPOSIT_CONTRACT_ADDRESS),
    (17_000, address!("4242424242424242424242424242424242424242")),
    (560_048, MAINNET_DEPOSIT_CONTRACT_ADDRESS),
    (11_155_111, address!("7f02c3e3c98b133055b8b348b2ac625669ed295d")),
];

/// `DepositEvent(bytes,bytes,bytes,bytes,bytes)`.
const DEPOSIT_EVENT: B256 = b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");

/// For each field of a deposit, the offset of its length word in the event's data, and its length:
/// public key, withdrawal credentials, amount, signature, index. The contract is older than the EIP
/// and always uses this layout.
const DEPOSIT_FIELDS: [(usize, usize); 5] = [(160, 48), (256, 32), (320, 8), (384, 96), (512, 8)];
/// The length of the event's data, in bytes.
const DEPOSIT_DATA: usize = 576;

/// What the request queues returned at the end of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Each type with its concatenated requests, ordered by type.
    pub queues: Vec<(u8, Bytes)>,
    /// Why no valid block can end like this: the contract of a queue is missing or fails.
    pub fault: Option<String>,
}

impl Requests {
    /// The hash in the header, including the deposits (EIP-6110) in `receipts`; `None` if one of
    /// them is not laid out as by the deposit contract, which no valid block contains.
    pub fn hash(&self, chain_id: u64, receipts: &[Receipt]) -> Option<B256> {
        let deposits = deposits(chain_id, receipts)?;
        let queues = self.queues.iter().map(|(of_type, list)| (*of_type, list.as_ref()));
        let lists = std::iter::once((DEPOSIT_REQUEST_TYPE, deposits.as_slice())).chain(queues);
        let mut hashes = Vec::new();
        // A type without requests is omitted.
        for (of_type, list) in lists.filter(|(_, list)| !list.is_empty()) {
            hashes.extend(crypto().sha256(&[&[of_type], list].concat()));
        }
        Some(crypto().sha256(&hashes).into())
    }
}

fn deposits(chain_id: u64, receipts: &[Receipt]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let known = DEPOSIT_CONTRACTS.iter().find(|(id, _)| *id == chain_id);
    let Some((_, contract)) = known else { return Some(all) };
    for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
        if log.address == *contract && log.topics().first() == Some(&DEPOSIT_EVENT) {
            all.extend(deposit(log)?);
        }
    }
    Some(all)
}

/// The deposit request in an event; `None` if its layout is wrong.
fn deposit(log: &Log) -> Option<Vec<u8>> {
    let data = &log.data.data;
    if data.len() != DEPOSIT_DATA {
        return None;
    }
    let is_word = |at: usize, value: usize| {
        data.get(at..at + 32).is_some_and(|word| revm::primitives::U256::from_be_slice(word) == value)
    };
    let mut request = Vec::with_capacity(192);
    for (number, (at, length)) in DEPOSIT_FIELDS.into_iter().enumerate() {
        if !is_word(number * 32, at) || !is_word(at, length) {
            return None;
        }
        request.extend(data.get(at + 32..at + 32 + length)?);
    }
    Some(request)
}
