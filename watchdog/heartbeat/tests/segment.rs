//! The promises of the heartbeat, tested on real files and real processes.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops where it fails, and waits for threads and processes of its own"
)]

#[path = "segment/c_header.rs"]
mod c_header;
#[cfg(feature = "crossbeam")]
#[path = "segment/channels.rs"]
mod channels;
#[path = "segment/fork.rs"]
mod fork;
#[path = "segment/hostile.rs"]
mod hostile;
#[path = "segment/last_words.rs"]
mod last_words;
#[path = "segment/locks.rs"]
mod locks;
#[path = "segment/quarantine.rs"]
mod quarantine;
#[path = "segment/second.rs"]
mod second;
#[path = "segment/sections.rs"]
mod sections;
#[path = "segment/torn.rs"]
mod torn;
#[path = "segment/watchdog.rs"]
mod watchdog;
#[path = "segment/writer.rs"]
mod writer;

use std::path::PathBuf;

use shard_heartbeat::{Heartbeat, Reader, Sample, SegmentOptions};
use tempfile::TempDir;

/// A folder with one segment in it.
struct Bench {
    folder: TempDir,
    heartbeat: Heartbeat,
    reader: Reader,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(&SegmentOptions::new("shard-0"))
    }

    fn with(options: &SegmentOptions) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let heartbeat = Heartbeat::create(&folder.path().join("0.heartbeat"), options).unwrap();
        let reader = Reader::open(heartbeat.path()).unwrap();
        Bench { folder, heartbeat, reader }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("0.heartbeat")
    }

    fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        self.reader.sample(&mut sample).unwrap();
        sample
    }
}
