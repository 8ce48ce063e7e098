//! A TCP proxy between a coordinator and a shard, which treats their connection as networks do.

mod frames;
mod pump;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api;

/// What happens to passing data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is forwarded.
    #[default]
    Forward,
    /// Half-open: connections are accepted and kept open, everything is read, nothing is forwarded
    /// or answered. A connection that lost something this way never recovers.
    Swallow,
    /// It arrives this much later, in the same order.
    Delay {
        /// Delay of what the coordinator sends.
        to_shard: Duration,
        /// Delay of what the shard sends.
        to_coordinator: Duration,
    },
    /// The headers of HTTP/2 frames in that direction have bits flipped: that is where a decoder
    /// must notice. Flipped bits in a payload could pass for another number, which no decoder can
    /// detect.
    Corrupt(Towards),
    /// Every connection is closed, and every new one too.
    Cut,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// What the coordinator sends.
    Shard,
    /// What the shard sends.
    Coordinator,
}

/// Further connections are refused: a coordinator has one, plus a few that it has given up.
const CONNECTIONS: usize = 32;

/// Interval at which a proxy thread checks the mode.
const LOOK: Duration = Duration::from_millis(5);

/// Forwards connections until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The address to connect to.
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
    /// Starts a proxy in front of `target`.
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

    /// Sets the mode from now on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // The acceptor ends within one interval; connections' threads end by themselves within
        // another.
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while !shared.over() {
        match listener.accept() {
            Ok((near, _)) if shared.connections.load(Ordering::Relaxed) < CONNECTIONS => {
                // If the target is away, the connection is dropped, which closes it.
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
