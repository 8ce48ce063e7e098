//! The stall clock: sums the time in which a thread at work could have made progress and did not.

use core::time::Duration;

use crate::observation::{TaskObservation, TaskState, WaitChannel};
use crate::verdict::ExcuseKind;

use super::policy::SAMPLES_APART;
use super::steal::{Robbed, Steal};
use super::tracing::Tracing;

/// The longest tick of a kernel (`CONFIG_HZ=100`). The CPU time of a running thread is updated at
/// the tick, so a thread that has shown no new CPU time for less than this may still have run.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// Time counted against one standstill.
///
/// The kernel's counters lag, each in its own way: CPU time is updated at the tick, time in the run
/// queue only once it is over. Both are exact while a thread sleeps. So a span of observations is
/// opened at one that reads the counters, and settled at the next that finds the thread asleep. If
/// the thread was asleep at both ends of a single interval, all of it counts except the time it
/// waited for a CPU. If it was runnable meanwhile, only the CPU time that it used counts: it may be
/// in the run queue now, and a thread throttled by its cgroup is in no run queue, so that none of
/// its own counters ever shows that time (Linux 6.18 on).
#[derive(Clone, Debug, Default)]
pub struct StallClock {
    /// Counted time of settled spans.
    settled: Duration,
    /// Counted time of the open span, as far as it is proved.
    proved: Duration,
    /// CPU time that it used in settled spans.
    ran: Duration,
    /// What of all this the hypervisor had taken.
    robbed: Robbed,
    span: Option<Span>,
    /// What held it at the last observation; if anything did, the time since then does not count.
    held: Option<ExcuseKind>,
    /// The last observation was void or had no data, so that the next one has nothing to compare
    /// with.
    blind: bool,
    /// No later observation can make any of the last interval count.
    void: bool,
    /// Time of earlier intervals that the last observation shows to have been starved as well.
    named_late: Duration,
    last: Option<TaskObservation>,
    tracing: Tracing,
    /// Watched time since the last progress.
    watched: Duration,
    /// At least [`SAMPLES_APART`] before `middle`, which is at most that much (and one interval)
    /// older than `newest`: they show the thread as it is now, not as it was when the standstill
    /// began.
    earlier: Option<Sample>,
    middle: Option<Sample>,
    newest: Option<Sample>,
}

/// One observation of a thread that nothing held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The kernel's view.
    pub task: TaskObservation,
    /// Time counted by then.
    pub counted: Duration,
    /// When it was taken, in watched time since the last progress.
    pub watched: Duration,
}

/// A run of observations between which nothing but waiting for a CPU can have kept the thread from
/// running.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The counters at its beginning.
    from: TaskObservation,
    /// Its length so far.
    length: Duration,
    /// For how long it has now been runnable without new CPU time.
    quiet: Duration,
    /// Sum, over the whole span, of intervals without new CPU time in which it was runnable at both
    /// ends. A thread throttled by its cgroup is taken off the run queue, and since Linux 6.18 none
    /// of its own counters ever shows that time.
    kept: Duration,
    /// Whether it has lately been without a CPU for most of the time.
    starved: bool,
    /// The latest intervals that neither counted nor were called starved, since it may still have
    /// run in them.
    unnamed: Duration,
}

impl Span {
    /// The CPU time that was used in it, by an observation at its end. What is more than its length
    /// was used before it began, and shows only now: at the tick, or because the hypervisor had the
    /// CPU.
    fn used(&mut self, now: TaskObservation) -> Option<Duration> {
        let used = grown(now.cpu_ns, self.from.cpu_ns)?;
        let before = u64::try_from(used.saturating_sub(self.length).as_nanos()).unwrap_or(u64::MAX);
        self.from.cpu_ns = self.from.cpu_ns.map(|cpu| cpu.saturating_add(before));
        Some(used.min(self.length))
    }
}

