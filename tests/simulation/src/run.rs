//! Runs many histories at once, on every CPU, and reports progress now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::generator;
use super::history::Stage;
use super::random::Random;
use super::report::{self, Breach, Breaches};

/// How often a long run reports its progress.
const PROGRESS: Duration = Duration::from_secs(2);
/// A broken judge breaks rules often: once this many histories have broken one, the rest would only
/// take time.
const ENOUGH: u64 = 1_000;

/// The result of many histories.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Histories lived through.
    pub histories: u64,
    /// Observations made in them.
    pub looks: u64,
    /// Kills begun.
    pub kills: u64,
    /// Stalls condemned.
    pub stalls: u64,
    /// Stalls condemned by a deadline of the work's own.
    pub hastened: u64,
    /// Processes condemned for a channel from which nobody received.
    pub lags: u64,
    /// Processes condemned for a thread that began no work.
    pub silences: u64,
    /// Kills that a person requested.
    pub asked: u64,
    /// Observations of a process that was spared for its work.
    pub spared: u64,
    /// Observations of a process whose core was being written.
    pub cores: u64,
    /// Histories that broke a rule.
    pub violations: u64,
    /// Which rules, and in which histories.
    pub broken: BTreeMap<&'static str, Breaches>,
    /// How long it took.
    pub took: Duration,
}

impl Summary {
    /// Histories a second.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub fn rate(&self) -> f64 {
        self.histories as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Every broken rule with the histories that broke it, as text. `stage` is the one that it was
    /// run on.
    pub fn report(&self, stage: &Stage) -> String {
        report::report(&self.broken, stage)
    }

    fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.looks += other.looks;
        self.kills += other.kills;
        self.stalls += other.stalls;
        self.hastened += other.hastened;
        self.lags += other.lags;
        self.silences += other.silences;
        self.asked += other.asked;
        self.spared += other.spared;
        self.cores += other.cores;
        self.violations += other.violations;
        for (rule, breaches) in other.broken {
            self.broken.entry(rule).or_default().add(breaches);
        }
    }
}

/// The seed of history number `number` of a run.
pub const fn seed_of(seed: u64, number: u64) -> u64 {
    if number == 0 { seed } else { Random::new(seed.wrapping_add(number)).word() }
}

/// What a run reports before it is over.
#[derive(Clone, Debug)]
pub enum Progress {
    /// This many histories have begun, after this time.
    Begun(u64, Duration),
    /// A history broke a rule. If the run is ended early, this is all that is known of it.
    Broke(Breach),
}

/// Lives through `histories` histories on `threads` threads.
pub fn run(seed: u64, histories: u64, threads: usize, progress: impl FnMut(Progress)) -> Summary {
    run_on(&Stage::default(), seed, histories, threads, progress)
}

/// The same on this stage.
pub fn run_on(
    stage: &Stage,
    seed: u64,
    histories: u64,
    threads: usize,
    mut progress: impl FnMut(Progress),
) -> Summary {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = channel();
    let (breaches, broke) = channel();
    for _ in 0..threads.max(1) {
        let (next, sender, enough) = (Arc::clone(&next), sender.clone(), Arc::clone(&enough));
        let breaches = breaches.clone();
        let stage = stage.clone();
        thread::spawn(move || {
            let range = (seed, histories);
            let _ = sender.send(work(&stage, range, &next, &enough, &breaches));
        });
    }
    drop(sender);
    let mut summary = Summary::default();
    loop {
        match receiver.recv_timeout(PROGRESS) {
            Ok(part) => summary.add(part),
            Err(RecvTimeoutError::Timeout) => {
                broke.try_iter().for_each(|breach| progress(Progress::Broke(breach)));
                progress(Progress::Begun(next.load(Ordering::Relaxed).min(histories), began.elapsed()));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    summary.took = began.elapsed();
    summary
}

fn work(
    stage: &Stage,
    (seed, histories): (u64, u64),
    next: &AtomicU64,
    enough: &AtomicBool,
    broke: &Sender<Breach>,
) -> Summary {
    /// Histories taken at a time, so that threads do not contend for the counter.
    const BATCH: u64 = 64;
    let mut summary = Summary::default();
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= histories || enough.load(Ordering::Relaxed) {
            return summary;
        }
        for number in first..(first + BATCH).min(histories) {
            let plan = generator::plan(seed_of(seed, number));
            let outcome = stage.live(&plan);
            summary.histories += 1;
            summary.looks += outcome.looks;
            summary.kills += outcome.kills;
            summary.stalls += outcome.stalls;
            summary.hastened += outcome.hastened;
            summary.lags += outcome.lags;
            summary.silences += outcome.silences;
            summary.asked += outcome.asked;
            summary.spared += outcome.spared;
            summary.cores += outcome.cores;
            if let Some(violation) = outcome.violation {
                summary.violations += 1;
                let breach = Breach { number, seed: plan.seed, violation };
                // The receiver may be gone after the last progress report: the summary has it all.
                let _ = broke.send(breach.clone());
                summary.broken.entry(breach.violation.rule).or_default().push(breach);
                if summary.violations >= ENOUGH {
                    enough.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
