//! How often systemd starts a unit before it gives up, how long it pauses before each start, and
//! whether the kill budget and the time for a restart fit those limits.
//!
//! Each kill also spends one of the supervisor's starts. A budget that systemd's own limit
//! (`StartLimitBurst=` in `StartLimitIntervalSec=`, systemd.unit(5)) cannot carry turns the
//! watchdog's restarts into an outage. A pause (`RestartSec=`, `RestartMaxDelaySec=`,
//! systemd.service(5)) that is longer than `restart.within` calls a person after each kill. With
//! `RestartSteps=` the pause grows with each restart and never shrinks by itself, however long the
//! unit was well in between: sooner or later each kill meets the longest pause.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use shard_heartbeat::Reader;

use crate::child_end;
use crate::config::units::written;

/// `systemctl` answers within milliseconds. After this time it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two checks whether `systemctl` has ended.
const LOOK: Duration = Duration::from_millis(5);

/// More than the few requested lines; any further output is not read.
const MOST_BYTES: u64 = 16 << 10;

/// Time from a start until the new process has a segment, on a machine that is not busy: an exec
/// and a few files.
const STARTING: Duration = Duration::from_secs(1);

/// The restart settings of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartLimit {
    /// `StartLimitIntervalSec=`; zero: there is no limit.
    pub interval: Duration,
    /// `StartLimitBurst=`: starts within the interval; zero: there is no limit.
    pub burst: u32,
    /// `Restart=`, such as `always`.
    pub restart: String,
    /// `RestartSec=`: the pause before the first restart, and before each one if `RestartSteps=` is
    /// unset.
    pub pause: Duration,
    /// `RestartSteps=`: the number of restarts after which the pause is the longest; zero: it does
    /// not grow (always so before systemd 254).
    pub steps: u32,
    /// `RestartMaxDelaySec=`; [`Duration::MAX`]: the pause does not grow.
    pub longest_pause: Duration,
}

impl StartLimit {
    /// Queries the running systemd for `unit`. `None`: there is no systemd, or it knows no such
    /// unit, or it does not answer within two seconds.
    pub fn ask(unit: &str) -> Option<Self> {
        let properties = "--property=LoadState,StartLimitIntervalUSec,StartLimitBurst,Restart,RestartUSec,\
                          RestartSteps,RestartMaxDelayUSec";
        let mut child = Command::new("systemctl")
            .args(["show", properties, "--", unit])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let status = child_end::within(&mut child, PATIENCE, LOOK);
        if status.is_none() {
            // It cannot be relied on any more. Its end is not waited for: SIGKILL may take time.
            let _ = child.kill();
            let _ = child.try_wait();
        }
        let mut said = String::new();
        // It has ended, and its output fits into the pipe.
        child.stdout.take()?.take(MOST_BYTES).read_to_string(&mut said).ok()?;
        status.filter(std::process::ExitStatus::success).and_then(|_| Self::parse(&said))
    }

    /// Parses the output of `systemctl show`. `None`: the unit is not loaded, or the output is
    /// malformed.
    pub fn parse(said: &str) -> Option<Self> {
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        if value("LoadState") != Some("loaded") {
            return None;
        }
        Some(Self {
            interval: timespan(value("StartLimitIntervalUSec")?)?,
            burst: value("StartLimitBurst")?.parse().ok()?,
            restart: value("Restart")?.to_owned(),
            pause: timespan(value("RestartUSec")?)?,
            // Absent before systemd 254.
            steps: value("RestartSteps").map_or(Some(0), |steps| steps.parse().ok())?,
            longest_pause: value("RestartMaxDelayUSec").map_or(Some(Duration::MAX), timespan)?,
        })
    }

    /// Why a budget of `kills` in `per`, or a restart `within` that time, conflicts with this unit,
    /// each with what to do; empty if there is no conflict.
    pub fn collisions(&self, unit: &str, kills: u32, per: Duration, within: Duration) -> Vec<String> {
        let mut found = Vec::new();
        if !matches!(self.restart.as_str(), "always" | "on-failure" | "on-abnormal" | "on-abort") {
            found.push(format!(
                "unit {unit} has Restart={}: what the watchdog kills stays dead. Set Restart=always.",
                self.restart
            ));
        }
        found.extend(self.too_long(unit, within));
        if self.burst == 0 || self.interval.is_zero() || self.cannot_be_reached() {
            return found;
        }
        let possible = possible_kills(kills, per, self.interval);
        // Two more: the first start, and one crash that the watchdog did not cause.
        let needed = possible.saturating_add(2);
        if needed > self.burst {
            let (burst, interval) = (self.burst, written(self.interval));
            let room = burst.saturating_sub(2);
            let less = if room == 0 { String::new() } else { format!("kill.budget.kills = {room}, or ") };
            found.push(format!(
                "kill.budget allows {possible} kills in the {interval} in which systemd starts unit {unit} {burst} times at most: \
                 with the first start and one crash that is {needed}, and systemd leaves it dead. Set {less}StartLimitBurst={needed} in the unit."
            ));
        }
        found
    }

