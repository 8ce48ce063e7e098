//! Imports from a node that is busy, slow, broken or lies.

use std::time::{Duration, Instant};

use serde_json::json;
use shard_executor::generate::Kind;

use crate::chain::{Chain, import, reports, said};
use crate::node::{Node, Skills, Trouble};

/// Far longer than any of this takes on a busy machine, far shorter than for ever.
const PATIENCE: Duration = Duration::from_secs(120);

fn node() -> Node {
    Node::start(Chain::new(Kind::Transfers, 2), Skills { witness: Some(true), traces: Some(true) })
}

fn ask(node: &Node, more: &[&str]) -> (std::process::Output, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let chain = node.chain().id().to_string();
    let mut arguments = vec!["--rpc", &node.url, "--chain", &chain, "--rate", "100000", "--block", "2"];
    arguments.extend(more);
    let began = Instant::now();
    let output = import(out.path(), &arguments);
    assert!(began.elapsed() < PATIENCE, "it ends");
    (output, out)
}

#[test]
fn a_busy_or_broken_answer_is_asked_for_again() {
    let node = node();
    node.trouble("eth_getBlockByNumber", &[Trouble::Status(429), Trouble::Status(503), Trouble::Cut]);
    node.trouble("eth_getBlockReceipts", &[Trouble::Refusal(-32005, "daily limit exceeded")]);
    node.trouble("debug_executionWitness", &[Trouble::Silence]);
    let (output, out) = ask(&node, &["--timeout", "3"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(reports(out.path())[0].state_root.is_some());
    assert_eq!(node.calls("eth_getBlockByNumber"), 2 + 3);
    assert_eq!(node.calls("debug_executionWitness"), 2);
}

#[test]
fn a_node_that_never_answers_is_given_up_with_the_last_reason() {
    let node = node();
    node.trouble("eth_getBlockByNumber", &[Trouble::Status(503), Trouble::Endless]);
    let (output, out) = ask(&node, &["--timeout", "1", "--retries", "1"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no answer in 2 attempts"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "no file, not even half of one");
}

#[test]
fn the_time_for_a_block_has_an_end() {
    let node = node();
    node.trouble("eth_getBlockByNumber", &vec![Trouble::Status(503); 50]);
    let (output, _out) = ask(&node, &["--block-timeout", "2", "--retries", "40"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("the time for this block is over"), "{}", said(&output));
}

#[test]
fn another_block_than_asked_for_is_refused() {
    let node = node();
    let other = node.chain().header(1, true);
    for (instead, because) in [
        (other, "asked for block 2"),
        (json!(null), "does not have block 2"),
        (json!("0x1"), "something else"),
    ] {
        node.trouble("eth_getBlockByNumber", &[Trouble::Instead(instead)]);
        let (output, _out) = ask(&node, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(because), "{}", said(&output));
    }
}

#[test]
fn a_witness_that_lies_is_not_believed_and_the_block_comes_by_traces() {
    let node = node();
    let mut of_another = node.chain().witness(1, true);
    node.trouble("debug_executionWitness", &[Trouble::Instead(of_another.clone())]);
    let (output, out) = ask(&node, &[]);
    assert!(output.status.success() && said(&output).contains("without a witness"), "{}", said(&output));
    assert!(reports(out.path())[0].verified);
    // With the right header, and some nodes missing.
    of_another = node.chain().witness(2, true);
    of_another["state"].as_array_mut().unwrap().truncate(3);
    node.trouble("debug_executionWitness", &[Trouble::Instead(of_another)]);
    let (output, _out) = ask(&node, &["--state", "witness"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("it lacks the trie node"), "{}", said(&output));
}

#[test]
fn a_state_that_is_not_right_is_exit_code_1_with_the_difference_and_no_file() {
    let node = node();
    let mut traces = node.chain().traces(2, true);
    let sender = node.chain().block(2).transactions[0].sender.to_string();
    traces[0]["result"][&sender]["nonce"] = json!(77);
    node.trouble("debug_traceBlockByNumber", &[Trouble::Instead(traces)]);
    let (output, out) = ask(&node, &["--state", "traces"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("does not verify, so no file is written"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}
