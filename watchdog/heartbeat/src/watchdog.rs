//! The reverse direction: the sidecar beats into the segment too, so that the process can detect
//! when nobody watches it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{ClaimError, ReadError};
use crate::identity;
use crate::layout::{H_QUARANTINE, H_QUARANTINE_LEN, H_WATCHDOG_BEAT, H_WATCHDOG_PID, H_WATCHDOG_START_TIME};
use crate::lock::{FileLock, LockError};
use crate::quarantine::{self, Quarantine};
use crate::source::Source;
use crate::writer::Heartbeat;

/// Suffix of the file that the sidecar locks.
const WATCHDOG_LOCK: &str = ".watchdog.lock";

/// What the watchdog has written into a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogSeen {
    /// Beat counter; 0 = there never was a watchdog.
    pub beat: u64,
    /// Process id of the watchdog, in the watchdog's pid namespace; 0 = none.
    pub pid: u64,
    /// Start time of the watchdog, in clock ticks since boot.
    pub start_time: u64,
}

/// Measures how long the watchdog has been silent, by this process's own clock.
#[derive(Debug)]
pub struct WatchdogMonitor {
    heartbeat: Heartbeat,
    last: Option<(u64, Instant)>,
}

impl WatchdogMonitor {
    /// Creates a monitor for the process's own segment.
    pub fn new(heartbeat: &Heartbeat) -> WatchdogMonitor {
        WatchdogMonitor { heartbeat: heartbeat.clone(), last: None }
    }

    /// How long the watchdog's beat has not changed; `None` if no watchdog was ever seen. Its
    /// resolution is the interval between calls: a beat counts from the call that first saw it.
    pub fn age(&mut self) -> Option<Duration> {
        self.age_at(Instant::now())
    }

    /// The same as [`WatchdogMonitor::age`], at a given moment.
    pub fn age_at(&mut self, now: Instant) -> Option<Duration> {
        let beat = self.heartbeat.watchdog().beat;
        match self.last {
            _ if beat == 0 => self.last = None,
            Some((seen, _)) if seen == beat => {}
            _ => self.last = Some((beat, now)),
        }
        self.last.map(|(_, since)| now.saturating_duration_since(since))
    }
}

/// The sidecar's claim on a segment. While it is held no other sidecar can claim the segment.
#[derive(Debug)]
pub struct WatchdogBeat {
    source: Source,
    beat: u64,
    quarantine: Quarantine,
    _lock: FileLock,
}

impl WatchdogBeat {
    /// Claims the segment at `path`, which must exist, for this sidecar and writes the first beat.
    /// The file `<path>.watchdog.lock` beside it keeps a second sidecar out.
    pub fn claim(path: &Path) -> Result<WatchdogBeat, ClaimError> {
        let source = Source::open(path, OFlags::RDWR)?;
        let owner = Some(source.custody.uid);
        let lock = FileLock::take(path, WATCHDOG_LOCK, owner).map_err(|error| match error {
            LockError::Held(pid) => ClaimError::Held { path: path.to_owned(), pid },
            LockError::Foreign(path, uid) => ClaimError::Foreign { path, uid },
            LockError::Io(path, source) => ClaimError::Io { step: "lock", path, source },
        })?;
        let mut beat = WatchdogBeat { source, beat: 0, quarantine: Quarantine::default(), _lock: lock };
        beat.introduce()?;
        Ok(beat)
    }

    /// Writes one beat: a `pwrite` of eight bytes into the file that was opened, whatever the path
    /// leads to now.
    pub fn beat(&mut self) -> Result<(), ClaimError> {
        // Zero means that there never was a watchdog.
        self.beat = self.beat.wrapping_add(1).max(1);
        self.put(H_WATCHDOG_BEAT, self.beat)
    }

    /// Switches to the file that the path leads to now, if that is another one: a new incarnation
    /// of the process creates a new file. Returns whether it switched. The claim is held
    /// throughout; after an error the old file stays in use.
    pub fn follow(&mut self) -> Result<bool, ClaimError> {
        if self.source.is_current()? {
            return Ok(false);
        }
        self.source = Source::open(&self.source.path, OFlags::RDWR)?;
        self.introduce()?;
        Ok(true)
    }

    /// Publishes this work as in quarantine, from now on and in every incarnation that is followed:
    /// see [`Heartbeat::quarantine`].
    pub fn keep_from(&mut self, quarantine: Quarantine) -> Result<(), ClaimError> {
        self.quarantine = quarantine;
        self.put_quarantine()
    }

    fn put_quarantine(&self) -> Result<(), ClaimError> {
        let mut found = [0];
        self.source.read(H_QUARANTINE, &mut found)?;
        let (begun, settled) = quarantine::sequence_after(found[0]);
        self.put(H_QUARANTINE, begun)?;
        for (index, word) in self.quarantine.to_words().into_iter().enumerate() {
            self.put(H_QUARANTINE_LEN + 8 * index, word)?;
        }
        self.put(H_QUARANTINE, settled)
    }

    fn introduce(&mut self) -> Result<(), ClaimError> {
        let start_time = identity::process_start_time().map_err(|source| ClaimError::Io {
            step: "read",
            path: "/proc/self/stat".into(),
            source,
        })?;
        self.put(H_WATCHDOG_PID, std::process::id().into())?;
        self.put(H_WATCHDOG_START_TIME, start_time)?;
        // Continues from where an earlier sidecar stopped, so that the first beat is a change.
        let mut found = [0];
        self.source.read(H_WATCHDOG_BEAT, &mut found)?;
        self.beat = found[0];
        // Before the first beat: a process that sees a watchdog beat then also sees its quarantine.
        self.put_quarantine()?;
        self.beat()
    }

    fn put(&self, offset: usize, value: u64) -> Result<(), ClaimError> {
        let failed =
            |source: std::io::Error| ClaimError::Io { step: "write", path: self.source.path.clone(), source };
        // A write past the end would make a truncated file grow again and hide what happened to it.
        let size = rustix::fs::fstat(&self.source.file).map_err(|errno| failed(errno.into()))?.st_size;
        if u64::try_from(size).unwrap_or(0) < self.source.header.total_size {
            let path = self.source.path.clone();
            return Err(ReadError::Truncated { path, wanted: self.source.header.total_size }.into());
        }
        match rustix::io::pwrite(&self.source.file, &value.to_le_bytes(), offset as u64) {
            Ok(8) => Ok(()),
            Ok(_) => Err(failed(Errno::IO.into())),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}
