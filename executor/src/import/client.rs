//! JSON-RPC over HTTP. Everything is bounded: sizes, waits, attempts, and the rate of requests to a
//! node.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::Response;
use reqwest::header::RETRY_AFTER;
use reqwest::{StatusCode, Url, redirect};
use serde_json::{Value, json};

use super::traces::cut;
use crate::block::MAX_BLOCK_BYTES;

/// Pause before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause, whatever a node asks for: after that another attempt is worth making.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many bytes of an answer are read between two checks of the clock.
const CHUNK: usize = 64 << 10;

/// Limits on the requests to a node.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests a second, at most.
    pub rate: f64,
    /// How long one request may take, from the connection to the last byte.
    pub timeout: Duration,
    /// How often a request is made again.
    pub retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rate: 20.0, timeout: Duration::from_secs(60), retries: 6 }
    }
}

/// Why a node gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The address or a header cannot be used.
    #[error("--rpc: {0}. Give an address like http://127.0.0.1:8545.")]
    Address(String),
    /// No answer in any of the permitted attempts.
    #[error(
        "{method}: no answer in {attempts} attempts; the last: {last}. Look whether the node runs and lets you ask; what is finished is kept, so the same command goes on from here."
    )]
    NoAnswer {
        /// The call.
        method: &'static str,
        /// How many attempts were made.
        attempts: u32,
        /// Why the last attempt failed.
        last: String,
    },
    /// The node answers with an error.
    #[error("{method}: the node refuses: {message} (code {code})")]
    Refused {
        /// The call.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
        /// The error's message.
        message: String,
    },
    /// The answer does not fit the request.
    #[error("{method}: {reason}. Ask another node.")]
    Nonsense {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The time for the whole block is over.
    #[error(
        "{method}: the time for this block is over. Allow more with --block-timeout, or ask faster with --rate."
    )]
    TooLong {
        /// The call that was no longer made.
        method: &'static str,
    },
}

/// The client of one node.
#[derive(Debug)]
pub struct Client {
    http: reqwest::blocking::Client,
    url: Url,
    limits: Limits,
    number: AtomicU64,
    /// When the next request may be made, and the deadline for all of them.
    pace: Mutex<(Instant, Option<Instant>)>,
}

/// The outcome of one attempt.
enum Attempt {
    Answer(Value),
    /// Failed, to be retried; after this pause if the node asks for one.
    Again(String, Option<Duration>),
    Final(RpcError),
}

impl Client {
    /// A client of the node at `url`, with these headers (`NAME: VALUE`) in every request.
    ///
    /// # Errors
    /// If the address or a header is malformed, or TLS cannot be set up.
    pub fn new(url: &str, headers: &[String], limits: Limits) -> Result<Self, RpcError> {
        let url = Url::parse(url).map_err(|error| RpcError::Address(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RpcError::Address(format!("{} is not http or https", url.scheme())));
        }
        let mut named = reqwest::header::HeaderMap::new();
        for header in headers {
            // The value may be a secret: the message does not repeat it.
            let wrong = || RpcError::Address("a --header is not of the form `NAME: VALUE`".to_owned());
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let name = reqwest::header::HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
            let mut value = reqwest::header::HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            named.insert(name, value);
        }
        // A second installation is refused, which is fine: it would be the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::blocking::Client::builder()
            .timeout(limits.timeout)
            .connect_timeout(limits.timeout.min(Duration::from_secs(10)))
            .redirect(redirect::Policy::none())
            .default_headers(named)
            .user_agent(concat!("shard-executor/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Loading this machine's trusted authorities takes a while, and is not needed here.
            builder = builder.tls_certs_only([]);
        }
        // A node on this machine is not behind a proxy.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse::<std::net::IpAddr>();
        if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| RpcError::Address(plain(error)))?;
        let pace = Mutex::new((Instant::now(), None));
        Ok(Self { http, url, limits, number: AtomicU64::new(1), pace })
    }

