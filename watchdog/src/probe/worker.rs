//! The workers in a thread's lanes: whether each exists, and the kernel's view of it. Queried only
//! while the thread makes no progress. The target itself states a lane's tid, so the tid is looked
//! up only among the target's tasks, and its start time must match the one in the lane. The result
//! can only excuse.

use std::sync::Arc;

use rustix::io::Errno;
use shard_heartbeat::{LaneSample, SlotState};

use crate::observation::{Presence, WorkerObservation};

use super::Adopted;
use super::allowance::Allowance;
use super::task::{TaskDir, Unreadable};
use super::thread::our_tid;

/// Most workers of one thread that are observed, those in the lowest lanes. A pool has as many
/// workers as it has CPUs.
const MOST_OF_A_THREAD: usize = 64;
/// Most workers that one observation queries, of all threads together: two to three milliseconds of
/// reading at worst.
const MOST_AT_ONCE: usize = 256;
/// Most workers that one observation opens. In another pid namespace, each requires a search
/// through all tasks of the target.
const OPENED_AT_ONCE: usize = 8;

/// What one observation may still spend on workers.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    asked: usize,
    opened: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { asked: MOST_AT_ONCE, opened: OPENED_AT_ONCE }
    }
}

/// What is held open for the workers of one thread.
#[derive(Debug, Default)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    lane: u32,
    generation: u64,
    presence: Presence,
    dir: Option<TaskDir>,
}

impl Workers {
    /// Observes the current holder of each lane. If that fails, it is reported without a view.
    pub fn observe(
        &mut self,
        lanes: &[LaneSample],
        target: &Adopted,
        room: &mut Room,
        allowance: &Arc<Allowance>,
        into: &mut Vec<WorkerObservation>,
    ) {
        into.clear();
        // Lane 0 is the thread's own and not included.
        let live = (1..).zip(lanes).filter(|(_, lane)| lane.state == SlotState::Live);
        for (place, (lane, sample)) in live.take(MOST_OF_A_THREAD).enumerate() {
            if room.asked == 0 {
                break;
            }
            room.asked -= 1;
            let known = self.0.get(place).is_some_and(|known| known.is(lane, sample));
            if !known {
                let worker = if !allowance.has(1) {
                    Worker { presence: Presence::Unopened, ..Worker::unopened(lane, sample) }
                } else if room.opened == 0 {
                    Worker::unopened(lane, sample)
                } else {
                    room.opened -= 1;
                    Worker::open(lane, sample, target, allowance)
                };
                self.0.truncate(place);
                self.0.push(worker);
            }
            into.extend(self.0.get_mut(place).map(Worker::look));
        }
        self.0.truncate(into.len());
    }

    /// The CPUs on which they ran last, as far as the last observation found them runnable.
    pub fn runnable_on(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|worker| worker.dir.as_ref()?.runnable_on())
    }
}

impl Worker {
    /// Whether it is the worker in `sample` and has been opened.
    fn is(&self, lane: u32, sample: &LaneSample) -> bool {
        (self.lane, self.generation) == (lane, sample.generation)
            && (self.dir.is_some() || self.presence == Presence::Gone)
    }

    const fn unopened(lane: u32, sample: &LaneSample) -> Self {
        let generation = sample.generation;
        Self { lane, generation, presence: Presence::Unknown, dir: None }
    }

    fn open(lane: u32, sample: &LaneSample, target: &Adopted, allowance: &Arc<Allowance>) -> Self {
        let mut worker = Self::unopened(lane, sample);
        let tid = match our_tid(sample.tid, target) {
            Ok(Some(tid)) => tid,
            Ok(None) => {
                worker.presence = Presence::Gone;
                return worker;
            }
            // An impossible thread id: there is no such thread.
            Err(Unreadable) if i32::try_from(sample.tid).map_or(true, |tid| tid <= 0) => {
                worker.presence = Presence::Gone;
                return worker;
            }
            Err(Unreadable) => return worker,
        };
        match TaskDir::open_within(&target.proc_dir.join("task").join(tid.to_string()), allowance) {
            Ok(dir) => {
                worker.presence = dir.presence(target.start_times.of(sample.tid, sample.start_time));
                // Another task has that tid by now.
                worker.dir = Some(dir).filter(|_| worker.presence != Presence::Gone);
            }
            Err(Errno::NOENT | Errno::SRCH) => worker.presence = Presence::Gone,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => worker.presence = Presence::Unopened,
            Err(_) => {}
        }
        worker
    }

    fn look(&mut self) -> WorkerObservation {
        let task = self.dir.as_ref().and_then(TaskDir::observe);
        if task.is_none()
            && let Some(dir) = &self.dir
        {
            self.presence = dir.existence();
        }
        let Self { lane, generation, presence, .. } = *self;
        WorkerObservation { lane, generation, presence, task }
    }
}
