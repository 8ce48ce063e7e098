//! What the coordinator tells on standard output as it goes: a line a block, and the comings and goings of shards.
//!
//! Every JSON line has `event` and `at_monotonic_ns`, which is comparable across the processes of one machine: a timeline
//! can be put together from several of them.

use std::io::{self, Write};
use std::time::Duration;

use revm::primitives::B256;
use serde_json::{Value, json};

use crate::clock::monotonic_ns;
use crate::report::BlockReport;
use crate::validate::BlockResult;

/// A block's line: what is said of every block however it ran, and what only several shards have.
pub(super) struct BlockLine {
    block: BlockReport,
    parts: usize,
    retries: u32,
}

impl BlockLine {
    pub(super) fn new(
        result: &BlockResult,
        took: Duration,
        digest: B256,
        parts: usize,
        retries: u32,
    ) -> Self {
        Self { block: BlockReport::new(result, took, digest), parts, retries }
    }
}

pub(super) struct Report {
    json: bool,
    blocks: u64,
    wrong: u64,
    retries: u64,
    reexecuted: u64,
    transactions: u64,
    milliseconds: f64,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, blocks: 0, wrong: 0, retries: 0, reexecuted: 0, transactions: 0, milliseconds: 0.0 }
    }

    pub(super) fn all_verified(&self) -> bool {
        self.wrong == 0
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn joined(&mut self, shard: &str, address: &str, incarnation: u64) -> io::Result<()> {
        let event =
            json!({"event": "shard_joined", "shard": shard, "address": address, "incarnation": incarnation});
        self.say(event, || format!("shard {shard} at {address} joined, incarnation {incarnation}"))
    }

    pub(super) fn lost(
        &mut self,
        shard: &str,
        address: &str,
        incarnation: u64,
        reason: &str,
    ) -> io::Result<()> {
        let event = json!({
            "event": "shard_lost", "shard": shard, "address": address, "incarnation": incarnation, "reason": reason,
        });
        self.say(event, || format!("shard {shard} at {address} lost, incarnation {incarnation}: {reason}"))
    }

    /// A part goes out again; `attempt` counts from 0 for the first dispatch.
    pub(super) fn retry(
        &mut self,
        block: u64,
        part: usize,
        attempt: u32,
        from: &str,
        to: &str,
        reason: &str,
    ) -> io::Result<()> {
        let event = json!({
            "event": "retry", "block": block, "part": part, "attempt": attempt, "from": from, "to": to, "reason": reason,
        });
        self.say(event, || {
            format!("block {block:>9}  part {part} again, on {to} (attempt {attempt}): {from}: {reason}")
        })
    }

    pub(super) fn block(&mut self, line: &BlockLine) -> io::Result<()> {
        let BlockLine { block, parts, retries } = line;
        self.blocks += 1;
        self.wrong += u64::from(!block.verified);
        self.retries += u64::from(*retries);
        self.reexecuted += block.reexecuted as u64;
        self.transactions += block.transactions as u64;
        self.milliseconds += block.milliseconds;
        let event = json!({
            "event": "block",
            "block": block.number,
            "transactions": block.transactions,
            "gas_used": block.gas_used,
            "elapsed_ms": block.milliseconds,
            "parts": parts,
            "retries": retries,
            "reexecuted": block.reexecuted,
            "verified": block.verified,
            "mismatch": block.mismatch,
            "digest": block.digest,
        });
        self.say(event, || {
            let verdict = match &block.mismatch {
                None => "verified".to_owned(),
                Some(how) => format!("WRONG: {how}"),
            };
            format!(
                "block {:>9}  {:>4} txs  {:>10} gas  {:>8.2} ms  {parts} parts  {retries} retries  {:>4} re-executed  {verdict}  digest {}",
                block.number, block.transactions, block.gas_used, block.milliseconds, block.reexecuted, block.digest
            )
        })
    }

    /// Totals, for a person only.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let verdict =
            if self.wrong == 0 { "all verified".to_owned() } else { format!("{} WRONG", self.wrong) };
        let line = format!(
            "{} blocks, {} transactions ({} re-executed), {} retries, {:.1} ms: {verdict}",
            self.blocks, self.transactions, self.reexecuted, self.retries, self.milliseconds
        );
        write(&line)
    }

    fn say(&self, mut event: Value, line: impl FnOnce() -> String) -> io::Result<()> {
        if !self.json {
            return write(&line());
        }
        if let Some(fields) = event.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
            fields.insert("at_monotonic_ns".to_owned(), monotonic_ns().into());
        }
        write(&event.to_string())
    }
}

/// Whole and at once: whoever follows along must not wait for a buffer to fill.
fn write(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
