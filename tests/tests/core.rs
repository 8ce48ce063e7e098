//! Row 45: the kernel takes several seconds to write the core of a shard. The shard counts neither
//! as stalled nor as hung in its exit meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::core_pattern::CorePattern;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{skip, wait};

/// Takes much longer than `stall_after` and `exit_within` below on any machine: some 0.1 s for each
/// GiB.
const SIZE: &str = "arm core 64";
/// Before it aborts, the shard reserves all that memory in the middle of a block: a second of work
/// beside other tests. It is to be excused for its core, not condemned for the reservation.
const RESERVED_WITHIN: &str = "4s";
const EXIT_WITHIN: Duration = Duration::from_secs(2);

/// Whether this machine writes cores, and to a file. If not, the test is noted as skipped; in CI it
/// fails.
fn cores(test: &str) -> Option<CorePattern> {
    let allowed = getrlimit(Resource::Core).maximum.is_none();
    let pattern = if allowed {
        CorePattern::file()
    } else {
        Err("the hard limit for cores is not 'unlimited' (ulimit -Hc)".to_owned())
    };
    match pattern {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            skip::note(test, &why);
            None
        }
    }
}

/// How long it was excused: the sum over all watched threads, each of which was.
fn excused_for(sidecar: &Sidecar) -> f64 {
    let status = sidecar.status().unwrap_or_default();
    let threads = status["threads"].as_array().map_or(1, |threads| threads.len().max(1));
    let sum = status["excused_seconds"]["core_dumping"].as_f64().unwrap_or_default();
    sum / f64::from(u32::try_from(threads).unwrap())
}

fn signalled(incident: &Value) -> bool {
    incident["timeline"].as_array().unwrap().iter().any(|entry| entry["step"] == "signal")
}

#[test]
fn row_45_a_shard_whose_core_is_written_is_excused_and_then_ended_by_itself() {
    let test = "row_45_a_shard_whose_core_is_written_is_excused_and_then_ended_by_itself";
    let Some(_pattern) = cores(test) else { return };
    let settings = Settings {
        judge: format!("exit_within = \"{}s\"", EXIT_WITHIN.as_secs()),
        stall_after: RESERVED_WITHIN.to_owned(),
        ..Settings::default()
    };
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let pid = cluster.shards[0].sidecar.pid();
    cluster.inject(0, &[SIZE]);
    let sidecar = &cluster.shards[0].sidecar;
    let excused = wait::until("the excuse", || {
        sidecar.status().filter(|status| status["threads"][0]["kind"] == "core_dumping")
    });
    assert_eq!((&excused["verdict"], &excused["pid"]), (&"excused".into(), &pid.into()), "{excused:#}");
    assert!(excused["reason"].as_str().unwrap().contains("core"), "{excused:#}");
    // Nothing is held against the process as long as it exists.
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    assert!(!signalled(&incident), "{incident:#}");
    let lasted = excused_for(sidecar);
    assert!(lasted > 2.0 * EXIT_WITHIN.as_secs_f64(), "too short to show anything: {lasted} s");
    assert_eq!(sidecar.incidents().len(), 1, "{:#?}", sidecar.incidents());
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_45_a_core_that_takes_longer_than_its_cap_is_told_and_kills_nobody() {
    let test = "row_45_a_core_that_takes_longer_than_its_cap_is_told_and_kills_nobody";
    let Some(_pattern) = cores(test) else { return };
    let settings = Settings {
        judge: format!("exit_within = \"{}s\"", EXIT_WITHIN.as_secs()),
        append: "[judge.excuse]\ncore_dumping = \"1s\"\n".to_owned(),
        stall_after: RESERVED_WITHIN.to_owned(),
        ..Settings::default()
    };
    let cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    cluster.inject(0, &[SIZE]);
    let sidecar = &cluster.shards[0].sidecar;
    wait::until("the excuse to be past its cap", || {
        let status = sidecar.status()?;
        let thread = &status["threads"][0];
        (thread["kind"] == "core_dumping" && thread["excuse_over_cap"] == true).then_some(())
    });
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    assert!(!signalled(&incident), "{incident:#}");
}
