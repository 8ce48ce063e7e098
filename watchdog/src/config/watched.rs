//! The sections on what to watch: the target, its threads and its channels.

use std::ops::Range;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use toml::de::DeValue;

use super::section::{Complaints, Section, integer};
use super::silence::silence;
use super::stalls;
use super::units::written;
use super::user::User;
use super::{ChannelRule, FindTarget, MOST_WARM_UP, On, TargetConfig, ThreadRule, unit};

/// Longest label of a shard, in bytes: the capacity of its field in the segment.
const SHARD_BYTES: usize = 32;
/// Bytes of a thread's name that the kernel stores.
const COMM_BYTES: usize = 15;

/// The form of a shard's name.
pub const SHARD_FORM: &str = "1 to 32 bytes without control characters; it goes on every metric and log line";

/// Whether `text` may name a shard.
pub fn names_shard(text: &str) -> bool {
    !text.is_empty() && text.len() <= SHARD_BYTES && !text.chars().any(char::is_control)
}

/// `given`: the name of the shard on the command line, which overrides that in the file.
pub(super) fn target(
    mut section: Section<'_>,
    given: Option<&str>,
    complaints: &mut Complaints<'_>,
) -> Option<TargetConfig> {
    let shard = section.parse("shard", SHARD_FORM, complaints, |value| {
        value.as_str().filter(|text| names_shard(text)).map(str::to_owned)
    });
    if shard.is_none() && given.is_none() && !section.was_there("shard") {
        let what = "is missing: name the shard, here or with --shard";
        complaints.add_at(section.start(), &section.dotted("shard"), what);
    }
    let shard = given.map(str::to_owned).or_else(|| Some(shard?.0));
    let heartbeat = section.path("heartbeat", complaints);
    let pid_file = section.path("pid_file", complaints);
    let command =
        section.parse("command", "a regular expression on /proc/PID/cmdline", complaints, |value| {
            regex::Regex::new(value.as_str()?).ok()
        });
    let user = user(&mut section, complaints);
    let unit = section.text("systemd_unit", "the name of a unit, such as \"shard-0.service\"", complaints);
    let unit = unit.and_then(|(name, span)| {
        let whole = unit::complete(&name);
        whole.map_err(|why| complaints.add(&span, &section.dotted("systemd_unit"), why)).ok()
    });
    let given =
        [heartbeat.as_ref().map(|h| &h.1), pid_file.as_ref().map(|p| &p.1), command.as_ref().map(|c| &c.1)];
    if let [_, second, ..] = given.iter().flatten().collect::<Vec<_>>()[..] {
        complaints.add(
            second,
            &section.dotted("heartbeat, pid_file, command"),
            "name one of them, not several",
        );
    }
    let find = if let Some((path, _)) = heartbeat {
        Some(FindTarget::Heartbeat(path))
    } else if let Some((path, _)) = pid_file {
        Some(FindTarget::PidFile(path))
    } else if let Some((regex, _)) = command {
        Some(FindTarget::Command(regex))
    } else {
        unit.as_ref().map(|_| FindTarget::SystemdUnit)
    };
    if find.is_none() && !section.was_there("systemd_unit") {
        let what = "names no process; give one of heartbeat, pid_file, command or systemd_unit";
        complaints.add_at(section.start(), "target", what);
    }
    section.finish(complaints);
    Some(TargetConfig { shard: shard?, find: find?, user, systemd_unit: unit })
}

/// Reads a user, by name or by number.
fn user(section: &mut Section<'_>, complaints: &mut Complaints<'_>) -> Option<User> {
    let read = |value: &DeValue<'_>| match value.as_str() {
        Some(name) => Some(Err(name.to_owned())),
        None => Some(Ok(integer(value).and_then(|uid| u32::try_from(uid).ok())?)),
    };
    let allowed = "the name of a user, such as \"shard\", or a number from 0 to 4294967295";
    let (given, span) = section.parse("user", allowed, complaints, read)?;
    match given {
        Ok(uid) => Some(User { name: None, uid }),
        Err(name) => {
            User::named(&name).map_err(|why| complaints.add(&span, &section.dotted("user"), why)).ok()
        }
    }
}

pub(super) fn threads(sections: Vec<Section<'_>>, complaints: &mut Complaints<'_>) -> Vec<ThreadRule> {
    let mut rules: Vec<ThreadRule> = Vec::new();
    for section in sections {
        let start = section.start();
        let key = section.dotted("name");
        let Some(rule) = thread(section, complaints) else { continue };
        if rules.iter().any(|earlier| earlier.name == rule.name) {
            complaints.add_at(start, &key, format!("\"{}\" stands twice; the first rule wins", rule.name));
        }
        rules.push(rule);
    }
    rules
}

