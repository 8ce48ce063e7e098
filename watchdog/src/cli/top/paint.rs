//! Words, symbols and colours. A symbol and a word say all that a colour says.

use ratatui::style::{Color, Modifier, Style};
use shard_watchdog::status_json::{StatusJson, ThreadJson};
use shard_watchdog::verdict::{Health, Verdict};

use super::shards::Seen;
use crate::cli::plain;

/// The eight heights of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// A person has to look.
    Bad,
    /// It is not known.
    Unknown,
    /// It may pass.
    Uncertain,
    /// All is well.
    Good,
}

impl Grade {
    pub(super) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Condemned | Verdict::Dying | Verdict::Dead | Verdict::CrashLoop => Self::Bad,
            Verdict::Unguarded => Self::Unknown,
            Verdict::Restarting | Verdict::Starting | Verdict::Degraded => Self::Uncertain,
            Verdict::Excused | Verdict::Healthy => Self::Good,
        }
    }

    pub(super) const fn of_thread(thread: &ThreadJson) -> Self {
        match thread.health {
            _ if thread.unobserved.is_some() => Self::Unknown,
            Health::Gone | Health::Stalled => Self::Bad,
            Health::Late | Health::Excused | Health::Starting => Self::Uncertain,
            Health::Idle | Health::Working => Self::Good,
        }
    }
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) const fn grade(self, grade: Grade) -> Style {
        let style = match grade {
            Grade::Bad | Grade::Unknown => Style::new().add_modifier(Modifier::BOLD),
            Grade::Uncertain | Grade::Good => Style::new(),
        };
        if !self.0 {
            return style;
        }
        style.fg(match grade {
            Grade::Bad => Color::Red,
            Grade::Unknown => Color::Magenta,
            Grade::Uncertain => Color::Yellow,
            Grade::Good => Color::Green,
        })
    }

    /// For headings.
    pub(super) const fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// For what matters less.
    pub(super) const fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

/// The symbol of a verdict.
pub(super) const fn symbol(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "●",
        Verdict::Excused => "◌",
        Verdict::Starting | Verdict::Restarting => "◐",
        Verdict::Degraded => "▲",
        Verdict::Condemned | Verdict::Dying | Verdict::Dead | Verdict::CrashLoop => "✖",
        Verdict::Unguarded => "?",
    }
}

/// Symbol and word of what is known of a shard, and how bad it is. An old answer does not count.
pub(super) fn verdict(seen: &Seen) -> (String, Grade) {
    match (&seen.status, &seen.trouble) {
        (_, Some(_)) => ("? unreachable".to_owned(), Grade::Unknown),
        (Some((status, _)), None) => {
            let verdict = status.verdict;
            (format!("{} {verdict}", symbol(verdict)), Grade::of(verdict))
        }
        (None, None) => ("… asked".to_owned(), Grade::Uncertain),
    }
}

/// Text from outside on one line: no control character may move the cursor.
pub(super) fn one_line(text: &str) -> String {
    plain(text)
}

/// Health and kind of a thread.
pub(super) fn health(thread: &ThreadJson) -> String {
    match &thread.kind {
        _ if thread.unobserved.is_some() => "not observed".to_owned(),
        Some(kind) => format!("{}: {}", thread.health, one_line(kind)),
        None => thread.health.to_string(),
    }
}

/// A bar for each of these ages. The highest is the age at which the thread would be stalled, or
/// the greatest of them.
pub(super) fn bars(ages: impl Iterator<Item = f64> + Clone, stall_after: f64) -> String {
    let most = ages.clone().fold(stall_after, f64::max);
    let bar = |age: f64| {
        let share = if most > 0.0 { age / most } else { 0.0 };
        let last = BARS.len() - 1;
        // Not a number is no height.
        BARS[((share * last as f64).round() as usize).min(last)]
    };
    ages.map(bar).collect()
}

/// What prevents or allows a kill, in a few words.
pub(super) fn kills(status: &StatusJson) -> String {
    let left = status.kills_left.map_or_else(|| "?".to_owned(), |left| left.to_string());
    let paused = if status.paused_until.is_some() { ", paused" } else { "" };
    format!("{left} ({}{paused})", one_line(&status.mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_the_threshold_allows() {
        assert_eq!(bars([0.0, 2.5, 5.0].into_iter(), 5.0), "▁▅█");
        assert_eq!(bars([0.0, 10.0].into_iter(), 5.0), "▁█");
        assert_eq!(bars([0.0, f64::NAN].into_iter(), 0.0), "▁▁");
        assert_eq!(bars(std::iter::empty(), 1.0), "");
    }

    #[test]
    fn each_verdict_has_a_symbol_and_the_worst_comes_first() {
        let mut grades: Vec<Grade> = Verdict::ALL.iter().map(|verdict| Grade::of(*verdict)).collect();
        assert!(Verdict::ALL.iter().all(|verdict| symbol(*verdict).chars().count() == 1));
        grades.sort();
        assert_eq!((grades.first(), grades.last()), (Some(&Grade::Bad), Some(&Grade::Good)));
    }
}
