//! Builds instruments from the catalogue. Nothing else in this crate creates instruments.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::metric::{Kind, Metric};

/// The values of a metric at one moment, each with its labels except `shard`.
pub type Points = Vec<(f64, Vec<KeyValue>)>;

/// A meter whose instruments all carry the label `shard`.
#[derive(Clone, Debug)]
pub struct Workshop {
    meter: Meter,
    shard: KeyValue,
}

impl Workshop {
    /// Uses `meter`, for `shard`.
    pub fn new(meter: Meter, shard: &str) -> Self {
        // On every point and not on the resource: conversion from OTLP to Prometheus drops the
        // resource's attributes.
        Self { meter, shard: KeyValue::new("shard", shard.to_owned()) }
    }

    /// A counter that is incremented explicitly.
    pub fn counter(&self, metric: &'static Metric) -> Adding {
        debug_assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
        let counter = self.meter.f64_counter(metric.name).with_unit(metric.unit.ucum());
        Adding { counter: counter.with_description(metric.meaning).build(), shard: self.shard.clone() }
    }

    /// A histogram whose values are recorded explicitly.
    pub fn histogram(&self, metric: &'static Metric) -> Recording {
        let bounds = match metric.kind {
            Kind::Histogram(bounds) => bounds.to_vec(),
            Kind::Counter | Kind::Gauge => {
                debug_assert!(false, "{} is no histogram", metric.name);
                Vec::new()
            }
        };
        let histogram = self.meter.f64_histogram(metric.name).with_unit(metric.unit.ucum());
        Recording {
            histogram: histogram.with_description(metric.meaning).with_boundaries(bounds).build(),
            shard: self.shard.clone(),
        }
    }

    /// A metric that is read at each collection.
    pub fn observe(&self, metric: &'static Metric, read: impl Fn() -> Points + Send + Sync + 'static) {
        let shard = self.shard.clone();
        let tell = move |say: &dyn Fn(f64, &[KeyValue])| {
            // A callback that panics would silently end its reader.
            for (value, mut labels) in catch_unwind(AssertUnwindSafe(&read)).unwrap_or_default() {
                labels.push(shard.clone());
                say(value, &labels);
            }
        };
        let (name, unit) = (metric.name, metric.unit.ucum());
        match metric.kind {
            Kind::Counter => {
                let builder = self.meter.f64_observable_counter(name).with_unit(unit);
                let builder = builder.with_description(metric.meaning);
                builder
                    .with_callback(move |observer| tell(&|value, labels| observer.observe(value, labels)))
                    .build();
            }
            // Not an observable gauge: the SDK repeats its last value for ever, even for a thread
            // that no longer exists. A sum is sent only while it is observed, and Prometheus sees a
            // gauge all the same.
            Kind::Gauge => {
                let builder = self.meter.f64_observable_up_down_counter(name).with_unit(unit);
                let builder = builder.with_description(metric.meaning);
                builder
                    .with_callback(move |observer| tell(&|value, labels| observer.observe(value, labels)))
                    .build();
            }
            Kind::Histogram(_) => debug_assert!(false, "{name} cannot be observed"),
        }
    }
}

/// A counter with its shard.
#[derive(Clone, Debug)]
pub struct Adding {
    counter: Counter<f64>,
    shard: KeyValue,
}

impl Adding {
    /// Adds `more` under `labels`. Adding zero makes the series appear.
    pub fn add<const N: usize>(&self, more: f64, labels: [KeyValue; N]) {
        let mut all: Vec<KeyValue> = labels.into();
        all.push(self.shard.clone());
        self.counter.add(more, &all);
    }
}

/// A histogram with its shard.
#[derive(Clone, Debug)]
pub struct Recording {
    histogram: Histogram<f64>,
    shard: KeyValue,
}

impl Recording {
    /// Records one value under `labels`.
    pub fn record<const N: usize>(&self, value: f64, labels: [KeyValue; N]) {
        let mut all: Vec<KeyValue> = labels.into();
        all.push(self.shard.clone());
        self.histogram.record(value, &all);
    }
}

/// How often to check whether the last collection has ended: there is no timed join.
const END_LOOK: Duration = Duration::from_millis(2);

/// Makes the readers of `provider` collect and send a last time, within `within`.
pub fn end(provider: &SdkMeterProvider, within: Duration) {
    let provider = provider.clone();
    // The SDK accepts a time limit but does not honour it: its reader waits five seconds for a
    // collector that hangs.
    let ending = std::thread::Builder::new().name("metrics-end".to_owned()).spawn(move || {
        let _ = provider.shutdown_with_timeout(within);
    });
    let Ok(ending) = ending else { return };
    let until = Instant::now() + within;
    while !ending.is_finished() && Instant::now() < until {
        std::thread::sleep(END_LOOK);
    }
}

/// A label whose value is a name.
pub fn named(key: &'static str, value: Arc<str>) -> KeyValue {
    KeyValue::new(key, Value::String(StringValue::from(value)))
}
