//! Why a shard does not start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shard_heartbeat::{CreateError, RegisterError};

use crate::faults::{OrderError, PortError};
use crate::net::AdmissionError;

/// Why a shard did not start. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The heartbeat segment cannot be created.
    #[error(
        "cannot create the heartbeat: {0}. Give --heartbeat a path in a folder that this user may write to, such as /run or /dev/shm, and that no running process uses"
    )]
    Heartbeat(#[from] CreateError),
    /// The heartbeat has no free slot.
    #[error("cannot register in the heartbeat: {0}")]
    Register(#[from] RegisterError),
    /// The address cannot be opened.
    #[error(
        "cannot listen on {address}: {source}. Give --listen a free address of this machine, or end what listens there"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The socket that shows this process to a sidecar cannot be made.
    #[error(
        "--show-proc: the socket {}.sight cannot be made: {source}. Make its folder one that this user may write, and the path shorter \
         than 100 bytes",
        path.display()
    )]
    Sight {
        /// The heartbeat segment.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The admission settings cannot be used, or would admit anybody.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The fault port cannot be opened.
    #[error(transparent)]
    Faults(#[from] PortError),
    /// A fault cannot be armed.
    #[error("--arm: {0}")]
    Arm(#[from] OrderError),
    /// A thread or the runtime cannot be started.
    #[error(
        "cannot start the {what}: {source}. The limit on threads or descriptors is probably reached (ulimit -u, ulimit -n)"
    )]
    Start {
        /// What did not start.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A thread was started and did not report.
    #[error(
        "thread {0} did not start within {1:?}: the machine is overloaded, or its heartbeat slot is not to be had"
    )]
    NotReady(&'static str, Duration),
    /// A thread ended during its warm-up.
    #[error("thread {0} ended before it was warm: see the log for why, and report it")]
    Lost(&'static str),
}
