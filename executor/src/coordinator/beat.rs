//! The heartbeat slot of the coordinating thread.

use shard_heartbeat::{Section, ThreadBeat, Work, WorkGuard};

/// The thread's slot in the heartbeat, if there is one.
pub(super) struct Beat(pub(super) Option<ThreadBeat>);

impl Beat {
    pub(super) fn working(&self, work: Work) -> Option<WorkGuard<'_>> {
        self.0.as_ref().map(|beat| beat.working(work))
    }

    pub(super) fn enter(&self, section: Section) {
        if let Some(beat) = &self.0 {
            beat.enter(section);
        }
    }

    pub(super) fn progress(&self) {
        if let Some(beat) = &self.0 {
            beat.progress();
        }
    }

    pub(super) fn leave(self) {
        if let Some(beat) = self.0 {
            beat.leave();
        }
    }
}
