//! The requests made to an archive node.

use std::sync::Mutex;
use std::sync::PoisonError;

use revm::primitives::alloy_primitives::U64;
use revm::primitives::map::HashMap;
use revm::primitives::{Address, B256, Bytes, U256};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, RpcError};
use crate::state::Found;

/// The most requests for single accounts and slots of one block. A block of which nothing else is
/// known takes several thousand; at this many more the node is lying.
const MOST_QUESTIONS: u32 = 100_000;

/// An archive node.
#[derive(Debug)]
pub struct Node {
    client: Client,
    /// Single requests for this block so far.
    asked: Mutex<u32>,
    /// Code by account, since two places ask for it.
    codes: Mutex<HashMap<(Address, u64), Bytes>>,
}

impl Node {
    /// A node that is reached by `client`.
    pub fn new(client: Client) -> Self {
        Self { client, asked: Mutex::default(), codes: Mutex::default() }
    }

    /// Begins the next block, which may take `time`.
    pub fn begin(&self, time: std::time::Duration) {
        self.client.begin(time);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The id of its chain.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn chain_id(&self) -> Result<u64, RpcError> {
        Ok(self.get::<U64>("eth_chainId", &json!([]))?.to())
    }

    /// A block with its transactions.
    ///
    /// # Errors
    /// If the node does not have it, or answers with another one.
    pub fn block(&self, number: u64) -> Result<Value, RpcError> {
        self.numbered(number, true)
    }

    /// A block's header.
    ///
    /// # Errors
    /// If the node does not have it, or answers with another one.
    pub fn header(&self, number: u64) -> Result<Value, RpcError> {
        let mut header = self.numbered(number, false)?;
        if let Some(header) = header.as_object_mut() {
            for body in ["transactions", "withdrawals", "uncles"] {
                header.remove(body);
            }
        }
        Ok(header)
    }

    fn numbered(&self, number: u64, whole: bool) -> Result<Value, RpcError> {
        let method = "eth_getBlockByNumber";
        let block = self.client.call(method, &json!([U64::from(number), whole]))?;
        if block.is_null() {
            let reason = format!("the node does not have block {number}");
            return Err(RpcError::Nonsense { method, reason });
        }
        let said = block.get("number").cloned().and_then(|number| serde_json::from_value::<U64>(number).ok());
        if said != Some(U64::from(number)) {
            let said = said.map_or_else(|| "something else".to_owned(), |said| format!("block {said}"));
            return Err(RpcError::Nonsense {
                method,
                reason: format!("asked for block {number}, the node answers with {said}"),
            });
        }
        Ok(block)
    }

    /// The receipts of a block; `None`: the node refuses.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn receipts(&self, number: u64) -> Result<Option<Value>, RpcError> {
        match self.client.call("eth_getBlockReceipts", &json!([U64::from(number)])) {
            Ok(receipts) => Ok(Some(receipts).filter(Value::is_array)),
            Err(RpcError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The execution witness of a block.
    ///
    /// # Errors
    /// If the node does not answer, or refuses.
    pub fn witness(&self, number: u64) -> Result<Value, RpcError> {
        self.client.call("debug_executionWitness", &json!([U64::from(number)]))
    }

    /// What each transaction of a block touched, with what did not exist if the node can show that.
    ///
    /// # Errors
    /// If the node does not answer, or refuses.
    pub fn traces(&self, number: u64) -> Result<Value, RpcError> {
        let method = "debug_traceBlockByNumber";
        let number = U64::from(number);
        let tracer =
            json!({"tracer": "prestateTracer", "timeout": "60s", "tracerConfig": {"includeEmpty": true}});
        match self.client.call(method, &json!([number, tracer])) {
            // Perhaps it does not know the option.
            Err(RpcError::Refused { .. }) => {
                self.client.call(method, &json!([number, {"tracer": "prestateTracer"}]))
            }
            other => other,
        }
    }

    /// An account at the end of block `at`. One that does not exist is returned as empty.
    pub(super) fn account(&self, address: Address, at: u64) -> Result<Found, RpcError> {
        self.count("eth_getBalance")?;
        let parameters = json!([address, U64::from(at)]);
        let balance: U256 = self.get("eth_getBalance", &parameters)?;
        let nonce: U64 = self.get("eth_getTransactionCount", &parameters)?;
        Ok(Found::with_code(balance, nonce.to(), self.code(address, at)?))
    }

    /// The code of an account at the end of block `at`.
    pub(super) fn code(&self, address: Address, at: u64) -> Result<Bytes, RpcError> {
        if let Some(code) = self.codes.lock().unwrap_or_else(PoisonError::into_inner).get(&(address, at)) {
            return Ok(code.clone());
        }
        self.count("eth_getCode")?;
        let code: Bytes = self.get("eth_getCode", &json!([address, U64::from(at)]))?;
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).insert((address, at), code.clone());
        Ok(code)
    }

    /// A slot at the end of block `at`.
    pub(super) fn slot(&self, address: Address, slot: U256, at: u64) -> Result<U256, RpcError> {
        self.count("eth_getStorageAt")?;
        let word: Bytes =
            self.get("eth_getStorageAt", &json!([address, format!("{slot:#x}"), U64::from(at)]))?;
        U256::try_from_be_slice(&word).ok_or_else(|| RpcError::Nonsense {
            method: "eth_getStorageAt",
            reason: format!("the node answers with a word of {} bytes", word.len()),
        })
    }

    /// The hash of a block.
    pub(super) fn hash(&self, number: u64) -> Result<B256, RpcError> {
        let method = "eth_getBlockByNumber";
        let hash = self.header(number)?.get("hash").cloned().unwrap_or_default();
        serde_json::from_value(hash).map_err(|_| RpcError::Nonsense {
            method,
            reason: format!("block {number} has no hash in the node's answer"),
        })
    }

    fn count(&self, method: &'static str) -> Result<(), RpcError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked += 1;
        if *asked > MOST_QUESTIONS {
            let reason =
                format!("more than {MOST_QUESTIONS} accounts and slots of one block had to be asked for");
            return Err(RpcError::Nonsense { method, reason });
        }
        Ok(())
    }

    fn get<T: DeserializeOwned>(&self, method: &'static str, parameters: &Value) -> Result<T, RpcError> {
        let answer = self.client.call(method, parameters)?;
        serde_json::from_value(answer).map_err(|error| RpcError::Nonsense {
            method,
            reason: format!("the node answers something else than was requested ({error})"),
        })
    }
}
