//! A sign of life to a service outside, which calls a person once it hears nothing more: a plain
//! GET at an interval, as healthchecks.io, Dead Man's Snitch and Uptime Kuma expect it.
//!
//! It is sent by a thread of its own, which alone waits for the service, and only while its owner
//! says that there is something to be sure of. A redirect is not followed, and a body is not read.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;

use crate::otlp::{Endpoint, EndpointError};

/// After a failure, and while the owner withholds it, it is tried again this soon: one lost request
/// must not cost an interval, and the service should hear soon that all is well again.
const AGAIN: Duration = Duration::from_secs(5);

/// An address that is a secret: whoever knows it can pretend that all is well.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Endpoint);

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// If it is no address with a host, or has a scheme other than `http` and `https`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        Endpoint::parse(text).map(Self)
    }
}

/// Only the host: the secret is in the path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Where and how often.
#[derive(Clone, Debug)]
pub struct SignOfLifeConfig {
    /// What is asked for.
    pub url: Address,
    /// From one sign to the next.
    pub interval: Duration,
    /// How long one request may take.
    pub time_limit: Duration,
}

/// Why no sign of life can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SignOfLifeError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up: {0}; look at the certificates that this machine trusts")]
    Client(#[from] reqwest::Error),
    /// The thread cannot be started.
    #[error("its thread cannot be started: {0}; look at the limit of processes (ulimit -u)")]
    Thread(#[from] io::Error),
}

/// How it fares.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// How many were accepted.
    pub sent: u64,
    /// How many were not.
    pub failed: u64,
    /// When the last one was accepted.
    pub last: Option<Instant>,
    /// Why the last one was not accepted; `None` if it was.
    pub trouble: Option<String>,
    /// Why none is sent now; `None` if it is.
    pub withheld: Option<String>,
}

/// The thread that sends, and what it tells of itself. A clone is the same one.
#[derive(Clone, Debug)]
pub struct SignOfLife {
    address: Address,
    told: Arc<Mutex<Told>>,
    stop: SyncSender<()>,
}

impl SignOfLife {
    /// Starts the thread. Before each request it asks `sure`: an error is the reason to send none.
    ///
    /// # Errors
    /// If the client cannot be made, or the thread cannot be started.
    pub fn start(
        config: SignOfLifeConfig,
        agent: &'static str,
        sure: impl Fn() -> Result<(), String> + Send + 'static,
    ) -> Result<Self, SignOfLifeError> {
        let client = client(&config, agent)?;
        let told = Arc::default();
        // Full once it has been asked to stop, which is as good as asking twice.
        let (stop, stopped) = sync_channel(1);
        let sending = Sending { client, config, told: Arc::clone(&told), stopped };
        let address = sending.config.url.clone();
        thread::Builder::new().name("sign-of-life".to_owned()).spawn(move || sending.run(&sure))?;
        Ok(Self { address, told, stop })
    }

    /// Where it is sent.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// How it fares.
    pub fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    /// Sends no more, without waiting for a request that is under way.
    pub fn stop(&self) {
        let _ = self.stop.try_send(());
    }
}

fn client(config: &SignOfLifeConfig, agent: &'static str) -> reqwest::Result<Client> {
    // Fails only if another one was installed already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().timeout(config.time_limit).user_agent(agent);
    // A redirect may lead to a page that says 200 to everybody.
    let builder = builder.redirect(reqwest::redirect::Policy::none());
    let endpoint = &config.url.0;
    let builder = if endpoint.is_loopback() { builder.no_proxy() } else { builder };
    // Without TLS no certificates are needed, and a container may have none.
    let builder = if endpoint.is_https() { builder } else { builder.tls_certs_only([]) };
    builder.build()
}

struct Sending {
    client: Client,
    config: SignOfLifeConfig,
    told: Arc<Mutex<Told>>,
    stopped: Receiver<()>,
}

