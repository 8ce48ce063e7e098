//! Two registered threads whose `stat` stays open. When another thread is lost, they show whether
//! the process lives on, without opening anything. Opening a folder of `/proc` and the files of two
//! tasks takes most of the time from an end to its verdict, and is impossible if the sidecar has no
//! descriptor left.

use super::task::{TaskDir, TaskFate};
use super::thread::WatchedThread;

/// With the main thread there are three, so that any one of them may be the lost one.
const CHOSEN: usize = 2;

/// The chosen threads.
#[derive(Debug, Default)]
pub struct Bystanders([Option<Chosen>; CHOSEN]);

#[derive(Clone, Copy, Debug)]
struct Chosen {
    /// Index among the threads of the target.
    place: usize,
    key: (u32, u64),
    tid: i32,
}

impl Chosen {
    /// The thread, unless another one has taken its place or nothing is open for it any more.
    fn find<'a>(&self, threads: &'a [Option<WatchedThread>]) -> Option<&'a WatchedThread> {
        threads.get(self.place)?.as_ref().filter(|thread| thread.key() == self.key && thread.holds())
    }
}

impl Bystanders {
    /// Replaces the chosen threads that are no longer usable.
    pub fn choose(&mut self, threads: &mut [Option<WatchedThread>]) {
        for index in 0..CHOSEN {
            let chosen = self.0.get(index).copied().flatten();
            if chosen.is_none_or(|chosen| chosen.find(threads).is_none()) {
                let next = self.another(threads);
                if let Some(place) = self.0.get_mut(index) {
                    *place = next;
                }
            }
        }
    }

    fn another(&self, threads: &mut [Option<WatchedThread>]) -> Option<Chosen> {
        // By the task and not by the slot: one task may have two slots but is one witness.
        let taken = |tid| self.0.iter().flatten().any(|chosen| chosen.tid == tid);
        threads.iter_mut().enumerate().find_map(|(place, thread)| {
            let thread =
                thread.as_mut().filter(|thread| thread.may_be_bystander() && !taken(thread.tid()))?;
            thread.keep_stat_open().then(|| Chosen { place, key: thread.key(), tid: thread.tid() })
        })
    }

    /// Whether two of these and the main thread live on, which proves that the process does (see
    /// [`super::survivors`]). To be called after a loss was seen, not before.
    pub fn prove(&self, leader: &TaskDir, threads: &[Option<WatchedThread>]) -> bool {
        let others = self.0.iter().flatten().filter_map(|chosen| chosen.find(threads)?.fate());
        let fates = leader.fate().into_iter().chain(others);
        fates.filter(|fate| *fate == TaskFate::GoesOn).take(2).count() == 2
    }
}
