//! The sidecar of one shard: it detects that a named thread of a living process is gone or has
//! stopped making progress, records the reason, and has the process restarted.
//!
//! # Duties
//! One thread, `watch`, loops through `probe → judge → act`. [`probe`] does all the reading.
//! [`judge`], a separate crate, decides and touches nothing. [`act`] has the only code that can
//! send a signal. Copies of what they observed and did leave the loop through one bounded queue;
//! [`incident`], [`telemetry`] and [`http`] live on its other side. Between verdict and signal a
//! thread of its own gathers [`evidence`], for a limited time.
//!
//! # Prohibitions
//! The watch thread never waits for a disk, a socket, a lock held by anything slow, or an async
//! runtime. A call in [`watch`], [`probe`], [`judge`] or [`act`] that could do so is a bug, however
//! rarely it does. The judge reads no clock: the observation carries its time. Nothing outside
//! [`act`] sends a signal to a target.

// The subcommands refer to the crate by name, as any other program would.
extern crate self as shard_watchdog;

pub mod act;
pub mod adopt;
pub mod archive;
pub mod beats;
pub mod board;
pub mod child_end;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod dump;
pub mod event;
pub mod evidence;
pub(crate) mod fault_socket;
pub mod feed;
pub mod http;
pub mod incident;
pub mod own_folder;
pub mod pause;
pub mod preflight;
pub mod probe;
pub mod recorder;
pub mod relay;
pub mod signals;
pub mod snapshot;
pub mod stacks;
pub mod start_limit;
pub mod status_json;
pub mod supervise;
pub mod surface;
pub mod symbolizer;
pub mod telemetry;
pub mod watch;

pub use shard_judge as judge;
pub use shard_judge::{observation, verdict};