fn thread(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<ThreadRule> {
    let name = glob(&mut section, "name", complaints);
    if let Some((name, _, span)) = &name
        && name.len() > COMM_BYTES
        && !name.contains(['*', '?', '[', '{'])
    {
        let what = "can never match: thread names end after 15 bytes; shorten it, or end it with *";
        complaints.add(span, &section.dotted("name"), what);
    }
    if name.is_none() && !section.was_there("name") {
        complaints.add_at(
            section.start(),
            &section.dotted("name"),
            "is missing: which threads does this rule mean?",
        );
    }
    let count = section.count("count", complaints).map_or(1, |(count, _)| count);
    let stall_after = section.duration("stall_after", complaints).map_or(Duration::from_secs(5), |(d, _)| d);
    let warn_after = section.duration("warn_after", complaints);
    if let Some((warn, span)) = &warn_after
        && *warn > stall_after
    {
        complaints.add(
            span,
            &section.dotted("warn_after"),
            format!("must not be longer than stall_after ({})", written(stall_after)),
        );
    }
    let warm_up = section.duration("warm_up", complaints);
    if let Some((warm_up, span)) = &warm_up
        && !(stall_after < *warm_up && *warm_up <= MOST_WARM_UP)
    {
        complaints.add(
            span,
            &section.dotted("warm_up"),
            format!(
                "must be longer than stall_after ({}) and at most {}",
                written(stall_after),
                written(MOST_WARM_UP)
            ),
        );
    }
    let sections = stalls::sections(&mut section, complaints);
    let (on, by_kind) = stalls::on(&mut section, complaints);
    let silence = silence(&mut section, stall_after, complaints);
    section.finish(complaints);
    let (name, glob, span) = name?;
    let line = complaints.line(span.start);
    let warm_up = warm_up.map(|(warm_up, _)| warm_up);
    let warn_after = warn_after.map_or(stall_after * 2 / 5, |(warn, _)| warn);
    Some(ThreadRule {
        name,
        glob,
        count,
        stall_after,
        warn_after,
        warm_up,
        sections,
        on,
        by_kind,
        silence,
        line,
    })
}

pub(super) fn channels(sections: Vec<Section<'_>>, complaints: &mut Complaints<'_>) -> Vec<ChannelRule> {
    let mut rules: Vec<ChannelRule> = Vec::new();
    for section in sections {
        let start = section.start();
        let key = section.dotted("name");
        let Some(rule) = channel(section, complaints) else { continue };
        if rules.iter().any(|earlier| earlier.name == rule.name) {
            complaints.add_at(start, &key, format!("\"{}\" stands twice; one rule a channel", rule.name));
        }
        rules.push(rule);
    }
    rules
}

fn channel(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<ChannelRule> {
    let start = section.start();
    let name = section.text("name", "the published name of a channel", complaints);
    if name.is_none() && !section.was_there("name") {
        complaints.add_at(start, &section.dotted("name"), "is missing: which channel does this rule mean?");
    }
    let max_age = section.duration("max_age", complaints).map(|(age, _)| age);
    let max_depth = section.count("max_depth", complaints).map(|(depth, _)| u64::from(depth));
    let consumer = glob(&mut section, "consumer", complaints).map(|(name, ..)| name);
    let on = section.parse("on", stalls::ON_FORM, complaints, stalls::on_word);
    let on = on.map_or(On::Report, |(on, _)| on);
    if on == On::Kill && (consumer.is_none() || max_age.is_none()) {
        let what =
            "on = \"kill\" needs consumer and max_age: only a consumer that does not receive can be at fault";
        complaints.add_at(start, section.name(), what);
    }
    section.finish(complaints);
    let (name, span) = name?;
    Some(ChannelRule { name, max_age, max_depth, consumer, on, line: complaints.line(span.start) })
}

fn glob(
    section: &mut Section<'_>,
    key: &'static str,
    complaints: &mut Complaints<'_>,
) -> Option<(String, GlobMatcher, Range<usize>)> {
    let read = |value: &DeValue<'_>| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some((text.to_owned(), Glob::new(text).ok()?.compile_matcher()))
    };
    let ((name, glob), span) = section.parse(key, "a glob such as \"exec-s*\"", complaints, read)?;
    Some((name, glob, span))
}
