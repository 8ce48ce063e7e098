//! Many at once: what a host full of shards costs, each with its sidecar, and what a fleet of them
//! costs the Prometheus that scrapes it.

pub mod fleet;
pub mod host;
