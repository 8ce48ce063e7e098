//! An HTTP flood: as many requests as a few threads can make, and silent connections.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api;

/// Longer than any scenario. A forgotten flood ends by itself.
const AT_MOST: Duration = Duration::from_secs(120);

/// Connections held open without sending anything, as an attacker does to leave no room for others.
const SILENT: usize = 64;

/// A flood that lasts until it is dropped.
#[derive(Debug)]
pub struct Flood {
    over: Arc<AtomicBool>,
    tried: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Floods `target` from this many threads.
    #[track_caller]
    pub fn start(target: SocketAddr, threads: usize) -> Self {
        let (over, tried, answered) = (Arc::default(), Arc::default(), Arc::default());
        let mut flood = Self { over, tried, answered, threads: Vec::new() };
        for number in 0..threads {
            let (over, tried, answered) =
                (Arc::clone(&flood.over), Arc::clone(&flood.tried), Arc::clone(&flood.answered));
            let paths = ["/api/v1/status", "/metrics", "/", "/api/v1/incidents", "/none"];
            let ask = move || {
                let until = Instant::now() + AT_MOST;
                let silent: Vec<_> = (0..SILENT / threads)
                    .filter_map(|_| TcpStream::connect_timeout(&target, Duration::from_secs(1)).ok())
                    .collect();
                for path in paths.iter().cycle().skip(number) {
                    if over.load(Ordering::Relaxed) || Instant::now() > until {
                        break;
                    }
                    tried.fetch_add(1, Ordering::Relaxed);
                    if api::get(target, path).is_some() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                drop(silent);
            };
            let thread = std::thread::Builder::new().name("flood".to_owned()).spawn(ask).expect("a thread");
            flood.threads.push(thread);
        }
        flood
    }

    /// Requests made so far.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Those requests that were answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Each thread ends after its current request, which has timeouts.
            let _ = thread.join();
        }
    }
}
