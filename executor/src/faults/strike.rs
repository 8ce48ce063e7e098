//! What faults do to the thread that they strike: what a bug would do, for good or until disarmed.

#![expect(clippy::disallowed_methods, reason = "what is ordered here is to wait for ever")]

use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shard_heartbeat::{Lane, Lanes, ThreadBeat};

use super::{Kind, LastWords, announce};

/// How long the thread that causes a hang waits for its accomplice, which has nothing else to do.
/// If the accomplice is late all the same, the thread hangs without it.
const ACCOMPLICE: Duration = Duration::from_secs(1);

/// How often the holder of the lock checks whether the fault was disarmed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Burns CPU and gets nowhere.
pub(super) fn spin(undone: &impl Fn() -> bool) {
    while !undone() {
        std::hint::spin_loop();
    }
}

/// Sleeps, idle, without end.
pub(super) fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Waits for a lock that its holder does not release: asleep in the kernel, no CPU, as in a
/// deadlock.
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
    // Returns at once, unless there was no accomplice.
    wait();
}

/// Like `deadlock`, but never disarmed.
fn deadlock_for_good() -> ! {
    deadlock(|| false);
    park()
}

/// Ends the process with a core of `size` GiB. One page of each GiB was written to, so that the
/// kernel includes it all in the core, and visits every page of it.
pub(super) fn dump_core(size: u64) -> ! {
    const GIB: usize = 1 << 30;
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    // Without permission there is no core, and the test reports that.
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
        // The task spawned last waits for this very thread; each other thread needs a task that it
        // can take over.
        for _ in 0..=runtime.metrics().num_workers() {
            runtime.spawn(async { deadlock_for_good() });
        }
    }
    announce(Kind::NetBlock);
    deadlock_for_good()
}

/// Gives work to a scoped pool of two. One worker panics and the other waits for a message from it,
/// on a channel that never closes because this thread holds a sender too. So this thread waits for
/// both, alive and without end.
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
        // If no threads can be had there is no pool, and the hang below replaces it.
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
