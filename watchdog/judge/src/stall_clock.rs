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
mod tests {
    use super::super::steal::Thief;
    use super::*;
    use crate::clock::Monotonic;

    const LOOK: Duration = Duration::from_millis(10);

    fn task(state: TaskState, cpu: u64, delay: u64) -> Option<TaskObservation> {
        Some(TaskObservation { state, cpu_ns: Some(cpu), run_delay_ns: Some(delay), wait: None })
    }

    #[test]
    fn time_off_the_run_queue_that_no_counter_tells_is_not_given_back_by_a_sleep() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        for _ in 0..50 {
            clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        }
        // Its quota is back: it runs for a millisecond and sleeps. Its run delay has not grown.
        clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 0), false);
        assert!(clock.counted() <= 2 * LOOK, "{:?}", clock.counted());
    }

    #[test]
    fn cpu_time_from_before_a_span_that_shows_within_it_counts_once_at_most() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        for _ in 0..5 {
            // A second shows all at once, and none after that.
            clock.advance(LOOK, task(TaskState::Running, 1_000_000_000, 0), false);
        }
        assert_eq!(clock.counted(), LOOK, "as long as the span was when it showed");
    }

    /// A thread on a kernel that leaves out what the hypervisor takes, and shows `stolen` 100 ms
    /// after its last progress, uses all CPU time for `looks` from then on.
    fn after_a_theft(stolen: Duration, looks: u32) -> Duration {
        let (mut clock, mut thief, mut at) = (StallClock::default(), Thief::default(), Duration::ZERO);
        let mut taken = Duration::ZERO;
        for look in 0..10 + looks {
            at += LOOK;
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            taken = if look < 10 { Duration::ZERO } else { stolen };
            clock.with_steal(thief.look(Some(nanos(taken)), Monotonic(nanos(at))));
            let cpu = LOOK * look.saturating_sub(10);
            clock.advance(LOOK, task(TaskState::Running, nanos(cpu), 0), false);
        }
        assert_eq!(taken, stolen);
        clock.counted()
    }

    #[test]
    fn what_was_stolen_before_the_last_progress_is_no_debt() {
        assert_eq!(after_a_theft(Duration::ZERO, 50), 49 * LOOK);
        let counted = after_a_theft(Duration::from_secs(8), 50);
        assert!(counted >= 39 * LOOK, "no more than the time before it showed is taken off: {counted:?}");
    }

    #[test]
    fn a_long_theft_that_fell_in_time_without_cpu_is_no_debt() {
        let (mut clock, mut thief) = (StallClock::default(), Thief::default());
        let (mut at, mut cpu) = (0, 0);
        let mut look = |stolen: u64, ran: u64| {
            (at, cpu) = (at + 10_000_000, cpu + ran);
            clock.with_steal(thief.look(Some(stolen), Monotonic(at)));
            clock.advance(LOOK, task(TaskState::Running, cpu, 0), false);
            clock.counted()
        };
        for _ in 0..100 {
            look(0, 10_000_000);
        }
        let before = look(0, 10_000_000);
        // Three seconds of which the kernel shows nothing, until the CPU is back.
        for _ in 0..300 {
            look(0, 0);
        }
        for _ in 0..50 {
            look(3_000_000_000, 10_000_000);
        }
        let counted = look(3_000_000_000, 10_000_000) - before;
        assert!(counted >= 48 * LOOK, "{counted:?}");
    }

    #[test]
    fn the_first_interval_leaves_no_room_for_what_is_stolen_later() {
        let (mut clock, mut thief) = (StallClock::default(), Thief::default());
        let long = 10 * LOOK;
        let mut at = |stolen: u64, cpu: u64, ms: u64, elapsed| {
            clock.with_steal(thief.look(Some(stolen), Monotonic(ms * 1_000_000)));
            clock.advance(elapsed, task(TaskState::Running, cpu, 0), false);
            clock.counted()
        };
        at(0, 0, 100, long);
        // It had none of it, and the kernel says that it had all.
        assert_eq!(at(100_000_000, 100_000_000, 200, long), Duration::ZERO);
    }

    #[test]
    fn sleeping_time_counts_in_full() {
        let mut clock = StallClock::default();
        for _ in 0..3 {
            clock.advance(LOOK, task(TaskState::Sleeping, 5, 5), false);
        }
        assert_eq!(clock.counted(), 3 * LOOK);
    }

    #[test]
    fn what_may_be_frozen_does_not_count_and_a_wait_for_a_disk_does() {
        let mut clock = StallClock::default();
        let frozen = Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Frozen) };
        assert_eq!(clock.advance(LOOK, task(TaskState::DiskSleep, 5, 5), false), frozen);
        let disk = task(TaskState::DiskSleep, 5, 5)
            .map(|task| TaskObservation { wait: Some(WaitChannel::Other), ..task });
        clock.reset();
        clock.advance(LOOK, disk, false);
        assert_eq!(clock.counted(), LOOK);
    }

    #[test]
    fn burnt_time_counts_in_full() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        clock.advance(LOOK, task(TaskState::Running, 10_000_000, 0), false);
        assert_eq!(clock.counted(), LOOK, "the first look has nothing to be compared with");
    }

    #[test]
    fn runnable_without_cpu_time_is_starved() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Sleeping, 7, 0), false);
        let interval = clock.advance(LOOK, task(TaskState::Running, 7, 0), false);
        assert_eq!(interval, Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Starved) });
    }

    #[test]
    fn cpu_time_that_shows_up_late_counts_after_all() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        for _ in 0..9 {
            clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        }
        assert_eq!(clock.counted(), Duration::ZERO);
        // A tick at last: the thread was running all along.
        clock.advance(LOOK, task(TaskState::Running, 100_000_000, 0), false);
        assert_eq!(clock.counted(), 10 * LOOK);
    }

    #[test]
    fn frozen_time_does_not_count() {
        let mut clock = StallClock::default();
        let frozen =
            task(TaskState::Sleeping, 1, 1).map(|t| TaskObservation { wait: Some(WaitChannel::Frozen), ..t });
        let interval = clock.advance(LOOK, frozen, false);
        assert_eq!(interval, Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Frozen) });
    }

    #[test]
    fn waiting_for_a_cpu_is_taken_off_when_the_counter_catches_up() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
        let interval = clock.advance(LOOK, task(TaskState::Running, 1_000_000, 8_000_000), false);
        // It is runnable and may be waiting again: only the CPU time that it used is proved.
        assert_eq!(interval.counted, Duration::from_millis(1));
        assert_eq!(interval.excuse, Some(ExcuseKind::Starved));
        let interval = clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 8_000_000), false);
        assert_eq!(clock.counted(), Duration::from_millis(1), "what it used: {interval:?}");
        clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 8_000_000), false);
        assert_eq!(clock.counted(), Duration::from_millis(11), "and from here on it sleeps");
    }

    #[test]
    fn an_interval_that_touches_a_stop_does_not_count() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Stopped, 0, 0), false);
        clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
        assert_eq!(clock.counted(), Duration::ZERO);
        clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
        assert_eq!(clock.counted(), LOOK);
    }

    #[test]
    fn a_late_look_is_void_and_keeps_what_was_counted() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
        clock.advance(Duration::from_secs(60), task(TaskState::Sleeping, 0, 0), true);
        assert_eq!(clock.counted(), LOOK);
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Feeds observations to a clock, each with the time since the one before and its counters.
    /// Returns the last result and the clock.
    fn looks(looks: &[(u64, TaskState, u64, u64)]) -> (Interval, StallClock) {
        let mut clock = StallClock::default();
        let mut last = Interval { counted: Duration::ZERO, excuse: None };
        for (elapsed, state, cpu_ms, delay_ms) in looks {
            let found = task(*state, cpu_ms * 1_000_000, delay_ms * 1_000_000);
            last = clock.advance(millis(*elapsed), found, false);
        }
        (last, clock)
    }

    use TaskState::{Running, Sleeping, Stopped};

    #[test]
    fn of_a_thread_that_nobody_has_asked_for_yet_the_first_interval_counts() {
        let mut clock = StallClock::default();
        clock.advance(Duration::ZERO, None, false);
        clock.advance(LOOK, task(Sleeping, 5, 5), false);
        assert_eq!(clock.counted(), LOOK);
    }

    #[test]
    fn the_interval_after_one_without_an_answer_counts_for_nothing() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, None, false);
        clock.advance(LOOK, task(Sleeping, 5, 5), false);
        assert_eq!(clock.counted(), Duration::ZERO, "it may have been stopped when the interval began");
        clock.advance(LOOK, task(Sleeping, 5, 5), false);
        assert_eq!(clock.counted(), LOOK);
    }

    #[test]
    fn who_was_off_the_run_queue_for_long_and_sleeps_now_was_starved() {
        let runs = (10, Running, 0, 0);
        let (last, _) = looks(&[runs, runs, runs, runs, runs, (10, Sleeping, 1, 0)]);
        assert_eq!(last, Interval { counted: millis(1), excuse: Some(ExcuseKind::Starved) });
    }

    #[test]
    fn who_is_seen_running_once_between_two_sleeps_was_not_starved() {
        let (last, _) = looks(&[(4, Sleeping, 0, 0), (15, Running, 0, 0), (5, Sleeping, 0, 0)]);
        assert_eq!(
            last,
            Interval { counted: Duration::ZERO, excuse: None },
            "it may have run for less than a tick"
        );
    }

    #[test]
    fn a_look_without_cpu_time_is_starvation_from_a_tick_on_or_half_of_it_in_the_run_queue() {
        let starved = |elapsed, delay| {
            looks(&[(4, Sleeping, 0, 0), (elapsed, Running, 0, delay)]).0.excuse == Some(ExcuseKind::Starved)
        };
        assert!(starved(10, 0) && !starved(9, 0), "CPU time shows at the tick");
        assert!(starved(4, 3) && !starved(4, 2), "most of the time it waited for a CPU");
    }

    #[test]
    fn starvation_ends_with_half_a_cpu() {
        let starved = |cpu| {
            let (last, _) = looks(&[(4, Sleeping, 0, 0), (10, Running, 0, 0), (10, Running, cpu, 0)]);
            last.excuse == Some(ExcuseKind::Starved)
        };
        assert!(starved(1) && starved(10) && !starved(11));
    }

    #[test]
    fn of_one_who_ran_and_sleeps_now_only_the_cpu_time_counts() {
        let (last, _) = looks(&[(4, Running, 0, 0), (10, Sleeping, 1, 0)]);
        assert_eq!(last.counted, millis(1), "it may have been off the run queue for the rest");
    }

    #[test]
    fn a_span_that_ends_asleep_was_starvation_if_most_of_it_was_spent_in_the_run_queue() {
        let starved = |delay| {
            looks(&[(4, Sleeping, 0, 0), (10, Sleeping, 0, delay)]).0.excuse == Some(ExcuseKind::Starved)
        };
        assert!(starved(6) && starved(8) && !starved(5) && !starved(1));
    }

    #[test]
    fn what_is_proved_outlasts_a_stop() {
        let (_, clock) =
            looks(&[(4, Running, 0, 0), (10, Running, 5, 0), (10, Stopped, 5, 0), (10, Sleeping, 5, 0)]);
        assert_eq!((clock.counted(), clock.ran()), (millis(5), millis(5)));
    }

    #[test]
    fn a_silent_kernel_counts_for_nothing() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, None, false);
        assert_eq!(clock.counted(), Duration::ZERO);
    }

    #[test]
    fn starving_that_is_sure_only_a_tick_later_is_named_in_full() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, task(Sleeping, 0, 0), false);
        let mut named = Duration::ZERO;
        for _ in 0..5 {
            let elapsed = millis(4);
            let interval = clock.advance(elapsed, task(Running, 0, 0), false);
            let now = if interval.excuse.is_some() { elapsed - interval.counted } else { Duration::ZERO };
            named += now + clock.named_late();
        }
        assert_eq!(named, millis(20));
    }

    #[test]
    fn who_runs_after_a_look_without_cpu_time_was_not_starved_in_it() {
        let (last, clock) = looks(&[(4, Sleeping, 0, 0), (4, Running, 0, 0), (4, Running, 8, 0)]);
        assert_eq!((last.excuse, clock.named_late()), (None, Duration::ZERO));
    }

    #[test]
    fn who_used_most_of_a_span_was_not_starved_though_the_kernel_keeps_no_count_of_waiting() {
        let silent = |state, cpu_ms: u64| {
            task(state, cpu_ms * 1_000_000, 0).map(|task| TaskObservation { run_delay_ns: None, ..task })
        };
        for (used, excuse) in [(6, None), (4, Some(ExcuseKind::Starved))] {
            let mut clock = StallClock::default();
            clock.advance(LOOK, silent(Running, 0), false);
            let interval = clock.advance(LOOK, silent(Sleeping, used), false);
            assert_eq!(interval, Interval { counted: millis(used), excuse }, "{used} ms");
        }
    }
}
