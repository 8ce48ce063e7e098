//! From an incident to the block that was in flight, as a person follows it at the collector: the
//! root of the sidecar's trace is linked to the span of the part that the dead shard worked on,
//! which the coordinator sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_tests::cluster::{Blocks, Cluster, Plan};
use shard_tests::collector::{Collector, Span};

#[test]
fn an_incident_is_linked_to_the_part_of_the_block_that_its_thread_worked_on() {
    let test = "an_incident_is_linked_to_the_part_of_the_block_that_its_thread_worked_on";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&binary, folder.path());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.http)),
        // Not needed here, and five processes have many.
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let blocks = Blocks::Generated { blocks: 10, transactions: 40 };
    let mut cluster = Cluster::start(&Plan { environment, blocks, ..Plan::default() });
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    let thread = &incident["thread"];
    let (trace, span) = (thread["trace_id"].as_str().unwrap(), thread["span_id"].as_str().unwrap());

    let told = collector.whole_trace(incident["trace"]["trace_id"].as_str().unwrap());
    let root = told.iter().find(|span| span.parent.is_empty()).unwrap();
    assert_eq!(root.links, [(trace.to_owned(), span.to_owned())], "{root:#?}");

    // The shard's own spans of it died with the shard.
    let block = collector.whole_trace(trace);
    let named = |name: &str, span: &&Span| span.name == name;
    let part = block.iter().find(|one| one.id == span).unwrap_or_else(|| panic!("{span}: {block:#?}"));
    assert_eq!(part.name, "part", "{part:#?}");
    assert_eq!(part.resource["service.name"], "shard-executor");
    let top = block.iter().find(|span| named("block", span)).unwrap();
    assert!(top.parent.is_empty(), "{top:#?}");
    assert_eq!(top.attributes["block.number"], thread["work_key"].to_string(), "{top:#?}");
    // The part was lost and executed again elsewhere: the trace of the block has both.
    let parts = block.iter().filter(|span| named("part", span));
    let again = parts.filter(|one| one.attributes["part.number"] == part.attributes["part.number"]);
    assert!(again.count() >= 2, "{block:#?}");
    assert!(
        part.start <= root.end && root.start <= part.end,
        "they were at the same time: {part:#?} {root:#?}"
    );
    cluster.assert_common_rule(&[0]);
}
