//! Which process is watched: taken over from the adopter, which has checked it, and released when
//! it ends or is no longer the target. At most one is held, and one more waits.

use crate::adopt::Found;
use crate::clock::Monotonic;
use crate::event::Event;
use crate::probe::Adopted;

use super::Watch;

impl Watch {
    /// Takes over what the adopter has found since the last observation.
    pub(super) fn take_found(&mut self) {
        match self.adopter.take() {
            Some(Found::Target(adopted)) => self.pending = Some(adopted),
            Some(Found::Refused(why)) => {
                let at = crate::clock::now();
                self.judge.refused(&why, at);
                if let Some(shadow) = &mut self.shadow {
                    shadow.refused(&why, at);
                }
                self.recorder.refused(&why, at);
                self.publisher.send(Event::Refused { at, why });
            }
            Some(Found::Cgroups(cgroups)) => self.probe.in_cgroups(cgroups),
            None => {}
        }
        // The same process with a new segment is watched at once. Another process waits for the end
        // of the first.
        let same = |held: &Adopted| {
            self.probe.handle().is_some_and(|handle| handle.identity().pid == held.handle.identity().pid)
        };
        if self.probe.handle().is_none() || self.pending.as_deref().is_some_and(same) {
            self.adopt_pending();
        }
    }

    /// Watches the process that waits. If that fails, the adopter searches for it again.
    fn adopt_pending(&mut self) {
        let Some(adopted) = self.pending.take() else { return };
        let at = crate::clock::now();
        let target = adopted.handle.identity();
        let restored = adopted.start_times.is_restored();
        if self.probe.handle().is_some() {
            let why = "the process began again with a new segment".to_owned();
            self.story.abandon(at, why, &mut self.publisher);
        }
        self.spare();
        match self.probe.adopt(*adopted) {
            Ok(()) => {
                self.adopter.hunt(false);
                self.publisher.send(Event::Adopted { at, target, restored });
                self.rehearse(at);
            }
            Err(error) => {
                self.adopter.try_again();
                let why = format!("process {} cannot be watched: {error}", target.pid);
                self.judge.refused(&why, at);
                if let Some(shadow) = &mut self.shadow {
                    shadow.refused(&why, at);
                }
                self.recorder.refused(&why, at);
                self.publisher.send(Event::Refused { at, why });
            }
        }
    }

    /// What is watched is no longer the target: releases it unharmed, and searches again.
    pub(super) fn lapsed(&mut self, why: String, at: Monotonic) {
        self.story.abandon(at, why.clone(), &mut self.publisher);
        self.let_go(at);
        self.adopter.try_again();
        self.recorder.refused(&why, at);
        self.publisher.send(Event::Refused { at, why: why.clone() });
        self.lapse = Some(why);
    }

    /// The process has ended: searches for the next incarnation.
    pub(super) fn let_go(&mut self, at: Monotonic) {
        let oom_kills = self.probe.oom_kills();
        let handle = self.probe.release();
        self.spare();
        self.story.keep_for_status(handle, oom_kills, at);
        self.adopter.hunt(true);
    }
}
