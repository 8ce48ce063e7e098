//! A target in a [`Nursery`], with a sidecar that shares its pid namespace.

use std::net::SocketAddr;

use crate::process::binary;
use crate::puppet::{Nursery, THREAD, order};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, wait};

/// The target and its sidecar. Everything ends with the nursery.
#[derive(Debug)]
pub struct Ward {
    /// The namespace.
    pub nursery: Nursery,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the target receives orders.
    pub port: SocketAddr,
    /// Pid of the first target in the namespace.
    pub pid: i32,
    _folder: tempfile::TempDir,
}

impl Ward {
    /// Starts a target without a sidecar.
    #[track_caller]
    pub fn start(nursery: Nursery) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = Settings { append: "[restart]\nwithin = \"1s\"\n".to_owned(), ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, &settings);
        let mut ward = Self { nursery, sidecar, port: api::free_address(), pid: 0, _folder: folder };
        ward.pid = ward.start_target();
        ward
    }

    /// Starts another target, on the same path.
    #[track_caller]
    pub fn start_target(&self) -> i32 {
        let pid = self.nursery.start(&binary("puppet"), &["target", self.segment(), &self.port.to_string()]);
        order(self.port, "rename exec-s0");
        pid
    }

    /// Starts a sidecar that learns of the end of threads by `pidfd` or `poll`.
    #[track_caller]
    pub fn start_sidecar(&self, events: &str) -> i32 {
        let config = self.sidecar.config.to_str().expect("a path that is text");
        self.nursery.start(&binary("shard-watchdog"), &["run", "--config", config, "--thread-events", events])
    }

    /// Ends a process in the namespace, and has it reaped.
    #[track_caller]
    pub fn end(&self, pid: i32, name: &str) {
        self.nursery.signal(pid, name);
        wait::until("its end", || (!self.nursery.is_alive(pid)).then_some(()));
    }

    /// Starts a process with the pid of another that maps that other's segment.
    #[track_caller]
    pub fn stranger(&self, pid: i32) {
        self.start_as(pid, &["stranger", self.segment()], "maps the file");
    }

    /// Restarts the target of that pid as a checkpoint left it, in a later clock tick than the one
    /// in which that target began. In the same tick, as on a fast machine, its start time would
    /// make it pass for the one that took the lock beside the segment, and has lost it.
    #[track_caller]
    pub fn restore(&self, pid: i32) {
        let now = tick();
        wait::until("a later tick of the clock", || (tick() > now).then_some(()));
        self.start_as(pid, &["restored", self.segment(), &self.port.to_string()], "goes on");
    }

    /// Starts a puppet with that pid, and waits until it prints `says`.
    #[track_caller]
    fn start_as(&self, pid: i32, arguments: &[&str], says: &str) {
        let taken = wait::until("the pid again", || {
            self.nursery.next(pid);
            let from = self.nursery.process.line_count();
            let got = self.nursery.start(&binary("puppet"), arguments);
            self.nursery.process.line(says, from, |line| line.contains(says).then_some(()));
            if got != pid {
                self.end(got, "KILL");
            }
            (got == pid).then_some(got)
        });
        assert_eq!(taken, pid);
    }

    #[track_caller]
    fn segment(&self) -> &str {
        self.sidecar.heartbeat.to_str().expect("a path that is text")
    }
}

/// The clock of start times, which are reported in a hundred ticks a second.
fn tick() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 100 + now.tv_nsec / 10_000_000
}
