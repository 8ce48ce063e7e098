//! The sidecar beside what people use today: one target, the same faults, the same threshold.
//!
//! The target is a process with one working thread. Its main thread goes on answering HTTP and
//! notifying systemd whatever becomes of the worker, as the main loops of most services do. Each
//! peer keeps it running in turn, set up as its own documentation recommends; those that can be
//! told more by the target are measured a second time with a target that tells them.
//!
//! What is measured is the same for all and knows nothing of the peer: the target writes down when
//! it meets the fault and when a new life of it has finished its first piece of work, and a pidfd
//! says when the old life ended.

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

/// How long the worker may go without progress, for every peer that can be told so. Whole seconds,
/// as some of them count in nothing smaller.
pub const THRESHOLD: Duration = Duration::from_secs(2);

/// What was found out about one peer.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub peer: peer::Peer,
    /// A worker that ends while its process lives.
    pub lost: fault::Times,
    /// A worker that stands still.
    pub stall: fault::Times,
    /// A process that was killed, which every supervisor sees.
    pub dead: fault::Times,
    /// What it does to a target that is healthy and starved.
    pub starved: Option<starved::Starved>,
    /// What it costs while nothing happens.
    pub cost: cost::Cost,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Faults of each kind.
    pub rounds: u32,
    /// A fault that nobody acted on within this time is not seen. Longer than any setting here
    /// takes to act.
    pub patience: Duration,
    /// How long a target works before it is broken.
    pub settle: Duration,
    /// How long costs are counted.
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
