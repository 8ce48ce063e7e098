//! The silence horizon of a `[[thread]]`: `idle_at_most`, `idle_witness` and `on_idle`.

use std::time::Duration;

use globset::{Glob, GlobMatcher};
use shard_judge::silence::Horizon;
use toml::de::DeValue;

use super::section::{Complaints, Section};
use super::units::written;
use super::{Config, On, ThreadRule};

/// The shortest `idle_at_most`: work and its evidence must have time to arrive.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest `idle_at_most`. Who is told a day later is told by others before.
pub const MOST_IDLE: Duration = Duration::from_secs(86_400);
/// The most globs in one `idle_witness`.
const MOST_WITNESSES: usize = 16;

/// The silence horizon of one rule.
#[derive(Clone, Debug)]
pub struct SilenceRule {
    /// Countable time in which a thread may begin no work while there is some.
    pub idle_at_most: Duration,
    /// Globs of the channels that show that there is work, as written and compiled. Empty: the
    /// channels of which the thread is a consumer, and the other threads of its rule.
    pub witnesses: Vec<(String, GlobMatcher)>,
    /// What follows: report or kill. Kill only with witnesses.
    pub on_idle: On,
}

impl SilenceRule {
    /// As the judge has it.
    pub fn horizon(&self) -> Horizon {
        Horizon {
            idle_at_most: self.idle_at_most,
            witnesses: self.witnesses.iter().map(|(_, glob)| glob.clone()).collect(),
            kills: self.on_idle == On::Kill,
        }
    }

    /// As `check` has it.
    pub fn told(&self) -> String {
        let then = if self.on_idle == On::Kill { "kill" } else { "report" };
        let witnesses: Vec<&str> = self.witnesses.iter().map(|(name, _)| name.as_str()).collect();
        let evidence = if witnesses.is_empty() {
            "a channel that it consumes, or another thread of the rule, goes on".to_owned()
        } else {
            format!("channel {} goes on", witnesses.join(" or "))
        };
        format!("no work begun for {} while {evidence} → {then}", written(self.idle_at_most))
    }
}

/// Reads the keys of one rule, whose stalls are found after `stall_after`.
pub(super) fn silence(
    section: &mut Section<'_>,
    stall_after: Duration,
    complaints: &mut Complaints<'_>,
) -> Option<SilenceRule> {
    let idle_at_most = section.duration("idle_at_most", complaints);
    let witnesses = witnesses(section, complaints);
    let read = |value: &DeValue<'_>| match value.as_str()? {
        "kill" => Some(On::Kill),
        "report" => Some(On::Report),
        _ => None,
    };
    let on_idle = section.parse("on_idle", "\"kill\" or \"report\"", complaints, read);
    if !section.was_there("idle_at_most") {
        for key in ["idle_witness", "on_idle"] {
            if section.was_there(key) {
                let what = "means nothing without idle_at_most, which says for how long";
                complaints.add_at(section.start(), &section.dotted(key), what);
            }
        }
        return None;
    }
    if let Some((_, span)) = on_idle.as_ref().filter(|(on, _)| *on == On::Kill)
        && witnesses.is_empty()
        && !section.was_there("idle_witness")
    {
        let what = "\"kill\" needs idle_witness: name the channels whose messages show that there was work, as in \
                    idle_witness = [\"blocks\"]";
        complaints.add(span, &section.dotted("on_idle"), what);
    }
    let (idle_at_most, span) = idle_at_most?;
    let least = SHORTEST.max(stall_after);
    if !(least <= idle_at_most && idle_at_most <= MOST_IDLE) {
        let what = format!(
            "must be at least {} (1s, and stall_after) and at most {}; several times the longest pause between \
             two pieces of work is a good value",
            written(least),
            written(MOST_IDLE)
        );
        complaints.add(&span, &section.dotted("idle_at_most"), what);
    }
    let on_idle = on_idle.map_or(On::Report, |(on, _)| on);
    Some(SilenceRule { idle_at_most, witnesses, on_idle })
}

fn witnesses(section: &mut Section<'_>, complaints: &mut Complaints<'_>) -> Vec<(String, GlobMatcher)> {
    let read = |value: &DeValue<'_>| {
        let names = value.as_array()?;
        let glob = |name: &toml::Spanned<DeValue<'_>>| {
            let text = name.get_ref().as_str().filter(|text| !text.is_empty())?;
            Some((text.to_owned(), Glob::new(text).ok()?.compile_matcher()))
        };
        let globs = names.iter().map(glob).collect::<Option<Vec<_>>>()?;
        (1..=MOST_WITNESSES).contains(&globs.len()).then_some(globs)
    };
    let allowed = "1 to 16 names or globs of channels, such as [\"blocks\", \"inbox-*\"]";
    section.parse("idle_witness", allowed, complaints, read).map_or_else(Vec::new, |(globs, _)| globs)
}

