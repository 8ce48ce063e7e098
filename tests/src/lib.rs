//! The harness: real coordinator, shards, supervisors and sidecars on free loopback ports in a
//! temporary folder, all ended whatever happens. A scenario is a few lines.
//!
//! Nothing here sleeps until something is ready: it waits for the event itself, with a bound that
//! only a broken build reaches. Signals go through pidfds, and only to processes that the harness
//! started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a harness that cannot go on must fail the test, and say where; the test runner ends a wait without end"
)]

pub mod alertmanager;
pub mod api;
pub mod blocks;
pub mod browser;
pub mod cgroup;
pub mod checked;
pub mod churn;
pub mod clock;
pub mod cluster;
pub mod collector;
pub mod control;
pub mod core_pattern;
pub mod crash_point;
pub mod crowd;
pub mod disk;
pub mod execution;
pub mod facts;
pub mod faketime;
pub mod fault_kit;
pub mod faults;
pub mod figures;
pub mod flood;
pub mod footprint;
pub mod hogs;
pub mod host;
pub mod hostile;
pub mod hour;
pub mod image;
pub mod incident;
pub mod kernel;
pub mod lacking;
pub mod limited;
pub mod long_run;
pub mod machine;
pub mod manager;
pub mod manuals;
pub mod matrix;
pub mod pair;
pub mod peers;
pub mod pod;
pub mod poison;
pub mod process;
pub mod prometheus;
pub mod proof;
pub mod proxy;
pub mod puppet;
pub mod released;
pub mod replayed;
pub mod restraint;
pub mod scale;
pub mod scheduling;
pub mod sidecar;
pub mod skip;
pub mod soak;
pub mod stack_target;
pub mod stream;
pub mod supervised;
pub mod sweep;
pub mod systemd;
pub mod terminal;
pub mod unstarted;
pub mod wait;
pub mod ward;
