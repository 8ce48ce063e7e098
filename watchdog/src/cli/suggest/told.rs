//! The proposed thresholds, as TOML with comments or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use shard_watchdog::clock::Monotonic;
use shard_watchdog::config::units::written;
use shard_watchdog::config::{ByKind, Config, MOST_WARM_UP, On, ThreadRule};
use shard_watchdog::judge::words::Rounded;
use shard_watchdog::recorder::file::Header;
use shard_watchdog::recorder::gaps::{NamedGaps, SectionGaps, ThreadGaps};
use shard_watchdog::recorder::threshold::{LONG, Threshold};
use shard_watchdog::verdict::StallKind;

/// A longest gap of this many times the p99 more likely stems from a recorded fault than from load,
/// and should not set thresholds.
const OUTLIER: u32 = 20;

/// The gaps of one name, over all recordings.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    gaps: NamedGaps,
    /// When the longest gap ended: of the first piece of work, and later.
    longest_at: [Option<Timestamp>; 2],
    /// The threads that a rule matched, where there are rules.
    members: Vec<String>,
}

impl Named {
    /// Adds the gaps of one recording.
    pub(super) fn join(&mut self, gaps: &NamedGaps, header: &Header) {
        let [first, later] = &mut self.longest_at;
        for (mine, gaps, at) in
            [(&self.gaps.first, &gaps.first, first), (&self.gaps.later, &gaps.later, later)]
        {
            if gaps.longest > mine.longest {
                *at = Some(header.wall_of(gaps.longest_at));
            }
        }
        self.gaps.join(gaps);
    }

    fn add(&mut self, name: &str, other: &Self) {
        let ([first, later], [other_first, other_later]) = (&mut self.longest_at, other.longest_at);
        if other.gaps.first.longest > self.gaps.first.longest {
            *first = other_first;
        }
        if other.gaps.later.longest > self.gaps.later.longest {
            *later = other_later;
        }
        self.gaps.join(&other.gaps);
        self.members.push(name.to_owned());
    }
}

/// One proposed rule.
#[derive(Debug, Serialize)]
struct Suggestion {
    /// A name, or the glob of a rule.
    name: String,
    /// The threads that the rule applies to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<String>,
    gaps: u64,
    median_seconds: f64,
    p99_seconds: f64,
    longest_seconds: f64,
    longest_at: Option<Timestamp>,
    /// The longest gap that had not ended when its recording did.
    unfinished_seconds: Option<f64>,
    /// Gaps of the first piece of work after a start, which are in no other figure here.
    first_gaps: u64,
    first_longest_seconds: f64,
    /// Absent if the gaps allow no proposal.
    stall_after: Option<String>,
    warn_after: Option<String>,
    /// Absent if the first piece of work was not seen to take longer than others may.
    warm_up: Option<String>,
    /// What was seen in each section of the work. All of it is in the figures above too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sections: BTreeMap<String, OfSection>,
    /// The margin asked for, as a multiple of the longest gap.
    margin_asked: Option<u32>,
    /// The margin that the proposal leaves, as a multiple of the longest gap.
    margin_left: Option<f64>,
    /// The reasons for the proposal.
    why: String,
    #[serde(skip)]
    rule: Option<(u32, On, ByKind)>,
}

/// One section of a piece of work.
#[derive(Debug, Serialize)]
struct OfSection {
    /// Those of the first piece of work are apart, as for the whole.
    gaps: u64,
    longest_seconds: f64,
    first_gaps: u64,
    first_longest_seconds: f64,
    /// Absent if the gaps allow no threshold shorter than that of the rule.
    stall_after: Option<String>,
}

/// Everything that the command reports.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    shard: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    recordings: u64,
    recorded_seconds: f64,
    looks: u64,
    /// Observations that are missing according to the recordings.
    pub(super) lost: u64,
    /// Gaps that could not be measured.
    pub(super) void: u64,
    /// Warnings that a person should read first.
    caution: Vec<String>,
    pub(super) problems: Vec<String>,
    threads: Vec<Suggestion>,
    /// Threads that no rule of the config applies to.
    without_rule: Vec<String>,
    #[serde(skip)]
    recorded: Duration,
}

impl Told {
    /// Adds one recording, from its first observation to its last.
    pub(super) fn recording(&mut self, header: &Header, first: Monotonic, last: Monotonic, looks: u64) {
        let (from, to) = (header.wall_of(first), header.wall_of(last));
        self.from = Some(self.from.map_or(from, |before| before.min(from)));
        self.to = Some(self.to.map_or(to, |before| before.max(to)));
        if self.recordings > 0 && self.shard != header.shard {
            self.caution
                .push(format!("these recordings are of several shards: {} and {}", self.shard, header.shard));
        }
        self.shard.clone_from(&header.shard);
        self.recordings += 1;
        self.looks += looks;
        self.recorded += last.since(first);
        self.recorded_seconds = self.recorded.as_secs_f64();
    }

