//! What a collector's answer means for the items of a request, according to the
//! [specification of OTLP](https://opentelemetry.io/docs/specs/otlp/).
//!
//! Only answers that the specification lists allow the same request again. Everything else is
//! refused for good: sent again, it would be refused again, and would hold up all that follows.

use std::error::Error;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::variables::quote;

/// What became of the items of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Accepted, except for as many items as the collector says it rejected. They must not be sent
    /// again.
    Accepted {
        /// The number of items that the collector rejected.
        rejected: u64,
        /// The collector's reason, in quotes. Empty if none was rejected.
        why: String,
    },
    /// Not accepted now. The items may be sent again.
    Later {
        /// The collector asks for at least this much time before that.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// More than the collector takes in one request. Fewer of the items may be accepted.
    TooLarge {
        /// What happened.
        why: String,
    },
    /// Refused for good. The items must not be sent again.
    Refused {
        /// What happened.
        why: String,
    },
}

/// The answer of all three signals over HTTP and gRPC: the specification gives the fields of each
/// the same numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// The part of an accepted request that was rejected.
#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl Answer {
    /// The meaning of an answer over HTTP with this status, `Retry-After` and body.
    pub(super) fn over_http(status: StatusCode, retry_after: Option<&str>, body: &[u8]) -> Self {
        if status.is_success() {
            // Some servers answer 200 with a body of their own, such as `{}`.
            let partial = Response::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
            return Self::accepted(partial.rejected, &partial.error_message);
        }
        let why = format!("HTTP status {status}");
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                // The other form, a date, would need this clock and the collector's to agree.
                let seconds = retry_after.and_then(|text| text.trim().parse().ok());
                Self::Later { after: seconds.map(Duration::from_secs), why }
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge { why },
            _ => Self::Refused { why },
        }
    }

    /// The meaning of a failure over gRPC.
    pub(super) fn over_grpc(status: &Status) -> Self {
        let mut why = format!("gRPC status {:?}", status.code());
        // Made on this side, when no answer came: the cause contains nothing of the collector's.
        if let Some(cause) = status.source() {
            why = format!("{why}: {}", chain(cause));
            return Self::Later { after: None, why };
        }
        let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        match status.code() {
            Code::ResourceExhausted | Code::OutOfRange if is_too_large(status.message()) => {
                Self::TooLarge { why }
            }
            // Without that detail the collector does not expect to recover.
            Code::ResourceExhausted if after.is_none() => Self::Refused { why },
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::Later { after, why },
            _ => Self::Refused { why },
        }
    }

    /// Accepted, with the fields of a partial success.
    pub(super) fn accepted(rejected: i64, message: &str) -> Self {
        let rejected = u64::try_from(rejected).unwrap_or_default();
        // A message alone is advice about items that were accepted.
        let why = if rejected == 0 { String::new() } else { quote(message) };
        Self::Accepted { rejected, why }
    }
}

/// gRPC has no code for a request that is too large. These are the words of its implementations in
/// Go, C++ and node ("larger than max"), Rust ("too large") and Java ("exceeds maximum").
fn is_too_large(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["larger than max", "too large", "exceeds maximum"].iter().any(|words| message.contains(words))
}

/// The pauses between tries of one request, so that an interruption of half a second is not worth a
/// line in the log.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// Asks up to four times within `limit`, until the answer is another than "later". A collector that
/// says when to come back is asked once.
pub(super) fn persistently(limit: Duration, mut ask: impl FnMut() -> Answer) -> Answer {
    let began = Instant::now();
    for pause in PAUSES {
        let answer = ask();
        let again = matches!(answer, Answer::Later { after: None, .. });
        if !again || began.elapsed() + pause >= limit {
            return answer;
        }
        std::thread::sleep(pause);
    }
    ask()
}

