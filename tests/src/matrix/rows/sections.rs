//! Rows in which a thread stands still in one section of its work, which has its own threshold.

use std::time::Duration;

use serde_json::Value;

use super::super::recovers::STALLED;
use super::super::strike::Step;
use super::super::{Course, Part, Recovers, Row, Told, scene};
use crate::clock::monotonic_ns;
use crate::cluster::{Cluster, Plan};
use crate::sidecar::Settings;
use crate::{faults, wait};

const fn stalls(recovers: Recovers) -> Row {
    Row {
        number: "28",
        case: "",
        part: Part::Seen,
        what: "hangs in one section of its work, far within the threshold of its rule",
        fault: "order: deadlock, with sections = { executing = \"1s\" } and stall_after = \"60s\"",
        needs: &[],
        alone: false,
        course: Course::Recovers(recovers),
    }
}

pub(super) const ROWS: &[Row] = &[
    stalls(Recovers {
        plan: || sections("60s", "executing = \"1s\", reading = \"50s\""),
        steps: &[Step::Orders(&["arm deadlock after 3"])],
        kind: Some("deadlock"),
        says: &["in its section executing", "\"section\":\"executing\"", "the rule alone allows 1 min"],
        ..STALLED
    }),
    scene(
        Part::Spared,
        "28",
        "long",
        "slow in a section that may take long, far beyond the threshold of its rule",
        "order: deadlock for 4 s, with sections = { executing = \"60s\" } and stall_after = \"1s\"",
        slow_in_a_long_section,
    ),
];

/// A cluster whose executor threads have these thresholds. The deadline of a block must not come
/// first.
fn sections(stall_after: &str, sections: &str) -> Plan {
    let rule = format!("sections = {{ {sections} }}");
    let settings = Settings { stall_after: stall_after.to_owned(), rule, ..Settings::default() };
    Plan { settings, block_deadline: "60s".to_owned(), ..Plan::default() }
}

fn slow_in_a_long_section(told: &Told) {
    let mut cluster = Cluster::start(&sections("1s", "executing = \"60s\""));
    cluster.verified_after(monotonic_ns());
    let sidecar = cluster.shards[0].sidecar.clone();
    let pid = sidecar.pid();
    cluster.inject(0, &["arm deadlock after 3"]);
    let stands = |status: &Value| {
        let thread = &status["threads"][0];
        thread["section"] == "executing" && thread["counted_seconds"].as_f64().is_some_and(|time| time > 1.0)
    };
    wait::until("counted time beyond the threshold of the rule", || sidecar.status().filter(stands));
    let held = Duration::from_secs(3);
    wait::holds_for(held, "healthy, and the same process", || {
        sidecar.status().is_none_or(|status| {
            let verdict = status["verdict"].as_str().unwrap_or_default();
            ["healthy", "excused"].contains(&verdict) && status["pid"] == pid
        })
    });
    told.held(held);
    faults::order(&cluster.shards[0].faults, &["disarm"]);
    cluster.verified_after(monotonic_ns());
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    told.saw("healthy");
    cluster.assert_common_rule(&[]);
}
