//! The one place that selects the atomics on which the protocol runs.
//!
//! Under `--cfg loom` the same protocol code runs on loom's atomics, so that the checked model is
//! the shipped code.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
