//! What must hold when a signal goes out: the very process that was condemned, killing switched on, and never more than the budget,
//! whatever was restarted, reloaded or set meanwhile.

use std::time::Duration;

use super::super::watchdog::Watchdog;
use super::super::world::World;
use super::Invariants;

impl Invariants {
    /// A signal is about to go out; `first` of its ladder.
    pub fn signal(&mut self, watchdog: &Watchdog, world: &World<'_>, first: bool) {
        let now = world.now;
        let target = watchdog.observer.held;
        let condemned = watchdog.judge.incarnation().and_then(|incarnation| incarnation.condemned());
        if target.is_none() || condemned.map(|condemned| condemned.target) != target || self.opened != target
        {
            let opened = self.opened;
            self.broken(now, "wrong process", || format!("a signal to {target:?}, condemned was {opened:?}"));
        }
        if !first {
            return;
        }
        self.kills += 1;
        if !watchdog.enforces() {
            self.broken(now, "only observes", || "a kill that nobody switched on".to_owned());
        }
        if let Some(key) = condemned.and_then(|condemned| condemned.work_key()) {
            let kills = self.killed_for.entry(key).or_default();
            *kills += 1;
            let kills = *kills;
            if kills > watchdog.policy.poison_after {
                self.broken(now, "poison", || {
                    format!("kill {kills} for work {key}, which nobody has cleared")
                });
            }
        }
        // A token bucket: at most its capacity at once, and in any time what refills in that time.
        let per = watchdog.kill.budget_per.as_secs_f64();
        let capacity = f64::from(watchdog.kill.budget_kills);
        for (place, from) in watchdog.kills.iter().enumerate() {
            let (time, within) =
                (Duration::from_nanos(now - from).as_secs_f64(), watchdog.kills.len() - place);
            #[allow(clippy::cast_precision_loss, reason = "a handful")]
            let within = within as f64;
            if within > capacity * (1.0 + time / per) + 1e-6 {
                self.broken(now, "budget", || {
                    format!("{within} kills in {time:.3} s, {capacity} in {per} s are allowed")
                });
            }
        }
    }
}
