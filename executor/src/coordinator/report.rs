//! What the coordinator prints on standard output as it runs: a line per block, and a line when a
//! shard joins or is lost.
//!
//! Every JSON line has `event` and `at_monotonic_ns`, which is comparable across the processes of
//! one machine, so that a timeline can be put together from several of them. Text that comes from a
//! peer is truncated and stripped of control characters.

use std::io;
use std::time::Duration;

use revm::primitives::B256;
use serde_json::{Value, json};

use super::out::{Out, stamped};
use super::step::Failure;
use crate::progress::{self, Progress};
use crate::report::{BlockReport, but_for_the_state, of_all};
use crate::telemetry::counts::Outcome;
use crate::validate::BlockResult;

/// A block's line: the fields of every block, and those of a run over several shards.
pub(super) struct BlockLine {
    block: BlockReport,
    shared: Shared,
}

/// What the shards did for a block.
#[derive(Clone, Copy, Default)]
pub(super) struct Shared {
    /// In how many rounds; 0: none was run on shards.
    pub(super) rounds: u32,
    /// How many parts were sent out.
    pub(super) parts: usize,
    /// How many of them were repeated.
    pub(super) retries: u32,
}

impl BlockLine {
    pub(super) fn new(result: &BlockResult, took: Duration, digest: B256, shared: Shared) -> Self {
        Self { block: BlockReport::new(result, took, digest), shared }
    }

    /// How the block ended.
    pub(super) const fn outcome(&self) -> Outcome {
        if self.block.verified { Outcome::Verified } else { Outcome::Wrong }
    }

    /// Transactions executed again in order.
    pub(super) const fn reexecuted(&self) -> u64 {
        self.block.reexecuted as u64
    }

    /// Parts dispatched again.
    pub(super) fn retries(&self) -> u64 {
        self.shared.retries.into()
    }
}

/// The longest text of a peer, in characters, so that a hostile one cannot fill the queue's memory.
const LONGEST_WORDS: usize = 1_024;

pub(super) struct Report {
    out: Out,
    /// Progress display; only on a terminal, and not with JSON.
    progress: Option<Progress>,
    json: bool,
    blocks: u64,
    wrong: u64,
    retries: u64,
    reexecuted: u64,
    transactions: u64,
    milliseconds: f64,
    /// Blocks verified except for their state.
    unchecked: u64,
}

impl Report {
    /// Starts a report that a thread of its own writes to standard output; `blocks` is the expected
    /// number of blocks, if known. Fails if the thread cannot be started.
    pub(super) fn start(json: bool, blocks: Option<u64>) -> io::Result<Self> {
        let out = Out::start(json)?;
        let progress = if json { None } else { Progress::through(out.lines(), blocks) };
        Ok(Self {
            out,
            progress,
            json,
            blocks: 0,
            wrong: 0,
            retries: 0,
            reexecuted: 0,
            transactions: 0,
            milliseconds: 0.0,
            unchecked: 0,
        })
    }

