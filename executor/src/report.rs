//! One line per block, for a person or a script. Both have the same fields, in every way of
//! running.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use revm::primitives::B256;
use serde::Serialize;

use crate::block::TransactionDifference;
use crate::progress::{self, Progress};
use crate::validate::{BlockResult, Difference, Mismatch, StateRoot};

/// The report on a block that ran to its end.
#[derive(Clone, Debug, Serialize)]
pub struct BlockReport {
    /// Its number.
    #[serde(rename = "block")]
    pub number: u64,
    /// How many transactions it has.
    pub transactions: usize,
    /// Gas that they used.
    pub gas_used: u64,
    /// Time from the state before it to the verdict, without reading the file and the digest.
    #[serde(rename = "elapsed_ms")]
    pub milliseconds: f64,
    /// Transactions that were executed again in order.
    pub reexecuted: usize,
    /// Whether it came out as its header says.
    pub verified: bool,
    /// Root of the state after it, if it could be computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_root: Option<B256>,
    /// Why the state root was not checked; `None`: it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_not_checked: Option<String>,
    /// How it differs, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
    /// The fields of the header that differ, with both values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// The first transaction to blame, if known; otherwise `mismatch` says why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_transaction: Option<TransactionDifference>,
    /// Digest of the state after it.
    pub digest: B256,
}

impl BlockReport {
    /// The report on `result`.
    pub fn new(result: &BlockResult, took: Duration, digest: B256) -> Self {
        let (differences, first_transaction) = match &result.mismatch {
            Some(Mismatch::Header { differences, first }) => (differences.clone(), first.transaction()),
            Some(Mismatch::InvalidTransaction { index, hash, reason }) => {
                let (expected, got) = ("a transaction that is valid there".into(), reason.clone());
                let (index, hash, field) = (*index, *hash, "validity".into());
                (Vec::new(), Some(TransactionDifference { index, hash, field, expected, got }))
            }
            Some(Mismatch::InvalidBlock { .. }) | None => (Vec::new(), None),
        };
        let (state_root, state_not_checked) = match result.state_root {
            StateRoot::Checked(root) => (Some(root), None),
            StateRoot::NotChecked(reason) => (None, Some(reason.to_string())),
        };
        Self {
            number: result.number,
            transactions: result.transactions,
            gas_used: result.gas_used,
            milliseconds: took.as_secs_f64() * 1e3,
            reexecuted: result.reexecuted,
            verified: result.mismatch.is_none(),
            state_root,
            state_not_checked,
            mismatch: result.mismatch.as_ref().map(ToString::to_string),
            differences,
            first_transaction,
            digest,
        }
    }
}

/// Prints reports and sums up the totals.
#[derive(Debug)]
pub struct Reporter {
    json: bool,
    progress: Option<Progress>,
    colour: bool,
    blocks: usize,
    wrong: usize,
    transactions: usize,
    reexecuted: usize,
    gas: u64,
    milliseconds: f64,
    unchecked: u64,
}

impl Reporter {
    /// A reporter to standard output for `blocks` blocks. On a terminal it shows the progress, and
    /// prints a line only for a block that is wrong; otherwise it prints a line per block. Colours
    /// are used only on a terminal, and not if `NO_COLOR` is set.
    pub fn new(json: bool, blocks: usize) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let progress = if json { None } else { Progress::on_terminal(Some(blocks as u64)) };
        Self {
            json,
            progress,
            colour,
            blocks: 0,
            wrong: 0,
            transactions: 0,
            reexecuted: 0,
            gas: 0,
            milliseconds: 0.0,
            unchecked: 0,
        }
    }

    /// Prints one block's line.
    pub fn block(&mut self, report: &BlockReport) -> io::Result<()> {
        self.blocks += 1;
        self.wrong += usize::from(!report.verified);
        self.unchecked += u64::from(report.verified && report.state_not_checked.is_some());
        self.transactions += report.transactions;
        self.reexecuted += report.reexecuted;
        self.gas = self.gas.saturating_add(report.gas_used);
        self.milliseconds += report.milliseconds;
        if self.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, report)?;
            return writeln!(out);
        }
        let verdict = match &report.mismatch {
            None => self.paint(
                "32",
                &format!("verified ✓{}", but_for_the_state(report.state_not_checked.as_deref())),
            ),
            Some(how) => self.paint("31", &format!("wrong ✗: {how}")),
        };
        let line = format!(
            "block {:>9}  {:>4} txs  {:>10} gas  {:>8.2} ms  {:>4} re-executed  {verdict}  digest {}",
            report.number,
            report.transactions,
            report.gas_used,
            report.milliseconds,
            report.reexecuted,
            report.digest
        );
        let Some(progress) = &self.progress else { return writeln!(io::stdout().lock(), "{line}") };
        if !report.verified {
            progress.say(&line);
        }
        progress.advance(progress::last(report.number, report.milliseconds));
        Ok(())
    }

    /// Prints the totals, for a person only.
    pub fn end(&self) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        if let Some(progress) = &self.progress {
            progress.end();
        }
        let mgas = self.gas as f64 / 1e6;
        let rate = if self.milliseconds > 0.0 { mgas / (self.milliseconds / 1e3) } else { 0.0 };
        let verdict = match self.wrong {
            0 => self.paint("32", &format!("all verified{}", of_all(self.unchecked, self.blocks as u64))),
            n => self.paint("31", &format!("{n} wrong")),
        };
        writeln!(
            io::stdout().lock(),
            "{} blocks, {} transactions ({} re-executed), {mgas:.1} Mgas in {:.1} ms: {rate:.0} Mgas/s, {verdict}",
            self.blocks,
            self.transactions,
            self.reexecuted,
            self.milliseconds
        )
    }

    /// Whether every block so far came out as its header says.
    pub const fn all_verified(&self) -> bool {
        self.wrong == 0
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What is appended to a verified block's line if its state was not checked.
pub(crate) fn but_for_the_state(not_checked: Option<&str>) -> String {
    not_checked.map_or_else(String::new, |reason| format!(", state not checked ({reason})"))
}

/// The same for the totals: how many of all blocks.
pub(crate) fn of_all(unchecked: u64, blocks: u64) -> String {
    match (unchecked, blocks) {
        (0, _) => String::new(),
        (unchecked, blocks) if unchecked == blocks => ", state not checked".to_owned(),
        (unchecked, blocks) => format!(", state of {unchecked} of {blocks} not checked"),
    }
}
