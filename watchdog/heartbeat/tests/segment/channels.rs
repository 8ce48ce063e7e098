//! Channels that publish their lag: each message is counted once, whatever becomes of it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use shard_heartbeat::crossbeam::{
    Receiver, RecvTimeoutError, Select, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};
use shard_heartbeat::{ChannelSample, RegisterError, SegmentOptions};

use super::Bench;

/// Far longer than any wait that should succeed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Just long enough to be a wait, where it should fail.
const BRIEF: Duration = Duration::from_millis(5);

fn channel(bench: &Bench) -> ChannelSample {
    bench.sample().channels[0]
}

/// Sent, received and depth, as the sidecar sees them.
fn counts(bench: &Bench) -> (u64, u64, u64) {
    let seen = channel(bench);
    (seen.sent, seen.received, seen.depth())
}

#[test]
fn what_goes_in_and_out_is_counted() {
    let bench = Bench::new();
    let (sender, receiver) = bounded(&bench.heartbeat, "commands", 4).unwrap();
    assert_eq!(bench.reader.describe_channel(0).unwrap().unwrap(), "commands");
    assert_eq!(
        (channel(&bench).capacity, sender.capacity(), receiver.capacity()),
        (Some(4), Some(4), Some(4))
    );
    sender.try_send(1).unwrap();
    sender.send_timeout(2, PATIENCE).unwrap();
    sender.clone().try_send(3).unwrap();
    assert_eq!(counts(&bench), (3, 0, 3));
    assert_eq!((sender.len(), receiver.len(), receiver.is_empty(), sender.is_empty()), (3, 3, false, false));
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.clone().recv_timeout(PATIENCE), Ok(2));
    assert_eq!(counts(&bench), (3, 2, 1));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(3));
    assert_eq!(counts(&bench), (3, 3, 0));
    assert!(receiver.is_empty() && sender.is_empty());
    assert_eq!(format!("{sender:?}{receiver:?}").matches("capacity: Some(4)").count(), 2);
}

#[test]
fn an_unbounded_channel_says_so() {
    let bench = Bench::new();
    let (sender, receiver) = unbounded(&bench.heartbeat, "events").unwrap();
    for message in 0..1000 {
        sender.try_send(message).unwrap();
    }
    assert_eq!((channel(&bench).capacity, sender.capacity()), (None, None));
    assert_eq!(counts(&bench), (1000, 0, 1000));
    drop(receiver);
}

#[test]
fn what_fails_is_not_counted() {
    let bench = Bench::new();
    let (sender, receiver) = bounded(&bench.heartbeat, "commands", 1).unwrap();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(BRIEF), Err(RecvTimeoutError::Timeout));
    sender.try_send(1).unwrap();
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    assert_eq!(sender.send_timeout(3, BRIEF), Err(SendTimeoutError::Timeout(3)));
    assert_eq!(counts(&bench), (1, 0, 1));
    drop(sender);
    assert_eq!(receiver.try_recv(), Ok(1), "what was sent before the senders went is received");
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(counts(&bench), (1, 1, 0));
}

#[test]
fn messages_that_the_last_receiver_leaves_behind_wait_no_more() {
    let bench = Bench::new();
    let (sender, receiver) = bounded(&bench.heartbeat, "commands", 8).unwrap();
    (0..5).for_each(|message| sender.try_send(message).unwrap());
    let other = receiver.clone();
    assert_eq!(other.try_recv(), Ok(0));
    drop(other);
    assert_eq!(counts(&bench), (5, 1, 4), "somebody still receives");
    drop(receiver);
    assert_eq!(counts(&bench), (5, 5, 0));
    assert_eq!(sender.try_send(6), Err(TrySendError::Disconnected(6)));
    assert_eq!(sender.send_timeout(7, PATIENCE), Err(SendTimeoutError::Disconnected(7)));
    assert_eq!(counts(&bench), (5, 5, 0));
}

#[test]
fn a_channel_is_on_the_watch_until_all_ends_are_gone() {
    let bench = Bench::with(&SegmentOptions { channel_slots: 1, ..SegmentOptions::new("s") });
    let (sender, receiver) = unbounded(&bench.heartbeat, "one").unwrap();
    sender.try_send(1).unwrap();
    drop(receiver);
    assert!(channel(&bench).live);
    let refused = unbounded::<u8>(&bench.heartbeat, "two").unwrap_err();
    assert!(matches!(refused, RegisterError::Exhausted { kind: "channel slots", slots: 1 }), "{refused}");
    drop(sender);
    assert!(!channel(&bench).live);
    let (sender, _receiver) = unbounded(&bench.heartbeat, "two").unwrap();
    assert_eq!(counts(&bench), (1, 1, 0), "the counters go on, the depth starts at zero");
    sender.try_send(1).unwrap();
    assert_eq!(counts(&bench), (2, 1, 1));
    assert!(matches!(bounded::<u8>(&bench.heartbeat, "", 1), Err(RegisterError::Name { .. })));
}