    pub(super) fn all_verified(&self) -> bool {
        self.wrong == 0
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn shard_joined(&mut self, shard: &str, address: &str, incarnation: u64) -> io::Result<()> {
        let shard = plain(shard);
        let event =
            json!({"event": "shard_joined", "shard": shard, "address": address, "incarnation": incarnation});
        self.say(event, || format!("shard {shard} at {address} joined, incarnation {incarnation}"))
    }

    pub(super) fn shard_lost(
        &mut self,
        shard: &str,
        address: &str,
        incarnation: u64,
        reason: &str,
    ) -> io::Result<()> {
        let (shard, reason) = (plain(shard), plain(reason));
        let event = json!({
            "event": "shard_lost", "shard": shard, "address": address, "incarnation": incarnation, "reason": reason,
        });
        self.say(event, || format!("shard {shard} at {address} lost, incarnation {incarnation}: {reason}"))
    }

    /// Reports that a part is dispatched again; `attempt` counts from 0 for the first dispatch.
    pub(super) fn retry(
        &mut self,
        block: u64,
        part: usize,
        attempt: u32,
        failure: &Failure,
        to: &str,
    ) -> io::Result<()> {
        self.retries += 1;
        let step = failure.step.to_string();
        let (from, to, reason) = (plain(&failure.shard), plain(to), plain(&failure.reason));
        let event = json!({
            "event": "retry", "block": block, "part": part, "attempt": attempt, "from": from, "to": to,
            "step": step, "reason": reason,
        });
        self.say(event, || {
            format!(
                "block {block:>9}  part {part} again, on {to} (attempt {attempt}): {from}, {step}: {reason}"
            )
        })
    }

    /// Reports that shards were lost with a block, and that a process of its own will try it.
    pub(super) fn quarantined(&mut self, block: u64, hash: &str, why: &str) -> io::Result<()> {
        let why = plain(why);
        let event = json!({"event": "quarantined", "block": block, "hash": hash, "reason": why});
        self.say(event, || {
            format!("block {block:>9}  kept from shards, to be tried by a process of its own: {why}")
        })
    }

    /// Reports a message that was dropped because nobody waits for it; only the first of each kind.
    pub(super) fn discarded(&mut self, block: Option<u64>, shard: &str, what: &str) -> io::Result<()> {
        let shard = plain(shard);
        let event = json!({"event": "discarded", "block": block, "shard": shard, "what": what});
        self.say(event, || {
            let block = block.map_or_else(|| "?".to_owned(), |block| block.to_string());
            format!("block {block:>9}  discarded: {what}, from {shard}; further ones are only counted")
        })
    }

    pub(super) fn block(&mut self, line: &BlockLine) -> io::Result<()> {
        let BlockLine { block, shared: Shared { rounds, parts, retries } } = line;
        self.blocks += 1;
        self.wrong += u64::from(!block.verified);
        self.unchecked += u64::from(block.verified && block.state_not_checked.is_some());
        self.reexecuted += block.reexecuted as u64;
        self.transactions += block.transactions as u64;
        self.milliseconds += block.milliseconds;
        let mut event = json!({
            "event": "block",
            "block": block.number,
            "transactions": block.transactions,
            "gas_used": block.gas_used,
            "elapsed_ms": block.milliseconds,
            "rounds": rounds,
            "parts": parts,
            "retries": retries,
            "reexecuted": block.reexecuted,
            "verified": block.verified,
            "mismatch": block.mismatch,
            "state_root": block.state_root,
            "state_not_checked": block.state_not_checked,
            "digest": block.digest,
        });
        if !block.differences.is_empty() {
            event["differences"] = json!(block.differences);
        }
        if let Some(first) = &block.first_transaction {
            event["first_transaction"] = json!(first);
        }
        let is_worth_a_line = !block.verified || self.progress.is_none();
        if let Some(progress) = &self.progress {
            progress.advance(progress::last(block.number, block.milliseconds));
        }
        if !is_worth_a_line {
            return self.out.check();
        }
        self.say(event, || {
            let verdict = match &block.mismatch {
                None => format!("verified{}", but_for_the_state(block.state_not_checked.as_deref())),
                Some(how) => format!("WRONG: {how}"),
            };
            format!(
                "block {:>9}  {:>4} txs  {:>10} gas  {:>8.2} ms  {parts} parts  {retries} retries  {:>4} re-executed  {verdict}  digest {}",
                block.number, block.transactions, block.gas_used, block.milliseconds, block.reexecuted, block.digest
            )
        })
    }

    /// Prints the totals as the last line, and waits for a bounded time until all lines are
    /// written. `discarded`: messages that came too late; `complete`: whether all requested blocks
    /// were executed.
    pub(super) fn end(&mut self, discarded: u64, complete: bool) -> io::Result<()> {
        let Self {
            out,
            progress,
            json,
            blocks,
            wrong,
            retries,
            reexecuted,
            transactions,
            milliseconds,
            unchecked,
        } = self;
        if let Some(progress) = progress {
            progress.end();
        }
        if *json {
            return out.end(|lines_dropped| {
                stamped(json!({
                    "event": "summary",
                    "blocks": blocks,
                    "wrong": wrong,
                    "state_not_checked": unchecked,
                    "complete": complete,
                    "transactions": transactions,
                    "reexecuted": reexecuted,
                    "retries": retries,
                    "discarded": discarded,
                    "lines_dropped": lines_dropped,
                    "elapsed_ms": milliseconds,
                }))
            });
        }
        let verdict = match (*wrong, complete) {
            (0, true) => format!("all verified{}", of_all(*unchecked, *blocks)),
            (0, false) => "these verified, the others not executed".to_owned(),
            (wrong, _) => format!("{wrong} WRONG"),
        };
        out.end(|lines_dropped| {
            let mut oddities = String::new();
            for (count, what) in [(discarded, "late messages discarded"), (lines_dropped, "lines dropped")] {
                if count > 0 {
                    oddities += &format!("{count} {what}, ");
                }
            }
            format!(
                "{blocks} blocks, {transactions} transactions ({reexecuted} re-executed), {retries} retries, {oddities}{milliseconds:.1} ms: {verdict}"
            )
        })
    }

    fn say(&mut self, event: Value, line: impl FnOnce() -> String) -> io::Result<()> {
        if let Some(progress) = &self.progress {
            progress.say(&line());
            return self.out.check();
        }
        let line = if self.json { stamped(event) } else { line() };
        self.out.say(&line)
    }
}

/// A peer's text, made fit for a terminal and truncated.
fn plain(words: &str) -> String {
    let mut plain: String =
        words.chars().take(LONGEST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if words.chars().nth(LONGEST_WORDS).is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_moves_no_cursor_and_has_an_end() {
        assert_eq!(plain("shard\u{1b}[2J\n7"), "shard [2J 7");
        let long = plain(&"ü".repeat(1_000_000));
        assert_eq!(long.chars().count(), LONGEST_WORDS + 1);
        assert_eq!(plain(&"ü".repeat(LONGEST_WORDS)).chars().count(), LONGEST_WORDS);
    }
}