    /// Whether the pauses alone keep the unit below its limit, however soon it ends after each
    /// start.
    fn cannot_be_reached(&self) -> bool {
        let pauses = self.interval.as_nanos().checked_div(self.pause.as_nanos());
        // There is one more start than there are whole pauses.
        pauses.is_some_and(|pauses| pauses < u128::from(self.burst))
    }

    /// The longest pause before a start, and the setting that determines it.
    fn longest(&self) -> (Duration, &'static str) {
        let grows = self.steps > 0 && !self.pause.is_zero() && self.longest_pause != Duration::MAX;
        if grows && self.longest_pause > self.pause {
            (self.longest_pause, "RestartMaxDelaySec")
        } else {
            (self.pause, "RestartSec")
        }
    }

    /// The problem with the pause before a start.
    fn too_long(&self, unit: &str, within: Duration) -> Option<String> {
        let (pause, setting) = self.longest();
        if pause.saturating_add(STARTING) <= within {
            return None;
        }
        let Self { pause: first, steps, .. } = self;
        let grows = match setting {
            "RestartMaxDelaySec" => format!(
                " That is the pause after {steps} restarts, and it never becomes shorter again by itself, only by systemctl reset-failed or a start by hand; \
                 the first is {}.",
                written(*first)
            ),
            _ => String::new(),
        };
        let (fits, enough) =
            (written(within.saturating_sub(STARTING)), written(pause.saturating_add(STARTING)));
        let (pause, within) = (written(pause), written(within));
        Some(format!(
            "unit {unit} is started again after {setting}={pause}, and restart.within is {within}: each kill would be a page, although systemd does as it \
             was told.{grows} Set {setting}= to {fits} at most in the unit, or restart.within = \"{enough}\"."
        ))
    }
}

/// How many kills a bucket of `kills` that refills in `per` allows within `interval`.
fn possible_kills(kills: u32, per: Duration, interval: Duration) -> u32 {
    let refilled = if per.is_zero() {
        u128::MAX
    } else {
        u128::from(kills).saturating_mul(interval.as_nanos()) / per.as_nanos()
    };
    kills.saturating_add(u32::try_from(refilled).unwrap_or(u32::MAX))
}

/// Parses a time span as systemd writes it: `10s`, `1min 30s`, `infinity` (systemd.time(7)).
fn timespan(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(Duration::MAX);
    }
    let mut sum = Duration::ZERO;
    for part in text.split_whitespace() {
        let unit = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let count: u32 = part.strip_suffix(unit)?.parse().ok()?;
        let one = match unit {
            // Zero is written without a unit.
            "" if count == 0 => Duration::ZERO,
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            "w" => Duration::from_secs(7 * 86_400),
            // As systemd counts them: 30.44 days and 365.25 days.
            "month" => Duration::from_secs(2_629_800),
            "y" => Duration::from_secs(31_557_600),
            _ => return None,
        };
        sum = sum.checked_add(one.checked_mul(count)?)?;
    }
    Some(sum)
}

/// The unit to which the process of this heartbeat belongs, by its cgroup; `None` if it belongs to
/// none or does not run.
pub fn unit_of(heartbeat: &Path, proc_root: &Path) -> Option<String> {
    let pid = Reader::open(heartbeat).ok()?.header().pid;
    let cgroups = std::fs::read(proc_root.join(pid.to_string()).join("cgroup")).ok()?;
    // A cgroup's name may be any bytes, a unit's may not.
    innermost_service(&String::from_utf8_lossy(&cgroups))
}

