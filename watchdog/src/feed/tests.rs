use super::*;

use futures_util::FutureExt;
use serde_json::json;

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(Arc::default()))
}

fn tell(feed: &Feed, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        feed.tell(Kind::Reload, &json!(number));
    }
}

/// All that a listener hears without waiting.
fn heard(listener: &mut Listener) -> Vec<Heard> {
    std::iter::from_fn(|| listener.next().now_or_never().flatten()).collect()
}

fn data(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.data.as_str()).collect()
}

#[test]
fn who_comes_back_goes_on_after_the_last_id_whichever_it_was() {
    let feed = feed();
    let mut from_the_start = feed.listen(None).unwrap();
    tell(&feed, 1..=5);
    let all = heard(&mut from_the_start);
    assert_eq!(data(&all), ["", "1", "2", "3", "4", "5"]);
    assert_eq!(all.iter().filter(|heard| heard.kind.is_none()).count(), 1, "the first tells an id only");
    for (place, last) in all.iter().enumerate() {
        let mut again = feed.listen(Some(&last.id)).unwrap();
        let rest = heard(&mut again);
        assert_eq!(rest[0], Heard { id: last.id.clone(), kind: None, data: String::new() });
        assert_eq!(rest[1..], all[place + 1..], "after {}", last.id);
    }
    tell(&feed, 6..=6);
    assert_eq!(data(&heard(&mut from_the_start)), ["6"]);
    assert_eq!(data(&heard(&mut feed.listen(None).unwrap())), [""], "the past is told on demand only");
}

#[test]
fn who_comes_back_too_late_is_told_how_much_is_missing() {
    let feed = feed();
    let mut early = feed.listen(None).unwrap();
    let first = heard(&mut early).remove(0);
    tell(&feed, 1..=MOST as u64 + 3);
    let told = heard(&mut feed.listen(Some(&first.id)).unwrap());
    assert_eq!(told[0].kind, Some(Kind::Missed));
    assert!(told[0].data.starts_with("{\"missed\":3,"), "{}", told[0].data);
    assert_eq!((told[1].data.as_str(), told.len()), ("4", MOST + 1));
    // The event itself has an id: who is interrupted after it misses nothing more.
    assert_eq!(data(&heard(&mut feed.listen(Some(&told[0].id)).unwrap()))[1], "4");
}

#[test]
fn an_id_of_another_run_or_of_the_future_is_unknown() {
    let feed = feed();
    tell(&feed, 1..=2);
    let future = feed.id(3);
    let with_plus = feed.id(1).replace('-', "-+");
    for id in ["5e9-1", "x", "-", "-1", &future, &with_plus, &feed.run.clone(), &format!("{}-", feed.run)] {
        let told = heard(&mut feed.listen(Some(id)).unwrap());
        assert!(told[0].data.starts_with("{\"missed\":null,"), "{id}: {}", told[0].data);
        assert_eq!(data(&told)[1..], ["1", "2"], "{id}");
    }
}

#[test]
fn what_is_held_is_bounded_in_bytes_too() {
    let feed = feed();
    let long = "x".repeat(MOST_BYTES / 4);
    for _ in 0..10 {
        feed.tell(Kind::Reload, &long);
    }
    let held = feed.lock();
    let (events, bytes) = (held.events.len(), held.bytes);
    drop(held);
    assert!(events == 3 && bytes <= MOST_BYTES, "{events} events of {bytes} bytes");
    feed.tell(Kind::Reload, &"x".repeat(2 * MOST_BYTES));
    assert_eq!(feed.lock().events.len(), 1, "the newest is there in any case");
}

#[test]
fn a_listener_that_does_not_keep_up_is_cut_off_and_counted() {
    let feed = feed();
    let mut slow = feed.listen(None).unwrap();
    heard(&mut slow);
    tell(&feed, 1..=MOST as u64 + 1);
    assert_eq!(slow.next().now_or_never(), Some(None), "it is told at once that it is over");
    assert_eq!(feed.dropped.get(Signal::Http), 1);
}

#[test]
fn only_so_many_listen_at_once() {
    let feed = feed();
    let mut all: Vec<Listener> = (0..STREAMS).map(|_| feed.listen(None).unwrap()).collect();
    assert!(feed.listen(None).is_none());
    all.pop();
    assert!(feed.listen(None).is_some());
}
