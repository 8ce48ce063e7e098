//! A process of many registered threads that move on order and sleep otherwise: the target of a
//! benchmark of observations.
//!
//! No thread beats by a timer of its own. The machine is thus quiet while observations are timed,
//! and every thread has moved exactly once between two of them.

use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, ThreadBeat, Work};

use crate::wait;

/// What all threads do between two observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Each is at work and makes progress.
    Progress,
    /// Each makes progress except the first, which is at work and stands still.
    AllButFirst,
    /// Each is idle.
    Rest,
    /// The one with this number ends without notice. It then takes no further orders, and neither
    /// does the process.
    Lose(u16),
}

impl Move {
    const fn code(self) -> u8 {
        match self {
            Self::Progress => b'p',
            Self::AllButFirst => b'f',
            Self::Rest => b'r',
            Self::Lose(_) => b'l',
        }
    }

    const fn number(self) -> u16 {
        if let Self::Lose(number) = self { number } else { 0 }
    }
}

/// The process, as its observer handles it. It ends when this is dropped, or when its owner ends.
#[derive(Debug)]
pub struct Crowd {
    child: Child,
    orders: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Crowd {
    /// Starts `command`, a program that calls [`be`] with this segment and number of threads, and
    /// waits until all are registered.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the target starts");
        let (orders, answers) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let mut crowd = Self { child, orders, answers };
        crowd.answered();
        crowd
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has every thread move once, and waits until all have moved.
    #[track_caller]
    pub fn all(&mut self, what: Move) {
        self.tell(what);
        self.answered();
    }

    /// Has the thread of this number end without notice. The watchdog may be faster than any
    /// answer; [`Crowd::lost_at`] waits for that answer.
    #[track_caller]
    pub fn lose(&mut self, number: u16) {
        self.tell(Move::Lose(number));
    }

    /// When that thread was about to end, by [`crate::clock::monotonic_ns`].
    #[track_caller]
    pub fn lost_at(&mut self) -> u64 {
        let mut time = [0; 8];
        self.answers.read_exact(&mut time).expect("the thread tells when it ends");
        u64::from_le_bytes(time)
    }

    #[track_caller]
    fn tell(&mut self, what: Move) {
        let orders = self.orders.as_mut().expect("it takes orders until it is dropped");
        let [low, high] = what.number().to_le_bytes();
        orders.write_all(&[what.code(), low, high]).expect("the target takes orders");
    }

    /// Waits for the process to end, which somebody else causes.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        wait::until("the end of the crowd", || self.child.try_wait().expect("a child can be waited for"))
    }

    #[track_caller]
    fn answered(&mut self) {
        let mut answer = [0];
        self.answers.read_exact(&mut answer).expect("the target answers");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The main loop of a crowd's process, until its orders end. Each thread has this many lanes,
/// including its own, and uses only that one.
pub fn be(segment: &Path, threads: usize, lanes: u32) {
    let thread_slots = u32::try_from(threads).expect("as many as a segment has slots for").max(64);
    let options = SegmentOptions { thread_slots, lanes, ..SegmentOptions::new("crowd") };
    let heartbeat = Heartbeat::create(segment, &options).expect("a segment");
    let what = Arc::new(AtomicU32::new(0));
    let turn = Arc::new(Barrier::new(threads + 1));
    for number in 0..threads {
        let (heartbeat, what, turn) = (heartbeat.clone(), Arc::clone(&what), Arc::clone(&turn));
        let name = format!("exec-s{number}");
        let member = move || {
            // A lost thread leaves its slot as it is, so nothing of it may be dropped.
            let beat = ManuallyDrop::new(heartbeat.register(&name).expect("a slot"));
            live(&beat, number, &what, &turn);
        };
        // A thousand stacks of the usual size would work too, but are not needed.
        std::thread::Builder::new().stack_size(256 << 10).spawn(member).expect("a thread");
    }
    turn.wait();
    heartbeat.set_state(ProcessState::Running);
    let mut answers = std::io::stdout().lock();
    let mut order = [0; 3];
    loop {
        if answers.write_all(b".").and_then(|()| answers.flush()).is_err()
            || std::io::stdin().read_exact(&mut order).is_err()
        {
            // The threads wait for the next turn forever.
            std::process::exit(0);
        }
        what.store(u32::from_le_bytes([order[0], order[1], order[2], 0]), Ordering::Relaxed);
        turn.wait();
        turn.wait();
    }
}

/// Runs a thread until it is lost.
fn live(beat: &ThreadBeat, number: usize, what: &AtomicU32, turn: &Barrier) {
    let mut work = None;
    turn.wait();
    loop {
        turn.wait();
        let [what, low, high, _] = what.load(Ordering::Relaxed).to_le_bytes();
        if what == Move::Lose(0).code() {
            if usize::from(u16::from_le_bytes([low, high])) == number {
                // Bypasses the main thread's lock on stdout. The main thread waits for the turn to
                // end, as the others do, forever.
                let out = std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor");
                let now = crate::clock::monotonic_ns().to_le_bytes();
                std::fs::File::from(out).write_all(&now).expect("somebody reads");
                return;
            }
        } else if what == Move::Rest.code() {
            if let Some(begun) = work.take() {
                beat.end(begun);
            }
        } else {
            work.get_or_insert_with(|| beat.begin(Work::new(number as u64)));
            if number > 0 || what == Move::Progress.code() {
                beat.progress();
            }
        }
        turn.wait();
    }
}
