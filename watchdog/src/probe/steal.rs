//! CPU time that the hypervisor takes (steal), from `/proc/stat` (proc_stat(5)).
//!
//! Making that file costs the kernel more than the files of a thread, and the more, the more CPUs
//! there are. So it is read only while a thread without progress is runnable, and once more after
//! that, ten times a second, and for any observation on which a verdict may rest. Nothing is
//! allocated for it.
//!
//! What counts is the CPU that the thread was on: one from which the hypervisor takes everything
//! must not excuse a thread on another one. A thread may move, so it is the CPU that lost most
//! among those on which any observation since the last reading has found one of these threads.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::clock::Monotonic;

/// At most so many CPUs are told apart; what is taken from those beyond is not known.
const MOST_CPUS: usize = 1_024;
/// At most so many bytes of the file are read. The lines of the CPUs come first, and each has at
/// most some 100 bytes.
const MOST_BYTES: usize = MOST_CPUS * 128;
/// A tick of the file in nanoseconds: `USER_HZ` is 100 on every architecture that this runs on.
const TICK_NS: u64 = 10_000_000;
/// Time between two readings that nobody asked for.
const READ_EVERY: Duration = Duration::from_millis(100);
/// If the last reading is older than this, no thread stood still meanwhile, and what was taken
/// until now excuses nobody.
const STALE: Duration = Duration::from_secs(1);

/// The counters of all CPUs, and what became of them.
#[derive(Debug)]
pub struct CpuSteal {
    /// `None` where it cannot be read.
    file: Option<OwnedFd>,
    text: Box<[u8]>,
    /// Ticks at the last reading, by number of the CPU.
    before: Box<[u64]>,
    /// The last observation that found a runnable thread on it, by number of the CPU; zero: none.
    used: Box<[u64]>,
    /// The number of this observation, and of the last one that read the file, from 1 on.
    look: u64,
    read_look: u64,
    /// A thread was runnable since, or at, the last reading: some of that time may be stolen.
    owes: bool,
    total_ns: u64,
    read_at: Option<Monotonic>,
    wanted: bool,
}

impl CpuSteal {
    /// Opens `stat` in the folder `root`, which is `/proc`.
    pub fn open(root: &Path) -> Self {
        Self {
            file: open_on_same_mount(root, "stat"),
            text: vec![0; MOST_BYTES].into(),
            before: vec![0; MOST_CPUS].into(),
            used: vec![0; MOST_CPUS].into(),
            look: 0,
            read_look: 1,
            owes: false,
            total_ns: 0,
            read_at: None,
            wanted: false,
        }
    }

    /// Sets whether the next observation must read it.
    pub const fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// What was taken so far, if this observation reads it: of a CPU in `runnable_on`, which are
    /// those on which a thread without progress is runnable.
    pub fn read(&mut self, at: Monotonic, runnable_on: impl Iterator<Item = u32>) -> Option<u64> {
        self.look += 1;
        let mut any = false;
        for cpu in runnable_on {
            any = true;
            if let Some(used) = self.used.get_mut(cpu as usize) {
                *used = self.look;
            }
        }
        self.owes |= any;
        let age = self.read_at.map(|before| at.since(before));
        let due = self.owes && age.is_none_or(|age| age >= READ_EVERY);
        if !due && !self.wanted {
            return None;
        }
        let read = rustix::io::pread(self.file.as_ref()?, &mut self.text[..], 0).ok()?;
        let known = age.is_some_and(|age| age <= STALE);
        let mut most = 0;
        for (cpu, ticks) in steal_of(self.text.get(..read)?) {
            let Some((before, used)) = self.before.get_mut(cpu).zip(self.used.get(cpu)) else { continue };
            let taken = ticks.saturating_sub(std::mem::replace(before, ticks));
            if *used >= self.read_look && known {
                most = most.max(taken);
            }
        }
        self.total_ns = self.total_ns.saturating_add(most.saturating_mul(TICK_NS));
        // A thread that is runnable now and asleep at the next observation may be robbed before it
        // falls asleep: its CPU counts then, too.
        (self.read_look, self.owes, self.read_at) = (self.look, any, Some(at));
        Some(self.total_ns)
    }
}

/// Opens a file of this very file system. A container may have a file of another one mounted over
/// `/proc/stat`, such as that of lxcfs: whoever reads that waits for a process.
fn open_on_same_mount(root: &Path, name: &str) -> Option<OwnedFd> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, folder, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_XDEV).ok()
}

