//! Commands from outside the loop, carried out between two observations, so that none sees half of
//! a new config. An answer goes into a channel of its own, for which the loop does not wait.

use std::sync::Arc;

use crate::clock::Monotonic;
use crate::config::Config;

use super::Watch;
use super::control::{Cleared, Command};
use super::rules::{consumers, policy, ranks};
use super::shadow::Shadow;

/// What the loop does after it has carried out its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obeyed {
    GoOn,
    Stop,
}

impl Watch {
    /// Carries out every command that has arrived, in order, up to one that says stop.
    pub(super) fn obey(&mut self) -> Obeyed {
        while let Some(command) = self.inbox.take() {
            match command {
                Command::Stop => return Obeyed::Stop,
                Command::Recording(answer) => {
                    // The requester may be gone.
                    let _ = answer.send(Box::new(self.recorder.copy(crate::clock::now())));
                }
                Command::Pause(pause, answer) => {
                    let at = crate::clock::now();
                    self.recorder.paused(pause.until, at);
                    // The requester may be gone: here, and below.
                    let _ = answer.send(self.hand.set(pause, at, &mut self.publisher));
                }
                Command::Resume(by, answer) => {
                    let at = crate::clock::now();
                    self.recorder.resumed(at);
                    let _ = answer.send(self.hand.resume(by, at, &mut self.publisher));
                }
                Command::Clear(key, answer) => {
                    let before = *self.judge.crash_loops();
                    self.clear(key, crate::clock::now());
                    let after = self.judge.crash_loops();
                    let mut keys = before.keys().to_vec();
                    keys.retain(|key| !after.contains(*key));
                    let (before, after) = (before.kills_without_progress(), after.kills_without_progress());
                    let kills_without_progress = before.saturating_sub(after);
                    let _ = answer.send(Cleared { keys, kills_without_progress });
                }
                Command::Kill(order, answer) => self.take_order(&order, answer),
                Command::Reload(config, answer) => {
                    self.reload(config);
                    let _ = answer.send(());
                }
            }
        }
        Obeyed::GoOn
    }

    /// Puts a new config in force, for the judge, its shadow, the probe and the budget at once.
    fn reload(&mut self, config: Arc<Config>) {
        self.policy = policy(&config, &self.probe);
        Shadow::reload(
            &mut self.shadow,
            config.shadow.as_ref(),
            &self.policy,
            *self.judge.crash_loops(),
            crate::clock::now(),
        );
        self.probe.look_at_consumers(consumers(&self.policy, self.shadow.as_ref()));
        self.probe.rank_by(ranks(&self.policy));
        self.judge.rules_changed(&self.policy);
        let at = crate::clock::now();
        self.budget.limit(config.kill.budget_kills, config.kill.budget_per, at);
        self.recorder.reloaded(at);
        self.config = config;
    }

    /// A person orders that `key`, or all work, be judged like any other again.
    fn clear(&mut self, key: Option<u64>, at: Monotonic) {
        self.judge.clear(key);
        if let Some(shadow) = &mut self.shadow {
            shadow.clear(key);
        }
        self.recorder.cleared(at, key, self.judge.crash_loops());
        self.remember(at);
        self.publisher.hurry();
    }
}