impl Config {
    /// Each rule whose silence horizon nothing can reach, with a sentence that says why.
    pub fn unreachable_horizons(&self) -> impl Iterator<Item = (&ThreadRule, String)> {
        let unreachable = |rule: &&ThreadRule| {
            let names_none = rule.silence.as_ref().is_some_and(|silence| silence.witnesses.is_empty());
            names_none && rule.count == 1 && !self.channels.iter().any(|channel| feeds(channel, rule))
        };
        let told = |rule: &ThreadRule| -> String {
            let (name, limit) = (&rule.name, rule.silence.as_ref().map(|silence| silence.idle_at_most));
            let limit = limit.unwrap_or_default();
            format!(
                "idle_at_most = {} of {name} is never reached if only one thread matches: nothing shows that there is work. \
                 Name a channel in idle_witness, or give {name} a [[channel]] as its consumer",
                written(limit)
            )
        };
        self.threads.iter().filter(unreachable).map(move |rule| (rule, told(rule)))
    }
}

/// Whether a consumer of that channel may be a thread of that rule, as far as two globs tell.
fn feeds(channel: &super::ChannelRule, rule: &ThreadRule) -> bool {
    channel.consumer.as_ref().is_some_and(|consumer| {
        let consumers = Glob::new(consumer).map(|glob| glob.compile_matcher());
        rule.glob.is_match(consumer) || consumers.is_ok_and(|glob| glob.is_match(&rule.name))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read::parse;

    fn with(rule: &str) -> Result<Config, String> {
        let text =
            format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"exec-s*\"\n{rule}\n");
        parse(&text, Path::new("w.toml")).map_err(|problems| problems.to_string())
    }

    fn rule(rule: &str) -> SilenceRule {
        with(rule).unwrap().threads[0].silence.clone().unwrap()
    }

    #[test]
    fn a_horizon_reports_unless_it_is_told_to_kill() {
        let read = rule("idle_at_most = \"10m\"");
        assert_eq!((read.idle_at_most, read.on_idle), (Duration::from_secs(600), On::Report));
        assert!(read.witnesses.is_empty() && !read.horizon().condemns());
        let read =
            rule("idle_at_most = \"10m\"\nidle_witness = [\"blocks\", \"inbox-*\"]\non_idle = \"kill\"");
        assert!(read.horizon().condemns() && read.horizon().is_witness("inbox-3"));
        assert!(!read.horizon().is_witness("commands"));
        assert!(with("stall_after = \"5s\"").unwrap().threads[0].silence.is_none());
    }

    #[test]
    fn a_horizon_that_makes_no_sense_is_told_with_what_would() {
        for (rule, told) in [
            ("idle_at_most = \"4s\"", "w.toml:6: thread.idle_at_most: found \"4s\": must be at least 5s"),
            ("idle_at_most = \"25h\"", "at most 24h"),
            ("stall_after = \"100ms\"\nidle_at_most = \"900ms\"", "must be at least 1s"),
            ("idle_at_most = \"10m\"\non_idle = \"kill\"", "idle_witness = [\"blocks\"]"),
            ("idle_at_most = \"10m\"\non_idle = \"ignore\"", "\"kill\" or \"report\""),
            ("idle_at_most = \"10m\"\nidle_witness = []", "1 to 16 names"),
            ("idle_at_most = \"10m\"\nidle_witness = \"blocks\"", "1 to 16 names"),
            ("idle_at_most = \"10m\"\nidle_witness = [\"[\"]", "1 to 16 names"),
            ("idle_witness = [\"blocks\"]", "thread.idle_witness: means nothing without idle_at_most"),
            ("on_idle = \"report\"", "thread.on_idle: means nothing without idle_at_most"),
        ] {
            let refused = with(rule).unwrap_err();
            assert!(refused.contains(told), "{rule}: {refused}");
        }
    }

    #[test]
    fn a_horizon_that_nothing_can_reach_is_told() {
        let unreachable = |rule: &str| with(rule).unwrap().unreachable_horizons().count();
        let lone = "idle_at_most = \"10m\"";
        assert_eq!(unreachable(lone), 1);
        assert_eq!(unreachable(&format!("{lone}\nidle_witness = [\"blocks\"]")), 0);
        assert_eq!(unreachable(&format!("{lone}\ncount = 2")), 0);
        let channel = "[[channel]]\nname = \"commands\"\nmax_age = \"3s\"\nconsumer =";
        assert_eq!(unreachable(&format!("{lone}\n{channel} \"exec-s0\"")), 0);
        assert_eq!(unreachable(&format!("{lone}\n{channel} \"exec*\"")), 0);
        assert_eq!(unreachable(&format!("{lone}\n{channel} \"net*\"")), 1);
    }
}
