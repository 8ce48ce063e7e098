//! Stores a pause of killing on disk, so that it outlives the sidecar.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::own_folder::Place;
use crate::pause::{LONGEST_PAUSE, Pause, is_reason};

use super::small_file;

/// The file in the evidence directory.
pub const FILE: &str = "pause.json";
/// The person who paused is given as a uid or an address.
const LONGEST_BY: usize = 100;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    since: Moment,
    /// How long the pause was meant to last from then.
    #[serde(rename = "for_ms")]
    length_ms: u64,
    reason: String,
    by: String,
}

impl Kept {
    /// The stored form of `pause`; `now` is the same moment on every clock.
    pub fn of(pause: &Pause, now: Moment) -> Self {
        let ran = now.monotonic.map_or(Duration::ZERO, |now| now.since(pause.since));
        let length = pause.until.since(pause.since);
        Self {
            since: Moment {
                boot: now.boot,
                monotonic: Some(pause.since),
                wall: now.wall.checked_sub(ran).unwrap_or(now.wall),
            },
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            reason: pause.reason.clone(),
            by: pause.by.clone(),
        }
    }

    /// The rest of the pause; `None` if it is over. Never longer than the pause was meant to be,
    /// whatever the clocks show.
    fn left(&self, now: Moment) -> Option<Pause> {
        let length = Duration::from_millis(self.length_ms);
        let left = length.saturating_sub(self.since.age(&now));
        let since = now.monotonic?;
        (!left.is_zero()).then(|| Pause {
            since,
            until: since.plus(left),
            reason: self.reason.clone(),
            by: self.by.clone(),
        })
    }

    fn is_sane(&self) -> bool {
        let by = !self.by.is_empty() && self.by.len() <= LONGEST_BY && !self.by.chars().any(char::is_control);
        by && is_reason(&self.reason) && Duration::from_millis(self.length_ms) <= LONGEST_PAUSE
    }
}

/// The pause that an earlier run of the sidecar left, unless it is over. One that is over is
/// removed.
///
/// # Errors
/// If the file cannot be used; then nothing is paused.
pub fn load(evidence: &Place, now: Moment) -> io::Result<Option<Pause>> {
    let Some(kept) = small_file::read::<Kept>(evidence, FILE)? else { return Ok(None) };
    if !kept.is_sane() {
        return Err(io::Error::other("it is no pause that a person could have asked for"));
    }
    let left = kept.left(now);
    if left.is_none() {
        remove(evidence)?;
    }
    Ok(left)
}

/// Stores `pause`.
///
/// # Errors
/// Any error of the disk.
pub fn keep(evidence: &Place, pause: &Pause, now: Moment) -> io::Result<()> {
    small_file::write(evidence, FILE, &Kept::of(pause, now))
}

/// Removes the stored pause.
///
/// # Errors
/// Any error of the disk.
pub fn remove(evidence: &Place) -> io::Result<()> {
    small_file::remove(evidence, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    use crate::clock::{BootId, Monotonic};

    const SECOND: u64 = 1_000_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn moment(boot: u128, seconds: u64, wall: i64) -> Moment {
        Moment {
            boot: Some(BootId(boot)),
            monotonic: Some(Monotonic(seconds * SECOND)),
            wall: jiff::Timestamp::from_second(1_800_000_000 + wall).unwrap(),
        }
    }

    fn place(folder: &Path) -> Place {
        Place::new(folder.to_owned(), Arc::default())
    }

    fn kept(folder: &Path) -> Pause {
        let pause = Pause {
            since: Monotonic(100 * SECOND),
            until: Monotonic(700 * SECOND),
            reason: "ticket 4711".to_owned(),
            by: "uid 1000".to_owned(),
        };
        keep(&place(folder), &pause, moment(1, 100, 0)).unwrap();
        pause
    }

    fn left(folder: &Path, now: Moment) -> Option<u64> {
        load(&place(folder), now).unwrap().map(|pause| pause.until.since(pause.since).as_secs())
    }

    #[test]
    fn a_restart_changes_nothing_and_a_wall_clock_that_was_set_neither() {
        let folder = tempfile::tempdir().unwrap();
        let pause = kept(folder.path());
        let read = load(&place(folder.path()), moment(1, 400, 300)).unwrap().unwrap();
        assert_eq!((read.until, read.reason, read.by), (pause.until, pause.reason, pause.by));
        for wall in [-86_400, 86_400] {
            assert_eq!(left(folder.path(), moment(1, 400, wall)), Some(300));
        }
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_and_never_adds_to_its_length() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path());
        assert_eq!(left(folder.path(), moment(2, 5, 400)), Some(200));
        assert_eq!(left(folder.path(), moment(2, 5, -86_400)), Some(600));
    }

    #[test]
    fn one_that_is_over_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path());
        assert_eq!(left(folder.path(), moment(1, 700, 600)), None);
        assert!(!folder.path().join(FILE).exists());
        assert_eq!(
            load(&place(folder.path()), moment(2, 5, -86_400)).unwrap(),
            None,
            "a clock set back brings none back"
        );
    }

    #[test]
    fn hostile_content_pauses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path());
        let path = folder.path().join(FILE);
        let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (key, value) in [
            ("for_ms", serde_json::json!(u64::MAX)),
            ("for_ms", serde_json::json!(-1)),
            ("reason", serde_json::json!("a\u{1b}[2J")),
            ("reason", serde_json::json!("x".repeat(501))),
            ("by", serde_json::json!("")),
            ("more", serde_json::json!(1)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            std::fs::write(&path, bad.to_string()).unwrap();
            assert!(load(&place(folder.path()), moment(1, 400, 300)).is_err(), "{bad}");
        }
        let longest = HOUR * 24;
        assert!(longest <= LONGEST_PAUSE);
    }
}