    /// Derives the thresholds: one proposal for each rule of `config`, or else one for each name.
    pub(super) fn conclude(&mut self, names: &BTreeMap<String, Named>, config: Option<&Config>) {
        if self.recorded < LONG {
            let recorded = rough(self.recorded);
            self.caution.push(format!(
                "TOO SHORT to rest a kill on: {recorded} were recorded. These thresholds fit that time and no other; record a day \
                 with its busiest hour ([recorder] in the config) and ask again"
            ));
        }
        if self.lost + self.void > 0 {
            let (lost, void) = (self.lost, self.void);
            self.caution.push(format!(
                "{lost} looks are missing and {void} gaps could not be measured, because the sidecar came late or had no room: \
                 there may have been longer ones"
            ));
        }
        let Some(config) = config else {
            self.threads = names.iter().map(|(name, named)| self.suggestion(name, named, None)).collect();
            return;
        };
        let mut by_rule = vec![Named::default(); config.threads.len()];
        for (name, named) in names {
            let rule = config.threads.iter().position(|rule| rule.glob.is_match(name));
            match rule.and_then(|rule| by_rule.get_mut(rule)) {
                Some(found) => found.add(name, named),
                None => self.without_rule.push(name.clone()),
            }
        }
        let rules = config.threads.iter().zip(&by_rule);
        self.threads = rules.map(|(rule, named)| self.suggestion(&rule.name, named, Some(rule))).collect();
    }

    fn suggestion(&self, name: &str, named: &Named, rule: Option<&ThreadRule>) -> Suggestion {
        let NamedGaps { first, later, sections } = &named.gaps;
        let (none, [first_at, later_at]) = (ThreadGaps::default(), named.longest_at);
        // If nothing else was seen, that is what the thresholds have to fit.
        let (first, gaps, longest_at) =
            if later.gaps > 0 { (first, later, later_at) } else { (&none, first, first_at) };
        let threshold = Threshold::of(gaps, self.recorded);
        let warm_up = threshold.zip(Threshold::of(first, self.recorded));
        let warm_up = warm_up
            .map(|(later, first)| (later.stall_after, first.stall_after.min(MOST_WARM_UP)))
            .filter(|(later, first)| first > later);
        let sections = sections.iter().map(|(section, gaps)| {
            let proposed = self.of_section(gaps, threshold.as_ref(), warm_up.map(|(_, first)| first));
            (section.to_string(), proposed)
        });
        let sections = sections.collect();
        let why = match &threshold {
            Some(threshold) => threshold.why.to_owned(),
            None if rule.is_some() && named.members.is_empty() => {
                "no thread of this name was recorded".to_owned()
            }
            None => "it was never seen to make progress at work, so nothing can be said".to_owned(),
        };
        Suggestion {
            name: name.to_owned(),
            members: named.members.clone(),
            gaps: gaps.gaps,
            median_seconds: gaps.quantile(50).as_secs_f64(),
            p99_seconds: gaps.quantile(99).as_secs_f64(),
            longest_seconds: gaps.longest.as_secs_f64(),
            longest_at,
            unfinished_seconds: named
                .gaps
                .later
                .unfinished
                .max(named.gaps.first.unfinished)
                .map(|time| time.as_secs_f64()),
            first_gaps: first.gaps,
            first_longest_seconds: first.longest.as_secs_f64(),
            stall_after: threshold.map(|threshold| written(threshold.stall_after)),
            warn_after: threshold.map(|threshold| written(threshold.warn_after)),
            warm_up: warm_up.map(|(_, first)| written(first)),
            sections,
            margin_asked: threshold.map(|threshold| threshold.margin),
            margin_left: threshold.map(|threshold| {
                threshold.stall_after.as_secs_f64() / gaps.longest.as_secs_f64().max(f64::MIN_POSITIVE)
            }),
            why,
            rule: rule.map(|rule| (rule.count, rule.on, rule.by_kind)),
        }
    }

    /// What to propose for one section, where the rule gets `threshold` and `warm_up`. The rule's
    /// threshold fits all gaps, so a section can only need less.
    fn of_section(
        &self,
        gaps: &SectionGaps,
        threshold: Option<&Threshold>,
        warm_up: Option<Duration>,
    ) -> OfSection {
        let SectionGaps { first, later } = gaps;
        let [of_first, of_later] = [first, later].map(|gaps| Threshold::of(gaps, self.recorded));
        // Without a `warm_up`, the first piece of work has the same threshold as any other.
        let of_first = of_first.filter(|_| warm_up.is_none() || of_later.is_none());
        let longest = [of_first, of_later].into_iter().flatten().map(|threshold| threshold.stall_after).max();
        let shorter = longest.filter(|own| threshold.is_some_and(|rule| *own < rule.stall_after));
        OfSection {
            gaps: later.gaps,
            longest_seconds: later.longest.as_secs_f64(),
            first_gaps: first.gaps,
            first_longest_seconds: first.longest.as_secs_f64(),
            stall_after: shorter.map(written),
        }
    }

