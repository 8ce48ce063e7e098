//! A node's answers as received: the result alone or in a JSON-RPC envelope.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most characters of a node's error that are repeated.
const SHOWN: usize = 300;

/// `T`, with or without an envelope around it. The first key tells which, so nothing is read twice
/// and errors retain their position.
pub(super) struct Unwrapped<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unwrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

/// Always written without an envelope.
impl<T: Serialize> Serialize for Unwrapped<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node's answer, in its JSON-RPC envelope or without it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let first = map.next_key::<String>()?;
        match first.as_deref() {
            Some("jsonrpc" | "id" | "result" | "error") => unwrap(first, map),
            _ => T::deserialize(MapAccessDeserializer::new(Again { first, rest: map })),
        }
    }
}

/// Reads the envelope's contents; its first key has already been read.
fn unwrap<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    mut key: Option<String>,
    mut map: A,
) -> Result<T, A::Error> {
    let mut result = None;
    let mut error = None;
    while let Some(name) = key {
        match name.as_str() {
            "result" => result = Some(map.next_value::<Option<Unwrapped<T>>>()?),
            "error" => error = map.next_value::<Option<serde_json::Value>>()?,
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        key = map.next_key()?;
    }
    if let Some(error) = error {
        let said: String = error.to_string().chars().take(SHOWN).collect();
        return Err(de::Error::custom(format!(
            "the node answered with an error and not with a result: {said}; ask it again"
        )));
    }
    match result {
        Some(Some(Unwrapped(result))) => Ok(result),
        Some(None) => Err(de::Error::custom(
            "the node's `result` is null: it does not know the block; ask one that does",
        )),
        None => Err(de::Error::custom("the JSON-RPC envelope has no `result`; ask the node again")),
    }
}

/// A map whose first key has already been read.
struct Again<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Again<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.rest.size_hint()
    }
}
