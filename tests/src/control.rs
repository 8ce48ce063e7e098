//! The matrix rows that must not be killed, repeated on one cluster under load, mixed with real
//! stalls.
//!
//! In each round, one shard meets something that looks like a stall but is none; now and then,
//! another shard really stalls at the same time. After each round, the kills that the sidecars
//! count are compared with the actual stalls: one kill too many is a healthy shard killed, one too
//! few a stall that nobody detected.

mod healthy;
mod stall;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Blocks, Cluster, Plan};
use crate::hogs::Hogs;
use crate::sidecar::Settings;
use crate::soak::random::Random;
use crate::{api, wait};
use healthy::Healthy;
use stall::Stall;

/// Enough that one is stalled, one is held from outside, and one does the work.
const SHARDS: usize = 3;

/// A shard may wait for its coordinator as long as the deadlines allow, all of which lie below a
/// block's deadline. Its watchdog must allow it that time (docs/failure-modes.md).
const DEADLINE: &str = "3s";
const STALL_AFTER: &str = "4s";

/// Small, so that a busy machine meets their deadline more often than not.
const BLOCKS: Blocks = Blocks::Generated { blocks: 10, transactions: 40 };

/// How long to wait for a stall to be detected: many times `stall_after`, for a machine on which
/// nothing gets its turn.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// Longer than `stall_after` and the excuse of a stop: a wrong kill would have happened by then.
const AFTERMATH: Duration = Duration::from_millis(1_500);

const PROGRESS: Duration = Duration::from_secs(30);

/// What the run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long to run.
    pub time: Duration,
    /// Seed that decides which events happen, and in which order.
    pub seed: u64,
    /// CPU hogs that run all the time, in addition to those that starve the cluster for seconds.
    pub hogs: usize,
}

struct Run {
    random: Random,
    blocks: PathBuf,
    cluster: Cluster,
    controls: BTreeMap<&'static str, u64>,
    stalls: BTreeMap<&'static str, u64>,
    missed: Vec<String>,
    wrong: Vec<String>,
    coordinators: u64,
    /// Blocks verified by the coordinators before the present one.
    verified: usize,
    healthy: Vec<Healthy>,
}

/// Runs it, reporting on standard error as it goes. Returns the figures, and what went wrong as
/// sentences.
pub fn run(wanted: Wanted) -> (Value, Vec<String>) {
    let began = Instant::now();
    eprintln!(
        "control: seed {}, for {:?}; the same again with --seed {}",
        wanted.seed, wanted.time, wanted.seed
    );
    let mut cluster = Cluster::start(&plan());
    let blocks = cluster.blocks();
    cluster.run_blocks(&blocks, DEADLINE);
    cluster.verified_after(0);
    let mut run = Run {
        random: Random::new(wanted.seed),
        blocks,
        cluster,
        controls: BTreeMap::new(),
        stalls: BTreeMap::new(),
        missed: Vec::new(),
        wrong: Vec::new(),
        coordinators: 1,
        verified: 0,
        healthy: healthy::possible_here(),
    };
    let left_out: Vec<&str> =
        healthy::ALL.iter().filter(|one| !run.healthy.contains(one)).map(|one| one.name()).collect();
    if !left_out.is_empty() {
        eprintln!("control: not possible here, and left out: {}", left_out.join(", "));
    }
    let _load = Hogs::start(wanted.hogs);
    let mut told = Instant::now();
    while began.elapsed() < wanted.time {
        run.tick();
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!(
                "control: {:>4} of {} s: {}",
                began.elapsed().as_secs(),
                wanted.time.as_secs(),
                run.line()
            );
        }
    }
    eprintln!("control: {:>4} of {} s: {}", began.elapsed().as_secs(), wanted.time.as_secs(), run.line());
    let figures = run.figures(wanted, began.elapsed());
    (figures, run.wrong.into_iter().chain(run.missed).collect())
}

/// The cluster of this run: neither the kill budget nor a crash loop withholds a kill, and a killed
/// shard is back soon.
fn plan() -> Plan {
    let settings = Settings {
        stall_after: STALL_AFTER.to_owned(),
        // This run itself causes frequent kills.
        kills: 100_000,
        // The same few blocks recur: what ends a shard here is not the block.
        judge: "exit_within = \"5s\"\npoison_after = 0".to_owned(),
        append: "[judge.excuse]\nstarved = \"3s\"\nthrottled = \"3s\"\ntraced = \"3s\"\nstopped = { at_most = \"10s\", then = \"kill\" }\n"
            .to_owned(),
        ..Settings::default()
    };
    let supervise = ["--backoff-max", "1s", "--stop-grace", "5s"].map(str::to_owned).to_vec();
    Plan {
        shards: SHARDS,
        settings,
        block_deadline: DEADLINE.to_owned(),
        supervise,
        blocks: BLOCKS,
        coordinator: false,
        ..Plan::default()
    }
}

