//! The sidecar compared with what people use today: one target, the same faults, the same
//! threshold.
//!
//! The target is a process with one working thread. Its main thread continues to answer HTTP and to
//! notify systemd whatever becomes of the worker, as the main loops of most services do. Each peer
//! in turn keeps it running, set up as its own documentation recommends; peers that can learn more
//! from the target are measured a second time with a target that reports it.
//!
//! The measurement is the same for all and knows nothing of the peer: the target records when it
//! meets the fault and when its next life has finished a first piece of work, and a pidfd shows
//! when the old life ended.

pub mod cost;
pub mod fault;
pub mod ground;
pub mod kubelet;
pub mod page;
pub mod peer;
pub mod plot;
mod reaper;
pub mod running;
pub mod starved;
pub mod table;
pub mod target;

use std::time::Duration;

/// How long the worker may go without progress, for every peer that has such a setting. Whole
/// seconds, since some of them support nothing smaller.
pub const THRESHOLD: Duration = Duration::from_secs(2);

/// The results for one peer.
#[derive(Debug)]
pub struct Outcome {
    /// The measured peer.
    pub peer: peer::Peer,
    /// Results for a worker that ends while its process lives.
    pub lost: fault::Times,
    /// Results for a worker that stands still.
    pub stall: fault::Times,
    /// Results for a process that was killed, which every supervisor detects.
    pub dead: fault::Times,
    /// What the peer does to a target that is healthy but starved.
    pub starved: Option<starved::Starved>,
    /// What the peer costs while nothing happens.
    pub cost: cost::Cost,
}

/// How a peer is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Faults of each kind.
    pub rounds: u32,
    /// If nothing acts on a fault within this time, it counts as not detected. Longer than any
    /// setting here takes to act.
    pub patience: Duration,
    /// How long a target works before a fault.
    pub settle: Duration,
    /// How long costs are measured.
    pub rest: Duration,
    /// How long the target is starved.
    pub starve: Duration,
}

/// Measures one peer.
#[track_caller]
pub fn measure(peer: peer::Peer, plan: Plan) -> Outcome {
    let ground = ground::Ground::new(peer, plan.settle);
    let running = running::Running::start(peer, &ground);
    ground.settled();
    if peer.asks() {
        ground.event("asked", 0);
    }
    let cost = cost::Cost::measure(&running, &ground, plan.rest);
    let mut outcome = Outcome {
        peer,
        lost: fault::Times::default(),
        stall: fault::Times::default(),
        dead: fault::Times::default(),
        starved: None,
        cost,
    };
    if !peer.acts() {
        return outcome;
    }
    for _ in 0..plan.rounds {
        outcome.dead.add(fault::Fault::Killed, &ground, plan.patience);
        outcome.lost.add(fault::Fault::Lost, &ground, plan.patience);
        outcome.stall.add(fault::Fault::Stall, &ground, plan.patience);
    }
    outcome.starved = Some(starved::Starved::measure(&ground, plan.starve));
    outcome
}
