//! Values that clients print in more than one way.

use std::fmt;

use revm::primitives::B256;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::transaction::TransactionJson;
use crate::block::prestate::{Accounts, Trace};

/// A transaction, or only its hash, which `eth_getBlockByNumber` returns if it is not asked for
/// full transactions.
pub(super) enum Listed {
    Whole(Box<TransactionJson>),
    Hash,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Listed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a transaction")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listed, E> {
                text.parse::<B256>()
                    .map(|_| Listed::Hash)
                    .map_err(|_| E::invalid_type(de::Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listed, A::Error> {
                let whole = TransactionJson::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Listed::Whole(Box::new(whole)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(transaction) => transaction.serialize(serializer),
            Self::Hash => Err(serde::ser::Error::custom("only whole transactions are written")),
        }
    }
}

/// The state before the block: accounts by address, or a trace for each transaction.
pub(super) enum PreJson {
    Accounts(Accounts),
    Traces(Vec<Trace>),
}

impl<'de> Deserialize<'de> for PreJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PreJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "accounts by address, or a list of what prestateTracer answers for each transaction",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PreJson, A::Error> {
                Accounts::deserialize(MapAccessDeserializer::new(map)).map(PreJson::Accounts)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<PreJson, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(PreJson::Traces)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for PreJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Accounts(accounts) => accounts.0.serialize(serializer),
            Self::Traces(_) => Err(serde::ser::Error::custom("only merged traces are written")),
        }
    }
}
