//! Everything that reads: segment, `/proc`, pidfds → [`Observation`]. Nothing here decides or
//! signals.
//!
//! Every reader takes a root path, so that a test can pass a folder. What the kernel does not
//! report is `None`. In the steady state, one observation costs one `pread` of the segment and one
//! read of the main thread's `stat`.

pub mod allowance;
mod asked;
mod bystanders;
pub mod cgroup;
mod crowded;
pub mod handle;
pub mod mapped;
pub mod numbers;
pub mod proof;
pub mod segment;
pub mod start_times;
pub mod steal;
pub mod survivors;
pub mod task;
pub mod thread;
pub mod tracer;
pub mod wait_channel;
pub mod wakeup;
pub mod worker;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;
use rustix::io::Errno;
use shard_heartbeat::{Reader, Sight, TraceContext};

use crate::clock::{Monotonic, Suspends};
use crate::observation::{
    Declared, Observation, ProcessObservation, Survivors, TaskObservation, TaskState, ThreadObservation,
    ThrottleObservation,
};

use allowance::Allowance;
use bystanders::Bystanders;
use cgroup::Cgroups;
use crowded::Crowded;
use handle::TargetHandle;
use proof::Unproven;
use segment::{Consumers, SegmentProbe};
use start_times::StartTimes;
use steal::CpuSteal;
use survivors::Fate;
use task::{Program, TaskDir, TaskStat};
use thread::{Rank, WatchedThread};
use tracer::Tracer;
use wakeup::{Lacking, Wakeup, Woken};

/// A process that was found and checked, ready to be watched. Built outside the watch loop, because
/// the checks read files of `/proc` that can hang.
#[derive(Debug)]
pub struct Adopted {
    /// The handle of the process.
    pub handle: TargetHandle,
    /// Its segment; `None` for a target without one.
    pub segment: Option<Reader>,
    /// `/proc/PID`.
    pub proc_dir: PathBuf,
    /// `/proc/PID/task/PID`, open: the main thread only. The files in `/proc/PID` sum over all
    /// threads at each read.
    pub leader: TaskDir,
    /// Whether the thread ids in the segment are those of another pid namespace.
    pub other_pid_namespace: bool,
    /// How to convert start times in the segment to ours.
    pub start_times: StartTimes,
    /// For a target in a pid namespace beside this one, what makes it visible: `proc_dir` is below
    /// it.
    pub sight: Option<Arc<Sight>>,
}

/// How the end of a thread is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadEvents {
    /// By `pidfd_open(PIDFD_THREAD)`, Linux 6.9 and later.
    #[default]
    Pidfd,
    /// By polling `/proc/PID/task/TID` every 20 ms.
    Poll,
}

impl ThreadEvents {
    /// The name in flags and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pidfd => "pidfd",
            Self::Poll => "poll",
        }
    }
}

/// The probe: at most one target and everything kept open for it.
#[derive(Debug)]
pub struct Probe {
    wakeup: Wakeup,
    thread_events: ThreadEvents,
    target: Option<Target>,
    consumers: Vec<Consumers>,
    /// Slots and generations of idle threads to observe.
    silent: Vec<(u32, u64)>,
    ranks: Vec<(GlobMatcher, Rank)>,
    /// Most descriptors that may be open for threads and workers.
    most_open: usize,
    suspends: Suspends,
    steal: CpuSteal,
}

#[derive(Debug)]
struct Target {
    adopted: Adopted,
    segment: SegmentProbe,
    /// Indexed by slot.
    threads: Vec<Option<WatchedThread>>,
    /// Threads that prove that the process lives on when another one is lost.
    bystanders: Bystanders,
    /// Whether any thread must be polled for its end.
    asks: bool,
    exited: bool,
    signalled: Option<Monotonic>,
    declared: Declared,
    /// The leader's program at adoption, or when it was first reported.
    program: Option<Program>,
    /// Why the target may no longer be watched and signalled.
    lapse: Option<Unproven>,
    /// When opening was last retried for threads for which nothing could be opened.
    retried: Option<Monotonic>,
    /// The descriptors open for its threads and their workers.
    allowance: Arc<Allowance>,
    /// Its cgroups, once they were found.
    cgroups: Option<Cgroups>,
    /// The throttling that they last reported.
    throttle: Option<ThrottleObservation>,
    /// When the throttling was last read.
    throttle_read: Option<Monotonic>,
    /// When one of them was last over its `memory.high`.
    over_memory: Option<Monotonic>,
}

/// The period of a CPU bandwidth limit is 100 ms by default, and the counters change once per
/// period.
const READ_THROTTLE: Duration = Duration::from_millis(100);

