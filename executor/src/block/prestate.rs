//! What `prestateTracer` returns: accounts as they stood before each transaction. The results for
//! all transactions of a block are merged into the state before the block.

use std::collections::BTreeMap;
use std::fmt;

use revm::primitives::alloy_primitives::U64;
use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::PreAccount;

/// An account as the tracer prints it, without fields that are zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct AccountJson {
    pub(crate) balance: Option<U256>,
    pub(crate) nonce: Option<U64>,
    pub(crate) code: Option<Bytes>,
    /// Printed only by some clients, and not always with the matching code.
    #[serde(rename = "codeHash", skip_serializing_if = "Option::is_none")]
    pub(crate) code_hash: Option<B256>,
    pub(crate) storage: Option<BTreeMap<U256, U256>>,
}

impl AccountJson {
    /// Why this cannot be the account at `address`, and what to do about it: its code was left out
    /// or does not match its hash. If a witness proves the hash (`is_proven`), code that does not
    /// run may be left out.
    pub(crate) fn fault(&self, address: Address, is_proven: bool) -> Option<(String, &'static str)> {
        let hash = self.code_hash.filter(|hash| !hash.is_zero() && *hash != KECCAK_EMPTY)?;
        let code = self.code.as_ref().filter(|code| !code.is_empty());
        match code {
            None if is_proven => None,
            None => Some((
                format!("`pre` has account {address:#x} with the codeHash {hash} and without its `code`"),
                "Trace the block again with the tracer's option `disableCode` off, or add the code.",
            )),
            Some(code) if keccak256(code) != hash => Some((
                format!("`pre` has account {address:#x} with a `code` whose hash is not its codeHash {hash}"),
                "Fetch the account again: the two are from different blocks or chains.",
            )),
            Some(_) => None,
        }
    }
}

impl From<AccountJson> for PreAccount {
    fn from(account: AccountJson) -> Self {
        let code = account.code.unwrap_or_default();
        Self {
            balance: account.balance.unwrap_or_default(),
            nonce: account.nonce.unwrap_or_default().to(),
            // The hash without the code is of use only if a witness proves it.
            code_hash: account
                .code_hash
                .filter(|hash| code.is_empty() && !hash.is_zero() && *hash != KECCAK_EMPTY),
            code,
            storage: account.storage.unwrap_or_default(),
        }
    }
}

impl From<&PreAccount> for AccountJson {
    fn from(account: &PreAccount) -> Self {
        Self {
            balance: Some(account.balance),
            nonce: Some(U64::from(account.nonce)),
            code: (!account.code.is_empty()).then(|| account.code.clone()),
            code_hash: account.code_hash,
            storage: Some(account.storage.clone()),
        }
    }
}

/// Accounts by address. A key that is not an address is reported as such: the output of another
/// tracer, or of this one in diff mode, has much the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts(pub(crate) BTreeMap<Address, AccountJson>);

impl<'de> Deserialize<'de> for Accounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Addresses;
        impl<'de> Visitor<'de> for Addresses {
            type Value = Accounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("accounts by address, as prestateTracer answers them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Accounts, A::Error> {
                let mut accounts = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let address = key.parse().map_err(|_| de::Error::custom(not_an_address(&key)))?;
                    accounts.insert(address, map.next_value()?);
                }
                Ok(Accounts(accounts))
            }
        }
        deserializer.deserialize_map(Addresses)
    }
}

fn not_an_address(key: &str) -> String {
    let shown: String = key.chars().take(50).collect();
    let next = match key {
        "pre" | "post" => "trace the block again without the tracer's option `diffMode`",
        "calls" | "from" | "gas" | "structLogs" | "type" => {
            "trace the block again with {\"tracer\": \"prestateTracer\"}"
        }
        _ => "accounts stand under their addresses of 20 bytes in hex",
    };
    format!("`{shown}` is not an address: {next}")
}

/// One entry of what `debug_traceBlockByNumber` returns with `prestateTracer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Hash of the transaction; old clients do not print it.
    pub(crate) transaction: Option<B256>,
    /// What the transaction touched, as it stood before the transaction.
    pub(crate) accounts: Accounts,
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "txHash")]
            transaction: Option<B256>,
            result: Option<Accounts>,
            error: Option<serde_json::Value>,
        }
        let entry = Entry::deserialize(deserializer)?;
        let of = entry.transaction.map_or_else(String::new, |hash| format!(" of transaction {hash}"));
        match (entry.result, entry.error) {
            (Some(accounts), None) => Ok(Self { transaction: entry.transaction, accounts }),
            (_, Some(error)) => Err(de::Error::custom(format!(
                "the trace{of} is an error, {error}: trace the block again, on a node that has its state"
            ))),
            (None, None) => Err(de::Error::custom(format!(
                "the trace{of} has no `result`: each entry is {{\"txHash\": …, \"result\": {{address: …}}}}"
            ))),
        }
    }
}

/// The state before a block, merged from the traces of its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Each account and each slot, as in the first trace that shows it.
    pub(crate) accounts: BTreeMap<Address, AccountJson>,
    /// The index of the trace that first showed each account. A trace omits an account that is
    /// empty, and a later trace may show what an earlier transaction put there. So an account first
    /// shown late may not have existed before the block.
    pub(crate) first_shown: BTreeMap<Address, usize>,
}

