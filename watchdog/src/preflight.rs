//! What will not work as a config says, as far as that can be seen on this machine before it is
//! needed. `check` prints it; `run` logs it, once.
//!
//! Nothing here writes, and nothing here is for the watch loop: it reads folders, segments and
//! `/proc`, and may wait two seconds for systemd.

pub mod document;
mod folders;
mod privileges;
mod registered;
pub mod reporter;
mod together;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::config::{Config, FindTarget, KillConfig};
use crate::descriptors::{self, Shares};
use crate::http::token;
use crate::start_limit::{self, StartLimit};
use crate::telemetry::otlp;

pub use together::collisions;

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The target as a whole: which process it is, and whether it may be watched.
    Target,
    /// Rules for threads.
    Threads,
    /// Rules for channels, and their consumers.
    Channels,
    /// Silence horizons.
    Silence,
    /// The kill budget and the time for a restart against the target's supervisor.
    Supervisor,
    /// Folders in which the sidecar keeps files of its own.
    Folders,
    /// What the sidecar's user may do to the target and see of it.
    Privileges,
    /// The limit of open files.
    Descriptors,
    /// The collector and the variables for it.
    Telemetry,
    /// The file with the token for commands.
    Token,
    /// Another config that was checked with this one.
    Together,
}

impl Topic {
    /// The word in JSON and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Threads => "threads",
            Self::Channels => "channels",
            Self::Silence => "silence",
            Self::Supervisor => "supervisor",
            Self::Folders => "folders",
            Self::Privileges => "privileges",
            Self::Descriptors => "descriptors",
            Self::Telemetry => "telemetry",
            Self::Token => "token",
            Self::Together => "together",
        }
    }

    /// Whether a part of the sidecar itself logs it when it starts.
    const fn is_told_elsewhere(self) -> bool {
        matches!(self, Self::Descriptors | Self::Telemetry | Self::Token)
    }
}

/// One thing that will not work, with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub topic: Topic,
    /// The line of the file, from 1, where one line is to blame.
    pub line: Option<usize>,
    /// The dotted key, or empty.
    pub key: String,
    /// The value to blame, as in the file.
    pub found: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Remark {
    fn new(topic: Topic, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { topic, line: None, key: key.into(), found: None, message: message.into() }
    }

    fn at(self, line: usize, found: &str) -> Self {
        Self { line: Some(line), found: Some(format!("{found:?}")), ..self }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if let Some(found) = &self.found {
            write!(f, "found {found}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// All that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the config must not be used here, although it reads well.
    pub refused: Vec<Remark>,
    /// What will not work.
    pub warnings: Vec<Remark>,
    /// What could not be checked, and why, one sentence each.
    pub notes: Vec<String>,
}

impl Report {
    fn warn(&mut self, remark: Remark) {
        self.warnings.push(remark);
    }
}

/// What can be said without a target.
pub fn of_config(config: &Config) -> Report {
    let mut report = Report::default();
    for (remark, is_refusal) in folders::remarks(config) {
        if is_refusal { &mut report.refused } else { &mut report.warnings }.push(remark);
    }
    for told in otlp::warnings(config.otlp.as_ref()) {
        report.warn(Remark::new(Topic::Telemetry, "", told));
    }
    for (rule, told) in config.unreachable_horizons() {
        report.warn(Remark {
            line: Some(rule.line),
            ..Remark::new(Topic::Silence, "thread.idle_at_most", told)
        });
    }
    // As the user who asks, who may not be the sidecar's: no reason to refuse the config.
    if let Some(error) = config.http.token_file.as_deref().and_then(|path| token::read(path).err()) {
        report.warn(Remark::new(Topic::Token, "http.token_file", error.to_string()));
    }
    report
}

/// What can be said once there is a target: of what its segment registers, and of its process.
pub fn of_target(config: &Config) -> Report {
    let mut report = Report::default();
    registered::look(config, &mut report);
    for told in supervisor(config) {
        report.warn(Remark::new(Topic::Supervisor, "", told));
    }
    report
}

/// The rest of what `check` says: what the sidecar finds out by itself as soon as it runs.
pub fn of_sidecar(config: &Config) -> Report {
    let mut report = Report::default();
    privileges::look(config, &mut report);
    let shares = Shares::new(config, descriptors::reachable_limit(), 0);
    if let Some(shortage) = shares.shortage(descriptors::threads_to_watch(config)) {
        let told = format!("under the limit of this shell, {shortage}");
        report.warn(Remark::new(Topic::Descriptors, "", told));
    }
    report
}

/// Where the budget and the unit of the target, as systemd has it now, do not go together.
fn supervisor(config: &Config) -> Vec<String> {
    let of_process = || match &config.target.find {
        FindTarget::Heartbeat(path) => start_limit::unit_of(path, Path::new("/proc")),
        _ => None,
    };
    let Some(unit) = config.target.systemd_unit.clone().or_else(of_process) else { return Vec::new() };
    let limit = StartLimit::ask(&unit);
    let KillConfig { budget_kills, budget_per, .. } = config.kill;
    let within = config.restart.within;
    limit.map_or_else(Vec::new, |limit| limit.collisions(&unit, budget_kills, budget_per, within))
}
