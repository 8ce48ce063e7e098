//! Messages that are late, wrong or for nobody: they are discarded and counted, and do no harm. One
//! end of each conversation is the real binary; the other sends what no honest peer would.

use shard_executor::block::load_chain;
use shard_executor::net::{WorkRef, wire};
use shard_executor::vm::{self, ExecutionEnv, TxOutcome};

use crate::blocks;
use crate::peers::{FakeCoordinator, FakeShard};
use crate::process::{
    Process, Shard, assert_verified, coordinator, depth, events, received, shards, wait_until,
};

/// Results of an earlier attempt, block and life, then the one that is wanted. If one of the others
/// were accepted, its content would be refused.
fn late_results(tag: wire::Tag) -> Vec<wire::up::Message> {
    let result = |tag, outcomes| wire::up::Message::Result(wire::PartResult { tag: Some(tag), outcomes });
    let garbage = || b"\xff\xff\xff".to_vec();
    // An empty list of outcomes is allowed: the coordinator then executes everything itself.
    let none = vm::encode(&Vec::<TxOutcome>::new()).unwrap();
    vec![
        result(wire::Tag { attempt: tag.attempt + 1, ..tag }, garbage()),
        result(wire::Tag { sequence: tag.sequence - 1, ..tag }, garbage()),
        result(wire::Tag { shard: tag.shard - 1, ..tag }, garbage()),
        result(wire::Tag { coordinator: tag.coordinator - 1, ..tag }, garbage()),
        result(wire::Tag { part: tag.part + 1, ..tag }, garbage()),
        wire::up::Message::Result(wire::PartResult { tag: None, outcomes: garbage() }),
        result(tag, none),
    ]
}

#[test]
fn late_results_of_an_earlier_attempt_block_and_incarnation_are_discarded_and_counted() {
    let chain = blocks::generated(3, 30);
    let fake = FakeShard::start(late_results);
    let blocks = chain.path.to_str().unwrap();
    let shard = fake.address.to_string();
    let more = ["--json", "--block-deadline", "60s"];
    let mut coordinator =
        Process::start(&[&["coordinator", "--shards", &shard, "--blocks", blocks][..], &more].concat());
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let lines = coordinator.rest().0;
    assert_eq!(assert_verified(&lines, &chain), 3);
    assert!(events(&lines, "retry").is_empty(), "{lines:?}");
    assert_eq!(events(&lines, "summary")[0]["discarded"], 18);
    let told = events(&lines, "discarded");
    let whats: Vec<&str> = told.iter().map(|told| told["what"].as_str().unwrap()).collect();
    let expected = [
        "result of another attempt",
        "result of another block",
        "result of another incarnation",
        "result for another coordinator",
        "result without a tag",
    ];
    assert_eq!(whats, expected, "each kind once, in the order in which they came");
    assert!(told.iter().all(|told| told["shard"].as_str().unwrap().starts_with("shard fake at ")));
    assert_eq!(told[0]["block"].as_u64(), chain.digests.keys().next().copied());
}

#[test]
fn a_shard_that_speaks_in_the_name_of_the_dead_changes_no_block() {
    let chain = blocks::generated(4, 30);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    shards[0].arm("arm ghost");
    shards[1].arm("arm ghost after 1");
    let all: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&all, &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let lines = coordinator.rest().0;
    assert_eq!(assert_verified(&lines, &chain), 4);
    assert_eq!(events(&lines, "summary")[0]["discarded"], 8);
    assert!(events(&lines, "discarded").iter().any(|told| told["what"] == "result of another incarnation"));
}

/// A shard, and a coordinator that gives it a part and answers requests only when the test does.
struct Talk {
    folder: tempfile::TempDir,
    shard: Shard,
    coordinator: FakeCoordinator,
    tag: wire::Tag,
    work: Vec<u8>,
}

impl Talk {
    fn begin() -> Self {
        let chain = blocks::generated(1, 10);
        let block = load_chain(&chain.path).unwrap().remove(0);
        let folder = tempfile::tempdir().unwrap();
        let shard = Shard::start(folder.path(), 0);
        let coordinator = FakeCoordinator::connect(shard.address, 5);
        let tag = wire::Tag { coordinator: 5, shard: coordinator.shard, sequence: 2, ..wire::Tag::default() };
        let work = vm::encode(&WorkRef::new(&ExecutionEnv::of(&block), &block, &[0, 1])).unwrap();
        Self { folder, shard, coordinator, tag, work }
    }

    /// Gives the shard a part whose state requests may take this long.
    fn part(&self, tag: wire::Tag, state_deadline_ms: u64) {
        self.coordinator.say(wire::down::Message::Run(wire::RunPart {
            tag: Some(tag),
            part_deadline_ms: 120_000,
            state_deadline_ms,
            work: self.work.clone(),
            ..wire::RunPart::default()
        }));
    }

    fn question(&mut self) -> wire::StateRequest {
        let wire::up::Message::State(request) = self.coordinator.hear() else { panic!("no question") };
        request
    }

    fn error(&mut self) -> wire::part_error::Reason {
        let wire::up::Message::Error(error) = self.coordinator.hear() else { panic!("no error") };
        error.reason()
    }

    fn wait_for_count(&self, name: &str, count: u64) {
        wait_until(name, || self.shard.counter(name) == count);
    }
}

