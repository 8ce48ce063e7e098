//! The configuration of the sidecar: what may be said, its defaults and its limits. Reading and
//! complaining is in `config/read.rs`.

pub mod policy;
pub mod problem;
pub mod read;
mod section;
mod sections;
mod shadow;
pub mod unit;
pub mod units;
pub mod user;
mod watched;

pub use shard_judge::policy::On;
pub use watched::{SHARD_FORM, names_shard};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobMatcher;
use shard_telemetry::http::host::HostPattern;

/// Everything that a config file says, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[target]`
    pub target: TargetConfig,
    /// `[[thread]]`, in the order of the file; the first rule whose glob matches a thread is its
    /// rule.
    pub threads: Vec<ThreadRule>,
    /// `[[channel]]`
    pub channels: Vec<ChannelRule>,
    /// `[judge]`
    pub judge: JudgeConfig,
    /// `[restart]`
    pub restart: RestartConfig,
    /// `[kill]`
    pub kill: KillConfig,
    /// `[evidence]`
    pub evidence: EvidenceConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[otlp]`, absent unless configured.
    pub otlp: Option<OtlpConfig>,
    /// `[recorder]`, absent unless configured.
    pub recorder: Option<RecorderConfig>,
    /// `[shadow]`, absent unless configured.
    pub shadow: Option<ShadowConfig>,
}

/// Whether a config asks for something.
pub type Asks = fn(&Config) -> bool;

/// What this version reads and checks, and does not act upon yet, and whether a config asks for it.
pub const NOT_YET: &[(&str, Asks)] = &[
    ("evidence.time_limit", |config| config.evidence.time_limit != DEFAULT_EVIDENCE_TIME),
    ("a target without heartbeat", |config| !matches!(config.target.find, FindTarget::Heartbeat(_))),
];

impl Config {
    /// One sentence for each thing that this config asks for and this version does not do yet.
    pub fn not_yet(&self) -> impl Iterator<Item = String> {
        let asked = NOT_YET.iter().filter(|(_, asks)| asks(self));
        asked
            .map(|(what, _)| format!("{what} is read and checked, but this version does not act upon it yet"))
    }
}

/// Which process.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Goes on every metric and log line.
    pub shard: String,
    /// How to find it.
    pub find: FindTarget,
    /// Whose segment and process it must be.
    pub user: Option<user::User>,
    /// The process must stand in this systemd unit, whatever else found it.
    pub systemd_unit: Option<String>,
}

/// How the target is found.
#[derive(Clone, Debug)]
pub enum FindTarget {
    /// Instrumented: it writes this heartbeat segment.
    Heartbeat(PathBuf),
    /// It writes its pid here.
    PidFile(PathBuf),
    /// The main process of `systemd_unit`.
    SystemdUnit,
    /// The one process whose command line matches.
    Command(regex::Regex),
}

/// One `[[thread]]`.
#[derive(Clone, Debug)]
pub struct ThreadRule {
    /// The glob as written.
    pub name: String,
    /// The same, compiled; matched against the registered name, else the kernel's 15-byte comm.
    pub glob: GlobMatcher,
    /// How many threads must match.
    pub count: u32,
    /// No progress for this much countable time while at work: stalled.
    pub stall_after: Duration,
    /// The same, for a warning.
    pub warn_after: Duration,
    /// What follows.
    pub on: On,
}

/// One `[[channel]]`.
#[derive(Clone, Debug)]
pub struct ChannelRule {
    /// The channel's published name.
    pub name: String,
    /// Age of the oldest waiting message.
    pub max_age: Option<Duration>,
    /// Messages waiting.
    pub max_depth: Option<u64>,
    /// Glob of the thread that should receive.
    pub consumer: Option<String>,
    /// What follows.
    pub on: On,
}

/// `[judge]`
#[derive(Clone, Debug)]
pub struct JudgeConfig {
    /// From the first sight of an incarnation until its threads must be there. Default 30 s.
    pub startup_grace: Duration,
    /// From the first sign that the process is ending until it must be gone. Default 30 s, what
    /// Kubernetes gives by default (`terminationGracePeriodSeconds`).
    pub exit_within: Duration,
    /// `[judge.excuse]`: starved, default 10 min.
    pub starved: Duration,
    /// Throttled, default 10 min.
    pub throttled: Duration,
    /// Made to wait by `memory.high`, default 10 min.
    pub memory_throttled: Duration,
    /// Traced, default 1 h.
    pub traced: Duration,
    /// Frozen, default 10 min: a freezer, as a rule, thaws within a backup or a migration.
    pub frozen: Duration,
    /// Core being written, default 10 min: that of a large process takes minutes.
    pub core_dumping: Duration,
    /// Stopped, default 60 s.
    pub stopped_at_most: Duration,
    /// What follows a stop past its cap; only a stop may kill. Default kill.
    pub stopped_then: On,
    /// After so many deaths with the same work in flight nothing is killed for it any more; zero:
    /// never. Default 2.
    pub poison_after: u32,
}

impl Default for JudgeConfig {
    /// What an operator gets who says nothing: excuses long enough for an operator to be called,
    /// not for one to forget.
    fn default() -> Self {
        Self {
            startup_grace: Duration::from_secs(30),
            exit_within: Duration::from_secs(30),
            starved: Duration::from_secs(600),
            throttled: Duration::from_secs(600),
            memory_throttled: Duration::from_secs(600),
            traced: Duration::from_secs(3600),
            frozen: Duration::from_secs(600),
            core_dumping: Duration::from_secs(600),
            stopped_at_most: Duration::from_secs(60),
            stopped_then: On::Kill,
            // The first may have been chance; a second one at the same block is not.
            poison_after: 2,
        }
    }
}

/// `[restart]`
#[derive(Clone, Debug)]
pub struct RestartConfig {
    /// From death to a new incarnation. Default 30 s.
    pub within: Duration,
}

/// Whether it may kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillMode {
    /// Says what it would do. The default: a person switches killing on.
    Observe,
    /// Kills.
    Enforce,
}

impl KillMode {
    /// The word in the config file and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What ends a target that is to be killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillBy {
    /// A signal of the sidecar's. The default.
    #[default]
    Signal,
    /// Its pod: the sidecar, which is of another pid namespace, ends itself with [`LEAVING`], and
    /// the restart rules of the pod restart all of its containers.
    ExitCode,
}

impl KillBy {
    /// The word in the config file and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::ExitCode => "exit-code",
        }
    }
}

/// The exit code by which a sidecar asks its pod for a restart. No other end of it has this one:
/// not its own errors (1, 2), nor a panic (134), nor a signal (128 and more), nor what shells and
/// `sysexits.h` use.
pub const LEAVING: u8 = 86;

/// A signal that may stand in `kill.signals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillSignal {
    /// Ends it with a core dump, unless it is stopped.
    Abort,
    /// Asks it to end.
    Term,
    /// Asks it to end with a core dump.
    Quit,
    /// Ends it.
    Kill,
}

