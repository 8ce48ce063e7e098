//! A target that is healthy but gets hardly any CPU: ending it makes things worse.

use std::time::{Duration, Instant};

use super::ground::Ground;
use crate::hogs::Hogs;

/// The number in the issue that asked for the comparison.
pub const HOGS: usize = 8;
/// Between two checks of what the target wrote.
const LOOK: Duration = Duration::from_millis(50);
/// A starved process takes its time to die of SIGTERM. Once the hogs are gone it does, and every
/// peer here restarts it within this time.
const AFTERMATH: Duration = Duration::from_secs(3);

/// The results of starving a target.
#[derive(Clone, Copy, Debug)]
pub struct Starved {
    /// How often the target was restarted in that time, though nothing was wrong with it.
    pub false_kills: usize,
    /// Pieces of work that it finished nevertheless, each taking longer than the threshold. If
    /// there are none, the machine had too much CPU for starvation.
    pub slow_pieces: usize,
    /// How long it was starved.
    pub seconds: f64,
}

impl Starved {
    /// Gives the target the lowest possible priority (`SCHED_IDLE`), and runs hogs at the normal
    /// one beside it. A new life of it gets that priority too once it works.
    #[track_caller]
    pub fn measure(ground: &Ground, time: Duration) -> Self {
        ground.settled();
        let from = ground.events().len();
        assert!(ground.order("/starve"), "the target takes no order");
        let hogs = Hogs::start(HOGS);
        let began = Instant::now();
        let mut told = 0;
        while began.elapsed() < time {
            let lives = count(ground, from, "running");
            if lives > told && ground.order("/starve") {
                told = lives;
            }
            std::thread::sleep(LOOK);
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(hogs);
        std::thread::sleep(AFTERMATH);
        let (false_kills, slow_pieces) = (count(ground, from, "started"), count(ground, from, "slow"));
        Self { false_kills, slow_pieces, seconds }
    }
}

fn count(ground: &Ground, from: usize, what: &str) -> usize {
    ground.events().iter().skip(from).filter(|event| event.what == what).count()
}
