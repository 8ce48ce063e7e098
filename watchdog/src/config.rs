//! The configuration of the sidecar: its settings, defaults and limits. `config/read.rs` reads it
//! and reports problems.

pub mod effective;
mod links;
pub mod nearest;
pub mod policy;
pub mod problem;
pub mod read;
pub mod reference;
mod section;
mod sections;
mod shadow;
mod sign_of_life;
pub mod silence;
mod stalls;
pub mod unit;
pub mod units;
pub mod user;
mod watched;

pub use links::{Links, Template};
pub use shard_judge::policy::{ByKind, On};
pub use shard_judge::section::Section as WorkSection;
pub use stalls::written as written_sections;
pub use watched::{SHARD_FORM, names_shard};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobMatcher;
use shard_telemetry::http::host::HostPattern;

/// The checked content of a config file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[target]`
    pub target: TargetConfig,
    /// `[[thread]]`, in the order of the file; the first rule whose glob matches a thread applies.
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
    /// `[links]`
    pub links: Links,
    /// `[otlp]`, absent unless configured.
    pub otlp: Option<OtlpConfig>,
    /// `[heartbeat_out]`, absent unless configured.
    pub heartbeat_out: Option<SignOfLifeConfig>,
    /// `[recorder]`, absent unless configured.
    pub recorder: Option<RecorderConfig>,
    /// `[shadow]`, absent unless configured.
    pub shadow: Option<ShadowConfig>,
}

/// Whether a config uses a feature.
pub type Asks = fn(&Config) -> bool;

/// Settings that this version reads and checks but does not act upon yet, and whether a config uses
/// each.
pub const NOT_YET: &[(&str, Asks)] =
    &[("a target without heartbeat", |config| !matches!(config.target.find, FindTarget::Heartbeat(_)))];

impl Config {
    /// One sentence for each setting in this config that this version does not act upon yet.
    pub fn not_yet(&self) -> impl Iterator<Item = String> {
        let asked = NOT_YET.iter().filter(|(_, asks)| asks(self));
        asked
            .map(|(what, _)| format!("{what} is read and checked, but this version does not act upon it yet"))
    }
}

/// `[target]`: the process to watch.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// The name of the shard, on every metric and log line.
    pub shard: String,
    /// How to find the process.
    pub find: FindTarget,
    /// The user who must own the segment and the process.
    pub user: Option<user::User>,
    /// The process must belong to this systemd unit, however it was found.
    pub systemd_unit: Option<String>,
}

/// How the target is found.
#[derive(Clone, Debug)]
pub enum FindTarget {
    /// Instrumented: it writes this heartbeat segment.
    Heartbeat(PathBuf),
    /// It writes its pid to this file.
    PidFile(PathBuf),
    /// The main process of `systemd_unit`.
    SystemdUnit,
    /// The only process whose command line matches.
    Command(regex::Regex),
}

/// The longest `warm_up`. A process that hangs at its first piece of work stays up for so long.
pub const MOST_WARM_UP: Duration = Duration::from_secs(600);

/// The most sections of one `[[thread]]`: each is a value of a metric's label.
pub const MOST_SECTIONS: usize = 16;

/// One entry of `sections` of a `[[thread]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRule {
    /// Which section of a piece of work.
    pub section: WorkSection,
    /// Takes the place of the rule's `stall_after` while the thread is in it.
    pub stall_after: Duration,
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
    /// The thread is stalled after this much countable time at work without progress.
    pub stall_after: Duration,
    /// The same, for a warning.
    pub warn_after: Duration,
    /// The same as `stall_after`, for the first piece of work after a start: longer than that, at
    /// most [`MOST_WARM_UP`].
    pub warm_up: Option<Duration>,
    /// Sections of a piece of work with a threshold of their own, [`MOST_SECTIONS`] at most.
    pub sections: Vec<SectionRule>,
    /// What follows a loss, and a stall of a kind that `by_kind` does not name.
    pub on: On,
    /// What follows a stall of one kind: [`On::Kill`] or [`On::Report`].
    pub by_kind: ByKind,
    /// How long the thread may begin no work while there is some; `None`: never asked.
    pub silence: Option<silence::SilenceRule>,
    /// Where it stands in the file, as a line from 1.
    pub line: usize,
}

/// One `[[channel]]`.
#[derive(Clone, Debug)]
pub struct ChannelRule {
    /// The channel's published name.
    pub name: String,
    /// The age of the oldest waiting message above which the channel is at fault.
    pub max_age: Option<Duration>,
    /// The number of waiting messages above which the channel is at fault.
    pub max_depth: Option<u64>,
    /// Glob of the thread that should receive.
    pub consumer: Option<String>,
    /// What follows when a limit is exceeded.
    pub on: On,
    /// Where it stands in the file, as a line from 1.
    pub line: usize,
}

/// `[judge]`
#[derive(Clone, Debug)]
pub struct JudgeConfig {
    /// From the first observation of an incarnation until its threads must exist. Default 30 s.
    pub startup_grace: Duration,
    /// From the first sign that the process is ending until it must have ended. Default 30 s, as in
    /// Kubernetes (`terminationGracePeriodSeconds`).
    pub exit_within: Duration,
    /// `[judge.excuse]`: the cap for each kind of excuse. Starved, default 10 min.
    pub starved: Duration,
    /// Robbed of its CPU by the hypervisor, default 10 min.
    pub stolen: Duration,
    /// Throttled, default 10 min.
    pub throttled: Duration,
    /// Throttled by `memory.high`, default 10 min.
    pub memory_throttled: Duration,
    /// Traced, default 1 h.
    pub traced: Duration,
    /// Frozen, default 10 min: a freezer usually thaws within a backup or a migration.
    pub frozen: Duration,
    /// Writing a core dump, default 10 min: for a large process that takes minutes.
    pub core_dumping: Duration,
    /// Stopped, default 60 s.
    pub stopped_at_most: Duration,
    /// What follows a stop past its cap; no other excuse may lead to a kill. Default kill.
    pub stopped_then: On,
    /// After this many deaths with the same work in flight the sidecar no longer kills for that
    /// work; zero: never. Default 2.
    pub poison_after: u32,
}