impl Sending {
    fn run(self, sure: &dyn Fn() -> Result<(), String>) {
        loop {
            let done = self.once(sure);
            let pause = if done { self.config.interval } else { AGAIN.min(self.config.interval) };
            match self.stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Sends one if the owner is sure. Returns whether it was accepted.
    fn once(&self, sure: &dyn Fn() -> Result<(), String>) -> bool {
        if let Err(why) = sure() {
            lock(&self.told).withheld = Some(why);
            return false;
        }
        let answer = self.client.get(self.config.url.0.url()).send();
        let trouble = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("HTTP status {}", response.status())),
            Err(error) => Some(crate::otlp::chain(&error.without_url())),
        };
        let mut told = lock(&self.told);
        told.withheld = None;
        let before = told.trouble.take();
        let address = &self.config.url;
        match &trouble {
            None => {
                told.sent += 1;
                told.last = Some(Instant::now());
                if before.is_some() {
                    tracing::info!(event = "heartbeat_out_works", "{address} accepts signs of life again");
                }
            }
            Some(error) => {
                told.failed += 1;
                if before.is_none() {
                    tracing::warn!(
                        event = "heartbeat_out_failing",
                        error,
                        "{address} does not accept signs of life, and will take this sidecar for dead: {error}"
                    );
                }
            }
        }
        told.trouble = trouble;
        told.trouble.is_none()
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const FAST: Duration = Duration::from_millis(10);

    /// A service that gives these answers, one after the other and then the last one for ever, and
    /// reports each request line.
    fn service(answers: &'static [&'static str]) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/ping/secret?x=1", listener.local_addr().expect("an address"));
        let (asked, requests) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut answers = answers.iter().chain(std::iter::repeat(&answers[answers.len() - 1]));
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let answer = answers.next().expect("without end");
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = (&stream).write_all(text.as_bytes());
                if asked.send(first).is_err() {
                    return;
                }
            }
        });
        (url, requests)
    }

    fn start(url: &str, sure: impl Fn() -> Result<(), String> + Send + 'static) -> SignOfLife {
        let url = Address::parse(url).expect("an address");
        let config = SignOfLifeConfig { url, interval: FAST, time_limit: PATIENCE };
        SignOfLife::start(config, "test/1", sure).expect("a thread")
    }

    #[track_caller]
    fn until(sign: &SignOfLife, what: &str, mut done: impl FnMut(&Told) -> bool) -> Told {
        let began = Instant::now();
        loop {
            let told = sign.told();
            if done(&told) {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {told:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn it_is_sent_again_and_again_to_the_whole_address_until_it_is_stopped() {
        let (url, requests) = service(&["200 OK"]);
        let sign = start(&url, || Ok(()));
        for _ in 0..3 {
            let line = requests.recv_timeout(PATIENCE).expect("a request");
            assert_eq!(line, "GET /ping/secret?x=1 HTTP/1.1");
        }
        until(&sign, "three", |told| told.sent >= 3 && told.last.is_some() && told.trouble.is_none());
        assert!(!format!("{} {:?}", sign.address(), sign.address()).contains("secret"));
        sign.stop();
        // Its thread ends, and with it the other end of the channel.
        let began = Instant::now();
        while sign.stop.try_send(()) != Err(std::sync::mpsc::TrySendError::Disconnected(())) {
            assert!(began.elapsed() < PATIENCE, "it goes on: {:?}", sign.told());
            thread::sleep(FAST);
        }
    }

    #[test]
    fn whoever_is_not_sure_sends_nothing() {
        let (url, requests) = service(&["200 OK"]);
        let blind = Arc::new(AtomicBool::new(true));
        let eyes = Arc::clone(&blind);
        let sign = start(&url, move || match eyes.load(Ordering::Relaxed) {
            true => Err("blind".to_owned()),
            false => Ok(()),
        });
        let told = until(&sign, "withheld", |told| told.withheld.is_some());
        assert_eq!((told.withheld.as_deref(), told.sent), (Some("blind"), 0));
        assert!(requests.try_recv().is_err(), "nothing was sent");
        blind.store(false, Ordering::Relaxed);
        requests.recv_timeout(PATIENCE).expect("a request");
        until(&sign, "no longer withheld", |told| told.sent >= 1 && told.withheld.is_none());
    }

    #[test]
    fn another_answer_than_success_is_a_failure_and_no_redirect_is_followed() {
        let (url, requests) = service(&["302 Found\r\nLocation: /elsewhere", "404 Not Found", "200 OK"]);
        let sign = start(&url, || Ok(()));
        for _ in 0..3 {
            let line = requests.recv_timeout(PATIENCE).expect("a request");
            assert!(line.starts_with("GET /ping/secret"), "{line}");
        }
        let told = until(&sign, "accepted at last", |told| told.sent >= 1);
        assert_eq!((told.failed, told.trouble), (2, None));
    }

    #[test]
    fn nobody_there_is_told_without_the_secret() {
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let sign = start(&format!("http://{closed}/secret"), || Ok(()));
        let told = until(&sign, "a failure", |told| told.failed >= 1);
        let trouble = told.trouble.expect("a reason");
        assert!(trouble.contains("refused") && !trouble.contains("secret"), "{trouble}");
    }
}