/// An error and its causes, without repetitions.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn http(status: u16, retry_after: Option<&str>) -> Answer {
        Answer::over_http(StatusCode::from_u16(status).expect("a status"), retry_after, b"")
    }

    fn later(after: Option<u64>, why: &str) -> Answer {
        Answer::Later { after: after.map(Duration::from_secs), why: why.to_owned() }
    }

    #[test]
    fn over_http_only_four_statuses_allow_the_same_request_again() {
        for status in (300..=599).filter(|status| ![429, 502, 503, 504, 413].contains(status)) {
            assert!(matches!(http(status, Some("1")), Answer::Refused { .. }), "{status}");
        }
        assert_eq!(http(429, Some(" 7 ")), later(Some(7), "HTTP status 429 Too Many Requests"));
        assert_eq!(http(503, Some("Fri, 31 Dec 1999 23:59:59 GMT")), http(503, None));
        assert_eq!(http(502, None), later(None, "HTTP status 502 Bad Gateway"));
        assert_eq!(http(504, Some("-1")), later(None, "HTTP status 504 Gateway Timeout"));
        assert_eq!(http(413, None), Answer::TooLarge { why: "HTTP status 413 Payload Too Large".to_owned() });
    }

    #[test]
    fn a_partial_success_says_how_many_were_rejected_and_why() {
        let body = |rejected, error_message: &str| {
            let partial = PartialSuccess { rejected, error_message: error_message.to_owned() };
            Response { partial_success: Some(partial) }.encode_to_vec()
        };
        let answer = |body: &[u8]| Answer::over_http(StatusCode::OK, None, body);
        let all = Answer::Accepted { rejected: 0, why: String::new() };
        for accepted in [&b""[..], b"{}", b"\xff\xff", &body(0, "deprecated"), &body(-5, "odd")] {
            assert_eq!(answer(accepted), all, "{accepted:?}");
        }
        let why = r#""too\nold""#.to_owned();
        assert_eq!(answer(&body(3, "too\nold")), Answer::Accepted { rejected: 3, why });
    }

    #[test]
    fn over_grpc_the_codes_of_the_specification_allow_it_again() {
        let again = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        for code in (1..=16).map(Code::from) {
            let answer = Answer::over_grpc(&Status::new(code, "no"));
            assert_eq!(matches!(answer, Answer::Later { .. }), again.contains(&code), "{answer:?}");
            assert_eq!(matches!(answer, Answer::Refused { .. }), !again.contains(&code), "{answer:?}");
        }
    }

    #[test]
    fn an_exhausted_collector_is_asked_again_only_if_it_says_when() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(9)));
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let status = Status::with_error_details(code, "quota", details.clone());
            let answer = Answer::over_grpc(&status);
            assert!(matches!(answer, Answer::Later { after: Some(after), .. } if after.as_secs() == 9));
        }
    }

    #[test]
    fn every_implementation_of_grpc_is_understood_when_a_request_is_too_large() {
        let says = [
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5000000 bytes, the limit is: 4",
            ),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
        ];
        for (code, message) in says {
            let answer = Answer::over_grpc(&Status::new(code, message));
            assert!(matches!(answer, Answer::TooLarge { .. }), "{message}: {answer:?}");
        }
    }

    #[test]
    fn without_an_answer_it_may_be_sent_again() {
        let status = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        let Answer::Later { after: None, why } = Answer::over_grpc(&status) else { panic!("{status}") };
        assert!(why.contains("connection reset"), "{why}");
    }

    #[test]
    fn a_short_interruption_is_bridged_and_anything_else_is_final() {
        let patience = Duration::from_secs(60);
        let mut asked = 0;
        let answer = persistently(patience, || {
            asked += 1;
            if asked < 3 { later(None, "no") } else { Answer::accepted(0, "") }
        });
        assert_eq!((answer, asked), (Answer::accepted(0, ""), 3));
        for last in [later(Some(1), "busy"), http(400, None), http(413, None)] {
            let mut asked = 0;
            let answer = persistently(patience, || {
                asked += 1;
                last.clone()
            });
            assert_eq!((answer, asked), (last, 1));
        }
        let mut asked = 0;
        persistently(Duration::ZERO, || {
            asked += 1;
            later(None, "no")
        });
        assert_eq!(asked, 1, "the limit of a request holds for all of its tries");
    }
}