/// Most threads opened in one observation, which takes some milliseconds. The next ones continue.
const OPENED_AT_ONCE: usize = 512;

/// A shortage of descriptors or memory does not pass within milliseconds.
const RETRY_OPENING: Duration = Duration::from_secs(1);

impl Probe {
    /// A probe without a target. It notices ends of threads in the given way if the kernel supports
    /// it, else by polling.
    ///
    /// # Errors
    /// If the kernel lacks what the loop sleeps on.
    pub fn new(thread_events: ThreadEvents) -> Result<Self, Lacking> {
        Ok(Self {
            wakeup: Wakeup::new()?,
            thread_events: thread::possible(thread_events),
            target: None,
            consumers: Vec::new(),
            silent: Vec::new(),
            ranks: Vec::new(),
            most_open: usize::MAX,
            suspends: Suspends::default(),
            steal: CpuSteal::open(Path::new("/proc")),
        })
    }

    /// The same, with at most so many descriptors open for threads and their workers: the rest of
    /// the sidecar must have enough, however many threads the watched process claims to have.
    #[must_use]
    pub const fn keeping_open(mut self, most: usize) -> Self {
        self.most_open = most;
        self
    }

    /// What the process reported before it ended, or while it hangs. One read of the segment.
    pub fn last_words(&self) -> Option<String> {
        let reader = self.target.as_ref()?.adopted.segment.as_ref()?;
        Some(reader.last_words().ok()??.text)
    }

    /// The handle by which another thread wakes the loop.
    pub fn waker(&self) -> Arc<wakeup::Waker> {
        self.wakeup.waker()
    }

    /// How the end of a thread is noticed.
    pub const fn thread_events(&self) -> ThreadEvents {
        self.thread_events
    }

    /// Sleeps until `until`, or until something happens to the target or a waker calls.
    pub fn wait(&mut self, until: Monotonic) {
        for woken in self.wakeup.wait(until) {
            let Some(target) = &mut self.target else { continue };
            match woken {
                Woken::Called => {}
                Woken::Process => target.exited = true,
                Woken::Thread(slot) => {
                    if let Some(Some(thread)) = target.threads.get_mut(*slot) {
                        thread.ended();
                    }
                }
            }
        }
    }

    /// Watches `adopted` from now on, instead of any earlier target.
    pub fn adopt(&mut self, adopted: Adopted) -> Result<(), Errno> {
        self.release();
        self.wakeup.watch_process(adopted.handle.as_fd())?;
        let program = adopted.handle.program();
        self.target = Some(Target {
            adopted,
            segment: SegmentProbe::default(),
            threads: Vec::new(),
            bystanders: Bystanders::default(),
            asks: false,
            exited: false,
            signalled: None,
            declared: Declared::Unknown,
            program,
            lapse: None,
            retried: None,
            allowance: Allowance::new(self.most_open),
            cgroups: None,
            throttle: None,
            throttle_read: None,
            over_memory: None,
        });
        Ok(())
    }

    /// Stops watching. Returns the handle of the process that was watched.
    pub fn release(&mut self) -> Option<TargetHandle> {
        let target = self.target.take()?;
        self.wakeup.forget(target.adopted.handle.as_fd());
        for thread in target.threads.iter().flatten() {
            if let Some(fd) = thread.event_fd() {
                self.wakeup.forget(fd);
            }
        }
        Some(target.adopted.handle)
    }

    /// How many processes of its cgroup the OOM killer has ended since it came under watch.
    pub fn oom_kills(&self) -> u64 {
        let cgroups = self.target.as_ref().and_then(|target| target.cgroups.as_ref());
        cgroups.map_or(0, |cgroups| cgroups.oom_kills.since())
    }

    /// The process under watch.
    pub fn handle(&self) -> Option<&TargetHandle> {
        self.target.as_ref().map(|target| &target.adopted.handle)
    }

