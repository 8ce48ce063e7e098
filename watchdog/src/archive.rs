//! The long-term recording: a thread of its own writes complete chunks to disk.
//!
//! A disk may be full or unresponsive for minutes. Then the queue to the thread fills, chunks are
//! dropped, the observations in them are counted, and the file marks where they are missing.
//! Nothing else is affected: the watch loop handed its chunk over long before.

mod shelf;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::clock::{Monotonic, WallAnchor};
use crate::config::RecorderConfig;
use crate::own_folder::target_user::TargetUser;
use crate::recorder::wire::{In, Out};
use crate::recorder::{Excerpt, delta, encode, file};

use shelf::Shelf;

/// Chunks waiting for the disk: 2 MiB at most, which is a minute of a busy shard.
const QUEUE: usize = 16;
/// How long to wait after the disk refused a chunk: each attempt may create another file.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// The marker of a gap is three short numbers.
const LONGEST_MARKER: usize = 64;

/// The state of the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The folder of the files.
    pub directory: PathBuf,
    /// Number of files, including the current one.
    pub files: u64,
    /// Bytes in these files.
    pub bytes: u64,
    /// Files that this life of the sidecar deleted to stay within the limits.
    pub removed: u64,
    /// Observations that this life of the sidecar did not write, because the disk was slow or
    /// refused.
    pub missing: u64,
    /// The last error, if the disk refuses.
    pub trouble: Option<String>,
}

/// The handle of the archive, for everything but its own thread.
#[derive(Clone, Debug)]
pub struct Archive {
    orders: SyncSender<Order>,
    held: Arc<Mutex<Held>>,
    shard: Arc<str>,
    anchor: WallAnchor,
    /// Observations missing since the last chunk that found room.
    missing: u64,
}

#[derive(Debug)]
enum Order {
    Append { beginning: Vec<u8>, part: Vec<u8>, looks: u64 },
    Flush(SyncSender<()>),
}

impl Archive {
    /// Starts the thread, which finds the files of earlier lives of the sidecar.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        config: &RecorderConfig,
        shard: &str,
        anchor: WallAnchor,
        target: Arc<TargetUser>,
    ) -> io::Result<Self> {
        let (orders, receiver) = sync_channel(QUEUE);
        let held = Arc::new(Mutex::new(Held { directory: config.directory.clone(), ..Held::default() }));
        let scribe = Scribe {
            shelf: Shelf::new(config, shard, target),
            held: Arc::clone(&held),
            loaded: false,
            refused: None,
        };
        thread::Builder::new().name("recordings".to_owned()).spawn(move || scribe.run(&receiver))?;
        Ok(Self { orders, held, shard: shard.into(), anchor, missing: 0 })
    }

    /// Takes one chunk with `looks` observations; `lost` more were lost just before it. Copies the
    /// chunk and never blocks.
    pub fn keep(&mut self, excerpt: &Excerpt, looks: u32, lost: u64) {
        self.missing = self.missing.saturating_add(lost);
        lock(&self.held).missing += lost;
        let Some(chunk) = excerpt.chunks.first() else { return };
        let beginning = file::write_beginning(excerpt, &self.shard, &self.anchor);
        let mut part = Vec::with_capacity(chunk.len() + LONGEST_MARKER);
        if self.missing > 0 {
            file::with_checksum(&marker(chunk, self.missing), &mut part);
        }
        file::with_checksum(chunk, &mut part);
        let looks = u64::from(looks);
        if self.orders.try_send(Order::Append { beginning, part, looks }).is_ok() {
            self.missing = 0;
        } else {
            self.missing = self.missing.saturating_add(looks);
            lock(&self.held).missing += looks;
        }
    }

    /// The present state of the recording.
    pub fn held(&self) -> Held {
        lock(&self.held).clone()
    }

    /// Waits up to `wait` until all that `keep` took before is written. Returns whether it is.
    pub fn flush(&self, wait: Duration) -> bool {
        /// How long a full queue gets to drain before the next attempt.
        const NUDGE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + wait;
        let (answer, answered) = sync_channel(1);
        let mut order = Order::Flush(answer);
        loop {
            match self.orders.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => order = back,
                Err(_) => return false,
            }
            thread::sleep(NUDGE);
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// A chunk that records only how many observations are missing before `chunk`.
fn marker(chunk: &[u8], missing: u64) -> Vec<u8> {
    let mut begins = In::new(chunk);
    let at = match begins.byte() {
        Ok(delta::KEY) => begins.varint().unwrap_or_default(),
        _ => 0,
    };
    let mut bytes = Vec::with_capacity(LONGEST_MARKER);
    let mut out = Out::new(&mut bytes, LONGEST_MARKER);
    encode::key(Monotonic(at), None, &mut out);
    encode::lost(missing, &mut out);
    bytes
}

/// The archive's thread.
struct Scribe {
    shelf: Shelf,
    held: Arc<Mutex<Held>>,
    loaded: bool,
    refused: Option<Instant>,
}

impl Scribe {
    fn run(mut self, orders: &Receiver<Order>) {
        // The thread has no other task, and ends with the last sender.
        for order in orders {
            match order {
                Order::Append { beginning, part, looks } => self.append(&beginning, &part, looks),
                Order::Flush(answer) => {
                    self.shelf.close();
                    let _ = answer.try_send(());
                }
            }
        }
    }

    fn append(&mut self, beginning: &[u8], part: &[u8], looks: u64) {
        if self.refused.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
            lock(&self.held).missing += looks;
            return;
        }
        let loaded = if self.loaded { Ok(()) } else { self.shelf.load() };
        self.loaded |= loaded.is_ok();
        let written = loaded.and_then(|()| self.shelf.append(Timestamp::now(), beginning, part));
        self.refused = written.is_err().then(Instant::now);
        let trouble = written.as_ref().err().map(ToString::to_string);
        let (files, bytes) = self.shelf.size();
        let before = {
            let mut held = lock(&self.held);
            (held.files, held.bytes, held.removed) = (files, bytes, self.shelf.removed);
            held.missing += if written.is_err() { looks } else { 0 };
            std::mem::replace(&mut held.trouble, trouble.clone())
        };
        let path = self.shelf.directory().display();
        match (before, trouble) {
            (None, Some(error)) => tracing::error!(
                event = "recorder_failing",
                %path, %error,
                "the long-term recording cannot be written; looks are missing in it until it can. Free the disk, or point \
                 recorder.directory at a folder that this user may write to"
            ),
            (Some(_), None) => {
                tracing::info!(event = "recorder_works", %path, "the long-term recording is written again");
            }
            _ => {}
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;
