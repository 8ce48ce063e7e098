//! `[heartbeat_out]`: tells a service outside that the shard is watched, and nothing while it is
//! not. A sidecar that lives and is blind must look dead there.

use std::sync::Arc;

use shard_telemetry::sign_of_life::{SignOfLife, SignOfLifeConfig};

use crate::board::Board;
use crate::clock::Monotonic;
use crate::verdict::Verdict;

/// How the sidecar names itself to the service.
const AGENT: &str = concat!("shard-watchdog/", env!("CARGO_PKG_VERSION"));

/// Starts it, if the config asks for it. A failure is only told: the shard is watched all the same.
pub(super) fn start(config: Option<&SignOfLifeConfig>, board: &Arc<Board>) {
    let Some(config) = config else { return };
    let seen = Arc::clone(board);
    match SignOfLife::start(config.clone(), AGENT, move || watches(&seen, crate::clock::now())) {
        Ok(sign) => board.set_sign_of_life(sign),
        Err(error) => tracing::error!(
            event = "heartbeat_out_failing",
            %error,
            "no sign of life is sent to {}: {error}",
            config.url
        ),
    }
}

/// Whether the last look saw the target and all of its watched threads; if not, why not.
fn watches(board: &Board, now: Monotonic) -> Result<(), String> {
    let standing = board.standing(now);
    if standing.verdict == Verdict::Unguarded {
        return Err(standing.reason);
    }
    let snapshot = board.snapshot();
    let threads = snapshot.iter().flat_map(|snapshot| &snapshot.threads);
    match threads.filter(|thread| thread.unobserved.is_some()).count() {
        0 => Ok(()),
        1 => Err("a watched thread cannot be observed".to_owned()),
        more => Err(format!("{more} watched threads cannot be observed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{SILENT, sample};
    use crate::verdict::Unobserved;

    #[test]
    fn a_blind_watcher_does_not_look_healthy() {
        let board = sample::board();
        let now = crate::clock::now();
        assert!(watches(&board, now).is_err(), "nothing was looked at yet");
        board.set_snapshot(Arc::new(sample::snapshot()));
        assert_eq!(watches(&board, now), Ok(()));
        let silent = Monotonic(now.0 + u64::try_from(2 * SILENT.as_nanos()).unwrap());
        assert!(watches(&board, silent).is_err(), "the loop has stopped looking");

        let mut snapshot = sample::snapshot();
        snapshot.verdict = Verdict::Unguarded;
        board.set_snapshot(Arc::new(snapshot));
        assert!(watches(&board, now).is_err(), "it has found no target");
        for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Unguarded) {
            let mut snapshot = sample::snapshot();
            snapshot.verdict = *verdict;
            board.set_snapshot(Arc::new(snapshot));
            assert_eq!(watches(&board, now), Ok(()), "it sees the shard, however that fares");
        }

        let mut snapshot = sample::snapshot();
        snapshot.threads[0].unobserved = Unobserved::ALL.first().copied();
        board.set_snapshot(Arc::new(snapshot));
        assert_eq!(watches(&board, now), Err("a watched thread cannot be observed".to_owned()));
    }
}
