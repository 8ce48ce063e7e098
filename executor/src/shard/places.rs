//! Who holds a place among a shard's connections, and who has to go.
//!
//! A connection counts for something once a coordinator is served on it. Until then it waits: for a
//! bounded time, and only as long as nobody else needs its place. So strangers who speak HTTP/2 and
//! nothing more, however many, do not keep the coordinator out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::deadline;

/// One address may take this part of all places.
const SHARE_OF_ONE: usize = 4;

/// All places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_number: BTreeMap<u64, Holder>,
}

/// A connection, as those see it who do not own it.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    peer: SocketAddr,
    standing: Arc<watch::Sender<Standing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No coordinator is served on it, since then.
    Waits(Instant),
    /// So many streams of a coordinator are served on it.
    Serves(usize),
    /// It has to go.
    Ended,
}

/// A place that a connection holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    holder: Holder,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(super) enum Asked {
    /// There was room.
    Room(Place),
    /// Somebody else has to go, and was told.
    Instead(Place, Holder),
    /// On all of them a coordinator is served.
    Full,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// A place for a connection from `peer`.
    pub(super) fn ask(self: &Arc<Self>, peer: SocketAddr) -> Asked {
        let mut held = self.lock();
        // They were told, and are on their way out.
        held.by_number.retain(|_, holder| holder.standing() != Standing::Ended);
        let from = distant(peer);
        let of_one = |other: &Holder| from.is_some() && distant(other.peer) == from;
        let of_one_now = held.by_number.values().filter(|other| of_one(other)).count();
        let too_many_of_one = from.is_some() && of_one_now >= self.most / SHARE_OF_ONE;
        if !too_many_of_one && held.by_number.len() < self.most {
            return Asked::Room(self.place(&mut held, peer));
        }
        while let Some(number) = held.longest_waiting(|other| !too_many_of_one || of_one(other)) {
            // It may have been admitted a moment ago; then it is the turn of the next.
            if let Some(holder) = held.by_number.remove(&number) {
                if holder.end() {
                    return Asked::Instead(self.place(&mut held, peer), holder);
                }
                held.by_number.insert(number, holder);
            }
        }
        Asked::Full
    }

    fn place(self: &Arc<Self>, held: &mut Held, peer: SocketAddr) -> Place {
        let number = held.next;
        held.next += 1;
        let standing = Arc::new(watch::Sender::new(Standing::Waits(Instant::now())));
        let holder = Holder { peer, standing };
        held.by_number.insert(number, holder.clone());
        Place { places: Arc::clone(self), number, holder }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Held for a walk over at most as many entries as there are places. A map is whole whatever
        // happened to the holder.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn longest_waiting(&self, wanted: impl Fn(&Holder) -> bool) -> Option<u64> {
        let wanted = self.by_number.iter().filter(|(_, holder)| wanted(holder));
        let waiting = wanted.filter_map(|(number, holder)| match holder.standing() {
            Standing::Waits(since) => Some((since, *number)),
            Standing::Serves(_) | Standing::Ended => None,
        });
        waiting.min().map(|(_, number)| number)
    }
}

/// Where `peer` is, if on another machine; on this one everybody has the same address.
fn distant(peer: SocketAddr) -> Option<IpAddr> {
    Some(peer.ip().to_canonical()).filter(|address| !address.is_loopback())
}

impl Place {
    /// What others may know of it.
    pub(super) fn holder(&self) -> Holder {
        self.holder.clone()
    }

    /// Resolves when the connection has to go. Whoever owns the connection keeps this as long as
    /// that: [`Holder::gone`] asks for it.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.holder.standing.subscribe();
        let holder = self.holder();
        async move {
            loop {
                let now = *changes.borrow_and_update();
                // The sender is in our own hands: a change never fails.
                match now {
                    Standing::Ended => return,
                    Standing::Serves(_) => drop(changes.changed().await),
                    Standing::Waits(since) => {
                        let until = (since + deadline::ADMISSION).into();
                        if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
                            // Unless it is admitted in this moment.
                            holder.end();
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by_number.remove(&self.number);
    }
}

impl Holder {
    /// The other end of the connection.
    pub(super) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// A coordinator's stream is served on the connection, for as long as what this returns is
    /// kept; `None`: the connection has to go already.
    pub(super) fn admit(&self) -> Option<Admitted> {
        let admitted = self.standing.send_if_modified(|standing| {
            let streams = match *standing {
                Standing::Waits(_) => 0,
                Standing::Serves(streams) => streams,
                Standing::Ended => return false,
            };
            *standing = Standing::Serves(streams + 1);
            true
        });
        admitted.then(|| Admitted(self.clone()))
    }

    /// Resolves when the connection has gone, and its descriptor with it.
    pub(super) async fn gone(&self) {
        self.standing.closed().await;
    }

    /// Ends the connection if it waits; whether it did.
    fn end(&self) -> bool {
        self.standing.send_if_modified(|standing| {
            let waits = matches!(standing, Standing::Waits(_));
            if waits {
                *standing = Standing::Ended;
            }
            waits
        })
    }

    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }
}

/// A coordinator's stream on a connection. Once the last one is dropped the connection waits anew.
#[derive(Debug)]
pub(super) struct Admitted(Holder);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.standing.send_modify(|standing| {
            *standing = match *standing {
                Standing::Serves(streams) if streams > 1 => Standing::Serves(streams - 1),
                Standing::Serves(_) => Standing::Waits(Instant::now()),
                Standing::Waits(_) | Standing::Ended => *standing,
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(asked: Asked) -> Place {
        match asked {
            Asked::Room(place) | Asked::Instead(place, _) => place,
            Asked::Full => panic!("no place"),
        }
    }

    fn from(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 5_000)
    }

    fn numbers(places: &Places) -> Vec<u64> {
        places.lock().by_number.keys().copied().collect()
    }

    #[test]
    fn who_has_waited_longest_makes_room_and_the_served_one_stays() {
        let (places, here) = (Places::new(3), from("127.0.0.1"));
        let held: Vec<Place> = (0..3).map(|_| place(places.ask(here))).collect();
        let first = held[0].holder().admit().expect("it waits");
        let fourth = place(places.ask(here));
        assert_eq!(numbers(&places), [0, 2, 3]);
        assert!(held[1].holder().admit().is_none(), "it has to go");
        let others = [held[2].holder().admit(), fourth.holder().admit()];
        assert!(matches!(places.ask(here), Asked::Full));
        let again = held[0].holder().admit();
        drop(first);
        assert!(matches!(places.ask(here), Asked::Full), "one of its two streams is served");
        drop(again);
        assert!(matches!(places.ask(here), Asked::Instead(..)), "it waits anew");
        drop((others, held, fourth));
        assert_eq!(numbers(&places), Vec::<u64>::new());
    }

    #[test]
    fn one_address_takes_a_quarter_and_pushes_out_nobody_else() {
        let places = Places::new(16);
        let first = place(places.ask(from("10.0.0.2")));
        let one = ["10.0.0.1", "::ffff:10.0.0.1"];
        let flood: Vec<Place> = (0..20).map(|n| place(places.ask(from(one[n % 2])))).collect();
        assert_eq!(numbers(&places), [first.number, 17, 18, 19, 20]);
        drop(flood);
    }

    #[test]
    fn loopback_is_everybody_and_has_all_places() {
        let places = Places::new(16);
        let all: Vec<Place> = (0..16).map(|_| place(places.ask(from("127.0.0.1")))).collect();
        assert_eq!(numbers(&places).len(), all.len());
    }
}
