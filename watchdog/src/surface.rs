//! The whole slow side: a runtime of its own with relay, HTTP server, journal and readers of
//! totals. Whatever happens to it, the watch loop continues.

mod heartbeat_out;
mod server;

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use shard_telemetry::service_manager::ServiceManager;
use shard_telemetry::sign_of_life::SignOfLife;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::act::budget::Past;
use crate::archive::Archive;
use crate::board::Board;
use crate::board::listening::{State, Which};
use crate::board::reader::Reader;
use crate::clock::WallAnchor;
use crate::config::{Config, FindTarget};
use crate::descriptors::{self, Shares};
use crate::event::{Event, Symbolized};
use crate::feed::{Feed, Kind, Reload};
use crate::http::Sources;
use crate::http::command::Desk;
use crate::http::recording::OnDemand;
use crate::http::token::Token;
use crate::incident::journal::{Journal, JournalConfig};
use crate::judge::crash_loop::CrashLoops;
use crate::own_folder::Place;
use crate::own_folder::target_user::TargetUser;
use crate::pause::Pause;
use crate::relay::Relay;
use crate::symbolizer::{self, Symbolizer};
use crate::telemetry::dropped::Dropped;
use crate::telemetry::logs;
use crate::telemetry::otlp::{Otlp, Spans};
use crate::telemetry::prometheus::PrometheusError;
use crate::telemetry::{self, Telemetry};
use crate::watch::control::Control;

use server::Server;

/// One for the relay while the other serves a scrape.
const WORKERS: usize = 2;
/// A disk that has not listed a few dozen small files within this time does not answer. Reading the
/// history must not delay the watch further.
const HISTORY_WITHIN: Duration = Duration::from_secs(2);

/// The variable with the log filter, in the form of `RUST_LOG`.
const LOG_FILTER: &str = "SHARD_WATCHDOG_LOG";

/// Why the slow side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SurfaceError {
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] PrometheusError),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] logs::LogError),
    /// A thread or the runtime cannot be started.
    #[error(
        "the sidecar cannot start its threads: {0}. Look at the limits of processes and open files (ulimit -u, -n)"
    )]
    Threads(#[from] io::Error),
}

/// The addresses where it listens, with the actual port even if the config says 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `http.listen`
    pub listen: Option<SocketAddr>,
    /// `http.public`
    pub public: Option<SocketAddr>,
}

/// The running slow side.
#[derive(Debug)]
pub struct SurfaceHandle {
    runtime: Runtime,
    relay: JoinHandle<()>,
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    journal: Journal,
    archive: Option<Archive>,
    recordings: Arc<OnDemand>,
    feed: Arc<Feed>,
    symbolizer: Arc<OnceLock<Symbolizer>>,
    desk: Arc<Desk>,
    token: Arc<Token>,
    reader: Reader,
    stop: watch::Sender<bool>,
    target: Arc<TargetUser>,
    server: Arc<Server>,
    log: Option<logs::Logs>,
    otlp: Option<Otlp>,
}

/// Starts the slow side, including the log of this process. An address that cannot be bound now is
/// retried: otherwise a process that binds it first could leave the shard unguarded.
///
/// # Errors
/// If a thread cannot be started.
#[expect(clippy::needless_pass_by_value, reason = "whoever starts it gives it its own share of the config")]
pub fn start(
    config: Arc<Config>,
    events: mpsc::Receiver<Event>,
    anchor: WallAnchor,
    format: logs::Format,
    manager: Arc<ServiceManager>,
) -> Result<SurfaceHandle, SurfaceError> {
    let dropped = Arc::new(Dropped::default());
    let filter = std::env::var(LOG_FILTER).ok();
    let shard = &config.target.shard;
    let (otlp, mut warnings) = Otlp::start(config.otlp.as_ref(), &telemetry::resource(shard), &dropped);
    let collector = otlp.as_ref().and_then(Otlp::logger_provider);
    let filter = filter.and_then(|filter| match logs::check_filter(&filter) {
        Ok(()) => Some(filter),
        Err(error) => {
            warnings.push(format!("{LOG_FILTER}: {error}. It is ignored"));
            None
        }
    });
    let log = logs::start(format, filter.as_deref(), shard, &dropped, collector)?;
    for warning in warnings {
        tracing::warn!(event = "telemetry_setting", "{warning}");
    }
    let mut surface = start_without_log(&config, events, anchor, dropped, otlp, manager)?;
    surface.log = Some(log);
    let Addresses { listen, public } = surface.addresses();
    tracing::info!(
        event = "started",
        version = env!("CARGO_PKG_VERSION"),
        mode = config.kill.mode.label(),
        listen = listen.map(tracing::field::display),
        public = public.map(tracing::field::display),
        socket = config.http.socket.as_deref().map(|path| tracing::field::display(path.display())),
        "the sidecar of shard {} has started",
        config.target.shard
    );
    Ok(surface)
}

