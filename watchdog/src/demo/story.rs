//! Interprets the output of a demo's processes: which of their lines mean what, and what is still
//! missing.

use std::collections::VecDeque;

use serde_json::Value;

use crate::clock::Monotonic;

/// Lines of each process that are retained in case something goes wrong.
const TAIL: usize = 8;
/// Limit of retained retries: those before the fault fires are few, and those after the first do
/// not matter.
const RETRIES: usize = 64;
/// How lines of supervisors begin.
const SUPERVISE: &str = "supervise: CMD pid ";
/// A member that ended this often before any fault was armed will not come up: its input is bad, or
/// its port is taken.
const TOO_OFTEN: u32 = 3;
/// The text before the time in lines that carry one.
const AT: &str = "at_monotonic_ns=";

/// An event with its time, in nanoseconds of the monotonic clock that all processes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: u64,
    /// What happened, for a person.
    pub(super) what: String,
}

/// A part that the coordinator assigned again.
#[derive(Clone, Debug)]
struct Retry {
    moment: Moment,
    block: u64,
}

/// Everything known so far.
#[derive(Debug)]
pub(super) struct Story {
    shards: usize,
    target: usize,
    armed: Option<Monotonic>,
    verified: u64,
    wrong: Option<String>,
    fault: Option<Moment>,
    ended: Option<Moment>,
    started: Option<Moment>,
    /// Parts assigned again since the fault was armed. The first one after the fault is the one
    /// that counts.
    retries: Vec<Retry>,
    /// Blocks verified since the fault was armed: the time and the number.
    blocks: Vec<(u64, u64)>,
    /// How often each member ended before a fault was armed.
    ends: Vec<u32>,
    tails: Vec<VecDeque<String>>,
}

impl Story {
    /// For a cluster of `shards` shards; the coordinator comes after them.
    pub(super) fn new(shards: u16) -> Self {
        let shards = usize::from(shards);
        Self {
            shards,
            target: shards,
            armed: None,
            verified: 0,
            wrong: None,
            fault: None,
            ended: None,
            started: None,
            retries: Vec::new(),
            blocks: Vec::new(),
            ends: vec![0; shards + 1],
            tails: vec![VecDeque::new(); shards + 1],
        }
    }

    /// Begins to record: the fault of `target` is armed.
    pub(super) fn arm(&mut self, target: u16, at: Monotonic) {
        self.target = usize::from(target);
        self.armed = Some(at);
    }

    /// The member at fault: the target once there is one, else the coordinator.
    pub(super) const fn target(&self) -> usize {
        self.target
    }

    /// The name of a member.
    pub(super) fn name(&self, who: usize) -> String {
        if who == self.shards { "the coordinator".to_owned() } else { format!("shard {who}") }
    }

