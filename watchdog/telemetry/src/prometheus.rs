//! `/metrics`: the catalogue in Prometheus' text format.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkError;
use prometheus::{Encoder, Registry, TextEncoder};

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A page this young is served again, so that a flood of scrapes costs no more than ten a second.
const FRESH: Duration = Duration::from_millis(100);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The exporter could not be built.
    #[error("the Prometheus exporter cannot be set up: {0}")]
    Exporter(#[from] OTelSdkError),
    /// The page could not be written.
    #[error("the metrics cannot be written as text: {0}")]
    Encode(#[from] prometheus::Error),
}

/// The page and its source.
#[derive(Debug)]
pub struct Page {
    registry: Registry,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Page {
    /// A page, and the reader that fills it.
    ///
    /// # Errors
    /// If the exporter cannot be built.
    pub fn new() -> Result<(Self, PrometheusExporter), PrometheusError> {
        let registry = Registry::new();
        // Names in the catalogue are the names on the page: nothing is appended to them or to their
        // labels.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()?;
        Ok((Self { registry, last: Mutex::new(None) }, exporter))
    }

    /// The page as text.
    ///
    /// # Errors
    /// If a metric cannot be written as text.
    pub fn render(&self) -> Result<Arc<str>, PrometheusError> {
        // Held while gathering: simultaneous scrapes share one page.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, page)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(page));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        let page: Arc<str> = String::from_utf8_lossy(&text).into();
        *last = Some((Instant::now(), Arc::clone(&page)));
        Ok(page)
    }
}
