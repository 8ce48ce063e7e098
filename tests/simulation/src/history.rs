//! Lives through one plan, to its end or to the first broken rule.

use std::sync::Arc;

use shard_watchdog::judge::Note;

use super::invariants::{Invariants, Violation};
use super::plan::{Nanos, Plan};
use super::random::Random;
use super::watchdog::{Globs, Watchdog};
use super::world::World;

/// No history has this many observations, unless the loop spins.
const MOST_LOOKS: u64 = 200_000;

/// The result of one history.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Observations made.
    pub looks: u64,
    /// Kills begun.
    pub kills: u64,
    /// Stalls condemned.
    pub stalls: u64,
    /// Stalls condemned by a deadline of the work's own.
    pub hastened: u64,
    /// Channels condemned.
    pub lags: u64,
    /// Processes condemned for a thread that began no work.
    pub silences: u64,
    /// Kills that a person requested.
    pub asked: u64,
    /// Observations of a process that was spared for its work.
    pub spared: u64,
    /// Observations of a process whose core was being written.
    pub cores: u64,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
}

/// What every history needs and none changes, made once for all of them.
#[derive(Clone, Debug)]
pub struct Stage {
    globs: Globs,
    names: Vec<Arc<str>>,
    /// Whether the judge is misled on purpose.
    canary: bool,
}

impl Default for Stage {
    fn default() -> Self {
        let names = (0..8).map(|number| format!("exec-s{number}").into()).collect();
        Self { globs: Globs::default(), names, canary: false }
    }
}

impl Stage {
    /// A stage on which the judge is misled (`canary.rs`) if `canary`.
    pub fn with_canary(canary: bool) -> Self {
        Self { canary, ..Self::default() }
    }
}

impl Stage {
    /// Lives through `plan`.
    pub fn live(&self, plan: &Plan) -> Outcome {
        self.live_telling(plan, |_, _| {})
    }

    /// The same, and passes on what the judge notes at each observation.
    pub fn live_telling(&self, plan: &Plan, mut tell: impl FnMut(Nanos, &Note)) -> Outcome {
        let mut world = World::new(plan, &self.names[..plan.threads]);
        let mut watchdog = Watchdog::new(plan, &self.globs);
        let mut invariants = Invariants::default();
        let mut jitter = Random::new(plan.seed ^ 0x6A69_7474_6572);
        let mut looks = 0;
        while world.now < plan.end && invariants.violation.is_none() && looks < MOST_LOOKS {
            looks += 1;
            watchdog.sleep(&mut world, plan, jitter.between(0, plan.machine.jitter));
            for obeyed in watchdog.obey(&mut world, plan, &self.globs) {
                invariants.obeyed(obeyed);
            }
            watchdog.adopt(&world, plan);
            let (decision, execed) = watchdog.look(&mut world, plan, self.canary);
            for note in watchdog.judge.notes() {
                tell(world.now, note);
            }
            invariants.look(&mut world, &watchdog, plan, decision, execed);
            watchdog.act(&mut world, decision, execed, |watchdog, world, first| {
                invariants.signal(watchdog, world, plan, first);
            });
            invariants.acted(&watchdog, &world, decision, plan);
            world.reap(watchdog.observer.held);
        }
        if looks == MOST_LOOKS {
            let what = format!("{MOST_LOOKS} looks");
            invariants.violation.get_or_insert(Violation { at: world.now, rule: "spins", what });
        }
        let silences = invariants.silences.condemned;
        let Invariants {
            kills, stalls, hastened, lags, asked_kills: asked, spared, cores, violation, ..
        } = invariants;
        Outcome { looks, kills, stalls, hastened, lags, silences, asked, spared, cores, violation }
    }
}
