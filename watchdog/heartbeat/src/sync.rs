//! The one place that decides whose atomics the protocol runs on.
//!
//! Under `--cfg loom` the same protocol code runs on loom's atomics, so that the model that is
//! checked is the code that is shipped.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