    /// Whether the process was restored from a checkpoint.
    pub fn is_restored(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.adopted.start_times.is_restored())
    }

    /// Why the watched process is no longer the target, if so: for example, it now runs another
    /// program, which knows nothing of the segment.
    pub fn lapse(&self) -> Option<&Unproven> {
        self.target.as_ref()?.lapse.as_ref()
    }

    /// Records that it is no longer the target.
    pub fn lapsed(&mut self, why: Unproven) {
        if let Some(target) = &mut self.target {
            target.lapse.get_or_insert(why);
        }
    }

    /// Sets the cgroups of the process, as found outside the loop.
    pub fn in_cgroups(&mut self, cgroups: Cgroups) {
        if let Some(target) = &mut self.target {
            (target.cgroups, target.throttle, target.throttle_read) = (Some(cgroups), None, None);
        }
    }

    /// Records that we sent a signal, for the judge.
    pub fn signalled(&mut self, at: Monotonic) {
        if let Some(target) = &mut self.target {
            target.signalled.get_or_insert(at);
        }
    }

    /// The trace context of the work that a thread had in flight.
    pub fn trace_of(&self, slot: u32, generation: u64) -> Option<TraceContext> {
        let reader = self.target.as_ref()?.adopted.segment.as_ref()?;
        let described = reader.describe(slot as usize).ok()??;
        (described.generation == generation && described.trace != TraceContext::default())
            .then_some(described.trace)
    }

    /// Who traces the thread in that slot, or else the main thread.
    pub fn tracer_of(&self, slot: Option<u32>) -> Option<Tracer> {
        let target = self.target.as_ref()?;
        let thread = slot.and_then(|slot| target.threads.get(slot as usize)?.as_ref());
        let tid = thread.map_or(0, WatchedThread::tid);
        let tid = if tid > 0 { tid } else { target.adopted.handle.identity().pid };
        let process = &target.adopted.proc_dir;
        Tracer::of(&process.join("task").join(tid.to_string()), process.parent()?)
    }

    /// Makes one observation. `into` is reused.
    pub fn observe(&mut self, at: Monotonic, into: &mut Observation) {
        into.at = at;
        into.suspended_ns = self.suspends.read();
        (into.stolen_ns, into.process) = (None, None);
        if let Some(target) = &mut self.target {
            target.note_unmapped();
        }
        let Some(target) = self.target.as_mut().filter(|target| target.lapse.is_none()) else {
            into.threads.clear();
            into.channels.clear();
            return;
        };
        // Poll for ended threads before reading the segment: a thread that leaves in order records
        // it there first, so what is read is never older than the end that it explains.
        if target.asks {
            for thread in target.threads.iter_mut().flatten() {
                thread.look(&target.adopted.leader);
            }
        }
        // If it cannot be read, its last state stands; without the kernel's view, no time counts
        // against it.
        let leader = target.adopted.leader.stat();
        let ended = |state| matches!(state, TaskState::Zombie | TaskState::Dead);
        let (leader_state, leader_ending) = match leader {
            Ok(Some(stat)) => (Some(stat.state), stat.ending),
            Ok(None) => (Some(TaskState::Dead), true),
            Err(_) => (None, false),
        };
        let pidfd = target.adopted.handle.as_fd();
        let exited = target.exited || self.wakeup.is_readable(pidfd, leader_state.is_some_and(ended));
        // The pidfd of a process that is gone is readable. If it is not, the files are hidden, not
        // gone.
        let hidden = matches!(leader, Ok(None)) && !exited;
        let readable = target.read_segment(at, &self.wakeup, self.thread_events, &self.ranks);
        target.bystanders.choose(&mut target.threads);
        let Target { adopted, segment, threads, allowance, .. } = target;
        let filled =
            segment.fill((threads, allowance), adopted, into, readable, (&self.consumers, &self.silent));
        target.asks = filled.asks;
        let standing = if filled.standing { &mut into.threads[..] } else { &mut [] };
        if let Some(cgroups) = &target.cgroups {
            cgroups.freezer.name(standing);
            cgroups.memory.name(at, &mut target.over_memory, standing);
        }
        target.read_throttle(at, standing);
        // After the threads' CPU times, so that no reading is older than they are.
        into.stolen_ns = self.steal.read(at, target.runnable_on(standing));
        let fate = if hidden {
            Fate { survivors: Survivors::Unknown, core_dumping: false }
        } else {
            target.fate(filled.lost, leader_ending)
        };
        target.note_exec(leader);
        if target.lapse.is_some() {
            into.threads.clear();
            into.channels.clear();
            return;
        }
        into.process = Some(ProcessObservation {
            identity: target.adopted.handle.identity(),
            declared: target.declared,
            segment_readable: readable,
            exited,
            leader: leader_state.filter(|_| !hidden),
            survivors: fate.survivors,
            signalled: target.signalled,
            throttle: target.throttle,
            core_dumping: fate.core_dumping,
        });
    }
}

impl Target {
    /// What happens to the process, if a thread is lost or the main thread is ending. Otherwise
    /// nothing is read for it.
    fn fate(&self, lost: bool, leader_ending: bool) -> Fate {
        if !lost && !leader_ending {
            return Fate::default();
        }
        let leader = &self.adopted.leader;
        Fate::ask(&self.adopted.proc_dir, Some(leader).filter(|_| leader_ending), || {
            self.bystanders.prove(leader, &self.threads)
        })
    }

