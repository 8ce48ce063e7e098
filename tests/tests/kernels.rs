//! Row 60, and some of 46: what only another kernel can show, here that of User Mode Linux with unified cgroups. The sidecar is
//! the real one, in enforce mode.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::BTreeMap;

use serde_json::Value;
use shard_tests::kernel::Kernel;
use shard_tests::skip;

/// What a scenario of `tests/kernels` has printed.
struct Told {
    all: Vec<String>,
}

impl Told {
    /// The rest of each line that begins with these words.
    fn of(&self, words: &str) -> impl Iterator<Item = &str> {
        self.all.iter().filter_map(move |line| line.strip_prefix(words)?.strip_prefix(' '))
    }

    /// What the sidecar said in a phase, each time.
    #[track_caller]
    fn statuses(&self, phase: &str) -> Vec<Value> {
        let words = format!("STATUS {phase}");
        let statuses: Vec<_> = self
            .of(&words)
            .map(|status| serde_json::from_str(status).unwrap_or_else(|error| panic!("{error}: {status}")))
            .collect();
        assert!(!statuses.is_empty(), "{}", self.all.join("\n"));
        statuses
    }

    /// The puppet before and after a phase.
    #[track_caller]
    fn pids(&self, phase: &str) -> (&str, &str) {
        let words = format!("PID {phase}");
        let mut pids = self.of(&words);
        let (Some(before), Some(after)) = (pids.next(), pids.next()) else {
            panic!("{phase} did not end: {}", self.all.join("\n"));
        };
        (before, after)
    }
}

#[test]
fn row_60_memory_high_excuses_and_a_real_stall_beside_it_is_killed_on_another_kernel() {
    let test = "row_60_memory_high_excuses_and_a_real_stall_beside_it_is_killed_on_another_kernel";
    let kernel = match Kernel::find() {
        Ok(kernel) => kernel,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            return skip::note(test, &why);
        }
    };
    let told = Told { all: kernel.run(&["shard-watchdog", "puppet"], "cgroups.sh") };
    assert_eq!(told.of("END").next(), Some("0"), "{}", told.all.join("\n"));
    for (phase, kind) in [("memory", "memory_throttled"), ("frozen", "frozen")] {
        let statuses = told.statuses(phase);
        assert!(statuses.iter().all(|status| status["verdict"] == "excused"), "{statuses:#?}");
        let named = statuses.iter().filter(|status| status["threads"][0]["kind"] == kind).count();
        assert_eq!(named, statuses.len(), "{statuses:#?}");
        let (before, after) = told.pids(phase);
        assert_eq!(before, after, "nobody was killed: {}", told.all.join("\n"));
    }
    let kinds: BTreeMap<&str, String> = ["hang", "vfork", "priority-lock"]
        .into_iter()
        .zip(told.of("INCIDENT").map(|incident| {
            let incident: Value = serde_json::from_str(incident).unwrap();
            assert_eq!(incident["reason"], "stalled", "{incident:#}");
            incident["thread"]["kind"].as_str().unwrap_or_default().to_owned()
        }))
        .collect();
    for phase in kinds.keys() {
        let (before, after) = told.pids(phase);
        assert_ne!(before, after, "it was killed and began anew: {}", told.all.join("\n"));
    }
    let expected = [("hang", "blocked"), ("priority-lock", "deadlock"), ("vfork", "blocked")];
    assert_eq!(kinds, expected.map(|(fault, kind)| (fault, kind.to_owned())).into_iter().collect());
    assert_eq!(told.of("INCIDENT").count(), 3, "and nobody else was condemned");
}
