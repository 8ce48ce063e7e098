//! Which of the grounds found at one observation condemns the process.

use super::channels::Deaf;

/// A thread, by slot and generation: its index changes when another thread's trial ends.
pub(super) type Key = (u32, u64);

/// A ground for condemning a process, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// A person asked for its kill.
    Requested,
    /// It began to end and has not ended in time.
    ExitHung,
    /// A watched thread ended, and the process goes on.
    ThreadGone(Key),
    /// Its main thread ended, and the process goes on.
    LeaderGone,
    /// It has been stopped for longer than a stop may excuse.
    Stopped,
    /// A watched thread is at work and makes no progress.
    Stalled(Key),
    /// Nobody receives from a channel.
    Deaf(Deaf),
    /// A watched thread begins no work, although a witness shows that there is some.
    Silent(Key),
}

/// One part of a process, a thread or a channel, that would condemn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect<T> {
    /// Which.
    pub at_fault: T,
    /// Whether its work is in a crash loop, for which nothing is killed.
    pub spared: bool,
}

/// What one observation has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// A person asked for the kill.
    pub requested: bool,
    /// The kernel is writing the core of the process.
    pub core_dumping: bool,
    /// The process is ending; the value says whether it has been for too long.
    pub ending: Option<bool>,
    /// The process is condemned already, for work in a crash loop.
    pub spared: bool,
    /// The heartbeat segment could be read. Without it nobody knows whether a thread left the watch
    /// before it ended, or has made progress since.
    pub readable: bool,
    /// At least one thread is known to outlive those that ended.
    pub goes_on: bool,
    /// The first thread that ended; one that is not spared takes precedence.
    pub gone: Option<Suspect<Key>>,
    /// The main thread ended.
    pub leader_gone: bool,
    /// The process has been stopped for too long.
    pub stopped: bool,
    /// The first thread that has stalled; one that is not spared takes precedence.
    pub stalled: Option<Suspect<Key>>,
    /// The first channel from which nobody receives.
    pub deaf: Option<Suspect<Deaf>>,
    /// The first thread that begins no work. It has none, so none that is in a crash loop.
    pub silent: Option<Key>,
}

impl Found {
    /// The ground on which the process is condemned now, if there is one. Work in a crash loop is a
    /// ground only where there is no other one, and only once.
    pub(super) fn choose(&self) -> Option<Ground> {
        if self.requested {
            return Some(Ground::Requested);
        }
        if self.core_dumping {
            // It is ending, not hung: what can be observed is the kernel's work. Its end is judged
            // once the core is written.
            return None;
        }
        if let Some(overdue) = self.ending {
            return overdue.then_some(Ground::ExitHung);
        }
        let plain = |holds: bool, ground| holds.then_some((ground, false));
        let grounds = [
            self.gone_for_certain()
                .filter(|_| self.goes_on)
                .map(|gone| (Ground::ThreadGone(gone.at_fault), gone.spared)),
            plain(self.leader_gone && self.goes_on, Ground::LeaderGone),
            plain(self.stopped, Ground::Stopped),
            self.stalled
                .filter(|_| self.readable)
                .map(|stalled| (Ground::Stalled(stalled.at_fault), stalled.spared)),
            self.deaf.map(|deaf| (Ground::Deaf(deaf.at_fault), deaf.spared)),
            self.silent.filter(|_| self.readable).map(|silent| (Ground::Silent(silent), false)),
        ];
        let first = |spared: bool| grounds.into_iter().flatten().find(|found| found.1 == spared);
        let found = first(false).or_else(|| first(true).filter(|_| !self.spared))?;
        Some(found.0)
    }

    /// Whether a thread has ended, and the next observation decides whether the process goes on
    /// without it.
    pub(super) fn is_unsettled(&self) -> bool {
        let gone = self.gone_for_certain().is_some_and(|gone| !(self.spared && gone.spared));
        !self.core_dumping && self.ending.is_none() && (gone || self.leader_gone) && !self.goes_on
    }