impl Merged {
    /// Removes what did not exist before the block. `touched` has, for each transaction, an account
    /// that it pays or creates. If that transaction's trace does not show the account, it was empty
    /// at that point, and later traces show only what became of it.
    pub(crate) fn leave_out_new(&mut self, touched: impl IntoIterator<Item = Address>) {
        for (index, address) in touched.into_iter().enumerate() {
            if self.first_shown.get(&address).is_some_and(|first| *first > index) {
                self.accounts.remove(&address);
            }
        }
    }
}

/// Merges `traces`, which are in the block's order. Balance, nonce and code are taken together from
/// the first trace that shows the account, because a field omitted there is zero, not unknown. Each
/// slot is taken from the first trace that shows it.
pub(crate) fn merge(traces: impl IntoIterator<Item = Trace>) -> Merged {
    let mut merged = Merged::default();
    for (index, trace) in traces.into_iter().enumerate() {
        for (address, account) in trace.accounts.0 {
            let Some(known) = merged.accounts.get_mut(&address) else {
                merged.accounts.insert(address, account);
                merged.first_shown.insert(address, index);
                continue;
            };
            let slots = known.storage.get_or_insert_default();
            for (slot, value) in account.storage.unwrap_or_default() {
                slots.entry(slot).or_insert(value);
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

    use serde_json::{Value, json};

    use super::*;

    fn address(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    fn merged(traces: Value) -> Merged {
        merge(serde_json::from_value::<Vec<Trace>>(traces).unwrap())
    }

    #[test]
    fn the_first_sight_of_an_account_and_of_each_slot_counts() {
        let (one, two) = (address(1), address(2));
        let merged = merged(json!([
            { "txHash": B256::ZERO, "result": { one.to_string(): { "balance": "0x5", "storage": { "0x1": "0x10" } } } },
            { "result": {
                one.to_string(): { "balance": "0x4", "nonce": 1, "code": "0x00", "storage": { "0x1": "0x11", "0x2": "0x20" } },
                two.to_string(): { "balance": "0x9" },
            } },
        ]));
        let account = PreAccount::from(merged.accounts[&one].clone());
        assert_eq!((account.balance, account.nonce), (U256::from(5), 0), "a nonce left out was zero");
        assert!(account.code.is_empty());
        let slots = [(1, 0x10), (2, 0x20)].map(|(slot, value)| (U256::from(slot), U256::from(value)));
        assert_eq!(account.storage, BTreeMap::from(slots));
        assert_eq!(merged.first_shown, BTreeMap::from([(one, 0), (two, 1)]));
    }

    #[test]
    fn an_account_that_a_transaction_makes_is_not_there_before_the_block() {
        let (made, old, paid) = (address(1), address(2), address(3));
        let shown = json!({ "balance": "0x9", "code": "0x00" });
        let mut merged = merged(json!([
            { "result": { old.to_string(): shown } },
            { "result": { paid.to_string(): shown } },
            { "result": { made.to_string(): shown, old.to_string(): shown } },
        ]));
        // The first transaction creates an account that the third trace shows; the second pays one
        // that its own trace shows.
        merged.leave_out_new([made, paid, old]);
        assert_eq!(merged.accounts.keys().copied().collect::<Vec<_>>(), [old, paid]);
    }

    #[test]
    fn another_tracers_answer_is_refused_with_the_next_step() {
        for (traces, because) in [
            (json!([{ "result": { "pre": {}, "post": {} } }]), "without the tracer's option `diffMode`"),
            (json!([{ "result": { "from": "0x00", "gas": "0x0" } }]), "prestateTracer"),
            (json!([{ "txHash": B256::ZERO, "error": "missing trie node" }]), "missing trie node"),
            (json!([{ "txHash": B256::ZERO }]), "has no `result`"),
        ] {
            let error = serde_json::from_value::<Vec<Trace>>(traces).unwrap_err().to_string();
            assert!(error.contains(because), "expected `{because}` in: {error}");
        }
    }

    #[test]
    fn code_that_was_left_out_or_is_another_is_named() {
        let account = |value: Value| serde_json::from_value::<AccountJson>(value).unwrap();
        let code = Bytes::from_static(&[0x00]);
        let right = account(json!({ "code": code, "codeHash": keccak256(&code) }));
        assert_eq!(right.fault(address(1), false), None);
        for empty in [B256::ZERO, KECCAK_EMPTY] {
            assert_eq!(account(json!({ "codeHash": empty })).fault(address(1), false), None);
        }
        let (reason, hint) =
            account(json!({ "codeHash": B256::repeat_byte(1) })).fault(address(7), false).unwrap();
        assert!(
            reason.contains(&format!("{:#x}", address(7))) && hint.contains("disableCode"),
            "{reason} {hint}"
        );
        let other = account(json!({ "code": code, "codeHash": B256::repeat_byte(1) }));
        assert!(other.fault(address(7), false).is_some());
    }
}