    /// A process that no longer maps the segment's file is not the target any more.
    fn note_unmapped(&mut self) {
        if self.adopted.handle.mapped().is_lost() {
            let pid = self.adopted.handle.identity().pid;
            self.lapse.get_or_insert(Unproven::Unmapped { pid });
        }
    }

    /// An exec kills all threads but one, which looks like lost threads; the new program is another
    /// file.
    fn note_exec(&mut self, leader: Result<Option<TaskStat>, task::Unreadable>) {
        let Ok(Some(TaskStat { program: Some(now), .. })) = leader else { return };
        if now != *self.program.get_or_insert(now) {
            self.lapse = Some(Unproven::OtherProgram { pid: self.adopted.handle.identity().pid });
        }
    }

    /// Reads the throttling of the cgroups, if a thread without progress may be throttled now.
    fn read_throttle(&mut self, at: Monotonic, threads: &[ThreadObservation]) {
        let Some(Cgroups { cpu_stat, .. }) = &self.cgroups else { return };
        let runnable =
            |task: Option<TaskObservation>| task.is_some_and(|task| task.state == TaskState::Running);
        let waits = |thread: &ThreadObservation| {
            runnable(thread.task) || thread.workers.iter().any(|worker| runnable(worker.task))
        };
        let due = self.throttle_read.is_none_or(|before| at.since(before) >= READ_THROTTLE);
        if due && threads.iter().any(waits) {
            self.throttle = cpu_stat.read();
            self.throttle_read = Some(at);
        }
    }

    /// The CPUs on which threads without progress, and their workers, are runnable.
    fn runnable_on(&self, threads: &[ThreadObservation]) -> impl Iterator<Item = u32> {
        let without_progress = threads.iter().filter(|thread| thread.task.is_some());
        let watched = without_progress.filter_map(|seen| self.threads.get(seen.slot as usize)?.as_ref());
        watched.flat_map(WatchedThread::runnable_on)
    }

    /// Reads the segment and opens what is new in it. Returns whether the segment could be read.
    fn read_segment(
        &mut self,
        at: Monotonic,
        wakeup: &Wakeup,
        events: ThreadEvents,
        ranks: &[(GlobMatcher, Rank)],
    ) -> bool {
        let Some(reader) = &self.adopted.segment else { return true };
        let Some(sample) = self.segment.read(reader) else { return false };
        self.declared = segment::declared(sample.state);
        let retry = self.retried.is_none_or(|before| at.since(before) >= RETRY_OPENING);
        if retry {
            self.retried = Some(at);
        }
        self.threads.resize_with(sample.threads.len().max(self.threads.len()), || None);
        let mut crowded = Crowded::default();
        let mut opened = 0;
        for (place, slot) in sample.threads.iter().enumerate() {
            let known = self.threads.get(place).and_then(Option::as_ref);
            let same = |known: &WatchedThread| {
                known.key() == (slot.slot, slot.generation) && !(retry && known.wants_opening())
            };
            if known.is_some_and(same) || !segment::is_claimed(slot) {
                continue;
            }
            if opened == OPENED_AT_ONCE {
                break;
            }
            let again = known.filter(|known| known.key() == (slot.slot, slot.generation));
            let (again, (name, rank)) = match again {
                Some(known) => (true, (known.name(), known.rank())),
                None => {
                    let name = segment::thread_name(reader, slot);
                    let rank = rank_of(ranks, &name);
                    (false, (name, rank))
                }
            };
            if let Some(place) = self.threads.get_mut(place).filter(|_| !again) {
                // Another thread had the slot: release its descriptors.
                if let Some(fd) = place.as_ref().and_then(WatchedThread::event_fd) {
                    wakeup.forget(fd);
                }
                *place = None;
            }
            let room = crowded.make_room(rank, &mut self.threads, &sample.threads, &self.allowance);
            if again && !room {
                continue;
            }
            opened += 1;
            let mut thread = WatchedThread::open(slot, (name, rank), &self.adopted, events, &self.allowance);
            thread.opened();
            let told = thread.event_fd().is_none_or(|fd| wakeup.watch_thread(fd, slot.slot as usize).is_ok());
            // Without the event, polling still notices its end.
            if let Some(known) = self.threads.get_mut(place) {
                *known = Some(if told { thread } else { thread.without_event() });
            }
        }
        true
    }
}

fn rank_of(ranks: &[(GlobMatcher, Rank)], name: &str) -> Rank {
    ranks.iter().find(|(glob, _)| glob.is_match(name)).map_or(Rank::Unruled, |(_, rank)| *rank)
}

/// The descriptor of something that becomes readable when a task ends.
pub type EventFd<'a> = BorrowedFd<'a>;