    /// Handles a line.
    pub(super) fn hear(&mut self, who: usize, line: String) {
        if who == self.shards
            && let Ok(event) = serde_json::from_str::<Value>(&line)
            && self.coordinator(&event)
        {
            return;
        }
        if self.armed.is_none()
            && line.starts_with(SUPERVISE)
            && line.contains(" ended (")
            && let Some(ends) = self.ends.get_mut(who)
        {
            *ends += 1;
        }
        if who == self.target {
            self.target_said(&line);
        }
        if let Some(tail) = self.tails.get_mut(who) {
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
    }

    /// Handles an event of the coordinator; false if it is none.
    fn coordinator(&mut self, event: &Value) -> bool {
        let number = |key: &str| event.get(key).and_then(Value::as_u64);
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let (Some(at), Some(what)) = (number("at_monotonic_ns"), event.get("event").and_then(Value::as_str))
        else {
            return false;
        };
        let after_arming = self.armed.is_some_and(|armed| at >= armed.0);
        match what {
            "block" if event.get("verified").and_then(Value::as_bool) == Some(true) => {
                self.verified += 1;
                // Only the first block after the retry matters; a cluster that runs on must not
                // fill the memory.
                if after_arming && self.missing().is_some() {
                    self.blocks.push((at, number("block").unwrap_or_default()));
                }
            }
            "block" => {
                let block = number("block").unwrap_or_default();
                self.wrong = Some(format!("block {block} came out wrong: {}", word("mismatch")));
            }
            "retry" if after_arming && self.retries.len() < RETRIES => {
                let (block, part) = (number("block").unwrap_or_default(), number("part").unwrap_or_default());
                let what = format!("block {block}, part {part} again, on {}: {}", word("to"), word("reason"));
                self.retries.push(Retry { moment: Moment { at, what }, block });
            }
            _ => {}
        }
        true
    }

    fn target_said(&mut self, line: &str) {
        let Some((what, at)) = line.rsplit_once(AT) else { return };
        let Ok(at) = at.trim().parse::<u64>() else { return };
        if self.armed.is_none_or(|armed| at < armed.0) {
            return;
        }
        let what = what.trim();
        let moment = |what: &str| Moment { at, what: what.to_owned() };
        if let Some(what) = what.strip_prefix("fault ") {
            if self.fault.is_none() {
                self.fault = Some(moment(&format!("{what} in {}", self.name(self.target))));
            }
        } else if let Some(what) = what.strip_prefix(SUPERVISE) {
            let place = if what.ends_with("started") { &mut self.started } else { &mut self.ended };
            if place.is_none() {
                *place = Some(moment(&format!("pid {what}")));
            }
        }
    }

    /// The number of blocks verified so far.
    pub(super) const fn verified(&self) -> u64 {
        self.verified
    }

    /// A block with a wrong result.
    pub(super) fn wrong(&self) -> Option<String> {
        self.wrong.clone()
    }

    /// A member that does not come up.
    pub(super) fn failing(&self) -> Option<usize> {
        self.ends.iter().position(|ends| *ends >= TOO_OFTEN)
    }

    /// The fault, once it has fired.
    pub(super) const fn fault(&self) -> Option<&Moment> {
        self.fault.as_ref()
    }

    /// What is still missing from the recovery.
    pub(super) fn missing(&self) -> Option<String> {
        let lacks = if self.fault.is_none() {
            "the fault has not fired"
        } else if self.ended.is_none() {
            "the process lives on"
        } else if self.started.is_none() {
            "the supervisor has not restarted it"
        } else if self.next_verified().is_none() {
            "no block was verified since"
        } else {
            return None;
        };
        Some(lacks.to_owned())
    }

    fn retry(&self) -> Option<&Retry> {
        let fault = self.fault.as_ref()?.at;
        self.retries.iter().find(|retry| retry.moment.at >= fault)
    }

    /// The first block that was verified in spite of the fault: the one whose part was assigned
    /// again, or if none was, the first that was verified after the process had ended.
    fn next_verified(&self) -> Option<Moment> {
        let found = match self.retry() {
            Some(retry) => {
                self.blocks.iter().find(|(at, block)| *at >= retry.moment.at && *block == retry.block)
            }
            None => {
                self.blocks.iter().find(|(at, _)| self.ended.as_ref().is_some_and(|ended| *at >= ended.at))
            }
        };
        found.map(|(at, block)| Moment { at: *at, what: format!("block {block}") })
    }

    /// Every known moment with its name.
    pub(super) fn moments(&self) -> Vec<(&'static str, Moment)> {
        let all = [
            ("fault", self.fault.clone()),
            ("supervisor", self.ended.clone()),
            ("supervisor", self.started.clone()),
            ("retry", self.retry().map(|retry| retry.moment.clone())),
            ("verified", self.next_verified()),
        ];
        all.into_iter().filter_map(|(name, moment)| Some((name, moment?))).collect()
    }

    /// The result of the demo: milliseconds from the fault to the next verified block.
    pub(super) fn fault_to_verified_ms(&self) -> f64 {
        let fault = self.fault.as_ref().map_or(0, |fault| fault.at);
        let verified = self.next_verified().map_or(fault, |verified| verified.at);
        milliseconds(fault, verified)
    }

    /// The last lines of a member.
    pub(super) fn tail(&self, who: usize) -> Vec<String> {
        self.tails.get(who).map_or_else(Vec::new, |tail| tail.iter().cloned().collect())
    }
}

/// Milliseconds from one moment to another; negative if the other came first.
pub(crate) fn milliseconds(from: u64, to: u64) -> f64 {
    let (early, late, sign) = if to >= from { (from, to, 1.0) } else { (to, from, -1.0) };
    Monotonic(late).since(Monotonic(early)).as_secs_f64() * 1e3 * sign
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(usize, &str)]) -> Story {
        let mut story = Story::new(2);
        story.arm(0, Monotonic(100));
        for (who, line) in lines {
            story.hear(*who, (*line).to_owned());
        }
        story
    }

    #[test]
    fn a_recovery_is_put_together_whatever_the_order_of_the_lines() {
        let mut lines = [
            (2, r#"{"event":"block","block":7,"verified":true,"at_monotonic_ns":150}"#),
            (
                2,
                r#"{"event":"retry","block":7,"part":1,"to":"1","from":"0","reason":"late","at_monotonic_ns":110}"#,
            ),
            (
                2,
                r#"{"event":"retry","block":8,"part":0,"to":"1","from":"0","reason":"lost","at_monotonic_ns":230}"#,
            ),
            (2, r#"{"event":"block","block":8,"verified":true,"at_monotonic_ns":1000200}"#),
            (0, "fault panic fired at_monotonic_ns=200"),
            (0, "supervise: CMD pid 5 ended (SIGKILL) after 2.1 s; restarting in 0 ms at_monotonic_ns=220"),
            (0, "supervise: CMD pid 6 started at_monotonic_ns=225"),
        ];
        for _ in 0..2 {
            let story = told(&lines);
            assert_eq!(story.missing(), None, "{story:?}");
            assert!((story.fault_to_verified_ms() - 1.0).abs() < 1e-9);
            lines.rotate_left(3);
        }
    }

    #[test]
    fn what_came_before_arming_and_what_others_say_does_not_count() {
        let story = told(&[
            (0, "fault panic fired at_monotonic_ns=50"),
            (1, "fault panic fired at_monotonic_ns=200"),
            (0, "no time at_monotonic_ns=soon"),
            (2, r#"{"event":"block","block":7,"verified":true}"#),
        ]);
        assert_eq!(story.fault(), None);
        assert_eq!(story.verified(), 0);
    }

    #[test]
    fn who_ends_again_and_again_before_the_fault_is_told() {
        let mut story = Story::new(2);
        for _ in 0..TOO_OFTEN {
            assert_eq!(story.failing(), None);
            story
                .hear(1, format!("{SUPERVISE}7 ended (exit code 2) after 0.0 s; restarting in 100 ms {AT}5"));
        }
        assert_eq!(story.failing(), Some(1));
    }

    #[test]
    fn a_wrong_block_is_told() {
        let story = told(&[(
            2,
            r#"{"event":"block","block":7,"verified":false,"mismatch":"gas","at_monotonic_ns":150}"#,
        )]);
        assert_eq!(story.wrong().as_deref(), Some("block 7 came out wrong: gas"));
    }
}
