//! What faults do to the thread that they strike: what a bug would do, for good or until it is
//! disarmed.

#![expect(clippy::disallowed_methods, reason = "what is ordered here is to wait for ever")]

use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shard_heartbeat::{Lane, Lanes, ThreadBeat};

use super::{Kind, LastWords, announce};

/// How long the thread that makes a hang waits for its accomplice, which has nothing else to do:
/// should that one be late all the same, the hang comes about without it.
const ACCOMPLICE: Duration = Duration::from_secs(1);

/// How often whoever holds the lock looks whether it is undone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Burns CPU and gets nowhere.
pub(super) fn spin(undone: &impl Fn() -> bool) {
    while !undone() {
        std::hint::spin_loop();
    }
}

/// Asleep and idle, without end.
pub(super) fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Waits for a lock whose holder does not let go: asleep in the kernel, no CPU, like any deadlock.
pub(super) fn deadlock(undone: impl Fn() -> bool + Clone + Send + 'static) {
    static HELD: Mutex<()> = Mutex::new(());
    let (holding, held) = crossbeam_channel::bounded::<()>(1);
    let wait = move || {
        while !undone() {
            std::thread::park_timeout(LOOK_EVERY);
        }
    };
    let hold = wait.clone();
    let holder = move || {
        let _guard = HELD.lock();
        let _ = holding.try_send(());
        hold();
    };
    let holder = std::thread::Builder::new().name("lock-holder".to_owned()).spawn(holder);
    if holder.is_ok() {
        let _ = held.recv_timeout(ACCOMPLICE);
    }
    drop(HELD.lock());
    // At once, unless there was no accomplice.
    wait();
}

/// The same for good.
fn deadlock_for_good() -> ! {
    deadlock(|| false);
    park()
}

/// Ends the process with a core of `size` GiB. Of each of them one page was written to, so that the
/// kernel takes the whole for something to be kept, and looks at every page of it.
pub(super) fn dump_core(size: u64) -> ! {
    const GIB: usize = 1 << 30;
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    // Without the right to it there is no core, and the test says so.
    let _ = setrlimit(Resource::Core, Rlimit { current: maximum, maximum });
    let heap: Vec<Vec<u8>> = (0..size)
        .map_while(|_| {
            let mut part = Vec::new();
            part.try_reserve_exact(GIB).ok()?;
            part.push(1);
            Some(part)
        })
        .collect();
    std::hint::black_box(&heap);
    std::process::abort()
}

/// Blocks every thread of the async runtime that the calling thread belongs to.
pub(super) fn block_runtime() -> ! {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        // The one that was spawned last waits for this very thread; each other thread needs one
        // that it can take over.
        for _ in 0..=runtime.metrics().num_workers() {
            runtime.spawn(async { deadlock_for_good() });
        }
    }
    announce(Kind::NetBlock);
    deadlock_for_good()
}

/// Gives work to a scoped pool of two. One worker panics, the other waits for what that one owes
/// it, and the channel between them never closes because this thread holds a sender too: it waits
/// for both, alive and without end.
#[expect(clippy::panic, reason = "it is what was ordered")]
pub(super) fn lose_a_worker(beat: Option<&ThreadBeat>) -> ! {
    let lanes = beat.map(ThreadBeat::lanes);
    let owner = std::thread::current().name().unwrap_or("pool").to_owned();
    let named = |worker: u8| std::thread::Builder::new().name(format!("{owner}-w{worker}"));
    let (owed, waits_for) = crossbeam_channel::bounded::<()>(1);
    let (waiting, waits) = crossbeam_channel::bounded::<()>(1);
    std::thread::scope(|scope| {
        let sibling = {
            let lanes = lanes.clone();
            move || {
                let lane = join(lanes.as_ref());
                let _ = waiting.try_send(());
                let _never = waits_for.recv();
                leave(lane);
            }
        };
        let panicking = {
            let owed = owed.clone();
            let lanes = lanes.clone();
            move || {
                let _words = LastWords(Some(Kind::WorkerPanic));
                let _lane = join(lanes.as_ref());
                let _owed = owed;
                let _ = waits.recv_timeout(ACCOMPLICE);
                panic!("a test armed this panic");
            }
        };
        // Without threads to be had there is no pool, and the hang below stands in for it.
        let _ = named(1).spawn_scoped(scope, sibling);
        let _ = named(0).spawn_scoped(scope, panicking);
    });
    drop(owed);
    deadlock_for_good()
}

fn join(lanes: Option<&Lanes>) -> Option<Lane> {
    let lane = lanes.and_then(|lanes| lanes.join().ok());
    if let Some(lane) = &lane {
        lane.progress();
    }
    lane
}

fn leave(lane: Option<Lane>) {
    if let Some(lane) = lane {
        lane.leave();
    }
}
