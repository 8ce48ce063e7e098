//! A block with its witness: what the file says of the state and of earlier blocks must be what the
//! witness proves.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_rlp::Decodable;

use super::unfit::{Unfit, unfit};
use crate::block::{Block, Parent};
use crate::witness::{WitnessError, WitnessJson};

impl Block {
    /// The block with `witness`, if the witness proves what the file says.
    pub(super) fn with_witness(mut self, witness: Option<WitnessJson>) -> Result<Self, Unfit> {
        let Some(witness) = witness else { return Ok(self) };
        if self.expected.state_root.is_none() {
            return Err(unfit(
                format!("block {} has a `witness` and no `stateRoot` to check by it", self.number()),
                "Fetch the whole header with eth_getBlockByNumber(n, true), or take the key `witness` out.",
            ));
        }
        let number = self.number();
        let of_block = |error: WitnessError| unfit(format!("block {number}: {}", error.reason), error.hint);
        let witness = witness.read(self.header.parent_hash, number).map_err(of_block)?;
        for account in self.pre.iter_mut().flat_map(|pre| pre.values_mut()) {
            if let Some(code) = account.code_hash.and_then(|hash| witness.code(&hash)) {
                (account.code, account.code_hash) = (code.clone(), None);
            }
        }
        if let Some(pre) = &self.pre {
            witness.prove(pre, self.chain.fork).map_err(of_block)?;
        }
        for (number, hash) in witness.hashes() {
            if let Some(other) = self.hashes.get(number).filter(|other| *other != hash) {
                return Err(unfit(
                    format!(
                        "block {number} has the hash {other} in `hashes`, and {hash} by the headers of `witness`"
                    ),
                    "Take the hash out of `hashes`: the headers are enough.",
                ));
            }
        }
        self.hashes.extend(witness.hashes());
        if self.parent.is_none() {
            self.parent = Header::decode(&mut witness.parent())
                .ok()
                .map(|header| Parent::of_header(&header, self.header.parent_hash));
        }
        self.witness = Some(Arc::new(witness));
        Ok(self)
    }
}