impl KillSignal {
    /// The name in the config file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abort => "SIGABRT",
            Self::Term => "SIGTERM",
            Self::Quit => "SIGQUIT",
            Self::Kill => "SIGKILL",
        }
    }
}

/// `[kill]`
#[derive(Clone, Debug)]
pub struct KillConfig {
    /// Default observe.
    pub mode: KillMode,
    /// Default signal.
    pub by: KillBy,
    /// Each signal and how long after the verdict it is sent; ascending; the last one is SIGKILL.
    pub signals: Vec<(KillSignal, Duration)>,
    /// At most this many kills…
    pub budget_kills: u32,
    /// …per this much time.
    pub budget_per: Duration,
}

/// `[recorder]`: what was seen is kept on the disk for days, beside the last minute that is always
/// in memory.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Where. Default: `recordings` in `evidence.directory`.
    pub directory: PathBuf,
    /// Files that were over for longer are deleted. Default 7.
    pub keep_days: u32,
    /// The oldest files are deleted to stay within so many bytes. Default 2 GiB, two days of a busy
    /// shard.
    pub keep_bytes: u64,
}

/// `[shadow]`: a second policy, judged beside the live one and never acted upon. What the file does
/// not say of it is as in the live one.
#[derive(Clone, Debug)]
pub struct ShadowConfig {
    /// `[[shadow.thread]]`
    pub threads: Vec<ThreadRule>,
    /// `[[shadow.channel]]`
    pub channels: Vec<ChannelRule>,
    /// `[shadow.judge]`
    pub judge: JudgeConfig,
    /// `[shadow.kill]`: its budget. It would kill at once, and has nobody to signal.
    pub kill: KillConfig,
}

/// How long gathering evidence may delay a kill, unless told otherwise: what the stacks of a large
/// process take, and a quarter of what a restart may cost.
pub const DEFAULT_EVIDENCE_TIME: Duration = Duration::from_millis(250);

/// `[evidence]`
#[derive(Clone, Debug)]
pub struct EvidenceConfig {
    /// Where incidents are kept.
    pub directory: PathBuf,
    /// How long gathering may delay a kill. Default 250 ms.
    pub time_limit: Duration,
    /// At most this many incidents are kept. Default 50.
    pub keep_incidents: u32,
    /// At most this many bytes of them. Default 256 MiB.
    pub keep_bytes: u64,
}

/// `[http]`
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Everything; loopback only. Default 127.0.0.1:9611; `None` if switched off with `""`.
    pub listen: Option<SocketAddr>,
    /// Probes and metrics only, on any address.
    pub public: Option<SocketAddr>,
    /// Everything, on a unix socket.
    pub socket: Option<PathBuf>,
    /// Names that may stand in the Host header, beside addresses and `localhost`.
    pub hosts: Vec<HostPattern>,
    /// The bearer token with which `listen` takes commands. Without one only the socket does.
    pub token_file: Option<PathBuf>,
}

pub use shard_telemetry::otlp::OtlpConfig;
