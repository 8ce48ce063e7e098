//! What a peer costs while nothing happens: CPU and memory of all its processes.

use std::time::{Duration, Instant};

use super::ground::Ground;
use super::peer::Peer;
use super::running::Running;
use super::target::DOG;
use crate::api;
use crate::footprint::{Size, Window};

/// How often the exporter is scraped. It is idle in between.
const SCRAPE_EVERY: Duration = Duration::from_secs(5);

/// Values are `None` for a peer without a process that could be measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time as a share of one core, percent.
    pub cpu_percent_of_core: Option<f64>,
    /// Resident memory, MiB. Memory shared between processes counts in each.
    pub rss_mib: Option<f64>,
}

impl Cost {
    /// Measures for `time`.
    #[track_caller]
    pub fn measure(running: &Running, ground: &Ground, time: Duration) -> Self {
        let peer = running.peer;
        if peer == Peer::GuardDog {
            // It is a thread of the target. Its memory is a stack, of which a page or two is used.
            let Some(pid) = ground.pid() else { return Self::default() };
            let window = Window::open(pid);
            std::thread::sleep(time);
            let cpu = window.close().cpu_percent_by_thread.get(DOG).copied();
            return Self { cpu_percent_of_core: cpu, rss_mib: None };
        }
        let pids = running.pids(ground);
        if pids.is_empty() {
            return Self::default();
        }
        let windows: Vec<Window> = pids.iter().map(|pid| Window::open(*pid)).collect();
        let began = Instant::now();
        while began.elapsed() < time {
            if let Some(address) = running.scraped {
                let page = api::get(address, "/metrics").map(|answer| answer.body).unwrap_or_default();
                assert!(page.contains("namedprocess_namegroup_num_procs"), "no page of an exporter: {page}");
            }
            std::thread::sleep(time.saturating_sub(began.elapsed()).min(SCRAPE_EVERY));
        }
        let cpu = windows.iter().map(|window| window.close().cpu_percent_of_core).sum();
        let rss = pids.iter().map(|pid| Size::of(*pid).rss_mib).sum();
        Self { cpu_percent_of_core: Some(cpu), rss_mib: Some(rss) }
    }
}