/// The result for one interval between two observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// How much more time counts now.
    pub counted: Duration,
    /// Why the rest, or all of it, did not. `None` if all of it counted, or if too little was lost
    /// to name a reason.
    pub excuse: Option<ExcuseKind>,
}

impl StallClock {
    /// Clears everything counted: after progress, a change of activity or a new incarnation, and
    /// only then.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Time counted so far.
    pub const fn counted(&self) -> Duration {
        self.settled.saturating_add(self.proved).saturating_sub(self.robbed.taken())
    }

    /// The CPU time that the thread has been observed to use.
    pub const fn ran(&self) -> Duration {
        self.used().saturating_sub(self.robbed.taken())
    }

    /// The same, with what the hypervisor took of it where the kernel includes that.
    const fn used(&self) -> Duration {
        self.ran.saturating_add(self.proved)
    }

    /// Sets what the hypervisor took, for the observation that follows.
    pub const fn with_steal(&mut self, steal: Steal) {
        self.robbed.hear(steal);
    }

    /// What the hypervisor took, as set for the last observation.
    pub const fn steal(&self) -> Steal {
        self.robbed.heard()
    }

    /// Whether what the hypervisor took of the counted time is known. If not, the next reading may
    /// take some of it off.
    pub fn is_settled(&self) -> bool {
        self.robbed.is_settled()
    }

    /// Whether a reading at the last observation has left some of the CPU time counted, although it
    /// may have taken other off.
    pub const fn confirms(&self) -> bool {
        self.robbed.confirms()
    }

    /// How much counted time the last observation took off, because the hypervisor had it, and
    /// which no observation before called lost.
    pub const fn taken_off(&self) -> Duration {
        self.robbed.taken_anew()
    }

    /// Whether the hypervisor had most of what seemed to be its CPU time, by the last reading.
    pub const fn is_robbed(&self) -> bool {
        self.robbed.is_robbed()
    }

    /// Two samples of the kernel's view: one that is at least [`SAMPLES_APART`] older than the
    /// newest, and the newest. `None` until there are two such since the last progress.
    pub fn samples(&self) -> Option<(Sample, Sample)> {
        Some((self.earlier?, self.newest?))
    }

    /// Whether the last interval never counts, whatever the kernel's counters show later: the
    /// thread was held, or could not be read.
    pub const fn is_void(&self) -> bool {
        self.void
    }

    /// Time of earlier intervals that turns out to have been starved: only a tick later is it
    /// certain that a thread without new CPU time did not run.
    pub const fn named_late(&self) -> Duration {
        self.named_late
    }

    /// Accounts for `elapsed` of a thread that has ended. Nothing excuses it any more except that
    /// the watchdog was late.
    pub fn advance_gone(&mut self, elapsed: Duration, late: bool) {
        if !late {
            self.settled = self.settled.saturating_add(elapsed);
        }
    }

    /// Accounts for `elapsed` since the last observation, at the end of which the kernel reports
    /// `task`.
    ///
    /// An interval with an unreadable end does not count: a late kill is better than a false one.
    pub fn advance(&mut self, elapsed: Duration, task: Option<TaskObservation>, late: bool) -> Interval {
        let before = self.counted();
        self.tracing.look(task.is_some_and(|task| task.state == TaskState::Traced));
        self.watched = self.watched.saturating_add(if late { Duration::ZERO } else { elapsed });
        (self.void, self.named_late) = (true, Duration::ZERO);
        let excuse = match task {
            _ if late => {
                self.close();
                self.blind = true;
                Some(ExcuseKind::ObserverLate)
            }
            None => {
                // The very first observation covers no time, and a thread seen for the first time
                // has not been read yet.
                let blind = self.blind || !elapsed.is_zero();
                self.pause();
                self.blind = blind;
                None
            }
            Some(now) => self.advance_to(elapsed, now),
        };
        let runs = !late && task.map_or(elapsed.is_zero(), |task| task.state == TaskState::Running);
        let waited = task.zip(self.last).and_then(|(now, last)| grown(now.run_delay_ns, last.run_delay_ns));
        // Of an interval with nothing to compare with, it is unknown how much CPU time it brought:
        // it leaves no room for what was stolen.
        let compared = if self.void && runs { Duration::ZERO } else { elapsed };
        self.robbed.settle(compared, self.used(), runs, waited.unwrap_or_default());
        if let Some(now) = task {
            if late {
                self.held = held(now);
                self.open(now);
            }
            self.last = Some(now);
            if self.held.is_none() {
                self.sample(now);
            }
        }
        Interval { counted: self.counted().saturating_sub(before), excuse }
    }

