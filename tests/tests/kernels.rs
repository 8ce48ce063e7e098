//! Row 60, and some of 46: what only another kernel can show, here that of User Mode Linux with
//! unified cgroups. The sidecar is the real one, in enforce mode.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

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

    /// What the sidecar said at the end of a phase.
    #[track_caller]
    fn status(&self, phase: &str) -> Value {
        let words = format!("STATUS {phase}");
        let status = self.of(&words).next().unwrap_or_else(|| panic!("{}", self.all.join("\n")));
        serde_json::from_str(status).unwrap_or_else(|error| panic!("{error}: {status}"))
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
    for excuse in ["memory_throttled", "frozen"] {
        let status = told.status(excuse);
        assert_eq!(status["verdict"], "excused", "{status:#}");
        let seconds = status["excused_seconds"][excuse].as_f64().unwrap_or_default();
        assert!(seconds >= 8.0, "twice its threshold: {status:#}");
        let (before, after) = told.pids(excuse);
        assert_eq!(before, after, "nobody was killed: {}", told.all.join("\n"));
    }
    let (before, after) = told.pids("hang");
    assert_ne!(before, after, "it was killed and began anew: {}", told.all.join("\n"));
    let incidents: Vec<Value> =
        told.of("INCIDENT").map(|incident| serde_json::from_str(incident).unwrap()).collect();
    let reasons: Vec<_> = incidents.iter().map(|incident| &incident["reason"]).collect();
    assert_eq!(reasons, ["stalled"], "nobody else was condemned: {incidents:#?}");
}

/// The fault kit where the controllers are those of version 2, run by another shell than here.
#[test]
fn the_fault_kit_limits_and_undoes_on_a_unified_hierarchy() {
    let test = "the_fault_kit_limits_and_undoes_on_a_unified_hierarchy";
    let kernel = match Kernel::find() {
        Ok(kernel) => kernel,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            return skip::note(test, &why);
        }
    };
    let told = Told { all: kernel.run(&["shard-watchdog", "puppet"], "fault-kit.sh") };
    let all = told.all.join("\n");
    assert_eq!(told.of("END").next(), Some("0"), "{all}");
    for phase in ["memory_throttled", "throttled", "root"] {
        let status = told.status(phase);
        let excused = status["excused_seconds"][phase].as_f64();
        assert!(phase == "root" || excused.is_some_and(|told| told > 0.0), "{status:#}");
        assert_eq!(told.of(&format!("LEFT {phase}-code")).next(), Some("143"), "{all}");
        let (before, after) = told.pids(phase);
        assert_eq!(before, after, "nobody was killed: {all}");
    }
    assert_eq!(told.of("LEFT memory.high").next(), Some("max"), "{all}");
    let quotas: Vec<_> = told.of("LEFT cpu.max").collect();
    assert_eq!(quotas, ["max 100000", "max 100000"], "{all}");
    assert_eq!(told.of("LEFT root-quota").next(), Some("1000 100000"), "{all}");
    assert_eq!(told.of("LEFT root").next(), Some("0"), "{all}");
    let said: Vec<_> = told.of("SAID").collect();
    assert_eq!(said.iter().filter(|line| line.ends_with(": undone")).count(), 4, "{all}");
    assert!(said.iter().any(|line| line.contains("as well: add --whole-cgroup")), "{all}");
    assert!(told.of("INCIDENT").next().is_none(), "{all}");
}
