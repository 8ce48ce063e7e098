//! What `debug_executionWitness` returns, in the shapes that clients use: nodes as a list or, in
//! older versions of reth, by their hashes; headers as RLP (reth, Erigon, Nethermind) or as JSON
//! objects (geth); `keys` filled, `null` or absent.

use std::fmt;

use revm::primitives::{B256, Bytes, keccak256};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::header::HeaderJson;
use super::{ASK_AGAIN, MAX_CODES, MAX_HEADERS, MAX_NODES, Witness, WitnessError};

/// The value of the key `witness` in a block's file.
#[derive(Deserialize, Serialize)]
pub(crate) struct WitnessJson {
    state: Preimages,
    #[serde(default)]
    codes: Preimages,
    headers: Vec<HeaderForm>,
    /// The accounts and slots that were touched: not needed, since execution finds them out.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "named so that it is known, and not read")]
    keys: Option<IgnoredAny>,
}

/// Values that are identified by their hashes.
#[derive(Default)]
struct Preimages(Vec<Bytes>);

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum HeaderForm {
    Rlp(Bytes),
    #[serde(skip_serializing)]
    Json(Box<HeaderJson>),
}

impl WitnessJson {
    /// The hashes of the headers, for finding the block that this belongs to.
    ///
    /// # Errors
    /// If a header does not match its own hash.
    pub(crate) fn hashes(&self) -> Result<Vec<B256>, String> {
        let hash = |header: &HeaderForm| match header {
            HeaderForm::Rlp(rlp) => Ok(keccak256(rlp)),
            HeaderForm::Json(header) => header.rlp().map(keccak256),
        };
        self.headers.iter().map(hash).collect()
    }

    /// Makes the witness of block `number` with parent `parent_hash`.
    pub(crate) fn read(self, parent_hash: B256, number: u64) -> Result<Witness, WitnessError> {
        let counts = [
            ("trie nodes", self.state.0.len(), MAX_NODES),
            ("pieces of code", self.codes.0.len(), MAX_CODES),
            ("headers", self.headers.len(), MAX_HEADERS),
        ];
        for (what, count, most) in counts {
            if count > most {
                return Err(WitnessError {
                    reason: format!("`witness` has {count} {what}, more than the {most} allowed"),
                    hint: "No real block needs that many: fetch the witness of this one block.",
                });
            }
        }
        let rlp = |header| match header {
            HeaderForm::Rlp(rlp) => Ok(rlp),
            HeaderForm::Json(header) => {
                header.rlp().map_err(|reason| WitnessError { reason, hint: ASK_AGAIN })
            }
        };
        let headers = self.headers.into_iter().map(rlp).collect::<Result<_, _>>()?;
        Witness::new(self.state.0, self.codes.0, headers, parent_hash, number)
    }
}

impl From<&Witness> for WitnessJson {
    fn from(witness: &Witness) -> Self {
        let (nodes, codes, headers) = witness.preimages();
        Self {
            state: Preimages(nodes.cloned().collect()),
            codes: Preimages(codes.cloned().collect()),
            headers: headers.iter().cloned().map(HeaderForm::Rlp).collect(),
            keys: None,
        }
    }
}

impl Serialize for Preimages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Preimages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Listed)
    }
}

struct Listed;

impl<'de> Visitor<'de> for Listed {
    type Value = Preimages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of hex strings, or an object of them by their hashes")
    }

    fn visit_unit<E>(self) -> Result<Preimages, E> {
        Ok(Preimages::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Preimages, A::Error> {
        let mut all = Vec::new();
        while let Some(bytes) = seq.next_element()? {
            all.push(bytes);
        }
        Ok(Preimages(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Preimages, A::Error> {
        let mut all = Vec::new();
        // The hashes are not trusted, so they need not be read.
        while let Some((_, bytes)) = map.next_entry::<IgnoredAny, Bytes>()? {
            all.push(bytes);
        }
        Ok(Preimages(all))
    }
}
