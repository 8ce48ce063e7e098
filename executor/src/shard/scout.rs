//! Finds out what a part will read, without requesting it one key at a time.
//!
//! A transaction names its sender and recipient, but not the slots that its code reads, and each of
//! those would cost a round trip in the middle of execution. So a part is first executed on what is
//! known, with guesses (absent, zero) for the rest, and the guesses are recorded. If no guess was
//! needed, that was the execution, and its outcomes stand. Otherwise everything guessed is
//! requested at once, and the transactions that guessed run again, until they need no guess or two
//! rounds in a row cost more than single requests would. (One such round says little: a key that
//! all of them need, such as a common token, makes a round that learns next to nothing, and hides
//! what lies behind it.) Then the part is executed for good, requesting what is still unknown.
//!
//! The alternative, letting the coordinator send slots that were not requested, was rejected: it
//! guesses well only while the state holds little but what the block touches, as it does in a block
//! file and nowhere else.

use std::time::Instant;

use shard_heartbeat::ThreadBeat;

use super::job::Job;
use super::remote::{AskError, RemoteState};
use crate::block::Transaction;
use crate::vm::{Executor, StateView};

/// The most rounds of guessing. Reading at an address that was itself read takes one more round.
/// Few contracts of the main chain nest more than a dozen such steps, but with sixteen rounds the
/// blocks at hand requested an eighth more state in single requests than with this limit. Whether a
/// round pays is decided below, and time bounds them all.
const ROUNDS: usize = 256;

/// How many rounds in a row may cost more than single requests; see the module.
const MOST_POOR_ROUNDS: u32 = 2;

/// Requests what the transactions at the `guessed` places of the part will read.
pub(super) fn scout(
    job: &Job,
    remote: &RemoteState<'_>,
    beat: &ThreadBeat,
    mut guessed: Vec<usize>,
) -> Result<(), AskError> {
    // Half of the time is reserved for the execution itself.
    let until = Instant::now() + job.until.saturating_duration_since(Instant::now()) / 2;
    let mut poor = 0;
    for _ in 0..ROUNDS {
        remote.learn_guessed()?;
        let began = Instant::now();
        let mut still = Vec::new();
        let mut executor = Executor::without_reads(&job.work.env, remote);
        for place in guessed {
            if Instant::now() >= until || !job.session.wants(&job.tag) {
                return Ok(());
            }
            let Some((index, transaction)) = job.work.transactions.get(place) else { continue };
            let transaction = alone(transaction, remote);
            let guesses = remote.guessing(|| {
                // Whether it succeeds does not matter: it ran on guesses, and only what it asked
                // for counts.
                let _ = executor.execute(*index, &transaction);
            });
            beat.progress();
            if guesses {
                still.push(place);
            }
        }
        let cost = began.elapsed();
        let learnt = remote.learn_guessed()?;
        let singly = remote.single().saturating_mul(u32::try_from(learnt).unwrap_or(u32::MAX));
        poor = if cost > singly { poor + 1 } else { 0 };
        if still.is_empty() || poor == MOST_POOR_ROUNDS {
            return Ok(());
        }
        guessed = still;
    }
    Ok(())
}

/// The transaction as if it were its sender's first: those before it are not executed here, and
/// with a nonce too high it would read nothing at all.
fn alone(transaction: &Transaction, remote: &RemoteState<'_>) -> Transaction {
    let mut alone = transaction.clone();
    if let Ok(Some(sender)) = StateView::account(remote, transaction.sender) {
        alone.nonce = sender.nonce;
    }
    alone
}
