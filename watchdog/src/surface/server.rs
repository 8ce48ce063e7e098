//! Listens where the config says, and retries where binding fails.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::board::listening::{State, Which};
use crate::config::HttpConfig;
use crate::http::door::Door;
use crate::http::host::{Always, HostRule};
use crate::http::listen::socket::{OwnFile, SocketFile};
use crate::http::listen::{self, ListenError, Taken};
use crate::http::token::Token;
use crate::http::{self, Sources, serve};
use crate::own_folder::target_user::TargetUser;
use crate::telemetry::dropped::Dropped;

/// The address may still be held by a predecessor that is just ending.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Or by a program that runs for days. A retry costs a few system calls.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The state that all listeners share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) sources: Sources,
    pub(super) http: HttpConfig,
    pub(super) target: Arc<TargetUser>,
    pub(super) token: Arc<Token>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) dropped: Arc<Dropped>,
    /// The limit for each listener.
    pub(super) connections: usize,
    pub(super) socket: Mutex<Option<ServedSocket>>,
}

/// The socket while it is served.
#[derive(Debug)]
pub(super) struct ServedSocket {
    /// Removes the socket's file.
    file: OwnFile,
    /// Stops serving.
    withdrawn: watch::Sender<bool>,
}

impl Server {
    /// Binds every address that the config names, and retries those that cannot be bound now.
    pub(super) fn listen(self: &Arc<Self>, runtime: &Runtime) {
        let _inside = runtime.enter();
        for which in Which::ALL {
            let listens = self.attempt(*which);
            runtime.spawn(Arc::clone(self).keep(*which, listens));
        }
    }

    /// Withdraws the socket.
    pub(super) fn withdraw(&self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(socket.file);
            socket.withdrawn.send_replace(true);
        }
    }

    /// Keeps `which` listening until the sidecar ends.
    async fn keep(self: Arc<Self>, which: Which, mut listens: bool) {
        let mut stopped = self.stopped.clone();
        let mut target = self.target.changes();
        loop {
            if !listens {
                tokio::select! {
                    () = self.try_again(which) => {}
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
            if which != Which::Socket {
                return;
            }
            // The user of the target is certain only once the target is adopted.
            target.mark_unchanged();
            listens = self.on_disk(Self::recheck).await;
            if listens {
                tokio::select! {
                    changed = target.changed() => if changed.is_err() { return },
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
        }
    }

    async fn try_again(self: &Arc<Self>, which: Which) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if self.on_disk(move |server| server.attempt(which)).await {
                return;
            }
        }
    }

    /// Runs `what` where it may block: the path of a socket may lie on a disk that does not answer.
    async fn on_disk(self: &Arc<Self>, what: impl FnOnce(&Self) -> bool + Send + 'static) -> bool {
        let server = Arc::clone(self);
        // If it panics, it would panic again.
        tokio::task::spawn_blocking(move || what(&server)).await.unwrap_or(true)
    }

    /// Withdraws the socket if the target may replace it, and logs why. Returns whether the socket
    /// is still served.
    fn recheck(&self) -> bool {
        let Some(path) = &self.http.socket else { return true };
        if SocketFile::is_safe(path, &self.target) {
            return true;
        }
        self.withdraw();
        self.attempt(Which::Socket)
    }

    /// Tries to bind. Returns whether there is nothing left to try. Runs inside the runtime.
    fn attempt(&self, which: Which) -> bool {
        let Some(taken) = listen::take(which, &self.http, &self.target) else { return true };
        let address = which.address(&self.http).unwrap_or_default();
        let served = taken.and_then(|taken| {
            self.serve(which, taken).map_err(|error| {
                let hint = "Look at the limit of open files (ulimit -n)";
                ListenError::Refused { which, address: address.clone(), error, hint }
            })
        });
        let listening = self.sources.board.listening();
        match served {
            Ok(address) => {
                let tried = listening.all().iter().any(|(held, _)| *held == which);
                listening.set(which, State::Listens(address.clone()));
                if tried {
                    tracing::info!(
                        event = "listening",
                        listener = which.label(),
                        address,
                        "{which}: listening on {address} now"
                    );
                }
                true
            }
            Err(error) => {
                let why = error.to_string();
                if listening.set(which, State::Tries { address, why: why.clone() }) {
                    tracing::error!(
                        event = "not_listening",
                        listener = which.label(),
                        error = why,
                        "{why}. The shard is watched all the same; the next try follows within {} s",
                        LONGEST_PAUSE.as_secs()
                    );
                }
                false
            }
        }
    }

    /// Serves the listener; returns its address.
    fn serve(&self, which: Which, taken: Taken) -> io::Result<String> {
        let bounds =
            |stop| serve::Bounds { connections: self.connections, stop, dropped: Arc::clone(&self.dropped) };
        let sources = self.sources.clone();
        match taken {
            Taken::Address(listener) => {
                let address = listener.local_addr()?;
                let listener = TcpListener::from_std(listener)?;
                let router = if which == Which::Public {
                    http::public(sources, self.hosts(Always::AnyAddress))
                } else {
                    let door = Door::Address(Arc::clone(&self.token));
                    http::full(sources, self.hosts(Always::Loopback(Some(address.ip()))), door)
                };
                tokio::spawn(serve::serve(listener, router, bounds(self.stopped.clone())));
                Ok(address.to_string())
            }
            Taken::Socket(socket) => {
                let listener = UnixListener::from_std(socket.listener)?;
                let router = http::full(sources, self.hosts(Always::Anything), Door::Socket);
                let (withdrawn, stop) = watch::channel(false);
                tokio::spawn(serve::serve(listener, router, bounds(stop)));
                *self.socket.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(ServedSocket { file: socket.file, withdrawn });
                Ok(which.address(&self.http).unwrap_or_default())
            }
        }
    }

    fn hosts(&self, always: Always) -> HostRule {
        HostRule::new(always, &self.http.hosts, |host| {
            format!(
                "add it to http.hosts in the config of the sidecar (hosts = [\"{host}\"]) and restart the sidecar"
            )
        })
    }
}
