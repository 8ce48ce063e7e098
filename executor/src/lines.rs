//! Lines for a descriptor that may or may not be read.
//!
//! The thread that sends a line never waits for its reader: lines go through a bounded queue to a
//! thread of their own, which alone may block on a pipe for any time. Lines that do not fit are
//! dropped and counted, and the count is written in their place as soon as there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, poll};

/// Makes the line, without its newline, that reports how many lines were dropped in a gap.
pub(crate) type Gap = fn(u64) -> String;

#[derive(Debug)]
enum Order {
    Line {
        /// How many lines were dropped just before this one.
        gap: u64,
        text: Box<[u8]>,
    },
    Flush {
        gap: u64,
        answer: Sender<()>,
    },
}

#[derive(Debug, Default)]
struct Counts {
    /// All lines dropped so far.
    dropped: AtomicU64,
    /// Those of them that no line has reported yet.
    untold: AtomicU64,
    /// Lines that were accepted and are not written yet.
    waiting: AtomicU64,
    /// The error number (errno) of the first write that failed; 0: none has.
    failed: AtomicI32,
}

/// The sending end. Clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    orders: Sender<Order>,
    counts: Arc<Counts>,
}

impl Lines {
    /// Starts the thread that writes to `sink`; at most `room` lines wait for it.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(
        thread: &str,
        room: usize,
        gap: Gap,
        sink: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, receiver) = crossbeam_channel::bounded(room);
        let counts = Arc::new(Counts::default());
        let own = Arc::clone(&counts);
        // The handle is dropped: the thread can block in a write, so nobody may join it. If the
        // thread has gone, the queue is closed and each line counts as dropped.
        std::thread::Builder::new()
            .name(thread.to_owned())
            .spawn(move || write_all(&receiver, sink, gap, &own))?;
        Ok(Self { orders, counts })
    }

    /// Queues a line, newline included, without waiting. False: there was no room, and the line is
    /// dropped and counted.
    pub(crate) fn say(&self, line: &[u8]) -> bool {
        self.hand_over(line, Duration::ZERO)
    }

    /// Like [`Lines::say`], but waits for room for at most `within`.
    pub(crate) fn say_within(&self, line: &[u8], within: Duration) -> bool {
        self.hand_over(line, within)
    }

    fn hand_over(&self, line: &[u8], within: Duration) -> bool {
        let gap = self.counts.take_untold();
        let order = Order::Line { gap, text: line.into() };
        // Counted first: the thread may have written it before this one continues.
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = if within.is_zero() {
            self.orders.try_send(order).is_ok()
        } else {
            self.orders.send_timeout(order, within).is_ok()
        };
        if !taken {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.drop_lines(1, gap);
        }
        taken
    }

    /// Waits until all earlier lines are written, for at most `within`. Returns whether they are.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let gap = self.counts.take_untold();
        let (answer, answered) = crossbeam_channel::bounded(1);
        if self.orders.send_timeout(Order::Flush { gap, answer }, within).is_err() {
            self.counts.drop_lines(0, gap);
            return false;
        }
        answered.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
    }

    /// How many lines were dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Lines that were accepted and are not written yet: they are lost if the process ends now.
    pub(crate) fn waiting(&self) -> u64 {
        self.counts.waiting.load(Ordering::Relaxed)
    }

    /// The error of the first write that failed.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        match self.counts.failed.load(Ordering::Relaxed) {
            0 => None,
            number => Some(io::Error::from_raw_os_error(number)),
        }
    }
}

impl Counts {
    fn take_untold(&self) -> u64 {
        // Nearly always zero: then a line costs only a load.
        if self.untold.load(Ordering::Relaxed) == 0 { 0 } else { self.untold.swap(0, Ordering::Relaxed) }
    }

    /// Counts `lines` as dropped, and restores a `gap` that could not be reported.
    fn drop_lines(&self, lines: u64, gap: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.untold.fetch_add(lines + gap, Ordering::Relaxed);
    }