/// The last `….service` on the path of any hierarchy.
fn innermost_service(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of systemd 252.
    const SHOWN: &str = "Restart=always\nRestartUSec=100ms\nLoadState=loaded\nStartLimitIntervalUSec=10s\nStartLimitBurst=5\n";
    /// Additional output of 257, where nothing was set.
    const OF_257: &str = "RestartSteps=0\nRestartMaxDelayUSec=infinity\n";
    const WITHIN: Duration = Duration::from_secs(30);
    const PER: Duration = Duration::from_secs(600);

    fn limit() -> StartLimit {
        StartLimit::parse(SHOWN).expect("it can be read")
    }

    #[test]
    fn what_systemctl_shows_is_read() {
        let expected = StartLimit {
            interval: Duration::from_secs(10),
            burst: 5,
            restart: "always".to_owned(),
            pause: Duration::from_millis(100),
            steps: 0,
            longest_pause: Duration::MAX,
        };
        assert_eq!(limit(), expected);
        assert_eq!(StartLimit::parse(&format!("{SHOWN}{OF_257}")), Some(expected));
        let unknown = SHOWN.replace("loaded", "not-found");
        for other in ["", "LoadState=loaded\n", &unknown, &SHOWN.replace("=10s", "=10 parsecs")] {
            assert_eq!(StartLimit::parse(other), None, "{other}");
        }
    }

    #[test]
    fn spans_of_time_are_systemds() {
        for (text, seconds) in [("0", 0), ("90s", 90), ("1min 30s", 90), ("1h 1s", 3_601), ("1d", 86_400)] {
            assert_eq!(timespan(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(timespan("1.5s"), None);
        assert_eq!(timespan("99999999999999s"), None);
    }

    #[test]
    fn the_default_budget_goes_with_the_default_limit_and_one_more_kill_does_not() {
        assert_eq!(limit().collisions("a.service", 3, PER, WITHIN), Vec::<String>::new());
        let found = limit().collisions("a.service", 4, PER, WITHIN);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("kill.budget.kills = 3") && found[0].contains("StartLimitBurst=6"),
            "{found:?}"
        );
    }

    #[test]
    fn a_bucket_that_refills_within_the_interval_allows_more() {
        let slow = StartLimit { interval: 2 * PER, burst: 10, ..limit() };
        // Three at once, and three more in each ten minutes.
        assert_eq!(slow.collisions("a.service", 3, PER, WITHIN).len(), 1);
        assert_eq!(
            StartLimit { burst: 11, ..slow }.collisions("a.service", 3, PER, WITHIN),
            Vec::<String>::new()
        );
    }

    #[test]
    fn no_limit_collides_with_nothing_and_no_restart_with_everything() {
        let unlimited = StartLimit { interval: Duration::ZERO, ..limit() };
        assert_eq!(unlimited.collisions("a.service", 1_000, PER, WITHIN), Vec::<String>::new());
        let once = StartLimit { restart: "no".to_owned(), ..limit() };
        assert!(once.collisions("a.service", 1, PER, WITHIN)[0].contains("Restart=always"));
    }

    #[test]
    fn a_limit_that_the_pauses_alone_keep_out_of_reach_collides_with_nothing() {
        // A start at 0, 3, 6 and 9 seconds at most: the fifth never comes.
        let paused = StartLimit { pause: Duration::from_secs(3), ..limit() };
        assert_eq!(paused.collisions("a.service", 1_000, PER, WITHIN), Vec::<String>::new());
        let quicker = StartLimit { pause: Duration::from_secs(2), ..limit() };
        assert_eq!(quicker.collisions("a.service", 1_000, PER, WITHIN).len(), 1, "0, 2, 4, 6, 8 and 10 s");
    }

    #[test]
    fn a_pause_longer_than_the_time_for_a_restart_would_page_after_each_kill() {
        let slow = StartLimit { pause: Duration::from_secs(30), ..limit() };
        let found = slow.collisions("a.service", 3, PER, WITHIN);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("RestartSec=30s") && found[0].contains("restart.within = \"31s\""),
            "{found:?}"
        );
        let fits = StartLimit { pause: Duration::from_secs(29), ..limit() };
        assert_eq!(fits.collisions("a.service", 3, PER, WITHIN), Vec::<String>::new());
    }

    #[test]
    fn a_pause_that_grows_counts_as_the_longest_since_it_never_shrinks() {
        let grows = StartLimit { steps: 8, longest_pause: Duration::from_secs(60), ..limit() };
        let found = grows.collisions("a.service", 3, PER, WITHIN);
        assert_eq!(found.len(), 1, "{found:?}");
        for told in ["RestartMaxDelaySec=1m", "never becomes shorter", "8 restarts", "\"1m 1s\""] {
            assert!(found[0].contains(told), "{told} in {found:?}");
        }
        // As in systemd: without steps, without a first pause or without a longer one the pause
        // does not grow.
        for constant in [
            StartLimit { steps: 0, ..grows.clone() },
            StartLimit { pause: Duration::ZERO, ..grows.clone() },
            StartLimit { longest_pause: Duration::MAX, ..grows.clone() },
            StartLimit { longest_pause: Duration::from_millis(50), ..grows },
        ] {
            assert_eq!(
                constant.collisions("a.service", 3, PER, WITHIN),
                Vec::<String>::new(),
                "{constant:?}"
            );
        }
    }

    #[test]
    fn the_unit_is_the_innermost_service_of_a_cgroup() {
        let text = "12:cpu:/\n1:name=systemd:/system.slice/shard@0.service/payload\n0::/\n";
        assert_eq!(innermost_service(text).as_deref(), Some("shard@0.service"));
        assert_eq!(innermost_service("0::/user.slice/session-1.scope\n"), None);
    }
}