    fn gone_for_certain(&self) -> Option<Suspect<Key>> {
        self.gone.filter(|_| self.readable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: Key = (3, 1);
    const OTHER: Key = (4, 1);
    const DEAF: Deaf = Deaf { channel: 0, consumer: OTHER, lost: false };

    /// A process that goes on, of which nothing was found.
    const WELL: Found = Found {
        requested: false,
        core_dumping: false,
        ending: None,
        spared: false,
        readable: true,
        goes_on: true,
        gone: None,
        leader_gone: false,
        stopped: false,
        stalled: None,
        deaf: None,
        silent: None,
    };

    /// Everything at once.
    const ALL: Found = Found {
        requested: true,
        ending: Some(true),
        gone: suspect(THREAD, false),
        leader_gone: true,
        stopped: true,
        stalled: suspect(OTHER, false),
        deaf: suspect(DEAF, false),
        silent: Some(THREAD),
        ..WELL
    };

    const fn suspect<T>(at_fault: T, spared: bool) -> Option<Suspect<T>> {
        Some(Suspect { at_fault, spared })
    }

    #[test]
    fn of_several_grounds_the_most_serious_one_counts() {
        let mut found = ALL;
        assert_eq!(found.choose(), Some(Ground::Requested));
        found.requested = false;
        assert_eq!(found.choose(), Some(Ground::ExitHung));
        found.ending = None;
        assert_eq!(found.choose(), Some(Ground::ThreadGone(THREAD)));
        found.gone = None;
        assert_eq!(found.choose(), Some(Ground::LeaderGone));
        found.leader_gone = false;
        assert_eq!(found.choose(), Some(Ground::Stopped));
        found.stopped = false;
        assert_eq!(found.choose(), Some(Ground::Stalled(OTHER)));
        found.stalled = None;
        assert_eq!(found.choose(), Some(Ground::Deaf(DEAF)));
        found.deaf = None;
        assert_eq!(found.choose(), Some(Ground::Silent(THREAD)));
        assert_eq!(Found { readable: false, ..found }.choose(), None);
        found.silent = None;
        assert_eq!(found.choose(), None);
    }

    #[test]
    fn nothing_but_a_person_condemns_a_process_that_writes_its_core() {
        assert_eq!(Found { core_dumping: true, requested: false, ..ALL }.choose(), None);
        assert_eq!(Found { core_dumping: true, ..ALL }.choose(), Some(Ground::Requested));
    }

    #[test]
    fn nothing_else_counts_against_a_process_that_ends_in_time() {
        let ends = Found { requested: false, ending: Some(false), ..ALL };
        assert_eq!(ends.choose(), None);
        assert!(!Found { goes_on: false, ..ends }.is_unsettled());
    }

    #[test]
    fn an_unreadable_segment_leaves_what_the_kernel_alone_reports() {
        let mut found = Found { requested: false, ending: None, readable: false, ..ALL };
        assert_eq!(found.choose(), Some(Ground::LeaderGone), "the thread may have left before it ended");
        (found.leader_gone, found.stopped, found.deaf) = (false, false, None);
        assert_eq!(found.choose(), None, "the thread may have made progress");
    }

    #[test]
    fn a_thread_is_lost_only_if_the_process_goes_on() {
        for (gone, leader_gone) in [(suspect(THREAD, false), false), (None, true)] {
            let found = Found { gone, leader_gone, goes_on: false, ..WELL };
            assert_eq!((found.choose(), found.is_unsettled()), (None, true));
            let found = Found { goes_on: true, ..found };
            assert!(found.choose().is_some() && !found.is_unsettled());
        }
        assert!(!Found { goes_on: false, ..WELL }.is_unsettled(), "nothing has ended");
        let unread = Found { gone: suspect(THREAD, false), readable: false, goes_on: false, ..WELL };
        assert!(!unread.is_unsettled());
    }

    #[test]
    fn work_in_a_crash_loop_gives_way_to_every_other_ground() {
        let found = Found { gone: suspect(THREAD, true), deaf: suspect(DEAF, false), ..WELL };
        assert_eq!(found.choose(), Some(Ground::Deaf(DEAF)));
        let found = Found { stalled: suspect(THREAD, true), stopped: true, ..WELL };
        assert_eq!(found.choose(), Some(Ground::Stopped));
    }

    #[test]
    fn work_in_a_crash_loop_condemns_once() {
        let found = Found { stalled: suspect(THREAD, true), deaf: suspect(DEAF, true), ..WELL };
        assert_eq!(found.choose(), Some(Ground::Stalled(THREAD)));
        let again = Found { spared: true, ..found };
        assert_eq!(again.choose(), None);
        assert_eq!(Found { stopped: true, ..again }.choose(), Some(Ground::Stopped));
        let gone = Found { gone: suspect(THREAD, true), goes_on: false, ..WELL };
        assert!(gone.is_unsettled() && !Found { spared: true, ..gone }.is_unsettled());
    }
}
