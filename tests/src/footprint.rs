//! What a running process costs: CPU time to the nanosecond, resident memory, threads, and which of
//! them do the work.
//!
//! CPU time comes from the process's own CPU clock, which includes threads that have ended; `utime`
//! and `stime` of `stat` come in ticks of 10 ms, a third of all that is allowed in half a minute.
//! Memory comes from `status`: `smaps` can stop the observed process, and is never read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// CPU time of the process so far: all its threads, in user mode and in the kernel.
#[track_caller]
pub fn cpu_time(pid: i32) -> Duration {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: it writes one clock id through the pointer, and does not retain the pointer.
    let found = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    assert_eq!(found, 0, "process {pid} has a CPU clock");
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one time through the pointer, and does not retain the pointer.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(read, 0, "the CPU clock of process {pid} can be read");
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}

/// CPU time of all children of this process that have ended and been waited for.
#[track_caller]
pub fn cpu_time_of_children() -> Duration {
    // SAFETY: `rusage` consists of numbers, for which zero is a valid value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes one structure through the pointer, and does not retain the pointer.
    let read = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used) };
    assert_eq!(read, 0, "a process may ask for its children's CPU time");
    [used.ru_utime, used.ru_stime]
        .map(|time| {
            Duration::from_secs(time.tv_sec.cast_unsigned())
                + Duration::from_micros(time.tv_usec.cast_unsigned())
        })
        .iter()
        .sum()
}

/// CPU time so far of the process's threads of this name.
pub fn cpu_time_of(pid: i32, name: &str) -> Duration {
    threads_of(pid).into_values().filter(|thread| thread.name == name).map(|thread| thread.cpu).sum()
}

/// Memory and threads of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Resident memory in MiB, including the pages of the binary.
    pub rss_mib: f64,
    /// The part of it not backed by a file: what the process allocated.
    pub rss_anon_mib: f64,
    /// Number of threads.
    pub threads: f64,
}

impl Size {
    /// Reads `status` now.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let number = |name: &str| status_number(&text, name).unwrap_or_else(|| panic!("no {name} in {path}"));
        Self {
            rss_mib: number("VmRSS") / 1024.0,
            rss_anon_mib: number("RssAnon") / 1024.0,
            threads: number("Threads"),
        }
    }
}

/// The number in `status` under that name, in the unit used there (memory: KiB).
fn status_number(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// One thread's counters at one moment.
#[derive(Clone, Debug)]
struct ThreadTotals {
    name: String,
    cpu: Duration,
    sleeps: f64,
}

/// The threads of a process by id. A thread that ends during the read is left out.
fn threads_of(pid: i32) -> BTreeMap<String, ThreadTotals> {
    let path = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let read = |folder: &Path| {
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
        let cpu = text("schedstat")?.split_whitespace().next()?.parse().ok()?;
        Some(ThreadTotals {
            name: text("comm")?.trim_end().to_owned(),
            cpu: Duration::from_nanos(cpu),
            sleeps: status_number(&text("status")?, "voluntary_ctxt_switches")?,
        })
    };
    let entries = entries.filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), read(&entry.path())?))).collect()
}

/// A process measured over a period.
#[derive(Debug)]
pub struct Window {
    pid: i32,
    began: Instant,
    cpu: Duration,
    threads: BTreeMap<String, ThreadTotals>,
}

/// What it used in that period.
#[derive(Clone, Debug)]
pub struct Used {
    /// CPU time as a share of one core, percent.
    pub cpu_percent_of_core: f64,
    /// The same by thread, adding up threads of one name. Threads that came or went count only in
    /// the total.
    pub cpu_percent_by_thread: BTreeMap<String, f64>,
    /// How often per second its threads went to sleep voluntarily, which is how often they woke.
    pub wakeups_per_second_by_thread: BTreeMap<String, f64>,
}

impl Window {
    /// Begins the measurement.
    #[track_caller]
    pub fn open(pid: i32) -> Self {
        let threads = threads_of(pid);
        Self { pid, began: Instant::now(), cpu: cpu_time(pid), threads }
    }

    /// Ends the measurement.
    #[track_caller]
    pub fn close(&self) -> Used {
        let cpu = cpu_time(self.pid).saturating_sub(self.cpu);
        let seconds = self.began.elapsed().as_secs_f64();
        let percent = |time: Duration| time.as_secs_f64() / seconds * 100.0;
        let mut used = Used {
            cpu_percent_of_core: percent(cpu),
            cpu_percent_by_thread: BTreeMap::new(),
            wakeups_per_second_by_thread: BTreeMap::new(),
        };
        for (tid, now) in threads_of(self.pid) {
            let Some(before) = self.threads.get(&tid) else { continue };
            let share = percent(now.cpu.saturating_sub(before.cpu));
            *used.cpu_percent_by_thread.entry(now.name.clone()).or_default() += share;
            let wakeups = (now.sleeps - before.sleeps) / seconds;
            *used.wakeups_per_second_by_thread.entry(now.name).or_default() += wakeups;
        }
        used
    }
}

/// Numbers by name as JSON.
pub fn by_name(numbers: &BTreeMap<String, f64>) -> Value {
    Value::Object(numbers.iter().map(|(name, number)| (name.clone(), json!(number))).collect::<Map<_, _>>())
}

/// The sum of all series of a metric on a `/metrics` page; `None` if it has none.
pub fn sum_on_page(page: &str, metric: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        rest.strip_prefix(' ')?.split(' ').next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_thread_that_has_ended_is_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = cpu_time(own);
        let burn = Duration::from_millis(20);
        let burner = std::thread::spawn(move || {
            let began = thread_time();
            while thread_time() - began < burn {}
        });
        crate::wait::until("the thread's end", || burner.is_finished().then_some(()));
        assert!(cpu_time(own) - before >= burn);
    }

    fn thread_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap()
    }

    #[test]
    fn a_window_tells_size_and_threads_apart() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (end, told) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::Builder::new()
            .name("sleeper".to_owned())
            .spawn(move || told.recv_timeout(crate::wait::GENEROUS));
        crate::wait::until("a thread that has its name", || {
            threads_of(own).values().any(|thread| thread.name == "sleeper").then_some(())
        });
        let used = Window::open(own).close();
        let size = Size::of(own);
        drop(end);
        assert!(used.cpu_percent_by_thread.contains_key("sleeper") && sleeper.is_ok(), "{used:?}");
        assert!(
            size.rss_mib > size.rss_anon_mib && size.rss_anon_mib > 0.0 && size.threads >= 2.0,
            "{size:?}"
        );
    }

    #[test]
    fn series_of_a_metric_are_added_up() {
        let page =
            "# TYPE a_count counter\na_count{x=\"}1 2\"} 3\na_count{x=\"b\"} 4.5 1700\na_counts 9\nb 2\n";
        assert_eq!(sum_on_page(page, "a_count"), Some(7.5));
        assert_eq!(sum_on_page(page, "b"), Some(2.0));
        assert_eq!(sum_on_page(page, "c"), None);
    }
}
