//! Random faults over random blocks, for as long as wanted, on a real coordinator and supervised,
//! watched shards.
//!
//! Throughout, every block must end verified, with the state that executing it in order gives, or
//! as a typed error, within its deadline; nothing from a dead incarnation is accepted; memory stays
//! flat. Chains carry their state from block to block, so that an accepted stale result would show
//! in the digest of every later block.
//!
//! The harness ends a shard that is useless for long and that nothing else ends, as an operator
//! would, and counts it. (With `net-block` a shard answers nobody, and its executor is idle, which
//! a sidecar does not consider a fault.)

pub mod fault;
pub mod ledger;
pub mod memory;
pub mod random;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value, json};
use shard_executor::block;
use shard_executor::generate::{Generator, Kind, Plan as Chain};
use shard_executor::local::Local;

use crate::cluster::{Cluster, Plan};
use crate::sidecar::Settings;
use fault::Fault;
use ledger::Ledger;
use memory::Life;
use random::Random;

/// One always lives, one dies alone, and two may be away at the same time.
const SHARDS: usize = 3;

/// Short, so that a long soak has many faults; a block of a few dozen transactions takes a fiftieth
/// of it on a busy machine.
const DEADLINE: Duration = Duration::from_secs(4);

/// Longer than [`DEADLINE`], as the executor requires of its watchdog.
const STALL_AFTER: &str = "6s";

/// Between two reads of the coordinator's output.
const LOOK: Duration = Duration::from_millis(200);

/// Between two samples of memory, and between two lines of progress.
const MEMORY_LOOK: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);

/// How long a coordinator waits for its first shard before it gives up; it may use all of it before
/// its first block.
const FIRST_BLOCK: Duration = Duration::from_secs(10);

/// The harness ends a shard that was absent from the cluster for this long: twice what a sidecar
/// takes to end a stall.
const USELESS: Duration = Duration::from_secs(15);

/// With more orders than this for false results in the name of dead incarnations, not all can have
/// been lost with their shard.
const GHOSTS: u64 = 10;

/// What the soak is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long to run.
    pub time: Duration,
    /// Seed of the faults and blocks.
    pub seed: u64,
}

/// A running soak.
struct Soak {
    random: Random,
    cluster: Cluster,
    ledger: Ledger,
    lives: Vec<Life>,
    /// Faults to be undone, with the time.
    lasting: Vec<(Instant, Fault)>,
    struck: BTreeMap<String, u64>,
    /// Number of coordinator lines read.
    read: usize,
    /// When a block last ended, or the next must have begun.
    last_end: Instant,
    coordinators: u64,
    /// Since when each absent shard has been away.
    away: BTreeMap<usize, Instant>,
    ended_by_hand: u64,
}

/// Runs a soak, reports on standard error as it goes, and returns its figures.
///
/// # Errors
/// What went wrong, one sentence each, with the figures.
pub fn run(wanted: Wanted) -> Result<Value, (Vec<String>, Value)> {
    let began = Instant::now();
    eprintln!(
        "soak: seed {}, for {:?}; the same again with --seed {}",
        wanted.seed, wanted.time, wanted.seed
    );
    let mut soak = Soak::start(wanted.seed);
    let chain_time = (wanted.time / 4).max(Duration::from_secs(10));
    let (mut next_fault, mut next_chain) = (Instant::now(), Instant::now() + chain_time);
    let (mut next_memory, mut next_progress) = (Instant::now(), Instant::now());
    while began.elapsed() < wanted.time && soak.ledger.violations.is_empty() {
        std::thread::sleep(LOOK);
        let now = Instant::now();
        soak.read(now);
        soak.take_back(now);
        soak.end_the_useless(now);
        if now >= next_fault {
            soak.fault(now);
            next_fault = now + Duration::from_millis(soak.random.within(300..2_500));
        }
        if now >= next_chain {
            soak.end_coordinator();
            soak.next_chain();
            next_chain = now + chain_time;
        }
        if now >= next_memory {
            soak.look_at_memory();
            next_memory = now + MEMORY_LOOK;
        }
        if now >= next_progress {
            eprintln!(
                "soak: {:>4} of {} s: {}",
                began.elapsed().as_secs(),
                wanted.time.as_secs(),
                soak.line()
            );
            next_progress = now + PROGRESS;
        }
    }
    soak.finish(&wanted, began.elapsed())
}

