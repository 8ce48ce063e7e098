//! A TCP proxy between a coordinator and a shard, which does to their connection what networks do.

mod frames;
mod pump;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api;

/// What becomes of what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It arrives.
    #[default]
    Forward,
    /// Half-open: connections are accepted and kept, everything is taken, nothing arrives and
    /// nothing is answered. A connection that lost something this way never gets well again.
    Swallow,
    /// It arrives so much later. The order stays.
    Delay {
        /// What the coordinator says.
        to_shard: Duration,
        /// What the shard says.
        to_coordinator: Duration,
    },
    /// The headers of HTTP/2 frames that way have bits flipped: that is where a decoder must
    /// notice. Flipped bits in a payload could pass for another number, which no decoder can see.
    Corrupt(Towards),
    /// Every connection is ended, and every new one too.
    Cut,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// What the coordinator says.
    Shard,
    /// What the shard says.
    Coordinator,
}

/// More connections at a time are refused: a coordinator has one, and a few that it has given up.
const CONNECTIONS: usize = 32;

/// How long a thread of ours waits before it looks at the mode again.
const LOOK: Duration = Duration::from_millis(5);

/// Passes connections on until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    mode: Mutex<Mode>,
    over: AtomicBool,
    connections: AtomicUsize,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Proxy {
    /// One in front of `target`.
    #[track_caller]
    pub fn start(target: SocketAddr) -> Self {
        let address = api::free_address();
        let listener = TcpListener::bind(address).expect("a free address");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let shared = Arc::clone(&shared);
            let accept = move || accept(&listener, target, &shared);
            std::thread::Builder::new().name("proxy".to_owned()).spawn(accept).expect("a thread")
        };
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Changes what happens from now on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // It ends within a look; the threads of connections end by themselves, within another.
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while !shared.over() {
        match listener.accept() {
            Ok((near, _)) if shared.connections.load(Ordering::Relaxed) < CONNECTIONS => {
                // Dropped, which ends it, if the target is away.
                let _ = connect(near, target, shared);
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn connect(near: TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> std::io::Result<()> {
    /// The target is on this machine: it answers at once or not at all.
    const PATIENCE: Duration = Duration::from_secs(1);
    if shared.mode() == Mode::Cut {
        return Ok(());
    }
    let far = TcpStream::connect_timeout(&target, PATIENCE)?;
    for stream in [&near, &far] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    pump::start(near, far, Towards::Shard, Arc::clone(shared))?;
    pump::start(far_too, near_too, Towards::Coordinator, Arc::clone(shared))
}