    /// Accounts for `elapsed` of a thread that is asleep and may be waiting for another thread of
    /// its process: only the CPU time that it used before it fell asleep counts.
    pub fn advance_waiting(&mut self, elapsed: Duration, task: TaskObservation, late: bool) -> Interval {
        let before = self.counted();
        if let Some(span) = self.span.filter(|_| !late && !self.tracing.comes_and_goes()) {
            let used = grown(task.cpu_ns, span.from.cpu_ns).unwrap_or_default();
            self.proved = self.proved.max(used.min(span.length.saturating_add(elapsed)));
        }
        let interval = self.advance(elapsed, None, late);
        Interval { counted: self.counted().saturating_sub(before), ..interval }
    }

    /// Notes an observation without data on the thread, or at which it is not on trial: nothing
    /// counts, and the next observation has nothing to compare with.
    pub const fn pause(&mut self) {
        self.close();
        self.blind = true;
        self.held = None;
    }

    fn sample(&mut self, task: TaskObservation) {
        let now = Sample { task, counted: self.counted(), watched: self.watched };
        self.newest = Some(now);
        let middle = *self.middle.get_or_insert(now);
        if self.watched.saturating_sub(middle.watched) >= SAMPLES_APART {
            self.earlier = Some(middle);
            self.middle = Some(now);
        }
    }

    fn advance_to(&mut self, elapsed: Duration, now: TaskObservation) -> Option<ExcuseKind> {
        let was_held = core::mem::replace(&mut self.held, held(now));
        let ran = |task: TaskObservation| task.state == TaskState::Running;
        // If a tracer stops it at every system call, an unknown share of the CPU time in between is
        // the tracer's.
        let shared = self.tracing.comes_and_goes() && (ran(now) || self.last.is_some_and(ran));
        // Held at either end: it is unknown for how much of the interval it was free.
        if let Some(kind) = self.held.or(was_held).or(shared.then_some(ExcuseKind::Traced)) {
            self.close();
            self.open(now);
            return Some(kind);
        }
        let Some(mut span) = self.span else {
            // Nothing to compare with. A thread that is asleep is taken to have slept since its
            // last beat; a runnable one may have waited for a CPU all the time.
            let sleeps = now.state != TaskState::Running && !self.blind;
            self.settled = self.settled.saturating_add(if sleeps { elapsed } else { Duration::ZERO });
            self.void = !sleeps;
            self.open(now);
            return None;
        };
        self.void = false;
        span.length = span.length.saturating_add(elapsed);
        let used = span.used(now);
        let waited = grown(now.run_delay_ns, span.from.run_delay_ns);
        if now.state == TaskState::Running {
            let more = used.unwrap_or_default().saturating_sub(self.proved);
            self.proved += more;
            let both = self.last.is_some_and(|last| last.state == TaskState::Running);
            span.kept =
                span.kept.saturating_add(if both && more.is_zero() { elapsed } else { Duration::ZERO });
            let since_more = span.quiet.saturating_add(elapsed);
            span.quiet = if more.is_zero() { span.quiet.saturating_add(elapsed) } else { Duration::ZERO };
            let waited = grown(now.run_delay_ns, self.last.and_then(|last| last.run_delay_ns));
            // An occasional time slice does not end starvation. CPU time shows at the tick: what
            // shows now may have been used at any time since the last increase.
            span.starved |= span.quiet >= LONGEST_TICK || waited.is_some_and(|waited| waited > elapsed / 2);
            span.starved &= more <= since_more / 2;
            if span.starved {
                let told = waited.filter(|waited| !waited.is_zero());
                let most = told.unwrap_or(if more.is_zero() { span.unnamed } else { Duration::ZERO });
                self.named_late = span.unnamed.min(most);
            }
            let unknown = !span.starved && more.is_zero();
            span.unnamed = if unknown { span.unnamed.saturating_add(elapsed) } else { Duration::ZERO };
            self.span = Some(span);
            return span.starved.then(|| self.without_cpu(now));
        }
        // If the kernel does not report how long it waited for a CPU, only a thread that was asleep
        // all along is known not to have waited. Any other may have waited whenever it did not run.
        let slept = span.from.state != TaskState::Running && span.length == elapsed;
        let ran = used.unwrap_or_default();
        let waited = waited.unwrap_or(if slept { Duration::ZERO } else { span.length.saturating_sub(ran) });
        // CPU time that shows only now was used while the thread seemed to wait.
        let waited = waited.max(span.kept.saturating_sub(used.unwrap_or_default()));
        let used = used.unwrap_or_default().max(self.proved);
        self.ran = self.ran.saturating_add(used);
        // If it was runnable at either end, it may have been off the run queue for any part of the
        // interval, which no counter shows.
        let could = if slept { span.length.saturating_sub(waited).max(used) } else { used };
        self.settled = self.settled.saturating_add(could);
        self.open(now);
        let starved = waited > span.length / 2;
        self.named_late = if starved { span.unnamed.min(waited) } else { Duration::ZERO };
        starved.then(|| self.without_cpu(now))
    }