#[test]
fn draining_takes_what_was_there_and_counts_what_was_taken() {
    let bench = Bench::new();
    let (sender, receiver) = unbounded(&bench.heartbeat, "events").unwrap();
    (0..4).for_each(|message| sender.try_send(message).unwrap());
    let taken: Vec<i32> = receiver.drain().inspect(|_| sender.try_send(9).unwrap()).collect();
    assert_eq!(taken, [0, 1, 2, 3], "a sender that keeps pace does not hold it up");
    assert_eq!(counts(&bench), (8, 4, 4));
    assert_eq!(receiver.try_iter().take(3).count(), 3);
    assert_eq!(counts(&bench), (8, 7, 1));
    assert_eq!(receiver.try_iter().count(), 1);
    assert_eq!(counts(&bench), (8, 8, 0));
}

#[test]
fn a_channel_without_room_hands_over() {
    let bench = Bench::new();
    let (sender, receiver) = bounded(&bench.heartbeat, "hand", 0).unwrap();
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    thread::scope(|scope| {
        scope.spawn(|| sender.send_timeout(2, PATIENCE).unwrap());
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(2));
    });
    assert_eq!((channel(&bench).capacity, counts(&bench)), (Some(0), (1, 1, 0)));
}

#[test]
fn a_select_tells_which_channel_is_ready() {
    let bench = Bench::new();
    let (_first_sender, first) = bounded::<u8>(&bench.heartbeat, "first", 1).unwrap();
    let (second_sender, second) = bounded::<u8>(&bench.heartbeat, "second", 1).unwrap();
    let mut select = Select::new();
    let (_, from_second) = (first.add_to(&mut select), second.add_to(&mut select));
    assert!(select.ready_timeout(BRIEF).is_err());
    thread::scope(|scope| {
        scope.spawn(|| second_sender.try_send(7).unwrap());
        assert_eq!(select.ready_timeout(PATIENCE), Ok(from_second));
    });
    assert_eq!(second.try_recv(), Ok(7));
    let second = bench.sample().channels[1];
    assert_eq!((second.sent, second.received), (1, 1));
}

/// Runs `ends` senders of `share` messages each beside as many receivers; returns the sum received.
fn exchange(sender: &Sender<u64>, receiver: &Receiver<u64>, ends: u64, share: u64) -> u64 {
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..ends {
            scope.spawn(|| (1..=share).for_each(|message| sender.send_timeout(message, PATIENCE).unwrap()));
            scope.spawn(|| {
                for _ in 0..share {
                    sum.fetch_add(receiver.recv_timeout(PATIENCE).unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

#[test]
fn several_senders_and_receivers_are_counted_exactly() {
    let bench = Bench::new();
    let (ends, share) = (3, 5_000);
    for (round, (sender, receiver)) in
        [bounded(&bench.heartbeat, "narrow", 8), unbounded(&bench.heartbeat, "wide")]
            .map(Result::unwrap)
            .iter()
            .enumerate()
    {
        assert_eq!(exchange(sender, receiver, ends, share), ends * share * (share + 1) / 2);
        let seen = bench.sample().channels[round];
        assert_eq!((seen.sent, seen.received, seen.depth()), (ends * share, ends * share, 0));
    }
}

#[test]
fn senders_that_race_with_the_last_receivers_leave_no_lag_behind() {
    const SENDERS: u64 = 2;
    for round in 0..500_u64 {
        let bench = Bench::new();
        let (sender, receiver) = unbounded(&bench.heartbeat, "race").unwrap();
        let start = Barrier::new(SENDERS as usize + 2);
        let sent = thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0_u64..).find(|message| sender.try_send(*message).is_err()).unwrap()
                    })
                })
                .collect();
            for receiver in [receiver.clone(), receiver] {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..round % 64 {
                        let _ = receiver.try_recv();
                    }
                });
            }
            senders.into_iter().map(|sender| sender.join().unwrap()).sum::<u64>()
        });
        let seen = channel(&bench);
        assert_eq!((seen.sent, seen.received), (sent, sent), "round {round}");
    }
}
