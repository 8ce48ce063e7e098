//! A target in a [`Nursery`], with a sidecar that shares its pid namespace.

use std::net::SocketAddr;

use crate::process::binary;
use crate::puppet::{Nursery, THREAD, order};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, wait};

/// All of it ends with the nursery.
#[derive(Debug)]
pub struct Ward {
    /// The namespace.
    pub nursery: Nursery,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the target takes orders.
    pub port: SocketAddr,
    /// The first target, by its pid in the namespace.
    pub pid: i32,
    _folder: tempfile::TempDir,
}

impl Ward {
    /// Starts a target, and no sidecar yet.
    #[track_caller]
    pub fn start(nursery: Nursery) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = Settings { append: "[restart]\nwithin = \"1s\"\n".to_owned(), ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, &settings);
        let mut ward = Self { nursery, sidecar, port: api::free_address(), pid: 0, _folder: folder };
        ward.pid = ward.start_target();
        ward
    }

    /// Another one, on the same path.
    #[track_caller]
    pub fn start_target(&self) -> i32 {
        let pid = self.nursery.start(&binary("puppet"), &["target", self.segment(), &self.port.to_string()]);
        order(self.port, "rename exec-s0");
        pid
    }

    /// Starts a sidecar that learns of the end of threads in that way, `pidfd` or `poll`.
    #[track_caller]
    pub fn start_sidecar(&self, events: &str) -> i32 {
        let config = self.sidecar.config.to_str().expect("a path that is text");
        self.nursery.start(&binary("shard-watchdog"), &["run", "--config", config, "--thread-events", events])
    }

    /// Ends a process in it, and has it reaped.
    #[track_caller]
    pub fn end(&self, pid: i32, name: &str) {
        self.nursery.signal(pid, name);
        wait::until("its end", || (!self.nursery.is_alive(pid)).then_some(()));
    }

    /// Starts a process that maps the segment of another, with the pid of that other.
    #[track_caller]
    pub fn stranger(&self, pid: i32) {
        self.start_as(pid, &["stranger", self.segment()], "maps the file");
    }

    /// Starts the target of that pid again, as a checkpoint left it. Not in the clock tick in which
    /// that target began, as this would on a fast machine: by its start time it would be the one
    /// that took the lock beside the segment, and has lost it.
    #[track_caller]
    pub fn restore(&self, pid: i32) {
        let now = tick();
        wait::until("a later tick of the clock", || (tick() > now).then_some(()));
        self.start_as(pid, &["restored", self.segment(), &self.port.to_string()], "goes on");
    }

    /// Starts a puppet with that pid, and waits until it says so.
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

/// The clock of start times, which has a hundred ticks a second for whoever reads them.
fn tick() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 100 + now.tv_nsec / 10_000_000
}