    /// What a runnable thread that is given no CPU waits for, at an observation that shows `now`.
    fn without_cpu(&self, now: TaskObservation) -> ExcuseKind {
        let limited = |task: TaskObservation| task.wait == Some(WaitChannel::RealTime);
        if limited(now) || self.last.is_some_and(limited) {
            ExcuseKind::Throttled
        } else {
            ExcuseKind::Starved
        }
    }

    /// Ends the span and settles what is proved of it.
    const fn close(&mut self) {
        self.settled = self.settled.saturating_add(self.proved);
        self.ran = self.ran.saturating_add(self.proved);
        self.proved = Duration::ZERO;
        self.span = None;
    }

    /// Begins a span, unless the thread is held.
    fn open(&mut self, now: TaskObservation) {
        self.proved = Duration::ZERO;
        self.blind = false;
        let span = Span {
            from: now,
            length: Duration::ZERO,
            quiet: Duration::ZERO,
            kept: Duration::ZERO,
            starved: false,
            unnamed: Duration::ZERO,
        };
        self.span = self.held.is_none().then_some(span);
    }
}

/// What prevents a thread from running, if anything does.
fn held(task: TaskObservation) -> Option<ExcuseKind> {
    match (task.wait, task.state) {
        // Frozen first: a task held by the old freezer shows as uninterruptible sleep.
        (Some(WaitChannel::Frozen), _) => Some(ExcuseKind::Frozen),
        // Frozen or waiting for a disk, and the kernel does not report which: a process that may be
        // frozen is not killed (nor would the signal end it), and past the cap this is reported.
        (None, TaskState::DiskSleep) => Some(ExcuseKind::Frozen),
        (Some(WaitChannel::Memory), _) => Some(ExcuseKind::MemoryThrottled),
        (_, TaskState::Stopped) => Some(ExcuseKind::Stopped),
        (_, TaskState::Traced) => Some(ExcuseKind::Traced),
        _ => None,
    }
}

/// By how much a counter has grown, if both ends are known.
fn grown(now: Option<u64>, before: Option<u64>) -> Option<Duration> {
    Some(Duration::from_nanos(now?.saturating_sub(before?)))
}

#[cfg(test)]
mod tests;