impl Soak {
    fn start(seed: u64) -> Self {
        let settings = Settings {
            stall_after: STALL_AFTER.to_owned(),
            // The soak itself causes frequent kills.
            kills: 100_000,
            // The same blocks recur; they are not what ends a shard.
            judge: "poison_after = 0".to_owned(),
            ..Settings::default()
        };
        let supervise = ["--backoff-max", "1s", "--stop-grace", "3s"].map(str::to_owned).to_vec();
        let cluster = Cluster::start(&Plan {
            shards: SHARDS,
            settings,
            proxied: (0..SHARDS).collect(),
            block_deadline: format!("{}s", DEADLINE.as_secs()),
            coordinator: false,
            supervise,
            // One settles and one helps.
            shard_arguments: ["--threads", "2"].map(str::to_owned).to_vec(),
            ..Plan::default()
        });
        let mut soak = Self {
            random: Random::new(seed),
            cluster,
            ledger: Ledger::default(),
            lives: Vec::new(),
            lasting: Vec::new(),
            struck: BTreeMap::new(),
            read: 0,
            last_end: Instant::now(),
            coordinators: 0,
            away: BTreeMap::new(),
            ended_by_hand: 0,
        };
        soak.next_chain();
        soak
    }

    /// Draws another chain, and starts a coordinator that runs it repeatedly.
    fn next_chain(&mut self) {
        let random = &mut self.random;
        let chain = Chain {
            transactions: random.within(1..50) as u32,
            conflict: *random.one(&[0.0, 0.1, 0.5, 1.0]),
            seed: random.draw(),
            kind: random.one(&Kind::NAMES).1,
            skew: *random.one(&[0.0, 1.0, 2.0]),
            ..Chain::default()
        };
        self.coordinators += 1;
        let folder = self.cluster.folder().join(format!("chain-{}", self.coordinators));
        let digests = write(chain, random.within(2..8), &folder);
        self.ledger.begin(digests, DEADLINE);
        self.cluster.run_blocks(&folder, &format!("{}s", DEADLINE.as_secs()));
        self.read = 0;
        self.last_end = Instant::now() + FIRST_BLOCK;
        self.away = (0..SHARDS).map(|shard| (shard, Instant::now())).collect();
    }

    /// Reads further, and checks whether the coordinator lives.
    fn read(&mut self, now: Instant) {
        // Checked before the lines are read, so that they include its last ones.
        let ended = self.cluster.coordinator_mut().process.ended();
        let lines = self.cluster.coordinator().process.lines();
        for line in lines.iter().skip(self.read) {
            if self.ledger.line(line) {
                self.last_end = self.last_end.max(now);
            }
            self.note_presence(line, now);
        }
        self.read = lines.len();
        let silence = now.saturating_duration_since(self.last_end);
        if let Some(status) = ended {
            // Its last output may still be in the pipe.
            let told = self.cluster.coordinator().process.lines();
            self.ledger.ended(status.code(), &told);
            self.ledger.silent(silence);
            self.next_chain();
        } else {
            self.ledger.silent(silence);
        }
    }