    /// The output for a script: one line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// The output for a person and for the config file.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let recorded = rough(self.recorded);
        write!(text, "# shard {}: {recorded} recorded, {} looks", self.shard, self.looks)?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(text, ", from {from:.0} to {to:.0}")?;
        }
        text.push('\n');
        for caution in &self.caution {
            writeln!(text, "# {caution}.")?;
        }
        text.push_str(
            "# A gap is time at work without progress in which the thread could have run; a load that was not recorded may have\n\
             # longer ones. If long gaps become rare no faster than 1/t², a threshold of m times the longest is passed about once\n\
             # in m² recordings like this.\n",
        );
        for suggestion in &self.threads {
            suggestion.write(text)?;
        }
        if !self.without_rule.is_empty() {
            writeln!(text, "\n# No rule of the config is about: {}", self.without_rule.join(", "))?;
        }
        Ok(())
    }
}

impl Suggestion {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let seconds = |seconds: f64| Rounded(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        writeln!(
            text,
            "\n# {}: {} gaps; median {}, p99 {}, longest {}{}",
            self.name,
            self.gaps,
            seconds(self.median_seconds),
            seconds(self.p99_seconds),
            seconds(self.longest_seconds),
            self.longest_at.map(|at| format!(" at {at:.3}")).unwrap_or_default(),
        )?;
        if !self.members.is_empty() && self.members != [self.name.as_str()] {
            writeln!(text, "# These are: {}", self.members.join(", "))?;
        }
        if let Some(time) = self.unfinished_seconds {
            writeln!(
                text,
                "# One stood still for {} when its process or the recording ended: that is no gap, and not in the figures.",
                seconds(time)
            )?;
        }
        if self.first_gaps > 0 {
            writeln!(
                text,
                "# The first piece of work after a start is not in these figures: {} gaps; longest {}.",
                self.first_gaps,
                seconds(self.first_longest_seconds)
            )?;
        }
        for (section, seen) in &self.sections {
            writeln!(
                text,
                "# In its section {section}: {} gaps; longest {}. In the first piece of work: {}; longest {}.",
                seen.gaps,
                seconds(seen.longest_seconds),
                seen.first_gaps,
                seconds(seen.first_longest_seconds)
            )?;
        }
        if self.longest_seconds > f64::from(OUTLIER) * self.p99_seconds {
            writeln!(
                text,
                "# The longest is more than {OUTLIER} times the p99: if it was a fault, these thresholds are too long; record without it."
            )?;
        }
        let (Some(stall), Some(warn), Some(asked), Some(left)) =
            (&self.stall_after, &self.warn_after, self.margin_asked, self.margin_left)
        else {
            return writeln!(text, "# No threshold: {}.", self.why);
        };
        writeln!(text, "# Room for {left:.1} times the longest gap, {asked} were asked for: {}.", self.why)?;
        let Some(name) = self.glob() else {
            return writeln!(
                text,
                "# warn_after = {warn:?}, stall_after = {stall:?}; but no rule can have this name."
            );
        };
        writeln!(text, "[[thread]]\nname = {}", quoted(&name))?;
        if let Some((count, on, by_kind)) = self.rule {
            writeln!(text, "count = {count}\non = {}", written_on(on, by_kind))?;
        }
        writeln!(text, "warn_after = {warn:?}\nstall_after = {stall:?}")?;
        if let Some(warm_up) = &self.warm_up {
            writeln!(text, "warm_up = {warm_up:?}")?;
        }
        let sections: Vec<String> = self
            .sections
            .iter()
            // A name may hold a dot, which only a quoted key may.
            .filter_map(|(section, seen)| Some(format!("{section:?} = {:?}", seen.stall_after.as_ref()?)))
            .collect();
        if sections.is_empty() {
            return Ok(());
        }
        writeln!(text, "sections = {{ {} }}", sections.join(", "))
    }

    /// The glob of a rule for this name. A name that the target chose may mean something else as a
    /// glob, or be invalid in TOML.
    fn glob(&self) -> Option<String> {
        if self.rule.is_some() {
            return Some(self.name.clone());
        }
        let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '\\' && c != '"';
        (!self.name.is_empty() && self.name.chars().all(plain)).then(|| globset::escape(&self.name))
    }
}

fn rough(time: Duration) -> String {
    written(Duration::from_secs(time.as_secs()))
}

/// Quotes a string as TOML requires.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The value of `on`.
fn written_on(on: On, by_kind: ByKind) -> String {
    let word = |on: On| match on {
        On::Kill => "\"kill\"",
        On::Report => "\"report\"",
        On::Ignore => "\"ignore\"",
    };
    let kinds: Vec<String> = StallKind::ALL
        .iter()
        .filter_map(|kind| Some(format!("{kind} = {}", word(by_kind.of(*kind)?))))
        .collect();
    if kinds.is_empty() { word(on).to_owned() } else { format!("{{ {} }}", kinds.join(", ")) }
}
