//! Which connections of a shard hold a place, and which have to go.
//!
//! A connection is secure once a coordinator is served on it. Until then it waits, for a bounded
//! time and only as long as nobody else needs its place. So strangers who speak HTTP/2 and nothing
//! more, however many, do not keep the coordinator out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::deadline;

/// One address may take at most this fraction of all places: one in four.
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

/// A connection, as seen by others than its owner.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    peer: SocketAddr,
    standing: Arc<watch::Sender<Standing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No coordinator has been served on it since this time.
    Waits(Instant),
    /// This many streams of a coordinator are served on it.
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

/// The outcome of asking for a place.
#[derive(Debug)]
pub(super) enum Asked {
    /// A place was free.
    Room(Place),
    /// Another connection has to go, and was notified.
    Instead(Place, Holder),
    /// Every connection serves a coordinator.
    Full,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// Asks for a place for a connection from `peer`.
    pub(super) fn ask(self: &Arc<Self>, peer: SocketAddr) -> Asked {
        let mut held = self.lock();
        // They were notified, and are about to close.
        held.by_number.retain(|_, holder| holder.standing() != Standing::Ended);
        let from = distant(peer);
        let of_one = |other: &Holder| from.is_some() && distant(other.peer) == from;
        let of_one_now = held.by_number.values().filter(|other| of_one(other)).count();
        let too_many_of_one = from.is_some() && of_one_now >= self.most / SHARE_OF_ONE;
        if !too_many_of_one && held.by_number.len() < self.most {
            return Asked::Room(self.place(&mut held, peer));
        }
        while let Some(number) = held.longest_waiting(|other| !too_many_of_one || of_one(other)) {
            // It may have been admitted a moment ago; then the next one is tried.
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
        // Held while at most as many entries are visited as there are places. A map is intact
        // whatever happened to the thread that held it.
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

/// The address of `peer` if it is on another machine; all peers on this machine share one address.
fn distant(peer: SocketAddr) -> Option<IpAddr> {
    Some(peer.ip().to_canonical()).filter(|address| !address.is_loopback())
}

impl Place {
    /// The handle to this connection for others.
    pub(super) fn holder(&self) -> Holder {
        self.holder.clone()
    }

    /// Resolves when the connection has to go. The owner must not drop this before the connection:
    /// [`Holder::gone`] waits for that.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.holder.standing.subscribe();
        let holder = self.holder();
        async move {
            loop {
                let now = *changes.borrow_and_update();
                // This object holds the sender, so waiting for a change never fails.
                match now {
                    Standing::Ended => return,
                    Standing::Serves(_) => drop(changes.changed().await),
                    Standing::Waits(since) => {
                        let until = (since + deadline::ADMISSION).into();
                        if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
                            // Unless it is admitted at this moment.
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
    /// The address of the other end.
    pub(super) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Marks the connection as serving a coordinator's stream, until the returned value is dropped;
    /// `None`: the connection has to go already.
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

    /// Resolves when the connection and its descriptor are closed.
    pub(super) async fn gone(&self) {
        self.standing.closed().await;
    }

    /// Ends the connection if it waits; returns whether it did.
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

/// A coordinator's stream on a connection. When the last one is dropped, the connection waits anew.
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