/// The number of each CPU that is online, and the ticks that were taken from it since boot. What
/// cannot be understood is left out.
fn steal_of(text: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let lines = text.split(|byte| *byte == b'\n').map_while(|line| line.strip_prefix(b"cpu"));
    lines.filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        // The first line, which sums all CPUs, has no number.
        let mut fields = line.split(' ');
        let cpu = fields.next()?.parse().ok()?;
        Some((cpu, fields.nth(7)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a guest of two CPUs shows it, with what a hypervisor took in the eighth number.
    const TWO_CPUS: &str = "cpu  69367 0 8200 19953 376 0 151 424 0 0\n\
                            cpu0 34463 0 3650 10759 128 0 9 211 0 0\n\
                            cpu1 34903 0 4550 9193 247 0 142 212 0 0\n\
                            intr 417906 0 0 1 12\nctxt 562890\nbtime 1796054388\n";

    fn stat(taken: &[(usize, u64)]) -> String {
        let line = |(cpu, taken): &(usize, u64)| format!("cpu{cpu} 1 2 3 4 5 6 7 {taken} 9 10\n");
        format!(
            "cpu  1 2 3 4 5 6 7 999 9 10\n{}intr 5\ncpu7 0 0 0 0 0 0 0 77\n",
            taken.iter().map(line).collect::<String>()
        )
    }

    /// Readings of a file that holds each of these texts in turn: when, what, and which CPUs
    /// runnable threads are on.
    fn readings(each: &[(u64, String, &[u32])]) -> Vec<Option<u64>> {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("stat");
        std::fs::write(&path, "").expect("written");
        let mut steal = CpuSteal::open(root.path());
        let mut read = |(at, text, on): &(u64, String, &[u32])| {
            std::fs::write(&path, text).expect("written");
            steal.read(Monotonic(at * 1_000_000), on.iter().copied())
        };
        each.iter().map(|one| read(one).map(|ns| ns / 1_000_000)).collect()
    }

    #[test]
    fn what_was_taken_from_each_cpu_is_found() {
        assert_eq!(steal_of(TWO_CPUS.as_bytes()).collect::<Vec<_>>(), [(0, 211), (1, 212)]);
        let own = std::fs::read("/proc/stat").expect("readable");
        let cpus = own.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"cpu")).count();
        assert_eq!(steal_of(&own).count(), cpus - 1, "all but the sum");
    }

    #[test]
    fn what_has_another_form_tells_nothing() {
        for text in [
            "",
            "cpu",
            "cpu0",
            "cpu0 1 2 3 4 5 6 7\n",
            "cpu0 1 2 3 4 5 6 7 x 9",
            "cpu\u{e9} 1",
            "cpu-1 1 2 3 4 5 6 7 8",
        ] {
            assert_eq!(steal_of(text.as_bytes()).count(), 0, "{text:?}");
        }
        let cut = "cpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3";
        assert_eq!(steal_of(cut.as_bytes()).collect::<Vec<_>>(), [(0, 8)]);
    }

    #[test]
    fn the_cpu_that_lost_most_counts_among_those_that_were_used() {
        let told = readings(&[
            (1_000, stat(&[(0, 10), (1, 20), (2, 30)]), &[0, 1]),
            (1_100, stat(&[(0, 12), (1, 25), (2, 60)]), &[0, 1]),
            // It has moved: what was taken of either CPU may have been taken from it.
            (1_150, stat(&[(0, 12), (1, 25), (2, 60)]), &[2]),
            (1_200, stat(&[(0, 12), (1, 25), (2, 62)]), &[0]),
        ]);
        assert_eq!(told, [Some(0), Some(50), None, Some(70)]);
    }

    #[test]
    fn it_is_read_ten_times_a_second_and_only_for_runnable_threads() {
        let none: &[u32] = &[];
        let text = || stat(&[(0, 10)]);
        let told =
            readings(&[(0, text(), none), (1, text(), &[0]), (100, text(), &[0]), (101, text(), &[0])]);
        assert_eq!(told, [None, Some(0), None, Some(0)]);
    }

    #[test]
    fn it_is_read_at_once_where_a_verdict_needs_it() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(root.path().join("stat"), TWO_CPUS).expect("written");
        let mut steal = CpuSteal::open(root.path());
        let mut at = |ms: u64, wanted| {
            steal.want(wanted);
            steal.read(Monotonic(ms * 1_000_000), std::iter::once(1)).is_some()
        };
        assert!(at(1, false) && !at(2, false) && at(3, true) && !at(4, false));
        steal.want(true);
        assert!(steal.read(Monotonic(5_000_000), std::iter::empty()).is_some(), "it sleeps by now");
    }

    #[test]
    fn what_was_taken_of_a_thread_that_sleeps_at_the_next_reading_is_told() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("stat");
        std::fs::write(&path, "").expect("written");
        let mut steal = CpuSteal::open(root.path());
        let mut read = |ms: u64, ticks, on: &[u32]| {
            std::fs::write(&path, stat(&[(0, ticks), (1, 5)])).expect("written");
            steal.want(true);
            steal.read(Monotonic(ms * 1_000_000), on.iter().copied())
        };
        assert_eq!(read(0, 10, &[0]), Some(0));
        assert_eq!(read(10, 17, &[]), Some(70_000_000), "it was robbed, and sleeps since");
        assert_eq!(read(20, 30, &[]), Some(70_000_000), "it slept all the time");
    }

    #[test]
    fn it_is_read_once_more_after_the_last_thread_has_fallen_asleep() {
        let none: &[u32] = &[];
        let told = readings(&[
            (0, stat(&[(0, 10)]), &[0]),
            (50, stat(&[(0, 14)]), none),
            (100, stat(&[(0, 15)]), none),
            (200, stat(&[(0, 19)]), none),
        ]);
        assert_eq!(told, [Some(0), None, Some(50), None]);
    }

    #[test]
    fn what_was_taken_while_nobody_stood_still_excuses_nobody() {
        let told = readings(&[
            (0, stat(&[(0, 10)]), &[0]),
            (1_001, stat(&[(0, 90)]), &[0]),
            (1_101, stat(&[(0, 93)]), &[0]),
        ]);
        assert_eq!(told, [Some(0), Some(0), Some(30)]);
    }

    #[test]
    fn a_counter_that_goes_back_and_a_cpu_out_of_reach_take_nothing() {
        let told = readings(&[
            (0, stat(&[(0, 90), (9_999, 1)]), &[0, 9_999]),
            (100, stat(&[(0, 10), (9_999, 90)]), &[0, 9_999]),
        ]);
        assert_eq!(told, [Some(0), Some(0)]);
    }

    #[test]
    fn a_file_mounted_over_it_is_never_opened() {
        assert!(open_on_same_mount(Path::new("/proc"), "stat").is_some());
        assert!(open_on_same_mount(Path::new("/"), "proc/stat").is_none(), "another file system");
        assert!(open_on_same_mount(Path::new("/nonexistent"), "stat").is_none());
    }
}
