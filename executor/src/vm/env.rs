//! What all transactions of a block share.

use revm::context::{BlockEnv, CfgEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::primitives::U256;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

use crate::block::{Block, Chain, Fork, Header};

/// What all transactions of a block share. Plain data, sent over the network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionEnv {
    /// Chain id and fork.
    pub chain: Chain,
    /// The header fields that execution sees.
    pub header: Header,
}

impl ExecutionEnv {
    /// The environment of `block`.
    pub fn of(block: &Block) -> Self {
        Self { chain: block.chain, header: block.header.clone() }
    }

    /// The fork in force.
    pub const fn fork(&self) -> Fork {
        self.chain.fork
    }

    pub(super) fn cfg_env(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(self.fork().spec()).with_chain_id(self.chain.id);
        cfg.set_spec_and_mainnet_gas_params(self.fork().spec());
        // Before Spurious Dragon signatures had no chain id, so there is nothing to compare.
        cfg.tx_chain_id_check = true;
        if let Some(blobs) = self.chain.blobs {
            cfg.set_max_blobs_per_tx(blobs.max_per_transaction(self.fork()));
        }
        cfg
    }

    pub(super) fn block_env(&self) -> BlockEnv {
        let header = &self.header;
        let spec = self.fork().spec();
        // Files whose excess has no price are refused.
        let price = |excess| self.chain.blobs.and_then(|blobs| blobs.price(excess)).unwrap_or(u128::MAX);
        BlockEnv {
            number: U256::from(header.number),
            beneficiary: header.beneficiary,
            timestamp: U256::from(header.timestamp),
            gas_limit: header.gas_limit,
            basefee: header.base_fee,
            difficulty: header.difficulty,
            prevrandao: spec.is_enabled_in(SpecId::MERGE).then_some(header.prev_randao),
            blob_excess_gas_and_price: header
                .excess_blob_gas
                .filter(|_| spec.is_enabled_in(SpecId::CANCUN))
                .map(|excess| BlobExcessGasAndPrice {
                    excess_blob_gas: excess,
                    blob_gasprice: price(excess),
                }),
            slot_num: header.slot_number.unwrap_or_default(),
        }
    }
}