/// The same for a process that already has a log, or wants none.
///
/// # Errors
/// As [`start`].
pub fn start_without_log(
    config: &Config,
    events: mpsc::Receiver<Event>,
    anchor: WallAnchor,
    dropped: Arc<Dropped>,
    mut otlp: Option<Otlp>,
    manager: Arc<ServiceManager>,
) -> Result<SurfaceHandle, SurfaceError> {
    let runtime =
        Builder::new_multi_thread().worker_threads(WORKERS).thread_name("surface").enable_all().build()?;
    let board = Arc::new(Board::new(config, anchor, Arc::clone(&dropped)));
    let telemetry = Arc::new(Telemetry::new(&board, otlp.as_mut())?);
    let target = Arc::new(target_user(config));
    let spans = otlp.as_ref().and_then(Otlp::spans);
    let journal = start_journal(config, &target, &dropped, spans.clone())?;
    let archive = config.recorder.as_ref();
    let archive = archive
        .map(|recorder| Archive::start(recorder, board.shard(), anchor, Arc::clone(&target)))
        .transpose()?;
    archive.clone().into_iter().for_each(|archive| board.set_archive(archive));
    let reader = Reader::start(Arc::clone(&board))?;
    let recordings = Arc::new(OnDemand::default());
    let desk = Arc::new(Desk::default());
    let feed = Arc::new(Feed::new(Arc::clone(&dropped)));
    let sources = Sources {
        board: Arc::clone(&board),
        telemetry: Arc::clone(&telemetry),
        journal: journal.clone(),
        recordings: Arc::clone(&recordings),
        desk: Arc::clone(&desk),
        feed: Arc::clone(&feed),
    };
    let token = Arc::new(Token::default());
    load_token(&token, config);
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server {
        sources,
        http: config.http.clone(),
        target: Arc::clone(&target),
        token: Arc::clone(&token),
        stopped,
        dropped,
        connections: Shares::new(config, descriptors::reachable_limit(), 0).connections(),
        socket: Mutex::default(),
    });
    server.listen(&runtime);
    heartbeat_out::start(config.heartbeat_out.as_ref(), &board);
    let symbolizer = Arc::new(OnceLock::new());
    let relay = Relay::new(Arc::clone(&board), Arc::clone(&telemetry), journal.clone(), spans)
        .with_archive(archive.clone())
        .asking(Arc::clone(&symbolizer))
        .feeding(Arc::clone(&feed))
        .telling(manager);
    let relay = runtime.spawn(relay.run(events));
    Ok(SurfaceHandle {
        runtime,
        relay,
        board,
        telemetry,
        journal,
        archive,
        recordings,
        feed,
        symbolizer,
        desk,
        token,
        reader,
        stop,
        target,
        server,
        log: None,
        otlp,
    })
}

/// The user that the target runs as, by what the config says of it.
fn target_user(config: &Config) -> TargetUser {
    match &config.target.find {
        FindTarget::Heartbeat(path) => {
            TargetUser::of_segment(path, config.target.user.as_ref().map(|user| user.uid))
        }
        _ => TargetUser::default(),
    }
}

/// Starts the journal in the evidence directory, which the `target` user must not be able to write.
fn start_journal(
    config: &Config,
    target: &Arc<TargetUser>,
    dropped: &Arc<Dropped>,
    spans: Option<Spans>,
) -> io::Result<Journal> {
    let evidence = &config.evidence;
    let journal_config = JournalConfig {
        directory: Place::new(evidence.directory.clone(), Arc::clone(target)),
        keep_incidents: evidence.keep_incidents,
        keep_bytes: evidence.keep_bytes,
    };
    Journal::start(&journal_config, Arc::clone(dropped), spans)
}

/// Loads the token. One that cannot be used only disables commands over the address: the shard must
/// not be left unguarded for it.
fn load_token(token: &Token, config: &Config) {
    if let Err(error) = token.load(config.http.token_file.as_deref()) {
        tracing::error!(event = "token_refused", %error, "commands over http.listen: {error}");
    }
}

impl SurfaceHandle {
    /// What earlier runs of this sidecar left: the kills that were charged to the budget, and a
    /// pause that is not over. If the disk does not answer in time that is unknown, and the budget
    /// counts as spent: a kill too late is better than one too many.
    pub fn past(&self) -> (Past, Option<Arc<Pause>>) {
        match self.journal.past(HISTORY_WITHIN) {
            Some((past, pause)) => (past, pause.map(Arc::new)),
            None => {
                tracing::error!(
                    "the evidence directory did not answer in time how many kills there were before; the kill budget \
                     counts as spent until it refills, and an earlier pause is over"
                );
                (Past::unknown(), None)
            }
        }
    }

