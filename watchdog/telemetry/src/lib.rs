//! How the processes of this project tell what they do: metrics that are declared once, a page for
//! Prometheus, OTLP for a collector, and an HTTP server that bounds what each connection may cost.
//!
//! Nothing here may hold up whoever tells: queues are bounded, what does not fit is dropped and
//! counted ([`dropped`]), and only threads of this crate wait for a collector or a client. What
//! there is to tell is declared by those who tell it, with [`catalogue!`](crate::catalogue).

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
pub mod span;
pub mod story;
