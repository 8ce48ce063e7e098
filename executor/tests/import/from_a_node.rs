//! Imports from a node that answers, by each of the available ways.

use shard_executor::generate::Kind;

use crate::chain::{Chain, comes_to_the_state_of, import, reports, said};
use crate::node::{Node, Skills};

fn run(node: &Node, out: &std::path::Path, more: &[&str]) -> String {
    let chain = node.chain().id().to_string();
    let mut arguments = vec!["--rpc", &node.url, "--chain", &chain, "--rate", "100000"];
    arguments.extend(more);
    let output = import(out, &arguments);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn every_way_of_asking_gives_the_same_files_and_all_verify() {
    let ways = [
        (Skills { witness: Some(true), traces: None }, "witness", true),
        (Skills { witness: Some(false), traces: None }, "auto", true),
        (Skills { witness: None, traces: Some(true) }, "auto", false),
        (Skills { witness: None, traces: Some(false) }, "traces", false),
        (Skills { witness: None, traces: None }, "auto", false),
    ];
    let mut digests = Vec::new();
    for (skills, way, with_root) in ways {
        let node = Node::start(Chain::new(Kind::Mixed, 3), skills);
        let out = tempfile::tempdir().unwrap();
        let told = run(&node, out.path(), &["--block", "1..3", "--state", way]);
        assert!(told.contains("3 blocks written") && told.contains("0 wrong"), "{told}");
        assert_eq!(told.contains("state not checked (no witness)"), !with_root, "{told}");
        let reports = reports(out.path());
        for (report, block) in reports.iter().zip(&node.chain().blocks) {
            assert!(report.verified, "{skills:?}: {:?}", report.mismatch);
            assert_eq!(report.state_root, block.expected.state_root.filter(|_| with_root), "{skills:?}");
        }
        comes_to_the_state_of(node.chain(), out.path());
        digests.push(reports.iter().map(|report| report.digest).collect::<Vec<_>>());
    }
    assert!(digests.windows(2).all(|two| two[0] == two[1]), "{digests:#?}");
}

/// Popular accounts are paid for the first time in block 1, by several transactions: all traces but
/// the first show them with the value that earlier ones gave them.
#[test]
fn an_account_that_a_later_trace_shows_first_did_not_exist_before_the_block() {
    let node = Node::start(Chain::new(Kind::Transfers, 1), Skills { witness: None, traces: Some(false) });
    let traces = node.chain().traces(1, false);
    let first = node.chain().state(0);
    let shown_late = traces.as_array().unwrap().iter().skip(1).any(|trace| {
        let addresses = trace["result"].as_object().unwrap().keys();
        addresses.map(|address| address.parse().unwrap()).any(|address| first.account(&address).is_none())
    });
    assert!(shown_late, "the chain has such an account");
    let out = tempfile::tempdir().unwrap();
    run(&node, out.path(), &["--block", "1"]);
    comes_to_the_state_of(node.chain(), out.path());
}

#[test]
fn what_is_finished_is_kept_and_a_run_goes_on_where_it_was() {
    let node = Node::start(Chain::new(Kind::Transfers, 3), Skills { witness: Some(false), traces: None });
    let out = tempfile::tempdir().unwrap();
    run(&node, out.path(), &["--block", "2"]);
    // Half a file, like a bad copy, and a partial one that an interrupted run left.
    let third = out.path().join("00000003.json.gz");
    std::fs::write(&third, &std::fs::read(out.path().join("00000002.json.gz")).unwrap()[..500]).unwrap();
    std::fs::write(out.path().join(".00000001.json.gz.part"), b"half").unwrap();
    let asked = node.calls("debug_executionWitness");
    let told = run(&node, out.path(), &["--block", "0x1..3"]);
    assert!(told.contains("2 blocks written") && told.contains("1 kept"), "{told}");
    assert_eq!(node.calls("debug_executionWitness"), asked + 2);
    assert_eq!(reports(out.path()).len(), 3);
    assert!(!out.path().join(".00000001.json.gz.part").exists());
}

#[test]
fn the_address_with_its_key_is_never_printed() {
    let node = Node::start(Chain::new(Kind::Transfers, 1), Skills { witness: None, traces: None });
    let out = tempfile::tempdir().unwrap();
    let output = import(out.path(), &["--rpc", &node.url, "--block", "9", "--retries", "0"]);
    assert!(!said(&output).contains("a-secret-key"), "{}", said(&output));
    let nobody = "http://127.0.0.1:1/a-secret-key";
    let output = import(out.path(), &["--rpc", nobody, "--block", "9", "--retries", "0"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(!said(&output).contains("a-secret-key"), "{}", said(&output));
}