#[test]
fn an_answer_that_comes_when_nobody_waits_does_not_stay_in_the_queue() {
    let mut talk = Talk::begin();
    talk.part(talk.tag, 50);
    let id = talk.question().id;
    assert_eq!(talk.error(), wire::part_error::Reason::StateLate);
    assert_eq!(talk.shard.counter("stale"), 0);
    let late = wire::StateReply { tag: Some(talk.tag), id, values: vec![] };
    talk.coordinator.say(wire::down::Message::State(late));
    talk.wait_for_count("stale", 1);
    assert_eq!(depth(&talk.folder.path().join("0.heartbeat"), "state"), 0);
}

#[test]
fn an_answer_to_an_earlier_question_is_not_taken_for_this_one() {
    let mut talk = Talk::begin();
    talk.part(talk.tag, 60_000);
    let id = talk.question().id;
    let earlier = wire::StateReply { tag: Some(talk.tag), id: id - 1, values: vec![] };
    talk.coordinator.say(wire::down::Message::State(earlier));
    let attempt = wire::Tag { attempt: 7, ..talk.tag };
    talk.coordinator.say(wire::down::Message::State(wire::StateReply {
        tag: Some(attempt),
        id,
        values: vec![],
    }));
    talk.wait_for_count("stale", 2);
    // If that one had been accepted, its number of values would have been refused. This one's is.
    talk.coordinator.say(wire::down::Message::State(wire::StateReply {
        tag: Some(talk.tag),
        id,
        values: vec![],
    }));
    assert_eq!(talk.error(), wire::part_error::Reason::Malformed);
}

#[test]
fn parts_of_another_life_or_of_a_block_that_is_over_are_discarded_and_counted() {
    let mut talk = Talk::begin();
    talk.part(wire::Tag { shard: talk.tag.shard - 1, ..talk.tag }, 50);
    talk.part(wire::Tag { coordinator: 4, ..talk.tag }, 50);
    talk.coordinator.say(wire::down::Message::Cancel(wire::Cancel { sequence: 1, finished_blocks: 0 }));
    talk.part(wire::Tag { sequence: 1, ..talk.tag }, 50);
    talk.wait_for_count("stale", 3);
    talk.part(talk.tag, 50);
    assert_eq!(
        talk.question().tag,
        Some(talk.tag),
        "the first thing that it says is about the one that is wanted"
    );
    talk.coordinator.say(wire::down::Message::Cancel(wire::Cancel { sequence: 2, finished_blocks: 0 }));
    talk.wait_for_count("stale", 4);
}

#[test]
fn finished_blocks_are_published_and_cancel_nothing() {
    let mut talk = Talk::begin();
    let heartbeat = talk.folder.path().join("0.heartbeat");
    assert_eq!(received(&heartbeat, "blocks"), 0);
    talk.part(talk.tag, 60_000);
    for finished_blocks in [1, 0, 2] {
        talk.coordinator.say(wire::down::Message::Cancel(wire::Cancel { sequence: 0, finished_blocks }));
    }
    assert_eq!(talk.question().tag, Some(talk.tag), "its part is still wanted");
    wait_until("three blocks", || received(&heartbeat, "blocks") == 3);
    assert_eq!(depth(&heartbeat, "blocks"), 0);
    assert_eq!(talk.shard.counter("malformed"), 0);
}

#[test]
fn a_coordinator_that_goes_before_the_result_leaves_the_shard_up_and_the_loss_counted() {
    let mut talk = Talk::begin();
    talk.part(talk.tag, 60_000);
    talk.question();
    let Talk { folder: _folder, mut shard, coordinator: first, .. } = talk;
    first.leave();
    for counted in ["results_dropped", "coordinators_lost"] {
        wait_until(counted, || shard.counter(counted) == 1);
    }
    assert!(shard.process.is_running());
    let chain = blocks::generated(2, 30);
    let mut next = coordinator(&[&shard], &chain.path, &["--block-deadline", "60s"]);
    assert_eq!(next.wait(), 0, "{}", next.rest().1);
    assert_eq!(assert_verified(&next.rest().0, &chain), 2);
}

#[test]
fn a_part_that_cannot_be_read_is_refused_and_the_shard_lives() {
    let mut talk = Talk::begin();
    talk.work = b"\xff\xff\xff".to_vec();
    talk.part(talk.tag, 50);
    assert_eq!(talk.error(), wire::part_error::Reason::Malformed);
    talk.wait_for_count("malformed", 1);
    assert!(talk.shard.process.is_running());
}

#[test]
fn a_result_that_cannot_be_read_costs_a_retry_elsewhere() {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::start(folder.path(), 0);
    let fake = FakeShard::start(|tag| {
        let outcomes = b"\xff\xff\xff".to_vec();
        vec![wire::up::Message::Result(wire::PartResult { tag: Some(tag), outcomes })]
    });
    let (both, blocks) = (format!("{},{}", shard.address, fake.address), chain.path.to_str().unwrap());
    let mut coordinator = Process::start(&[
        "coordinator",
        "--json",
        "--block-deadline",
        "60s",
        "--shards",
        &both,
        "--blocks",
        blocks,
    ]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    let lines = coordinator.rest().0;
    assert_eq!(assert_verified(&lines, &chain), 2);
    let retries = events(&lines, "retry");
    assert!(!retries.is_empty());
    for retry in retries {
        assert!(retry["from"].as_str().unwrap().starts_with("shard fake at "), "{retry}");
        assert_eq!(retry["step"], "result");
        assert!(retry["reason"].as_str().unwrap().starts_with("a wrong result: "), "{retry}");
    }
}