    /// Records which shards the coordinator has.
    fn note_presence(&mut self, line: &str, now: Instant) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        let Some(shard) = event["shard"].as_str().and_then(|shard| shard.parse().ok()) else { return };
        match event["event"].as_str() {
            Some("shard_joined") => {
                self.away.remove(&shard);
            }
            Some("shard_lost") => {
                self.away.insert(shard, now);
            }
            _ => {}
        }
    }

    fn fault(&mut self, now: Instant) {
        let fault = Fault::draw(&mut self.random, SHARDS);
        // One at a time for each: undoing one fault must not end another.
        if self.lasting.iter().any(|(_, other)| other.same_place(&fault)) || !fault.strike(&self.cluster) {
            return;
        }
        *self.struck.entry(fault.kind()).or_default() += 1;
        if fault == Fault::KillCoordinator {
            self.end_coordinator();
            self.next_chain();
        }
        if let Some(time) = fault.lasts() {
            self.lasting.push((now + time, fault));
        }
    }

    fn take_back(&mut self, now: Instant) {
        let cluster = &self.cluster;
        self.lasting.retain(|(until, fault)| {
            let over = now >= *until;
            if over {
                fault.end(cluster);
            }
            !over
        });
    }

    /// What an operator does about a shard that no longer takes part. Shard 0 is not exempt: it
    /// only lives longer.
    fn end_the_useless(&mut self, now: Instant) {
        for (shard, since) in &mut self.away {
            if now.saturating_duration_since(*since) > USELESS {
                self.ended_by_hand +=
                    u64::from(fault::signal(&self.cluster.shards[*shard], "CMD", Signal::KILL));
                *since = now;
            }
        }
    }

    /// Ends the present coordinator, and processes its last output.
    fn end_coordinator(&mut self) {
        let process = &mut self.cluster.coordinator_mut().process;
        process.signal(Signal::TERM);
        // Its own limit for stopping is 2 s.
        let until = Instant::now() + Duration::from_secs(10);
        while process.is_running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        match process.ended() {
            Some(status) if status.code().is_none_or(|code| code == 0 || code == 3) => {}
            status => {
                self.ledger.violations.push(format!("told to stop, the coordinator did so with {status:?}"));
            }
        }
        let lines = self.cluster.coordinator().process.lines();
        for line in lines.iter().skip(self.read) {
            self.ledger.line(line);
        }
        self.read = lines.len();
    }

    fn look_at_memory(&mut self) {
        let mut now = vec![("the coordinator".to_owned(), Some(self.cluster.coordinator().process.pid()))];
        for (number, shard) in self.cluster.shards.iter().enumerate() {
            now.push((format!("shard {number}"), fault::pid_of(shard, "CMD")));
        }
        for (name, pid) in now {
            let Some(pid) = pid else { continue };
            match self.lives.iter_mut().rev().find(|life| life.name == name) {
                Some(life) if life.pid == pid => life.look(),
                _ => self.lives.push(Life::new(name, pid)),
            }
        }
    }

    fn line(&self) -> String {
        let Ledger { verified, typed_errors, retries, losses, .. } = &self.ledger;
        let faults: u64 = self.struck.values().sum();
        format!(
            "{verified} blocks verified, {typed_errors} typed errors, {faults} faults, {retries} retries, {losses} shards lost, {} coordinators",
            self.coordinators
        )
    }

    fn finish(mut self, wanted: &Wanted, took: Duration) -> Result<Value, (Vec<String>, Value)> {
        for (_, fault) in &self.lasting {
            fault.end(&self.cluster);
        }
        self.end_coordinator();
        let counted = |name| -> u64 {
            self.cluster.shards.iter().filter_map(|shard| fault::counted(&shard.faults, name)).sum()
        };
        let at_shards =
            ["stale", "results_dropped", "malformed", "coordinators_lost"].map(|name| (name, counted(name)));
        self.ledger.violations.extend(self.lives.iter().filter_map(Life::leak));
        // Each order is carried out within the next few parts, if its shard lives that long; of so
        // many orders, one must show.
        let ghosts = self.struck.get("ghost").copied().unwrap_or_default();
        if ghosts > GHOSTS && self.ledger.ghosts == 0 {
            let what = format!("{ghosts} results of dead incarnations were ordered, and none was discarded");
            self.ledger.violations.push(what);
        }
        let steepest = |of: &str| {
            let slopes = self.lives.iter().filter(|life| life.name.contains(of)).filter_map(Life::slope);
            slopes.fold(None, |most: Option<f64>, slope| Some(most.map_or(slope, |most| most.max(slope))))
        };
        let ledger = &self.ledger;
        let mut figures = Map::from_iter(
            [
                ("seed", json!(wanted.seed)),
                ("seconds", json!(took.as_secs_f64())),
                ("blocks_verified", json!(ledger.verified)),
                ("blocks_ended_as_typed_error", json!(ledger.typed_errors)),
                ("longest_block_ms", json!(ledger.longest_ms)),
                ("parts_dispatched_again", json!(ledger.retries)),
                ("shards_lost", json!(ledger.losses)),
                ("shards_ended_by_the_harness", json!(self.ended_by_hand)),
                ("coordinators", json!(self.coordinators)),
                ("messages_discarded_by_coordinators", json!(ledger.discarded)),
                ("coordinators_offered_results_of_the_dead", json!(ledger.ghosts)),
                ("steepest_coordinator_mib_per_minute", json!(steepest("coordinator"))),
                ("steepest_shard_mib_per_minute", json!(steepest("shard"))),
                ("faults", json!(self.struck.values().sum::<u64>())),
                ("faults_by_kind", json!(self.struck)),
                ("violations", json!(ledger.violations.len())),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        // Of the incarnations that live at the end.
        figures.extend(at_shards.map(|(name, count)| (format!("messages_{name}_at_shards"), json!(count))));
        eprintln!("soak: {:>4} of {} s: {}", took.as_secs(), wanted.time.as_secs(), self.line());
        let violations = ledger.violations.clone();
        if violations.is_empty() {
            Ok(Value::Object(figures))
        } else {
            Err((violations, Value::Object(figures)))
        }
    }
}

/// Writes a chain, and returns the digest of the state after each block, executed in order.
fn write(chain: Chain, blocks: u64, folder: &Path) -> BTreeMap<u64, String> {
    std::fs::create_dir_all(folder).expect("the temporary folder takes a folder");
    let mut generator = Generator::new(chain);
    let in_order = Local::new(1).expect("one shard needs no thread");
    let mut digests = BTreeMap::new();
    let mut state = None;
    for number in 0..blocks {
        let made = Arc::new(generator.next_block().expect("the generator makes blocks"));
        let path: PathBuf = folder.join(format!("{number:03}.json.gz"));
        block::write(&made, &path).expect("the temporary folder takes a block");
        let (report, after) =
            in_order.run(&made, state.take(), &|| {}).expect("a generated block can be executed");
        digests.insert(report.number, report.digest.to_string());
        state = Some(after);
    }
    digests
}
