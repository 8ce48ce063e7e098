//! Telemetry for the processes of this project: metrics that are declared once, a page for
//! Prometheus, OTLP for a collector, and an HTTP server that limits what each connection may cost.
//!
//! Nothing here may block the code that reports: queues are bounded, what does not fit is dropped
//! and counted ([`dropped`]), and only threads of this crate wait for a collector or a client. Each
//! crate declares its own metrics, with [`catalogue!`](crate::catalogue).

pub mod dropped;
pub mod http;
pub mod instruments;
pub mod labels;
pub mod manual;
pub mod metric;
pub mod names;
pub mod otlp;
pub mod prometheus;
pub mod service_manager;
pub mod sign_of_life;
pub mod span;
pub mod story;
