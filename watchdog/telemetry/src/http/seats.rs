//! Who is connected, and which connection is closed when there is no room. A connection that is
//! being answered stays: that takes five seconds at most. All others wait for a client that may
//! never send anything, and the one that has waited longest makes room for a new one. So neither a
//! hundred idle connections nor slow ones can keep an operator out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::JoinHandle;

/// Even if there are few seats, one address may have a scraper and a probe.
const FEWEST_OF_ONE: usize = 2;
/// One address may take this fraction of all seats, as a divisor.
const SHARE_OF_ONE: usize = 4;

/// All seats of one listener.
#[derive(Debug)]
pub(super) struct Seats {
    all: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_number: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    /// The address of another machine; all clients on this machine count as one.
    from: Option<IpAddr>,
    /// When it began to wait for its client; `None` while it is being answered.
    waits: Option<Instant>,
    task: Option<JoinHandle<()>>,
}

/// The seat of a connection, held until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
}

/// The result of a request for a seat.
#[derive(Debug)]
pub(super) enum Asked {
    /// There was room.
    Room(Seat),
    /// Another connection had to make room, and its task was told to end.
    Instead(Seat, Option<JoinHandle<()>>),
    /// All connections are being answered.
    Full,
}

impl Seats {
    pub(super) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, held: Mutex::default() })
    }

    /// Requests a seat for a client at `from`.
    pub(super) fn ask(self: &Arc<Self>, from: Option<IpAddr>) -> Asked {
        let from = from.map(|address| address.to_canonical()).filter(|address| !address.is_loopback());
        let mut held = self.lock();
        let of_one = held.by_number.values().filter(|other| from.is_some() && other.from == from).count();
        let most_of_one = (self.all / SHARE_OF_ONE).max(FEWEST_OF_ONE);
        let victim = if of_one >= most_of_one {
            held.longest_waiting(|other| other.from == from)
        } else if held.by_number.len() >= self.all {
            held.longest_waiting(|_| true)
        } else {
            return Asked::Room(self.seat(&mut held, from));
        };
        let Some(gone) = victim.and_then(|number| held.by_number.remove(&number)) else { return Asked::Full };
        if let Some(task) = &gone.task {
            task.abort();
        }
        Asked::Instead(self.seat(&mut held, from), gone.task)
    }

    fn seat(self: &Arc<Self>, held: &mut Held, from: Option<IpAddr>) -> Seat {
        let number = held.next;
        held.next += 1;
        held.by_number.insert(number, Connection { from, waits: Some(Instant::now()), task: None });
        Seat { seats: Arc::clone(self), number }
    }

    /// Registers the task that serves the seat with this number.
    pub(super) fn served_by(&self, number: u64, task: JoinHandle<()>) {
        if let Some(connection) = self.lock().by_number.get_mut(&number) {
            connection.task = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn longest_waiting(&self, wanted: impl Fn(&Connection) -> bool) -> Option<u64> {
        let waiting = self.by_number.iter().filter(|(_, connection)| wanted(connection));
        let waiting = waiting.filter_map(|(number, connection)| Some((connection.waits?, *number)));
        waiting.min().map(|(_, number)| number)
    }
}

impl Seat {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Marks that a complete request has arrived (`now` is true), or that its answer is ready.
    pub(super) fn is_answered(&self, now: bool) {
        if let Some(connection) = self.seats.lock().by_number.get_mut(&self.number) {
            connection.waits = (!now).then(Instant::now);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(asked: Asked) -> Seat {
        match asked {
            Asked::Room(seat) | Asked::Instead(seat, _) => seat,
            Asked::Full => panic!("no seat"),
        }
    }

    fn numbers(seats: &Seats) -> Vec<u64> {
        seats.lock().by_number.keys().copied().collect()
    }

    #[test]
    fn who_has_waited_longest_makes_room_and_who_is_answered_stays() {
        let seats = Seats::new(3);
        let held: Vec<Seat> = (0..3).map(|_| seat(seats.ask(None))).collect();
        held[0].is_answered(true);
        let fourth = seats.ask(None);
        assert!(matches!(fourth, Asked::Instead(..)));
        assert_eq!(numbers(&seats), [0, 2, 3]);
        let fourth = seat(fourth);
        held[2].is_answered(true);
        fourth.is_answered(true);
        assert!(matches!(seats.ask(None), Asked::Full));
        held[2].is_answered(false);
        assert!(matches!(seats.ask(None), Asked::Instead(..)));
        drop(held);
        drop(fourth);
        assert_eq!(numbers(&seats), Vec::<u64>::new());
    }

    #[test]
    fn one_address_takes_a_quarter_and_pushes_out_nobody_else() {
        let seats = Seats::new(16);
        let (one, other) = (["10.0.0.1", "::ffff:10.0.0.1"], "10.0.0.2");
        let first = seat(seats.ask(Some(other.parse().unwrap())));
        let flood: Vec<Seat> = (0..20).map(|n| seat(seats.ask(Some(one[n % 2].parse().unwrap())))).collect();
        assert_eq!(numbers(&seats), [first.number(), 17, 18, 19, 20]);
        assert_eq!(flood.len(), 20);
    }

    #[test]
    fn loopback_is_everybody_and_has_all_seats() {
        let seats = Seats::new(16);
        let all: Vec<Seat> = (0..16).map(|_| seat(seats.ask(Some("127.0.0.1".parse().unwrap())))).collect();
        assert_eq!(numbers(&seats).len(), all.len());
    }
}
