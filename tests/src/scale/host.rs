//! One host with many shards: each a process with registered threads, with a sidecar in enforce
//! mode.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::clock::monotonic_ns;
use crate::crowd::{Crowd, Move};
use crate::figures::milliseconds;
use crate::footprint::{self, Size};
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{incident, wait};

/// The time that a host full of sidecars may take if all start at once.
const ALL_READY: Duration = Duration::from_secs(300);

/// A shard and its sidecar.
#[derive(Debug)]
struct Pair {
    crowd: Crowd,
    sidecar: Sidecar,
    process: Process,
}

/// All pairs of shard and sidecar.
#[derive(Debug)]
pub struct Host {
    pairs: Vec<Pair>,
    threads: u16,
}

/// The total cost of a host's sidecars while nothing happens.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time as a share of one core, percent.
    pub cpu_percent_of_core: f64,
    /// Resident memory not backed by a file, MiB.
    pub rss_anon_mib: f64,
    /// Resident memory of one sidecar, including the pages of its binary, which all share, MiB.
    pub rss_of_one_mib: f64,
}

impl Host {
    /// Starts this many shards with this many threads each, and waits until each is watched.
    #[track_caller]
    pub fn start(folder: &Path, shards: usize, threads: u16) -> Self {
        let pairs = (0..shards).map(|number| {
            let settings = Settings { kills: 1_000_000, stall_after: "5s".to_owned(), ..Settings::default() };
            let sidecar = Sidecar::configure(folder, &number.to_string(), "exec-s*", &settings);
            // The shard name in a crowd's segment.
            sidecar.watch_shard("crowd");
            let crowd = crowd(&sidecar, threads);
            let mut command = Command::new(binary("shard-watchdog"));
            command.args(["run", "--config"]).arg(&sidecar.config).env("SHARD_WATCHDOG_SUPERVISED", "1");
            let out = folder.join(format!("{number}.out"));
            Pair { crowd, process: Process::start_into_file("sidecar", command, &out), sidecar }
        });
        let host = Self { pairs: pairs.collect(), threads };
        host.all_watched();
        host
    }

    /// Waits until each sidecar watches its present process, and finds it healthy.
    #[track_caller]
    fn all_watched(&self) {
        for Pair { crowd, sidecar, .. } in &self.pairs {
            wait::within(ALL_READY, "every shard to be watched", || {
                let status = sidecar.status()?;
                (status["verdict"] == "healthy" && status["pid"] == crowd.pid()).then_some(())
            });
        }
    }

    /// What the sidecars cost over `window`, in which every thread is idle, or each makes progress
    /// ten times a second.
    #[track_caller]
    pub fn cost(&mut self, window: Duration, busy: bool) -> Cost {
        const BEAT: Duration = Duration::from_millis(100);
        let used = |pairs: &[Pair]| -> Duration {
            pairs.iter().map(|pair| footprint::cpu_time(pair.process.pid())).sum()
        };
        let (began, before) = (monotonic_ns(), used(&self.pairs));
        let until = began + u64::try_from(window.as_nanos()).expect("some minutes");
        while monotonic_ns() < until {
            if busy {
                for pair in &mut self.pairs {
                    pair.crowd.all(Move::Progress);
                }
            }
            std::thread::sleep(BEAT);
        }
        let seconds = milliseconds(began, monotonic_ns()) / 1e3;
        let cpu = (used(&self.pairs) - before).as_secs_f64();
        if busy {
            for pair in &mut self.pairs {
                pair.crowd.all(Move::Rest);
            }
        }
        let sizes: Vec<_> = self.pairs.iter().map(|pair| Size::of(pair.process.pid())).collect();
        Cost {
            cpu_percent_of_core: cpu / seconds * 100.0,
            rss_anon_mib: sizes.iter().map(|size| size.rss_anon_mib).sum(),
            rss_of_one_mib: sizes.iter().map(|size| size.rss_mib).fold(0.0, f64::max),
        }
    }

    /// Makes each shard lose a thread, one after another or all at once, and restarts them. Returns
    /// milliseconds from the last moment of the thread to the verdict.
    #[track_caller]
    pub fn lose_a_thread_each(&mut self, at_once: bool) -> Vec<f64> {
        let last = self.threads - 1;
        if at_once {
            self.pairs.iter_mut().for_each(|pair| pair.crowd.lose(last));
        }
        let took = self.pairs.iter_mut().map(|pair| {
            if !at_once {
                pair.crowd.lose(last);
            }
            let lost = pair.crowd.lost_at();
            pair.crowd.ended();
            // Until the incident is written completely, so that one sidecar's work does not disturb
            // the next.
            let verdict = wait::until("its incident", || {
                let newest = incident::newest(&pair.sidecar.evidence)?;
                incident::step_at(&newest, "exited")?;
                incident::step_at(&newest, "verdict").filter(|verdict| *verdict > lost)
            });
            milliseconds(lost, verdict)
        });
        let took = took.collect();
        for pair in &mut self.pairs {
            pair.crowd = crowd(&pair.sidecar, self.threads);
        }
        self.all_watched();
        took
    }
}

#[track_caller]
fn crowd(sidecar: &Sidecar, threads: u16) -> Crowd {
    let mut target = Command::new(binary("puppet"));
    target.arg("crowd").arg(&sidecar.heartbeat).arg(threads.to_string());
    Crowd::start(target)
}