    /// Sets the deadline of everything from here on to `time` from now.
    pub fn begin(&self, time: Duration) {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).1 = Instant::now().checked_add(time);
    }

    /// Makes the call, and retries as long as that may help.
    pub(super) fn call(&self, method: &'static str, parameters: &Value) -> Result<Value, RpcError> {
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        for attempt in 0..=self.limits.retries {
            if attempt > 0 {
                self.sleep(method, pause)?;
            }
            self.wait_for_turn(method)?;
            match self.attempt(method, parameters) {
                Attempt::Answer(value) => return Ok(value),
                Attempt::Final(error) => return Err(error),
                Attempt::Again(reason, wanted) => {
                    tracing::debug!(method, attempt, %reason, "asking again");
                    last = reason;
                    let next = pause.saturating_mul(2).min(LONGEST_PAUSE);
                    pause = if attempt == 0 { FIRST_PAUSE } else { next };
                    if let Some(wanted) = wanted {
                        pause = pause.max(wanted.min(LONGEST_PAUSE));
                    }
                }
            }
        }
        Err(RpcError::NoAnswer { method, attempts: self.limits.retries + 1, last })
    }

    /// Sleeps for between half of `pause` and all of it, so that clients that failed together do
    /// not retry together.
    fn sleep(&self, method: &'static str, pause: Duration) -> Result<(), RpcError> {
        let random = RandomState::new().build_hasher().finish();
        let share = 0.5 + (random % 1_000) as f64 / 2_000.0;
        self.rest(method, pause.mul_f64(share))
    }

    fn wait_for_turn(&self, method: &'static str) -> Result<(), RpcError> {
        let gap = Duration::from_secs_f64(1.0 / self.limits.rate.max(0.001));
        let turn = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = pace.0.max(Instant::now());
            pace.0 = turn + gap;
            turn
        };
        self.rest(method, turn.saturating_duration_since(Instant::now()))
    }

    fn rest(&self, method: &'static str, pause: Duration) -> Result<(), RpcError> {
        let until = self.pace.lock().unwrap_or_else(PoisonError::into_inner).1;
        if until.is_some_and(|until| Instant::now() + pause >= until) {
            return Err(RpcError::TooLong { method });
        }
        std::thread::sleep(pause);
        Ok(())
    }

    fn attempt(&self, method: &'static str, parameters: &Value) -> Attempt {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let body =
            json!({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}).to_string();
        let until = Instant::now() + self.limits.timeout;
        let request = self.http.post(self.url.clone()).header("content-type", "application/json").body(body);
        let response = match request.send() {
            Ok(response) => response,
            Err(error) => return Attempt::Again(plain(error), None),
        };
        let status = response.status();
        let wanted = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Attempt::Again(format!("HTTP {status}"), wanted.map(Duration::from_secs));
        }
        let text = match read(response, until) {
            Ok(text) => text,
            Err(TooMuch::Time) => {
                return Attempt::Again(
                    format!("the answer was not whole after {:?}", self.limits.timeout),
                    None,
                );
            }
            Err(TooMuch::Bytes) => {
                let reason =
                    format!("the answer has more than {} MiB, which no block needs", MAX_BLOCK_BYTES >> 20);
                return Attempt::Final(RpcError::Nonsense { method, reason });
            }
            Err(TooMuch::Cut(reason)) => return Attempt::Again(reason, None),
        };
        let answer: Value = match serde_json::from_slice(&text) {
            Ok(answer) => answer,
            Err(_) if !status.is_success() => {
                let reason = format!("HTTP {status}");
                return Attempt::Final(RpcError::Nonsense { method, reason });
            }
            Err(error) => return Attempt::Again(format!("the answer is no whole JSON ({error})"), None),
        };
        self.of_answer(method, number, status, answer)
    }

    fn of_answer(&self, method: &'static str, number: u64, status: StatusCode, mut answer: Value) -> Attempt {
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let message = cut(error.get("message").and_then(Value::as_str).unwrap_or("no message"));
            if is_busy(code, &message) {
                return Attempt::Again(format!("{message} (code {code})"), None);
            }
            return Attempt::Final(RpcError::Refused { method, code, message });
        }
        if !status.is_success() {
            return Attempt::Final(RpcError::Nonsense { method, reason: format!("HTTP {status}") });
        }
        if answer.get("id").and_then(Value::as_u64) != Some(number) {
            let reason = "the answer is to another question".to_owned();
            return Attempt::Final(RpcError::Nonsense { method, reason });
        }
        match answer.get_mut("result") {
            Some(result) => Attempt::Answer(result.take()),
            None => {
                let reason = "the answer has neither `result` nor `error`".to_owned();
                Attempt::Final(RpcError::Nonsense { method, reason })
            }
        }
    }
}

/// Whether a refusal is temporary, judged by the codes and words with which nodes and providers
/// report too many requests.
fn is_busy(code: i64, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    matches!(code, 429 | -32005 | -32029 | -32097)
        || ["rate limit", "too many requests", "limit exceeded", "compute units", "timed out", "timeout"]
            .iter()
            .any(|words| message.contains(words))
}

enum TooMuch {
    Time,
    Bytes,
    Cut(String),
}

/// The body, in bounded time and memory whatever the node sends.
fn read(mut response: Response, until: Instant) -> Result<Vec<u8>, TooMuch> {
    let mut text = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match response.read(&mut chunk) {
            Ok(0) => return Ok(text),
            Ok(n) => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) => return Err(TooMuch::Cut(format!("the answer was cut off ({error})"))),
        }
        if text.len() as u64 > MAX_BLOCK_BYTES {
            return Err(TooMuch::Bytes);
        }
        if Instant::now() >= until {
            return Err(TooMuch::Time);
        }
    }
}

/// What went wrong, down to the last cause, but without the address, which may contain a key.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    cut(&text)
}
