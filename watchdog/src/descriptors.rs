//! The file descriptors of the whole sidecar: how many it may have, how many it reserves for its
//! own work, and how many are left for watched threads.
//!
//! The target decides how many threads there are. So the probe gets only what the reserve leaves:
//! with every thread open that it could open, the sidecar still signals, answers and writes.

use shard_heartbeat::{Reader, Sample, SlotState};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::config::{Config, FindTarget, On};

/// The largest segment cannot use more: two for each of 4,096 threads, and several workers for each
/// of them. In a container the limit is often a billion, and no sidecar should be able to hold that
/// much of the kernel's memory.
const ENOUGH: u64 = 65_536;
/// What the sidecar holds for itself and opens briefly: 30 once it has started; then the target and
/// its cgroups, a recording, an incident and its evidence, a collector, a folder of `/proc` being
/// read.
const OWN: u64 = 64;
/// Connections may take this fraction of the limit (an eighth).
const CONNECTIONS: u64 = 8;
/// A scraper, a few probes and a few people use ten.
const MOST_CONNECTIONS: u64 = shard_telemetry::http::serve::CONNECTIONS as u64;
/// One for the scraper, one for the probe, and two for people.
const FEWEST_CONNECTIONS: u64 = 4;
/// Descriptors per watched thread.
pub const OF_A_THREAD: u64 = 2;

/// The limit of open files of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The soft limit when the process started.
    pub before: u64,
    /// The soft limit now.
    pub now: u64,
}

/// Raises the soft limit to the hard one, or as far as it is of use here. Only a process that never
/// starts other programs may do so: those that use `select` break beyond 1,024, which is why the
/// soft limit is low.
pub fn raise_limit() -> Limit {
    let Rlimit { current, maximum } = limit();
    let before = current.unwrap_or(u64::MAX);
    let wanted = maximum.unwrap_or(u64::MAX).min(ENOUGH);
    if before >= wanted {
        return Limit { before, now: before };
    }
    // If this is refused, the present limit must do.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    Limit { before, now: raised.map_or(before, |()| wanted) }
}

/// The kernel's default limit of a process.
const UNSET: u64 = 1_024;

/// The limit as the kernel reports it. Not through rustix, which assumes that it can always be
/// read: a container's profile may forbid that, and then the default is assumed.
fn limit() -> Rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for a write of an rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Rlimit { current: Some(UNSET), maximum: Some(UNSET) };
    }
    let bounded = |value: libc::rlim_t| (value != libc::RLIM_INFINITY).then_some(value);
    Rlimit { current: bounded(limit.rlim_cur), maximum: bounded(limit.rlim_max) }
}

/// The limit that [`raise_limit`] would reach.
pub fn reachable_limit() -> u64 {
    let Rlimit { current, maximum } = limit();
    maximum.unwrap_or(u64::MAX).min(ENOUGH).max(current.unwrap_or(u64::MAX))
}

/// Descriptors that this process inherited, beyond the three that every process has.
pub fn inherited() -> u64 {
    // The descriptor of the folder itself is among those listed.
    const ALWAYS: usize = 4;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    open.saturating_sub(ALWAYS) as u64
}

/// How the descriptors are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    limit: u64,
    inherited: u64,
    listeners: u64,
}

impl Shares {
    /// The shares of a sidecar with this config under this limit.
    pub const fn new(config: &Config, limit: u64, inherited: u64) -> Self {
        let http = &config.http;
        let listeners =
            http.listen.is_some() as u64 + http.public.is_some() as u64 + http.socket.is_some() as u64;
        Self { limit, inherited, listeners }
    }

    /// Connections that each listener may have at once.
    pub fn connections(self) -> usize {
        let each = self.limit / CONNECTIONS / self.listeners.max(1);
        usize::try_from(each.clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)).unwrap_or(usize::MAX)
    }

    /// Descriptors withheld from threads.
    pub fn reserve(self) -> u64 {
        self.inherited + OWN + self.listeners * self.connections() as u64
    }

    /// Descriptors for threads and their workers.
    pub fn for_threads(self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.reserve())).unwrap_or(usize::MAX)
    }

    /// What is wrong if so many threads are to be watched, and what to do; `None` if all fit.
    pub fn shortage(self, threads: u64) -> Option<String> {
        let (taken, reserve, limit) = (threads.saturating_mul(OF_A_THREAD), self.reserve(), self.limit);
        let fit = self.for_threads() as u64 / OF_A_THREAD;
        // The reserve may be larger under the higher limit.
        let wanted = Self { limit: ENOUGH, ..self }.reserve() + taken;
        (threads > fit).then(|| {
            format!(
                "{threads} watched threads take {taken} descriptors and the sidecar itself {reserve}, and its limit is \
                 {limit}: {} of them would not be watched, and the verdict would be degraded. Raise the limit of open \
                 files of the sidecar to {wanted} at least: LimitNOFILE={wanted} in its unit, or `ulimit -n {wanted}` \
                 before it starts",
                threads - fit
            )
        })
    }
}

/// How many threads there will be to watch, as far as is known beforehand: those registered now, if
/// there is a segment, but at least as many as the rules require.
pub fn threads_to_watch(config: &Config) -> u64 {
    let ruled = config.threads.iter().filter(|rule| rule.on != On::Ignore).map(|rule| u64::from(rule.count));
    let registered = match &config.target.find {
        FindTarget::Heartbeat(path) => Reader::open(path).ok().map_or(0, |reader| registered(&reader)),
        _ => 0,
    };
    registered.max(ruled.sum())
}

fn registered(reader: &Reader) -> u64 {
    let mut sample = Sample::default();
    if reader.sample(&mut sample).is_err() {
        return 0;
    }
    sample.threads.iter().filter(|slot| slot.claim == SlotState::Live).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn shares(limit: u64, listeners: u64) -> Shares {
        Shares { limit, inherited: 0, listeners }
    }

    #[test]
    fn threads_get_what_the_sidecar_does_not_need() {
        for (limit, listeners, threads) in [(1024, 1, 400), (1024, 2, 400), (256, 1, 64), (256, 2, 64)] {
            let shares = shares(limit, listeners);
            assert_eq!(shares.shortage(threads), None, "{shares:?}");
            assert!(shares.for_threads() as u64 + shares.reserve() <= limit, "{shares:?}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_said_with_the_one_that_is_enough() {
        let told = shares(512, 1).shortage(400).unwrap();
        assert!(told.contains("400 watched threads take 800 descriptors"), "{told}");
        let enough = told.split("LimitNOFILE=").nth(1).unwrap().split(' ').next().unwrap();
        let enough: u64 = enough.parse().unwrap();
        assert_eq!(shares(enough, 1).shortage(400), None);
    }

    #[test]
    fn even_the_lowest_limit_leaves_the_sidecar_its_own() {
        for limit in [0, 16, 64, 100] {
            let shares = shares(limit, 3);
            assert!(shares.for_threads() as u64 <= limit.saturating_sub(OWN));
            assert!(shares.connections() >= 4);
            assert!(shares.shortage(64).is_some());
            assert_eq!(shares.shortage(0), None);
        }
    }

    #[test]
    fn what_was_inherited_is_taken_already() {
        let lean = shares(1024, 1);
        let laden = Shares { inherited: 300, ..lean };
        assert_eq!(laden.for_threads(), lean.for_threads() - 300);
    }
}
