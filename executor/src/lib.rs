//! A sharded Ethereum block executor.
//!
//! A block is split over shards ([`partition`]). Each shard executes its part speculatively on a
//! view of the state ([`vm`]), and the outcomes are validated, corrected and compared with the
//! header in block order ([`validate`]). Results equal in-order execution exactly, whatever the
//! shards did.
//!
//! It must never wait forever: every receive has a deadline, every thread's handle is retained, and
//! the work of a lost thread or process is executed again.

// The subcommands refer to this crate by its name, as any other program would.
extern crate self as shard_executor;

pub mod block;
pub mod cli;
pub mod clock;
pub mod coordinator;
pub mod deadline;
pub mod faults;
pub mod generate;
pub mod guard;
pub mod import;
mod lines;
pub mod local;
pub mod logs;
pub mod net;
pub mod parallel;
pub mod partition;
pub mod process;
pub mod progress;
pub mod regular;
pub mod report;
mod sections;
pub mod shard;
pub mod state;
pub mod telemetry;
pub mod token;
pub mod validate;
pub mod vm;
pub mod warm_up;
pub mod witness;
