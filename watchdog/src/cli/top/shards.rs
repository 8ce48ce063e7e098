//! The sidecars that are asked, each by a thread of its own, and their last answers. A sidecar that
//! does not answer holds up neither the others nor the picture.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use shard_watchdog::client::{self, ClientError, Endpoint};
use shard_watchdog::incident::Summary;
use shard_watchdog::status_json::StatusJson;

use super::file_sd::FileSd;

/// How often each sidecar is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A sidecar answers from memory. One that takes longer is told of as not reachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Each takes a thread here and a connection a second; no screen shows more at once.
const MOST: usize = 256;
/// So many ages of a heartbeat are drawn, one a second.
pub(super) const HISTORY: usize = 24;

/// All sidecars that are asked.
#[derive(Debug)]
pub(super) struct Shards {
    given: Vec<Endpoint>,
    file: Option<FileSd>,
    looked: Option<Instant>,
    all: Vec<Arc<Shard>>,
    trouble: Option<String>,
}

/// One sidecar. When nobody but its thread holds it, that thread ends.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) endpoint: Endpoint,
    /// Whether its incidents are shown, and so asked for.
    pub(super) is_open: AtomicBool,
    seen: Mutex<Seen>,
}

/// What is known of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The last status that came, and when.
    pub(super) status: Option<(StatusJson, Instant)>,
    /// Why the last question was not answered; `None` if it was, or if none was asked yet.
    pub(super) trouble: Option<String>,
    /// Its incidents, the newest first.
    pub(super) incidents: Vec<Summary>,
    /// The last ages of each thread's heartbeat, the oldest first, in seconds.
    pub(super) ages: HashMap<String, VecDeque<f64>>,
}

#[derive(Deserialize)]
struct Incidents {
    incidents: Vec<Summary>,
}

impl Shards {
    /// Those that are given, and those of the file.
    ///
    /// # Errors
    /// A sentence, if the file cannot be read.
    pub(super) fn new(given: Vec<Endpoint>, file: Option<PathBuf>) -> Result<Self, String> {
        let mut shards =
            Self { given, file: file.map(FileSd::new), looked: None, all: Vec::new(), trouble: None };
        let found = shards.file.as_mut().map_or(Ok(None), FileSd::changed)?;
        shards.ask(found.unwrap_or_default());
        Ok(shards)
    }

    /// Those whose answers a test gives.
    #[cfg(test)]
    pub(super) const fn of(all: Vec<Arc<Shard>>) -> Self {
        Self { given: Vec::new(), file: None, looked: None, all, trouble: None }
    }

    /// Reads the file again, if it has changed. One that cannot be read changes nothing.
    pub(super) fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        match self.file.as_mut().map(FileSd::changed) {
            Some(Ok(Some(found))) => self.ask(found),
            Some(Err(why)) => self.trouble = Some(why),
            Some(Ok(None)) | None => {}
        }
    }

    /// Asks those that are given and these, and no others.
    fn ask(&mut self, found: Vec<Endpoint>) {
        let mut wanted: Vec<Endpoint> = Vec::new();
        for endpoint in self.given.iter().cloned().chain(found) {
            if !wanted.contains(&endpoint) {
                wanted.push(endpoint);
            }
        }
        self.trouble = (wanted.len() > MOST)
            .then(|| format!("{} sidecars are listed; the first {MOST} are shown", wanted.len()));
        wanted.truncate(MOST);
        let before = std::mem::take(&mut self.all);
        for endpoint in wanted {
            let known = before.iter().find(|shard| shard.endpoint == endpoint);
            match known.map(|shard| Ok(Arc::clone(shard))).unwrap_or_else(|| Shard::start(endpoint)) {
                Ok(shard) => self.all.push(shard),
                Err(error) => self.trouble = Some(format!("cannot start a thread: {error}")),
            }
        }
    }

    /// All of them, in the order in which they are listed.
    pub(super) fn all(&self) -> &[Arc<Shard>] {
        &self.all
    }

    /// Whether there is but one, and never another.
    pub(super) fn is_one(&self) -> bool {
        self.file.is_none() && self.all.len() == 1
    }

    /// What is wrong with the list, as a sentence.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Shard {
    fn start(endpoint: Endpoint) -> std::io::Result<Arc<Self>> {
        let shard = Arc::new(Self::new(endpoint));
        let weak = Arc::downgrade(&shard);
        thread::Builder::new().name("ask".to_owned()).spawn(move || ask_on(&weak))?;
        Ok(shard)
    }

    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, is_open: AtomicBool::new(false), seen: Mutex::default() }
    }

    /// What is known of it now.
    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, or why there is none.
    pub(super) fn take(&self, answer: Result<StatusJson, String>) {
        let mut seen = self.lock();
        match answer {
            Ok(status) => {
                seen.ages.retain(|name, _| status.threads.iter().any(|thread| thread.name == *name));
                for thread in &status.threads {
                    let ages = seen.ages.entry(thread.name.clone()).or_default();
                    ages.push_back(thread.heartbeat_age_seconds.unwrap_or_default());
                    ages.drain(..ages.len().saturating_sub(HISTORY));
                }
                seen.status = Some((status, Instant::now()));
                seen.trouble = None;
            }
            Err(why) => seen.trouble = Some(why),
        }
    }
}

fn ask_on(shard: &Weak<Shard>) {
    while let Some(shard) = shard.upgrade() {
        let began = Instant::now();
        shard.take(ask(&shard.endpoint, "/api/v1/status"));
        if shard.is_open.load(Ordering::Relaxed)
            && let Ok(Incidents { incidents }) = ask(&shard.endpoint, "/api/v1/incidents")
        {
            shard.lock().incidents = incidents;
        }
        drop(shard);
        thread::sleep(ASK_EVERY.saturating_sub(began.elapsed()));
    }
}

/// An answer as JSON, or a sentence.
fn ask<T: for<'a> Deserialize<'a>>(endpoint: &Endpoint, path: &str) -> Result<T, String> {
    let answer = client::get(endpoint, path, ANSWER_WITHIN).map_err(|error| match error {
        ClientError::Unreachable { error, .. } => format!("not reachable: {error}"),
        ClientError::Late { within, .. } => format!("no answer within {} s", within.as_secs()),
        ClientError::Garbled { reason, .. } => format!("does not answer as a sidecar does: {reason}"),
    })?;
    if !answer.status.is_success() {
        return Err(format!("answers {} (the public address has no status)", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("answers with something else: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_listed_twice_is_asked_once_and_who_is_no_longer_listed_is_forgotten() {
        let nobody = |port: u16| -> Endpoint { format!("http://127.0.0.1:{port}").parse().unwrap() };
        let mut shards = Shards::new(vec![nobody(1), nobody(1)], None).unwrap();
        assert!(shards.is_one() && shards.trouble().is_none());
        shards.ask(vec![nobody(2), nobody(1)]);
        assert_eq!(shards.all().len(), 2);
        let two = Arc::downgrade(&shards.all()[1]);
        shards.ask(Vec::new());
        assert_eq!(shards.all().len(), 1);
        let began = Instant::now();
        while two.strong_count() > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "its thread goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_crowd_is_cut_off_and_said_so() {
        let mut shards = Shards::new(Vec::new(), None).unwrap();
        shards.ask((0..300).map(|n| Endpoint::Unix(format!("/nobody/{n}.sock").into())).collect());
        assert_eq!(shards.all().len(), MOST);
        assert!(shards.trouble().unwrap().contains("the first 256"));
    }
}
