//! Log records in transit to the collector.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, LogRecord};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};

use super::outbox::Sender;

/// One record and its scope.
pub(super) type Line = (SdkLogRecord, InstrumentationScope);

/// Puts each record into the queue. Unlike the SDK's own batch processor it counts dropped records
/// where an operator can see it.
#[derive(Debug)]
pub(super) struct Processor {
    sender: Sender<Line>,
    events: Mutex<HashSet<&'static str>>,
}

/// Events are words in this project's source, a dozen or two. If there are more, they were made up
/// at run time.
const MOST_EVENTS: usize = 64;

impl Processor {
    pub(super) fn new(sender: Sender<Line>) -> Self {
        Self { sender, events: Mutex::default() }
    }

    /// The name of the record's event, with a static lifetime as the SDK requires.
    fn event(&self, record: &SdkLogRecord) -> Option<&'static str> {
        let (_, value) = record.attributes_iter().find(|(key, _)| key.as_str() == "event")?;
        let AnyValue::String(said) = value else { return None };
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = events.get(said.as_str()) {
            return Some(known);
        }
        (events.len() < MOST_EVENTS).then_some(())?;
        let name: &'static str = Box::leak(said.as_str().to_owned().into_boxed_str());
        events.insert(name);
        Some(name)
    }
}

impl LogProcessor for Processor {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        // The bridge from `tracing` omits the time, and names an event after its place in the
        // source.
        if let Some(at) = record.observed_timestamp() {
            record.set_timestamp(at);
        }
        if let Some(name) = self.event(record) {
            record.set_event_name(name);
        }
        self.sender.send((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        // The code that ends the sidecar flushes the queue itself, with a time limit.
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