    /// What earlier runs of this sidecar knew of deaths, for a judge that takes `after` deaths with
    /// the same work in flight for a crash loop.
    pub fn crash_loops(&self, after: u32) -> CrashLoops {
        match self.journal.deaths(HISTORY_WITHIN) {
            Some(deaths) => deaths.known(after),
            None => {
                tracing::error!(
                    "the evidence directory did not answer in time which work was in flight at earlier deaths; until the next deaths, \
                     work that was in a crash loop may lead to kills again"
                );
                CrashLoops::NONE
            }
        }
    }

    /// Connects the watch loop: from now on it can be asked for its recording and given orders.
    pub fn ask(&self, control: Control) {
        self.desk.open(control.clone());
        self.recordings.ask(control);
    }

    /// Starts what looks up the stacks of minidumps, each in a process that `command` makes.
    /// `deliver` hands the answers to the relay, and must not wait.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn symbolize(
        &self,
        command: impl FnMut() -> Command + Send + 'static,
        deliver: impl FnMut(Symbolized) + Send + 'static,
    ) -> io::Result<()> {
        let journal = self.journal.clone();
        let symbolizer = Symbolizer::start(journal, symbolizer::TIME_LIMIT, command, deliver)?;
        // A sidecar starts it once.
        let _ = self.symbolizer.set(symbolizer);
        Ok(())
    }

    /// The addresses where it listens now.
    pub fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::default();
        for (which, state) in self.board.listening().all() {
            let State::Listens(address) = state else { continue };
            match which {
                Which::Listen => addresses.listen = address.parse().ok(),
                Which::Public => addresses.public = address.parse().ok(),
                Which::Socket => {}
            }
        }
        addresses
    }

    /// The state that it shows, where anyone may count what was dropped.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The user that the target runs as, which the adopter determines.
    pub fn target_user(&self) -> Arc<TargetUser> {
        Arc::clone(&self.target)
    }

    /// Applies a reloaded config. Addresses and folders do not change: those need a restart.
    pub fn reloaded(&self, config: &Config) {
        self.board.set_mode(config.kill.mode);
        self.board.set_links(&config.links);
        load_token(&self.token, config);
    }

    /// Notes that a config was read again, and whether it is `in_force`; tells those who listen.
    pub fn tell_reload(&self, in_force: bool) {
        self.board.reloaded(in_force);
        let (at, mode) = (self.board.wall(crate::clock::now()), self.board.mode().label().to_owned());
        self.feed.tell(Kind::Reload, &Reload { at, in_force, mode });
    }

    fn stop_sign_of_life(&self) {
        self.board.sign_of_life().into_iter().for_each(SignOfLife::stop);
    }

    /// Ends the slow side within `within`, saving only what must not be lost: it receives the last
    /// events of the watch loop, whose end of the queue must be closed by now, and writes the
    /// incidents. It waits for nothing else. Returns whether all of it is on disk.
    pub fn write_down(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.reader.stop();
        self.stop_sign_of_life();
        let relay = self.relay;
        #[expect(clippy::disallowed_methods, reason = "the future is a timeout")]
        let told = self.runtime.block_on(async { tokio::time::timeout(left(), relay).await });
        let told = told.is_ok_and(|relay| relay.is_ok());
        let written = told && self.journal.flush(left()) && self.journal.trouble().is_none();
        self.server.withdraw();
        self.runtime.shutdown_background();
        if let Some(log) = self.log {
            log.flush(left());
        }
        written
    }

    /// Ends the slow side within `within`: receives the last events of the watch loop, whose end of
    /// the queue must be closed by now, writes the incidents, and answers pending requests.
    pub fn shutdown(self, within: Duration) {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.reader.stop();
        self.stop_sign_of_life();
        let relay = self.relay;
        #[expect(clippy::disallowed_methods, reason = "the future is a timeout")]
        let _ = self.runtime.block_on(async { tokio::time::timeout(left(), relay).await });
        self.journal.flush(left());
        if let Some(archive) = self.archive {
            archive.flush(left());
        }
        self.telemetry.shutdown(left());
        if let Some(otlp) = self.otlp {
            otlp.shutdown(left());
        }
        let _ = self.stop.send(true);
        self.server.withdraw();
        self.runtime.shutdown_timeout(left());
        if let Some(log) = self.log {
            log.flush(left());
        }
    }
}

#[cfg(test)]
#[path = "surface/tests.rs"]
mod tests;
