//! Log records on their way to the collector.

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};

use super::outbox::Sender;

/// One record and who made it.
pub(super) type Line = (SdkLogRecord, InstrumentationScope);

/// Puts each record into the queue. Unlike the SDK's own batch processor it counts what does not fit where an operator
/// can see it.
#[derive(Debug)]
pub(super) struct Processor(Sender<Line>);

impl Processor {
    pub(super) const fn new(sender: Sender<Line>) -> Self {
        Self(sender)
    }
}

impl LogProcessor for Processor {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.send((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        // Whoever ends the sidecar flushes the queue itself, with a bound.
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
