//! An HTTP client that remembers the answer to its last request: the exporter's error is a text
//! without status, cause or `Retry-After`.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::http::header::RETRY_AFTER;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_sdk::error::OTelSdkResult;
use reqwest::blocking::Client;

use super::answer::{Answer, chain};

/// A client for the exporter of one signal, which sends one request at a time. A clone shares what
/// is remembered.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    client: Client,
    last: Arc<Mutex<Option<Answer>>>,
}

impl Witness {
    pub(super) fn new(client: Client) -> Self {
        Self { client, last: Arc::default() }
    }

    /// The answer to the request that `send` makes.
    pub(super) fn answer(&self, send: impl FnOnce() -> OTelSdkResult) -> Answer {
        self.forget();
        let sent = send();
        self.explain(sent)
    }

    /// Forgets the requests so far.
    pub(super) fn forget(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The answer behind the exporter's result.
    pub(super) fn explain(&self, sent: OTelSdkResult) -> Answer {
        match (self.last.lock().unwrap_or_else(PoisonError::into_inner).take(), sent) {
            (Some(answer), _) => answer,
            (None, Ok(())) => Answer::accepted(0, ""),
            // The exporter made no request of it, which it says only if it is beyond its own limit.
            (None, Err(error)) => Answer::TooLarge { why: error.to_string() },
        }
    }

    fn remember(&self, answer: Answer) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

#[async_trait]
impl HttpClient for Witness {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.client.send_bytes(request).await;
        self.remember(match &sent {
            Ok(response) => {
                let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                Answer::over_http(response.status(), asked, response.body())
            }
            // It was read by somebody who answers in megabytes: not a collector.
            Err(error) if error.is::<ResponseBodyTooLarge>() => Answer::Refused { why: error.to_string() },
            Err(_) => return sent.map_err(|error| self.unanswered(error)),
        });
        sent
    }
}

impl Witness {
    /// Remembers that there was no answer, and the cause.
    fn unanswered(&self, error: HttpError) -> HttpError {
        // The address may contain a secret in its query.
        let error = match error.downcast::<reqwest::Error>() {
            Ok(error) => Box::new(error.without_url()),
            Err(error) => error,
        };
        self.remember(Answer::Later { after: None, why: format!("no answer: {}", chain(&*error)) });
        error
    }
}
