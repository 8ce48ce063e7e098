//! What the adopter looks for.

use std::path::PathBuf;

use crate::config::user::User;
use crate::config::{Config, FindTarget, KillBy};

/// The target that a config means.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The shard that the segment must name.
    pub shard: String,
    /// Path of the segment.
    pub heartbeat: PathBuf,
    /// The user that the segment and the process must belong to, if configured.
    pub user: Option<User>,
    /// The systemd unit that the process must be in, if configured.
    pub systemd_unit: Option<String>,
    /// Whether the target is in another pid namespace and shows its own `/proc`.
    pub apart: bool,
    /// Where `/proc` is mounted.
    pub proc_root: PathBuf,
}

impl Wanted {
    /// What this config means.
    ///
    /// # Errors
    /// What to give instead, if this version cannot watch such a target.
    pub fn of(config: &Config) -> Result<Self, &'static str> {
        let FindTarget::Heartbeat(heartbeat) = &config.target.find else {
            return Err("this version watches instrumented targets only; give heartbeat = \"FILE\", \
                and systemd_unit beside it if the unit shall be checked");
        };
        Ok(Self {
            shard: config.target.shard.clone(),
            heartbeat: heartbeat.clone(),
            user: config.target.user.clone(),
            systemd_unit: config.target.systemd_unit.clone(),
            apart: config.kill.by == KillBy::ExitCode,
            proc_root: PathBuf::from("/proc"),
        })
    }
}