impl Run {
    fn tick(&mut self) {
        self.keep_coordinating();
        let healthy = *self.random.one(&self.healthy);
        let shard = self.random.within(0..SHARDS as u64) as usize;
        let other = (shard + 1 + self.random.within(0..SHARDS as u64 - 1) as usize) % SHARDS;
        // A fault that takes the whole machine away delays a stall's detection: it is waited for.
        let stall = (self.random.within(0..3) == 0).then(|| *self.random.one(&stall::ALL));
        let time = Duration::from_millis(self.random.within(4_500..9_000));
        let before: Vec<(u64, i32)> = (0..SHARDS).map(|at| (self.kills(at), self.pid(at))).collect();
        let struck = stall.filter(|stall| stall.strike(&self.cluster, other));
        healthy.meet(&self.cluster, shard, time);
        std::thread::sleep(AFTERMATH);
        *self.controls.entry(healthy.name()).or_default() += 1;
        if let Some(stall) = struck {
            *self.stalls.entry(stall.name()).or_default() += 1;
            self.expect_kill(stall, other, before[other].0);
        }
        for (at, (kills, pid)) in before.iter().enumerate() {
            if struck.is_some() && at == other {
                continue;
            }
            let restarted = healthy == Healthy::Restart && at == shard;
            // A sidecar that was killed counts from zero again.
            let counted = if healthy == Healthy::SidecarKilled && at == shard { 0 } else { *kills };
            let (now, now_pid) = (self.kills(at), self.pid(at));
            if now != counted || (now_pid != *pid && !restarted) {
                let why = self.cluster.shards[at].sidecar.incidents().pop().map(|one| one["why"].clone());
                self.wrong.push(format!(
                    "shard {at} was killed or ended during '{}' of shard {shard} (pid {pid} → {now_pid}, kills {counted} → {now}): {}",
                    healthy.name(),
                    why.unwrap_or_default()
                ));
            }
        }
    }

    /// A coordinator ends when it loses a block with too many shards at once. That is not what is
    /// tested here.
    fn keep_coordinating(&mut self) {
        if self.cluster.coordinator_mut().process.ended().is_some() {
            self.verified += self.cluster.verified();
            self.cluster.run_blocks(&self.blocks, DEADLINE);
            self.coordinators += 1;
        }
    }

    fn expect_kill(&mut self, stall: Stall, shard: usize, kills: u64) {
        let began = Instant::now();
        while self.kills(shard) == kills {
            // Most faults strike in the middle of work.
            self.keep_coordinating();
            if began.elapsed() > SEEN_WITHIN {
                let status = self.cluster.shards[shard].sidecar.status().unwrap_or_default();
                self.missed.push(format!(
                    "'{}' of shard {shard} was not ended within {SEEN_WITHIN:?}: {}",
                    stall.name(),
                    status["reason"]
                ));
                crate::soak::fault::signal(&self.cluster.shards[shard], "CMD", rustix::process::Signal::KILL);
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        wait::within(SEEN_WITHIN, "the shard to be back", || {
            let status = self.cluster.shards[shard].sidecar.status()?;
            ["healthy", "excused"].iter().any(|good| status["verdict"] == *good).then_some(())
        });
    }

    /// The kills that a sidecar counts.
    fn kills(&self, shard: usize) -> u64 {
        let page = wait::within(SEEN_WITHIN, "the sidecar's metrics", || {
            api::get(self.cluster.shards[shard].sidecar.http, "/metrics")
        });
        let counts = page.body.lines().filter(|line| line.starts_with("shard_watchdog_kills_total{"));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    fn pid(&self, shard: usize) -> i32 {
        crate::soak::fault::pid_of(&self.cluster.shards[shard], "CMD").unwrap_or_default()
    }

    /// The figures after a run of this `time`.
    fn figures(&self, wanted: Wanted, time: Duration) -> Value {
        let stalls: u64 = self.stalls.values().sum();
        json!({
            "seed": wanted.seed,
            "hogs": wanted.hogs,
            "seconds": time.as_secs_f64(),
            "controls": self.controls.values().sum::<u64>(),
            "controls_by_kind": self.controls,
            "wrong_kills": self.wrong.len(),
            "stalls": stalls,
            "stalls_by_kind": self.stalls,
            "stalls_seen": stalls - self.missed.len() as u64,
            "blocks_verified": self.verified + self.cluster.verified(),
            "coordinators": self.coordinators,
        })
    }

    fn line(&self) -> String {
        let stalls: u64 = self.stalls.values().sum();
        format!(
            "{} controls, {} wrong kills; {stalls} stalls, {} seen; {} blocks verified",
            self.controls.values().sum::<u64>(),
            self.wrong.len(),
            stalls - self.missed.len() as u64,
            self.verified + self.cluster.verified()
        )
    }
}
