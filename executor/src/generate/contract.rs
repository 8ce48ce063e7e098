//! The contracts of generated chains: their code, the layout of their storage and how to call them.
//!
//! The sources are executor/contracts/*.sol; the code beside them is their compiled form, and a
//! scenario compiles them again to prove that.

use std::collections::BTreeMap;

use revm::primitives::{Address, B256, Bytes, U256, hex, keccak256};

use crate::block::PreAccount;

/// How much of each token every trader and every pool holds: enough that no chain runs out.
const HOLDING: u128 = 1_000_000_000_000_000_000_000_000;

/// Storage of Token.sol: who owns how much, and who may take how much from whom.
#[derive(Debug, Default)]
pub(super) struct Token {
    storage: BTreeMap<U256, U256>,
}

impl Token {
    /// Gives `owner` plenty of tokens.
    pub(super) fn endow(&mut self, owner: Address) {
        self.storage.insert(entry(owner, B256::ZERO).into(), U256::from(HOLDING));
    }

    /// Lets `spender` take everything from `owner`.
    pub(super) fn allow(&mut self, owner: Address, spender: Address) {
        let of_owner = entry(owner, B256::with_last_byte(1));
        // Half of the maximum: the contract deducts from every allowance and knows no "unlimited".
        self.storage.insert(entry(spender, of_owner).into(), U256::MAX >> 1);
    }

    pub(super) fn account(self) -> PreAccount {
        account(include_str!("../../contracts/Token.hex"), self.storage)
    }

    /// Calldata that transfers `amount` to `to`.
    pub(super) fn transfer(to: Address, amount: U256) -> Bytes {
        call("transfer(address,uint256)", [to.into_word(), amount.into()])
    }
}

/// The code of Pool.sol, for [`pool`] to delegate to.
pub(super) fn pool_implementation() -> PreAccount {
    account(include_str!("../../contracts/Pool.hex"), BTreeMap::new())
}

/// A pool with equal amounts of both tokens: a minimal proxy (EIP-1167), like most pools of real
/// chains. A block has thousands of pools; if each had the whole code, copies would fill the file.
pub(super) fn pool(implementation: Address, token0: Address, token1: Address) -> PreAccount {
    let reserve = U256::from(HOLDING);
    let summed = U256::from(1);
    let fields = [
        token0.into_word().into(),
        token1.into_word().into(),
        // Both reserves in one slot; the timestamp is set by the first swap.
        reserve | (reserve << 112),
        // As in a pool that has been in use: its first swap costs no more than the next.
        summed,
        summed,
        summed,
        U256::from(1),
    ];
    let storage = (0_u64..).map(U256::from).zip(fields).collect();
    let code = [
        &hex!("363d3d373d3d3d363d73")[..],
        implementation.as_slice(),
        &hex!("5af43d82803e903d91602b57fd5bf3"),
    ]
    .concat()
    .into();
    PreAccount { nonce: 1, code, storage, ..PreAccount::default() }
}

/// Calldata that sells `paid` of token 0, or of token 1, at whatever price.
pub(super) fn swap(zero_for_one: bool, paid: U256) -> Bytes {
    let direction = B256::with_last_byte(u8::from(zero_for_one));
    call("swap(bool,uint256,uint256)", [direction, paid.into(), U256::from(1).into()])
}

/// The slot of `key` in the mapping at `slot`, as Solidity lays mappings out.
fn entry(key: Address, slot: B256) -> B256 {
    keccak256([key.into_word(), slot].concat())
}

fn call<const N: usize>(signature: &str, arguments: [B256; N]) -> Bytes {
    let selector = keccak256(signature);
    let mut data = selector.iter().take(4).copied().collect::<Vec<_>>();
    data.extend(arguments.iter().flat_map(|word| word.0));
    data.into()
}

fn account(code: &str, storage: BTreeMap<U256, U256>) -> PreAccount {
    // The files are part of the program: a test executes them.
    let code = hex::decode(code.trim()).unwrap_or_default().into();
    PreAccount { nonce: 1, code, storage, ..PreAccount::default() }
}
