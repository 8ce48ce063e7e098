//! How late the kernel's counters are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::{fact, task};
use crate::wait;

/// How long they are observed.
const OBSERVED: Duration = Duration::from_secs(3);
/// Between two samples: finer than the tick of any kernel.
const LOOK: Duration = Duration::from_millis(1);

/// The longest time that a number stood still while it was observed, counting both ends.
#[derive(Debug)]
pub(super) struct Standstill {
    value: u64,
    since: Instant,
    longest: Duration,
}

impl Standstill {
    pub(super) fn of(value: u64) -> Self {
        Self { value, since: Instant::now(), longest: Duration::ZERO }
    }

    pub(super) fn look(&mut self, value: u64) {
        self.longest = self.longest.max(self.since.elapsed());
        if value != self.value {
            (self.value, self.since) = (value, Instant::now());
        }
    }
}

impl std::fmt::Display for Standstill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.longest.as_millis())
    }
}

/// Time on a CPU and time waiting for one, in nanoseconds: `schedstat`.
pub(super) fn schedstat(task: &Path) -> [u64; 2] {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

/// Time on a CPU in ticks of 10 ms: fields 14 and 15 of `stat`.
pub(super) fn ticks(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("stat")).unwrap_or_default();
    let behind_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = behind_name.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

/// Samples the counters of a task that wants to run all the time, and reports how long each of them
/// stood still.
pub(super) fn observe(name: &str, task: &Path, also: Option<(&str, &dyn Fn() -> u64)>) {
    let [ran, waited] = schedstat(task);
    let [mut ran, mut waited] = [ran, waited].map(Standstill::of);
    let mut coarse = Standstill::of(ticks(task));
    let mut other = also.map(|(name, read)| (name, read, Standstill::of(read())));
    let began = Instant::now();
    while began.elapsed() < OBSERVED {
        std::thread::sleep(LOOK);
        let [now, then] = schedstat(task);
        ran.look(now);
        waited.look(then);
        coarse.look(ticks(task));
        if let Some((_, read, standstill)) = &mut other {
            standstill.look(read());
        }
    }
    fact(&format!("still.{name}.schedstat-run"), ran);
    fact(&format!("still.{name}.schedstat-wait"), waited);
    fact(&format!("still.{name}.stat-ticks"), coarse);
    if let Some((counter, _, standstill)) = other {
        fact(&format!("still.{name}.{counter}"), standstill);
    }
}

pub(super) fn tell() {
    let spin = |cpu: Option<usize>| -> PathBuf {
        let (tell, told) = channel();
        let body = move || {
            if let Some(cpu) = cpu {
                let mut set = rustix::thread::CpuSet::new();
                set.set(cpu);
                let _ = rustix::thread::sched_setaffinity(None, &set);
            }
            let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
            let until = Instant::now() + OBSERVED + Duration::from_secs(1);
            while Instant::now() < until {
                for turn in 0..10_000 {
                    std::hint::black_box(turn);
                }
            }
        };
        let _ = std::thread::Builder::new().name("spins".to_owned()).spawn(body);
        let tid = told.recv_timeout(wait::GENEROUS).unwrap_or(0);
        task(i32::try_from(std::process::id()).unwrap_or(0), tid)
    };
    observe("running", &spin(None), None);
    // A CPU without a tick, if there is one.
    let quiet = fs::read_to_string("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    let quiet = quiet.trim();
    fact("nohz-full", if quiet.is_empty() { "none" } else { quiet });
    if let Ok(cpu) = quiet.parse() {
        observe("tickless", &spin(Some(cpu)), None);
    }
}
