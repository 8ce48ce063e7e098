//! `replay --perfetto`: a recording as a trace that ui.perfetto.dev and chrome://tracing open.
//!
//! The format is the JSON of Chrome's Trace Event Format: one object an event, with times in
//! microseconds. It is written as it is read, since an hour of many threads has millions of events.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_watchdog::act::ladder::Rung;
use shard_watchdog::clock::Monotonic;
use shard_watchdog::judge::Judge;
use shard_watchdog::judge::thread::ThreadTrial;
use shard_watchdog::recorder::file::Header;
use shard_watchdog::verdict::{Health, Verdict};

/// A thread or a channel, by slot and generation.
type Key = (u32, u64);

/// The trace that is being written.
#[derive(Debug)]
pub(super) struct Trace {
    out: BufWriter<File>,
    path: PathBuf,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
    began: Monotonic,
    now: Monotonic,
    empty: bool,
    process: Option<i32>,
    verdict: Option<Verdict>,
    threads: HashMap<Key, Open>,
    depths: HashMap<Key, u64>,
}

/// What a thread has been doing since a moment.
#[derive(Clone, Debug, PartialEq)]
struct Open {
    tid: i32,
    what: String,
    work: Option<(u64, u64)>,
    since: Monotonic,
}

impl Trace {
    /// Creates the file.
    ///
    /// # Errors
    /// What happened, and what to do next.
    pub(super) fn create(path: &Path, recording: &Path) -> Result<Self, String> {
        let same = |a: &Path, b: &Path| {
            let (a, b) = (a.metadata().ok()?, b.metadata().ok()?);
            Some((a.dev(), a.ino()) == (b.dev(), b.ino()))
        };
        if same(path, recording) == Some(true) {
            return Err(format!("--perfetto {}: is the recording itself. Name another file", path.display()));
        }
        let file = File::create(path).map_err(|error| failed(path, &error))?;
        Ok(Self {
            out: BufWriter::new(file),
            path: path.to_owned(),
            failed: None,
            began: Monotonic(0),
            now: Monotonic(0),
            empty: true,
            process: None,
            verdict: None,
            threads: HashMap::new(),
            depths: HashMap::new(),
        })
    }

    /// The state after one observation, and what would have been done about it.
    pub(super) fn look(&mut self, header: &Header, at: Monotonic, judge: &Judge, rungs: &[Rung]) {
        if self.empty {
            self.began = at;
        }
        self.now = at;
        let process = judge.incarnation().map(|incarnation| incarnation.identity().pid);
        if process != self.process {
            self.close_all();
            self.process = process;
            if let Some(pid) = process {
                let name = json!({ "name": format!("shard {}", header.shard) });
                self.event(
                    &json!({ "ph": "M", "pid": pid, "tid": pid, "name": "process_name", "args": name }),
                );
            }
        }
        if let Some(incarnation) = judge.incarnation() {
            incarnation.threads().iter().for_each(|trial| self.thread(trial));
            for channel in incarnation.channels() {
                self.channel(channel.key, &channel.name, channel.depth());
            }
        }
        if self.verdict != Some(judge.verdict()) {
            self.verdict = Some(judge.verdict());
            self.instant(&format!("verdict: {}", judge.verdict()), judge.why());
        }
        for rung in rungs {
            match rung {
                Rung::Send(signal) => self.instant(&format!("signal: {}", signal.name()), "it would be sent"),
                Rung::Withhold(by) => self.instant("kill withheld", by.label()),
                Rung::NotDead => self.instant("not dead", "SIGKILL did not end it"),
                Rung::Wait => {}
            }
        }
    }

    /// Ends what is open, and the file.
    ///
    /// # Errors
    /// The first error of any write.
    pub(super) fn finish(mut self, header: &Header) -> Result<(), String> {
        self.close_all();
        // Without one there is no list yet.
        let begin = if self.empty { "{\"traceEvents\":[" } else { "" };
        let other = json!({ "recorded_by": header.written_by, "shard": header.shard, "began": header.wall });
        let end = format!("{begin}\n],\"displayTimeUnit\":\"ms\",\"otherData\":{other}}}\n");
        let written = match self.failed {
            Some(error) => Err(error),
            None => self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush()),
        };
        written.map_err(|error| failed(&self.path, &error))
    }

    fn thread(&mut self, trial: &ThreadTrial) {
        let what = match (trial.health, trial.excuse) {
            (Health::Excused, Some(kind)) => format!("excused: {kind}"),
            (health, _) => health.to_string(),
        };
        match self.threads.get(&trial.key) {
            Some(open) if open.what == what && open.work == trial.work => return,
            Some(open) => {
                let ended = open.clone();
                self.slice(&ended);
            }
            None => {
                let name = json!({ "name": trial.name.as_ref() });
                let pid = self.process;
                self.event(
                    &json!({ "ph": "M", "pid": pid, "tid": trial.tid, "name": "thread_name", "args": name }),
                );
            }
        }
        let open = Open { tid: trial.tid, what, work: trial.work, since: self.now };
        self.threads.insert(trial.key, open);
    }

    fn channel(&mut self, key: Key, name: &str, depth: u64) {
        if self.depths.insert(key, depth) != Some(depth) {
            let (pid, ts) = (self.process, self.micros(self.now));
            let counted = json!({ "waiting": depth });
            self.event(&json!({ "ph": "C", "pid": pid, "name": format!("channel {name}"), "ts": ts, "args": counted }));
        }
    }

    /// A mark through the tracks of its process, or of all while there is none.
    fn instant(&mut self, name: &str, why: &str) {
        let scope = if self.process.is_some() { "p" } else { "g" };
        let (pid, ts) = (self.process.unwrap_or(0), self.micros(self.now));
        let args = json!({ "why": why });
        self.event(
            &json!({ "ph": "i", "s": scope, "pid": pid, "tid": pid, "name": name, "ts": ts, "args": args }),
        );
    }

    fn close_all(&mut self) {
        let mut ended: Vec<_> = self.threads.drain().collect();
        // In the order of their slots, so that two runs write the same file.
        ended.sort_by_key(|(key, _)| *key);
        ended.iter().for_each(|(_, open)| self.slice(open));
        self.depths.clear();
    }

    fn slice(&mut self, open: &Open) {
        let (ts, end) = (self.micros(open.since), self.micros(self.now));
        let args = match open.work {
            Some((key, attempt)) => json!({ "work": key, "attempt": attempt }),
            None => json!({}),
        };
        let (pid, tid, dur) = (self.process, open.tid, end - ts);
        self.event(
            &json!({ "ph": "X", "pid": pid, "tid": tid, "name": open.what, "ts": ts, "dur": dur, "args": args }),
        );
    }

    /// Microseconds since the first observation, to the nanosecond.
    fn micros(&self, at: Monotonic) -> f64 {
        at.since(self.began).as_secs_f64() * 1e6
    }

    fn event(&mut self, event: &Value) {
        if self.failed.is_some() {
            return;
        }
        let before = if self.empty { "{\"traceEvents\":[\n" } else { ",\n" };
        self.empty = false;
        self.failed = write!(self.out, "{before}{event}").err();
    }
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!(
        "--perfetto {}: cannot be written: {error}. Name a file in a folder that you may write to",
        path.display()
    )
}
