//! The id of an incident: a time to the millisecond and a few random digits, so that a list of
//! folders is in order.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `20261122T221503500Z-7f3a`. No other form is accepted as an id: it becomes part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(pattern = r"^\d{8}T\d{9}Z-[0-9a-f]{4}$"))]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(String);

/// The pattern of an id: `0` stands for a digit, `x` for a lower-case hexadecimal digit, and other
/// characters for themselves.
const SHAPE: &[u8] = b"00000000T000000000Z-xxxx";

impl IncidentId {
    /// An id for an incident that was opened at `at`. `number` distinguishes two incidents of the
    /// same millisecond.
    pub fn new(at: Timestamp, number: u64) -> Self {
        let random = RandomState::new().hash_one((at.as_nanosecond(), number)) & 0xffff;
        Self(format!("{}-{random:04x}", at.strftime("%Y%m%dT%H%M%S%3fZ")))
    }

    /// Parses `text`; `None` if it is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == SHAPE.len()
            && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                other => byte == *other,
            });
        fits.then(|| Self(text.to_owned()))
    }

    /// The id as text, which is safe as a component of a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.0
    }
}

impl TryFrom<String> for IncidentId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not the id of an incident"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_are_safe_in_a_path() {
        let at: Timestamp = "2026-11-22T22:15:03.5Z".parse().unwrap();
        let id = IncidentId::new(at, 1);
        assert!(id.as_str().starts_with("20261122T221503500Z-"), "{id}");
        assert_eq!(IncidentId::parse(id.as_str()), Some(id.clone()));
        let later = IncidentId::new("2026-11-22T22:15:03.501Z".parse().unwrap(), 2);
        assert!(id < later);
    }

    #[test]
    fn nothing_else_is_an_id() {
        for text in
            ["", "..", "20261122T221503500Z-7f3", "20261122T221503500Z-7F3A", "20261122T221503500Z/7f3a", "a"]
        {
            assert_eq!(IncidentId::parse(text), None, "{text}");
        }
    }
}
