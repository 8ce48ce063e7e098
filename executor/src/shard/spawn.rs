//! Starts the threads of a shard, each registered in the heartbeat.

use std::thread::JoinHandle;

use crossbeam_channel::RecvTimeoutError;
use shard_heartbeat::{Heartbeat, ThreadBeat};

use super::error::ShardError;
use crate::deadline;
use crate::faults::LastWords;

/// Notifies the starter of a thread that the thread is registered in the heartbeat. Only then may
/// the process report that it is running, or a watchdog would miss a thread that it never observed.
pub(super) type Ready = crossbeam_channel::Sender<()>;

/// Starts a thread that registers in the heartbeat as `DUTY-sN`; returns once it is ready.
pub(super) fn spawn(
    heartbeat: &Heartbeat,
    duty: &'static str,
    shard: u16,
    run: impl FnOnce(ThreadBeat, &mut LastWords, &Ready) + Send + 'static,
) -> Result<JoinHandle<()>, ShardError> {
    // A u16 limits the name to the 15 bytes that the kernel stores.
    let name = format!("{duty}-s{shard}");
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    let heartbeat = heartbeat.clone();
    let body = {
        let name = name.clone();
        move || {
            // Dropped after everything that `run` owns: measurements start from its announcement,
            // and would include whatever is dropped later.
            let mut words = LastWords::default();
            match heartbeat.register(&name) {
                Ok(beat) => run(beat, &mut words, &ready),
                Err(error) => tracing::error!(thread = name, %error, "cannot register in the heartbeat"),
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|source| ShardError::Start { what: duty, source })?;
    match is_ready.recv_timeout(deadline::STOP) {
        Ok(()) => Ok(thread),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(ShardError::NotReady(duty, deadline::STOP))
        }
    }
}
