//! Logs what `check` would say: once each, when the sidecar starts, and when there is a target.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::board::Board;
use crate::config::Config;
use crate::verdict::Verdict;

use super::{Remark, of_config, of_target, privileges};

/// How often it looks whether there is a target. Nobody waits for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Remarks that are remembered, so that a reload does not repeat them. A config of 1 MiB has room
/// for more rules than this; what does not fit may be told again.
const MOST_TOLD: usize = 1024;
/// It needs little: whatever grows is on the heap.
const STACK: usize = 256 << 10;

/// Does so on a thread of its own, which ends when all is said.
#[derive(Clone, Debug)]
pub struct Reporter {
    board: Arc<Board>,
    told: Arc<Mutex<BTreeSet<String>>>,
    /// Counts configs: a thread ends once a newer one is in force.
    config: Arc<AtomicU64>,
}

impl Reporter {
    /// A reporter for the sidecar whose state `board` shows.
    pub fn new(board: Arc<Board>) -> Self {
        Self { board, told: Arc::default(), config: Arc::default() }
    }

    /// Begins with a config that is now in force.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn begin(&self, config: Arc<Config>) -> io::Result<()> {
        let number = self.config.fetch_add(1, Ordering::Relaxed) + 1;
        let own = self.clone();
        let run = move || own.run(&config, number);
        std::thread::Builder::new().name("check".to_owned()).stack_size(STACK).spawn(run).map(drop)
    }

    fn run(&self, config: &Config, number: u64) {
        let of_config = of_config(config);
        self.tell(of_config.refused.into_iter().chain(of_config.warnings));
        let pid = loop {
            if self.config.load(Ordering::Relaxed) != number {
                return;
            }
            match self.target() {
                Some(pid) => break pid,
                None => std::thread::park_timeout(LOOK_EVERY),
            }
        };
        self.tell(of_target(config).warnings);
        self.tell(privileges::of_process(config, pid));
    }

    /// The pid of the target, once it has had time to register its threads.
    fn target(&self) -> Option<i32> {
        let snapshot = self.board.snapshot()?;
        let known = match snapshot.verdict {
            Verdict::Healthy | Verdict::Degraded | Verdict::Condemned | Verdict::CrashLoop => true,
            // Excused says nothing about what is registered.
            Verdict::Excused
            | Verdict::Unguarded
            | Verdict::Starting
            | Verdict::Dying
            | Verdict::Dead
            | Verdict::Restarting => false,
        };
        snapshot.target.filter(|_| known).map(|target| target.pid)
    }

    fn tell(&self, remarks: impl IntoIterator<Item = Remark>) {
        for remark in remarks.into_iter().filter(|remark| !remark.topic.is_told_elsewhere()) {
            let told = remark.to_string();
            {
                let mut before = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if before.contains(&told) {
                    continue;
                }
                if before.len() < MOST_TOLD {
                    before.insert(told.clone());
                }
            }
            let topic = remark.topic.label();
            tracing::warn!(event = "check", topic, key = remark.key, line = remark.line, "{told}");
        }
    }
}
