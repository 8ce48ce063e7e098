//! The queue between the threads that log and a pipe that may or may not be read.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::super::dropped::{Dropped, Signal};

/// Lines that may wait. Each has at most some 10 KiB, commonly 300 bytes; one incident causes a
/// burst of about 20.
const LINES: usize = 512;

enum Order {
    Line(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// The sending end. Writing to it never waits.
#[derive(Clone, Debug)]
pub struct LogQueue {
    orders: SyncSender<Order>,
    dropped: Arc<Dropped>,
}

impl LogQueue {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(sink: impl Write + Send + 'static, dropped: &Arc<Dropped>) -> io::Result<Self> {
        let (orders, receiver) = sync_channel(LINES);
        let count = Arc::clone(dropped);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver, sink, &count))?;
        Ok(Self { orders, dropped: Arc::clone(dropped) })
    }

    /// Waits until all lines before are written, for at most `within`. Returns whether they are.
    pub fn flush(&self, within: Duration) -> bool {
        /// Pause before a full queue is tried again.
        const NUDGE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + within;
        let (answer, answered) = sync_channel(1);
        let mut order = Order::Flush(answer);
        while let Err(TrySendError::Full(back)) = self.orders.try_send(order) {
            if Instant::now() >= deadline {
                return false;
            }
            order = back;
            thread::sleep(NUDGE);
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

fn write(orders: &Receiver<Order>, mut sink: impl Write, dropped: &Dropped) {
    for order in orders {
        match order {
            // A broken log can be reported only by its count.
            Order::Line(line) => {
                if sink.write_all(&line).is_err() {
                    dropped.add(Signal::Logs, 1);
                }
            }
            Order::Flush(answer) => {
                let _ = sink.flush();
                let _ = answer.try_send(());
            }
        }
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { orders: self.orders.clone(), dropped: Arc::clone(&self.dropped) }
    }
}

/// Collects one line and sends it as a whole, in one write.
#[derive(Debug)]
pub struct Line {
    orders: SyncSender<Order>,
    dropped: Arc<Dropped>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.orders.try_send(Order::Line(line.into())).is_err() {
            self.dropped.add(Signal::Logs, 1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Line(_) => "Line",
            Self::Flush(_) => "Flush",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::sync::Mutex;

    #[test]
    fn a_pipe_that_nobody_reads_blocks_nobody() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let dropped = Arc::new(Dropped::default());
        let queue = LogQueue::start(File::from(writer), &dropped).unwrap();
        let began = Instant::now();
        let mut line = queue.make_writer();
        for _ in 0..20_000 {
            line.write_all(&[b'x'; 300]).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
        assert!(dropped.get(Signal::Logs) > 10_000);
        let began = Instant::now();
        assert!(!queue.flush(Duration::from_millis(50)));
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_sink_that_refuses_is_counted() {
        let dropped = Arc::new(Dropped::default());
        let queue = LogQueue::start(File::create("/dev/full").unwrap(), &dropped).unwrap();
        queue.make_writer().write_all(b"line\n").unwrap();
        assert!(queue.flush(Duration::from_secs(20)));
        assert_eq!(dropped.get(Signal::Logs), 1);
    }

    #[test]
    fn lines_arrive_in_order_and_whole() {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let queue = LogQueue::start(sink.clone(), &Arc::new(Dropped::default())).unwrap();
        for n in 0..100 {
            queue.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        assert!(queue.flush(Duration::from_secs(20)));
        let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(), expected);
    }
}