    fn failed(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        // The first failure is the cause; those that follow from it are not reported.
        let _ = self.failed.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn write_all(orders: &Receiver<Order>, mut sink: impl Write, gap_line: Gap, counts: &Counts) {
    let mut tell = |gap: u64, text: &[u8]| {
        if gap > 0 {
            sink.write_all(format!("{}\n", gap_line(gap)).as_bytes())?;
        }
        // One write per line: other writers to the same pipe write between lines.
        sink.write_all(text)
    };
    for order in orders {
        match order {
            Order::Line { gap, text } => {
                if let Err(error) = tell(gap, &text) {
                    counts.failed(&error);
                    counts.drop_lines(1, gap);
                }
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Order::Flush { gap, answer } => {
                if let Err(error) = tell(gap, &[]) {
                    counts.failed(&error);
                    counts.drop_lines(0, gap);
                }
                // The caller may have stopped waiting.
                let _ = answer.try_send(());
            }
        }
    }
}

/// Our own descriptor for standard output or standard error, instead of that of `std`, whose lock
/// is held while a write blocks: every thread that prints or panics would block behind it.
pub(crate) struct Descriptor(File);

impl Descriptor {
    /// Duplicates `of`. Fails if descriptors are exhausted.
    pub(crate) fn duplicate(of: impl AsFd) -> io::Result<Self> {
        Ok(Self(File::from(of.as_fd().try_clone_to_owned()?)))
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                // Another process that shares the pipe may have made it non-blocking. This thread
                // exists to wait without end.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;
    use std::io::Read;

    /// Longer than any of this takes on a busy machine: a test that reaches it hangs.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn gap(lines: u64) -> String {
        format!("gap {lines}")
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        (File::from(reader), File::from(writer))
    }

    /// Sends lines until that many were refused, the last one just now.
    fn fill(lines: &Lines, refused: u64) {
        let until = Instant::now() + PATIENCE;
        while lines.dropped() < refused {
            assert!(Instant::now() < until, "the queue takes lines without end");
            lines.say(format!("{:4095}\n", "").as_bytes());
        }
    }

    /// The sum of all gaps that a text reports.
    fn told(text: &str) -> u64 {
        let gaps = text.lines().filter_map(|line| line.strip_prefix("gap "));
        gaps.map(|lines| lines.parse::<u64>().expect("a number")).sum()
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (_unread, writer) = pipe();
        let lines = Lines::start("lines", 8, gap, writer).expect("a thread");
        // The test is that this returns.
        fill(&lines, 10_000);
        assert!(!lines.flush(Duration::from_millis(20)));
        assert!(!lines.say_within(b"worth it\n", Duration::from_millis(20)));
        assert!(lines.dropped() > 10_000);
        assert!(lines.waiting() > 0);
        assert!(lines.failure().is_none());
    }

    #[test]
    fn what_was_dropped_is_told_in_its_place_once_there_is_room() {
        let (mut reader, writer) = pipe();
        let lines = Lines::start("lines", 4, gap, writer).expect("a thread");
        fill(&lines, 3);
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        assert!(lines.say_within(b"after\n", PATIENCE));
        assert!(lines.flush(PATIENCE));
        assert_eq!((lines.dropped(), lines.waiting()), (3, 0));
        drop(lines);
        let all = reading.join().expect("no panic").expect("read");
        assert_eq!(told(&all), 3);
        let last: Vec<&str> = all.lines().rev().take(2).collect();
        assert!(last[0] == "after" && last[1].starts_with("gap "), "{last:?}");
    }

    #[test]
    fn a_gap_at_the_very_end_is_told_by_the_flush() {
        let (mut reader, writer) = pipe();
        let lines = Lines::start("lines", 4, gap, writer).expect("a thread");
        fill(&lines, 2);
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        assert!(lines.flush(PATIENCE));
        drop(lines);
        let all = reading.join().expect("no panic").expect("read");
        assert_eq!(told(&all), 2);
        assert!(all.lines().last().expect("lines").starts_with("gap "));
    }

    #[test]
    fn a_sink_that_refuses_is_counted_and_its_reason_kept() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let lines = Lines::start("lines", 4, gap, full).expect("a thread");
        assert!(lines.say(b"line\n"));
        assert!(lines.flush(PATIENCE));
        assert_eq!((lines.dropped(), lines.waiting()), (1, 0));
        assert_eq!(lines.failure().and_then(|error| error.raw_os_error()), Some(libc::ENOSPC));
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let (reader, writer) = pipe();
        drop(reader);
        let lines = Lines::start("lines", 4, gap, writer).expect("a thread");
        lines.say(b"line\n");
        assert!(lines.flush(PATIENCE));
        assert_eq!(lines.failure().map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn lines_arrive_in_order_and_whole_through_a_pipe_that_does_not_block() {
        let (mut reader, writer) = pipe();
        rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
        let sink = Descriptor::duplicate(&writer).expect("a duplicate");
        drop(writer);
        let lines = Lines::start("lines", 4, gap, sink).expect("a thread");
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        // More than a pipe holds.
        for n in 0..40_000 {
            assert!(lines.say_within(format!("{n}\n").as_bytes(), PATIENCE));
        }
        assert!(lines.flush(PATIENCE));
        drop(lines);
        let expected: String = (0..40_000).map(|n| format!("{n}\n")).collect();
        assert!(reading.join().expect("no panic").expect("read") == expected);
    }
}
