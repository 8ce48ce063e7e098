//! Parses the body of an order with a pure function of its bytes. It comes from a holder of the
//! token, and only its form is checked.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::units::{self, DURATION_FORM};
use crate::pause::{LONGEST_PAUSE, LONGEST_REASON, is_reason};

/// What is wrong with a body, and its right form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// How long to pause killing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseOrder {
    /// Longer than zero and at most [`LONGEST_PAUSE`].
    pub length: Duration,
    /// A line that [`is_reason`].
    pub reason: String,
}

/// Which process to kill, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// A line that [`is_reason`].
    pub reason: String,
    /// Kill only if this incarnation is the one under watch.
    pub incarnation: Option<u64>,
}

/// The body of `POST /api/v1/pause`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct PauseBody {
    /// For how long, such as `10m` or `1h 30m`; at most 24 hours.
    #[cfg_attr(feature = "schema", schema(example = "10m"))]
    r#for: String,
    /// Why: one line of plain text, shown in status and log.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 500, example = "gdb on exec-s0"))]
    reason: String,
}

/// The body of `POST /api/v1/clear`.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct ClearBody {
    /// The key of the work; absent for all work.
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    #[serde(default)]
    key: Option<u64>,
}

/// The body of `POST /api/v1/kill`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct KillBody {
    /// Why: one line of plain text, shown in status and log.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 500, example = "it answers nobody"))]
    reason: String,
    /// Kill only if this incarnation is the one under watch.
    #[serde(default)]
    incarnation: Option<u64>,
}

/// Parses `{"for": "10m", "reason": "…"}`.
///
/// # Errors
/// If the body is not of that form.
pub fn pause(body: &[u8]) -> Result<PauseOrder, Malformed> {
    let PauseBody { r#for, reason } = parse(body, "{\"for\": \"10m\", \"reason\": \"…\"}")?;
    let length = units::duration(&r#for).filter(|length| !length.is_zero() && *length <= LONGEST_PAUSE);
    let length = length
        .ok_or_else(|| Malformed(format!("\"for\" is {DURATION_FORM}, longer than zero and at most 24h")))?;
    Ok(PauseOrder { length, reason: told_reason(&reason)? })
}

/// Accepts an empty body or `{}`.
///
/// # Errors
/// If there is more.
pub fn nothing(body: &[u8]) -> Result<(), Malformed> {
    let empty = body.trim_ascii();
    if empty.is_empty() || empty == b"{}" { Ok(()) } else { Err(Malformed("this takes no body".to_owned())) }
}

/// Parses `{"key": 123}`; an empty body means all work.
///
/// # Errors
/// If the body is not of that form, or the key is 0, which no work has.
pub fn clear(body: &[u8]) -> Result<Option<u64>, Malformed> {
    let ClearBody { key } =
        if body.trim_ascii().is_empty() { ClearBody::default() } else { parse(body, "{\"key\": 123}")? };
    if key == Some(0) { Err(Malformed("no work has the key 0".to_owned())) } else { Ok(key) }
}

/// Parses `{"reason": "…"}`, optionally with `"incarnation"`.
///
/// # Errors
/// If the body is not of that form.
pub fn kill(body: &[u8]) -> Result<Kill, Malformed> {
    let KillBody { reason, incarnation } = parse(body, "{\"reason\": \"…\"}")?;
    Ok(Kill { reason: told_reason(&reason)?, incarnation })
}

fn parse<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Malformed> {
    serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body must be JSON of the form {form}: {error}")))
}

/// The reason in the form for logs and terminals.
fn told_reason(reason: &str) -> Result<String, Malformed> {
    let reason = reason.trim();
    if is_reason(reason) {
        return Ok(reason.to_owned());
    }
    Err(Malformed(format!(
        "\"reason\" is one line of 1 to {LONGEST_REASON} bytes of plain text, to be shown in status and log"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_an_end_within_a_day() {
        let pause = |length: &str| pause(format!("{{\"for\": \"{length}\", \"reason\": \"x\"}}").as_bytes());
        assert_eq!(pause("24h").unwrap().length, LONGEST_PAUSE);
        for length in ["0s", "24h 1ms", "-1s", "tomorrow", ""] {
            assert!(pause(length).unwrap_err().to_string().contains("at most 24h"), "{length:?}");
        }
    }

    #[test]
    fn who_says_more_than_an_order_takes_is_told_its_form() {
        let more = kill(br#"{"reason": "x", "signal": "SIGTERM"}"#).unwrap_err().to_string();
        assert!(more.contains("of the form {\"reason\""), "{more}");
        assert!(clear(br#"{"key": 0}"#).is_err() && clear(b"null").is_err());
        assert_eq!((clear(b" "), clear(b"{}"), clear(br#"{"key": 7}"#)), (Ok(None), Ok(None), Ok(Some(7))));
        assert_eq!((nothing(b"\n"), nothing(b"{}")), (Ok(()), Ok(())));
        assert!(nothing(b"{\"all\": true}").is_err());
    }
}