impl Default for JudgeConfig {
    /// The excuses are long enough to call an operator, but not long enough for one to forget.
    fn default() -> Self {
        Self {
            startup_grace: Duration::from_secs(30),
            exit_within: Duration::from_secs(30),
            starved: Duration::from_secs(600),
            stolen: Duration::from_secs(600),
            throttled: Duration::from_secs(600),
            memory_throttled: Duration::from_secs(600),
            traced: Duration::from_secs(3600),
            frozen: Duration::from_secs(600),
            core_dumping: Duration::from_secs(600),
            stopped_at_most: Duration::from_secs(60),
            stopped_then: On::Kill,
            // The first death may have been chance; a second one at the same block is not.
            poison_after: 2,
        }
    }
}

/// `[restart]`
#[derive(Clone, Debug)]
pub struct RestartConfig {
    /// From the death of a target to a new incarnation. Default 30 s.
    pub within: Duration,
}

/// Whether the sidecar may kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillMode {
    /// Only reports what it would do. The default: a person must enable killing.
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

/// The means by which a target is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillBy {
    /// A signal from the sidecar. The default.
    #[default]
    Signal,
    /// The pod: the sidecar, which runs in another pid namespace, exits with [`LEAVING`], and the
    /// restart rules of the pod restart all of its containers.
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

/// The exit code by which a sidecar asks its pod for a restart. No other end of the sidecar has
/// this code: not its own errors (1, 2), nor a panic (134), nor a signal (128 and more), nor the
/// codes that shells and `sysexits.h` use.
pub const LEAVING: u8 = 86;

/// A signal that may stand in `kill.signals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillSignal {
    /// Ends the process with a core dump, unless it is stopped.
    Abort,
    /// Asks the process to end.
    Term,
    /// Asks the process to end with a core dump.
    Quit,
    /// Ends the process.
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
    /// Whether to kill. Default observe.
    pub mode: KillMode,
    /// The means. Default signal.
    pub by: KillBy,
    /// Each signal and how long after the verdict it is sent; ascending; the last one is SIGKILL.
    pub signals: Vec<(KillSignal, Duration)>,
    /// At most this many kills…
    pub budget_kills: u32,
    /// …per this much time.
    pub budget_per: Duration,
    /// After this many kills in a row without a finished piece of work in between, nothing more is
    /// killed until a person clears that. Default 3; 0: no limit.
    pub progress_brake: u32,
    /// The longest random wait before a kill for a stall, which a recovery cancels. Default none.
    pub jitter: Duration,
}

/// The longest `jitter`. A shard that stands still for good stays up for so much longer.
pub const MOST_JITTER: Duration = Duration::from_secs(10);

/// `[recorder]`: stores observations on disk for days, in addition to the last minute that is
/// always in memory.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Where to store them. Default: `recordings` in `evidence.directory`.
    pub directory: PathBuf,
    /// Files that ended longer ago are deleted. Default 7.
    pub keep_days: u32,
    /// The oldest files are deleted to stay within this many bytes. Default 2 GiB, two days of a
    /// busy shard.
    pub keep_bytes: u64,
}

/// `[shadow]`: a second policy, judged beside the live one and never acted upon. Settings that the
/// file omits are those of the live policy.
#[derive(Clone, Debug)]
pub struct ShadowConfig {
    /// `[[shadow.thread]]`
    pub threads: Vec<ThreadRule>,
    /// `[[shadow.channel]]`
    pub channels: Vec<ChannelRule>,
    /// `[shadow.judge]`
    pub judge: JudgeConfig,
    /// `[shadow.kill]`: the budget. It would kill at once, and has no process to signal.
    pub kill: KillConfig,
}

/// How long gathering evidence may delay a kill by default: what the stacks of a large process
/// take, and a quarter of what a restart may cost.
pub const DEFAULT_EVIDENCE_TIME: Duration = Duration::from_millis(250);

/// `[evidence]`
#[derive(Clone, Debug)]
pub struct EvidenceConfig {
    /// Where incidents are stored.
    pub directory: PathBuf,
    /// How long gathering may delay a kill; zero gathers nothing. Default 250 ms.
    pub time_limit: Duration,
    /// Whether a minidump is taken too. Default false: it stops the process, for milliseconds.
    pub minidump: bool,
    /// At most so many near misses are recorded in 24 hours. Default 20.
    pub near_misses_per_day: u32,
    /// At most this many incidents are retained. Default 50.
    pub keep_incidents: u32,
    /// The retained incidents take at most this many bytes. Default 256 MiB.
    pub keep_bytes: u64,
}

/// `[http]`
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The full API; loopback only. Default 127.0.0.1:9611; `None` if disabled with `""`.
    pub listen: Option<SocketAddr>,
    /// Probes and metrics only, on any address.
    pub public: Option<SocketAddr>,
    /// The full API, on a unix socket.
    pub socket: Option<PathBuf>,
    /// Names accepted in the Host header, in addition to addresses and `localhost`.
    pub hosts: Vec<HostPattern>,
    /// File of the bearer token with which `listen` accepts commands. Without one only the socket
    /// does.
    pub token_file: Option<PathBuf>,
}

pub use shard_telemetry::otlp::OtlpConfig;
pub use shard_telemetry::sign_of_life::SignOfLifeConfig;
