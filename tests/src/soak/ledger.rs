//! What a coordinator may and may not report. Everything here depends only on its lines, so it can
//! be tested without one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// Tolerance before something counts as late: a line passes through a pipe on a busy machine.
pub const SLACK: Duration = Duration::from_secs(5);

/// What was observed, and what should not have been.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The digest of the state after each block of the present chain, as executing it in order
    /// gives it.
    digests: BTreeMap<u64, String>,
    /// The longest that a block may take.
    deadline: Duration,
    /// The latest incarnation of each shard that joined this coordinator.
    joined: BTreeMap<String, u64>,
    /// Number of verified blocks.
    pub verified: u64,
    /// Number of blocks that ended as a typed error.
    pub typed_errors: u64,
    /// Number of parts dispatched again.
    pub retries: u64,
    /// Number of lost shards.
    pub losses: u64,
    /// Messages that coordinators discarded, as far as they reported them at their end.
    pub discarded: u64,
    /// Coordinators that were offered a result of a dead incarnation, and discarded it.
    pub ghosts: u64,
    /// The longest block, in milliseconds.
    pub longest_ms: f64,
    /// What went wrong, one sentence each.
    pub violations: Vec<String>,
}

impl Ledger {
    /// A coordinator starts with another chain. What shards sent to its predecessor does not count
    /// for it.
    pub fn begin(&mut self, digests: BTreeMap<u64, String>, deadline: Duration) {
        self.digests = digests;
        self.deadline = deadline;
        self.joined.clear();
    }

    /// Processes one line. Returns true if a block ended.
    pub fn line(&mut self, line: &str) -> bool {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
        match event["event"].as_str() {
            Some("block") => {
                self.block(&event);
                return true;
            }
            Some("shard_joined") => self.shard_joined(&event),
            Some("shard_lost") => self.losses += 1,
            Some("retry") => self.retries += 1,
            Some("discarded") if event["what"] == "result of another incarnation" => self.ghosts += 1,
            Some("summary") => self.discarded += event["discarded"].as_u64().unwrap_or_default(),
            _ => {}
        }
        false
    }

    fn block(&mut self, event: &Value) {
        let number = event["block"].as_u64().unwrap_or_default();
        if event["verified"] != true {
            self.violations.push(format!("block {number} is wrong: {}", event["mismatch"]));
            return;
        }
        self.verified += 1;
        let wanted = self.digests.get(&number).map(String::as_str);
        if wanted != event["digest"].as_str() {
            self.violations.push(format!(
                "block {number} left a state with the digest {}, and executing it in order gives {wanted:?}",
                event["digest"]
            ));
        }
        let took = event["elapsed_ms"].as_f64().unwrap_or(f64::MAX);
        self.longest_ms = self.longest_ms.max(took);
        if took > (self.deadline + SLACK).as_secs_f64() * 1e3 {
            self.violations
                .push(format!("block {number} took {took:.0} ms, and its deadline is {:?}", self.deadline));
        }
    }

    /// Incarnations of one shard only grow: once another has followed, an incarnation is dead and
    /// may not come back.
    fn shard_joined(&mut self, event: &Value) {
        let shard = event["shard"].as_str().unwrap_or_default().to_owned();
        let incarnation = event["incarnation"].as_u64().unwrap_or_default();
        let before = self.joined.insert(shard.clone(), incarnation).unwrap_or_default();
        if incarnation < before {
            self.violations.push(format!(
                "incarnation {incarnation} of shard {shard} was accepted after {before}: it is dead"
            ));
        }
    }

    /// The coordinator ended by itself, with this code and these lines. `None`: a signal ended it.
    pub fn ended(&mut self, code: Option<i32>, lines: &[String]) {
        let told = lines.iter().rev().find(|line| line.starts_with("shard-executor: coordinator: "));
        match (code, told) {
            (Some(3), Some(_)) => self.typed_errors += 1,
            _ => self.violations.push(format!("the coordinator ended with {code:?}, saying {told:?}")),
        }
    }

    /// No block has ended for this long. Returns whether that is too long.
    pub fn silent(&mut self, silence: Duration) -> bool {
        let stuck = silence > self.deadline + SLACK;
        if stuck {
            self.violations.push(format!(
                "no block ended, one way or another, for {silence:?}: its deadline is {:?}",
                self.deadline
            ));
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(BTreeMap::from([(1, "0xaa".to_owned())]), Duration::from_secs(4));
        ledger
    }

    fn block(verified: bool, digest: &str, elapsed_ms: u64) -> String {
        format!(
            r#"{{"event":"block","block":1,"verified":{verified},"digest":"{digest}","elapsed_ms":{elapsed_ms}}}"#
        )
    }

    #[test]
    fn a_block_as_it_should_be_is_counted() {
        let mut ledger = ledger();
        assert!(ledger.line(&block(true, "0xaa", 100)));
        assert!(!ledger.line(r#"{"event":"retry"}"#) && !ledger.line("something else"));
        assert_eq!((ledger.verified, ledger.retries, ledger.violations.len()), (1, 1, 0));
    }

    #[test]
    fn what_should_not_be_is_told() {
        let told = |lines: &[&str]| {
            let mut ledger = ledger();
            lines.iter().for_each(|line| {
                ledger.line(line);
            });
            ledger.violations.join("; ")
        };
        assert!(told(&[&block(false, "0xaa", 1)]).contains("wrong"));
        assert!(told(&[&block(true, "0xab", 1)]).contains("the digest"));
        assert!(told(&[&block(true, "0xaa", 9_001)]).contains("took 9001 ms"));
        let joined = |incarnation: u64| {
            format!(r#"{{"event":"shard_joined","shard":"0","incarnation":{incarnation}}}"#)
        };
        assert!(told(&[&joined(5), &joined(6), &joined(5)]).contains("it is dead"));
        assert_eq!(told(&[&joined(5), &joined(5), &joined(6)]), "");
    }

    #[test]
    fn only_a_typed_error_is_an_end() {
        let typed = ["shard-executor: coordinator: block 1: not executed within 4s".to_owned()];
        let mut ledger = ledger();
        ledger.ended(Some(3), &typed);
        assert_eq!((ledger.typed_errors, ledger.violations.len()), (1, 0));
        for (code, lines) in [(Some(3), &[][..]), (Some(1), &typed), (Some(101), &typed), (None, &[])] {
            ledger.violations.clear();
            ledger.ended(code, lines);
            assert_eq!(ledger.violations.len(), 1, "{code:?}");
        }
        assert!(!ledger.silent(Duration::from_secs(9)) && ledger.silent(Duration::from_secs(10)));
    }
}
