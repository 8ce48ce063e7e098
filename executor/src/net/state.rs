//! State requests and their answers: conversion between bytes and the types that the rest of the
//! crate uses.

use revm::primitives::{Address, B256, Bytes, U256};

use super::{WireError, wire};
use crate::vm::AccountInfo;

/// One key of the state before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An account's balance, nonce and code hash.
    Account(Address),
    /// A storage slot.
    Slot(Address, U256),
    /// Code by its hash.
    Code(B256),
    /// The hash of an earlier block.
    BlockHash(u64),
}

/// The answer to a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The account; `None`: it does not exist.
    Account(Option<AccountInfo>),
    /// The slot; zero if it was never written.
    Slot(U256),
    /// The code; `None`: there is no known code with that hash.
    Code(Option<Bytes>),
    /// The hash; `None`: the block is out of reach, or its hash unknown.
    BlockHash(Option<B256>),
}

impl From<&Key> for wire::StateKey {
    fn from(key: &Key) -> Self {
        use wire::state_key::Key as Wire;
        let key = match key {
            Key::Account(address) => Wire::Account(address.to_vec()),
            Key::Slot(address, slot) => {
                Wire::Slot(wire::Slot { address: address.to_vec(), slot: slot.to_be_bytes_vec() })
            }
            Key::Code(hash) => Wire::Code(hash.to_vec()),
            Key::BlockHash(number) => Wire::BlockHash(*number),
        };
        Self { key: Some(key) }
    }
}

impl TryFrom<&wire::StateKey> for Key {
    type Error = WireError;

    fn try_from(key: &wire::StateKey) -> Result<Self, WireError> {
        use wire::state_key::Key as Wire;
        Ok(match key.key.as_ref().ok_or(WireError::Missing("state key"))? {
            Wire::Account(address) => Self::Account(exactly("an address", address)?.into()),
            Wire::Slot(slot) => Self::Slot(
                exactly("an address", &slot.address)?.into(),
                U256::from_be_bytes(exactly::<32>("a slot", &slot.slot)?),
            ),
            Wire::Code(hash) => Self::Code(exactly("a code hash", hash)?.into()),
            Wire::BlockHash(number) => Self::BlockHash(*number),
        })
    }
}

impl From<Value> for wire::StateValue {
    fn from(value: Value) -> Self {
        use wire::state_value::Value as Wire;
        let value = match value {
            Value::Account(Some(account)) => Wire::Account(wire::Account {
                balance: account.balance.to_be_bytes_vec(),
                nonce: account.nonce,
                code_hash: account.code_hash.to_vec(),
            }),
            Value::Slot(value) => Wire::Slot(value.to_be_bytes_vec()),
            Value::Code(Some(code)) => Wire::Code(code.to_vec()),
            Value::BlockHash(Some(hash)) => Wire::BlockHash(hash.to_vec()),
            Value::Account(None) | Value::Code(None) | Value::BlockHash(None) => {
                Wire::Absent(wire::Absent {})
            }
        };
        Self { value: Some(value) }
    }
}

impl Value {
    /// Decodes the answer to `key`; an answer to another kind of key is refused.
    pub fn answering(key: &Key, value: wire::StateValue) -> Result<Self, WireError> {
        use wire::state_value::Value as Wire;
        let value = value.value.ok_or(WireError::Missing("state value"))?;
        Ok(match (key, value) {
            (Key::Account(_), Wire::Account(account)) => Self::Account(Some(AccountInfo {
                balance: U256::from_be_bytes(exactly::<32>("a balance", &account.balance)?),
                nonce: account.nonce,
                code_hash: exactly("a code hash", &account.code_hash)?.into(),
            })),
            (Key::Account(_), Wire::Absent(_)) => Self::Account(None),
            (Key::Slot(..), Wire::Slot(value)) => {
                Self::Slot(U256::from_be_bytes(exactly::<32>("a slot's value", &value)?))
            }
            (Key::Code(_), Wire::Code(code)) => Self::Code(Some(code.into())),
            (Key::Code(_), Wire::Absent(_)) => Self::Code(None),
            (Key::BlockHash(_), Wire::BlockHash(hash)) => {
                Self::BlockHash(Some(exactly("a block hash", &hash)?.into()))
            }
            (Key::BlockHash(_), Wire::Absent(_)) => Self::BlockHash(None),
            (key, _) => return Err(WireError::Mismatch(format!("the answer to {key:?} is of another kind"))),
        })
    }
}

fn exactly<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Length { field, want: N, got: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_come_back_as_they_went_in() {
        let address = Address::repeat_byte(7);
        let info = AccountInfo { balance: U256::MAX, nonce: 3, code_hash: B256::repeat_byte(1) };
        let pairs = [
            (Key::Account(address), Value::Account(Some(info))),
            (Key::Account(address), Value::Account(None)),
            (Key::Slot(address, U256::from(5)), Value::Slot(U256::from(9))),
            (Key::Code(B256::ZERO), Value::Code(Some(Bytes::from_static(b"\x60")))),
            (Key::Code(B256::ZERO), Value::Code(None)),
            (Key::BlockHash(4), Value::BlockHash(Some(B256::repeat_byte(2)))),
            (Key::BlockHash(4), Value::BlockHash(None)),
        ];
        for (key, value) in pairs {
            let wire = wire::StateKey::from(&key);
            assert_eq!(Key::try_from(&wire).expect("a key"), key);
            assert_eq!(Value::answering(&key, value.clone().into()).expect("a value"), value);
        }
    }

    #[test]
    fn answers_of_another_kind_or_length_are_refused() {
        let slot = Key::Slot(Address::ZERO, U256::ZERO);
        assert!(Value::answering(&slot, Value::Account(None).into()).is_err());
        assert!(Value::answering(&slot, wire::StateValue { value: None }).is_err());
        let short = wire::StateValue { value: Some(wire::state_value::Value::Slot(vec![1])) };
        assert!(matches!(Value::answering(&slot, short), Err(WireError::Length { want: 32, got: 1, .. })));
    }
}
