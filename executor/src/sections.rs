//! The sections of a piece of work that the watched threads name, so that each can have a threshold
//! of its own in the config of the watchdog. docs/executor.md lists them.

use shard_heartbeat::Section;

/// A shard waits for state that a part reads.
pub(crate) const READING: Section = Section::new("reading");
/// A shard executes a part, or a coordinator has a block executed.
pub(crate) const EXECUTING: Section = Section::new("executing");
/// A shard hands the outcome of a part to the network.
pub(crate) const SENDING: Section = Section::new("sending");
/// A coordinator writes the line of a block.
pub(crate) const REPORTING: Section = Section::new("reporting");
