//! Whether the memory of a process stays flat: its allocations (`RssAnon`), sampled once a second.

use std::time::{Duration, Instant};

/// A process first fills its caches and arenas; growth during this time does not indicate a leak.
pub const WARM_UP: Duration = Duration::from_secs(20);

/// A shorter life is not judged: a single added arena would look like a slope.
pub const JUDGED_FROM: Duration = Duration::from_secs(90);

/// How much a process may grow per minute. At ten blocks a second, one kilobyte lost per block is
/// 0.6 MiB a minute.
pub const SLOPE_MIB_PER_MINUTE: f64 = 1.0;

/// Growth below this is no leak whatever its slope: an arena or two, or the largest block yet.
pub const GROWTH_MIB: f64 = 8.0;

/// One process's memory over its life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Name of the process, for people.
    pub name: String,
    /// Pid of the process.
    pub pid: i32,
    began: Instant,
    /// Seconds since the beginning, and MiB.
    samples: Vec<(f64, f64)>,
}

impl Life {
    /// Begins a record now.
    pub fn new(name: String, pid: i32) -> Self {
        Self { name, pid, began: Instant::now(), samples: Vec::new() }
    }

    /// Takes a sample. A process that has ended yields none.
    pub fn look(&mut self) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return };
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse::<f64>().ok());
        if let Some(kib) = kib {
            self.samples.push((self.began.elapsed().as_secs_f64(), kib / 1024.0));
        }
    }

    /// MiB per minute, by least squares over the samples after [`WARM_UP`]; `None` if they cover
    /// less than [`JUDGED_FROM`].
    pub fn slope(&self) -> Option<f64> {
        let settled = self.settled();
        let (first, last) = (settled.first()?, settled.last()?);
        (last.0 - first.0 >= JUDGED_FROM.as_secs_f64()).then(|| slope(settled) * 60.0)
    }

    /// A message for people if it grows beyond [`SLOPE_MIB_PER_MINUTE`] and [`GROWTH_MIB`];
    /// otherwise `None`.
    pub fn leak(&self) -> Option<String> {
        let slope = self.slope().filter(|slope| *slope > SLOPE_MIB_PER_MINUTE)?;
        let settled = self.settled();
        let minutes = (settled.last()?.0 - settled.first()?.0) / 60.0;
        let growth = slope * minutes;
        (growth > GROWTH_MIB).then(|| {
            format!(
                "the memory of {} (pid {}) grew by {slope:.2} MiB a minute over {minutes:.1} minutes: more than {SLOPE_MIB_PER_MINUTE} a minute and {GROWTH_MIB} MiB in all",
                self.name, self.pid
            )
        })
    }

    fn settled(&self) -> &[(f64, f64)] {
        let from = self.samples.partition_point(|(at, _)| *at < WARM_UP.as_secs_f64());
        &self.samples[from..]
    }
}

/// Slope of the best-fitting line.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (above, below) = points
        .iter()
        .fold((0.0, 0.0), |(above, below), p| (above + (p.0 - x) * (p.1 - y), below + (p.0 - x) * (p.0 - x)));
    if below == 0.0 { 0.0 } else { above / below }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(seconds: u32, mib: impl Fn(f64) -> f64) -> Life {
        let mut life = Life::new("a shard".to_owned(), 1);
        life.samples = (0..seconds).map(|at| (f64::from(at), mib(f64::from(at)))).collect();
        life
    }

    #[test]
    fn a_leak_is_told_and_a_start_and_a_step_are_not() {
        let leak = life(600, |at| 20.0 + at / 60.0 * 1.5 + (at % 7.0));
        assert!(leak.leak().unwrap().contains("1.5"), "{:?}", leak.slope());
        assert_eq!(life(600, |at| if at < 20.0 { at } else { 40.0 }).leak(), None, "it starts");
        assert_eq!(life(600, |at| if at < 300.0 { 20.0 } else { 24.0 }).leak(), None, "one step");
        assert_eq!(life(100, |at| at).leak(), None, "too short a life to say");
        assert_eq!(life(600, |at| 20.0 + at / 60.0 * 0.5).leak(), None, "within the bound");
        assert_eq!(life(0, |_| 0.0).slope(), None);
    }

    #[test]
    fn a_process_is_looked_at() {
        let mut own = Life::new("this test".to_owned(), std::process::id().cast_signed());
        own.look();
        assert!(own.samples[0].1 > 0.1);
        let mut nobody = Life::new("nobody".to_owned(), 0);
        nobody.look();
        assert!(nobody.samples.is_empty());
    }
}
