//! What a segment registers, against the rules of a config: names that no rule will ever match, as
//! far as that can be seen now.
//!
//! The segment is untrusted. Its names only ever end in a sentence, made printable, and only so
//! many of them.

use globset::{Glob, GlobMatcher};
use shard_heartbeat::{LockHolder, ProcessState, ReadError, Reader, Sample, SlotState};

use crate::config::nearest::nearest;
use crate::config::{ChannelRule, Config, FindTarget, On, ThreadRule};

use super::{Remark, Report, Topic};

/// More names than this tell a person nothing new.
const MOST_NAMES: usize = 16;

/// What a segment registers.
#[derive(Clone, Debug, Default)]
struct Registered {
    threads: Vec<String>,
    channels: Vec<String>,
}

/// Compares the rules with what is registered, if anything is.
pub(super) fn look(config: &Config, report: &mut Report) {
    let FindTarget::Heartbeat(path) = &config.target.find else { return };
    let place = path.display();
    let registered = match Reader::open(path).and_then(|reader| read(&reader, &config.target.shard)) {
        Ok(Ok(registered)) => registered,
        Ok(Err(why)) => return report.notes.push(format!("{place}: {why}: names were not compared")),
        Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let note = format!(
                "{place} is not there yet: names of threads and channels were not compared with the rules"
            );
            return report.notes.push(note);
        }
        Err(error) => return report.warn(Remark::new(Topic::Target, "target.heartbeat", error.to_string())),
    };
    rules(&config.threads, &config.channels, "", &registered, report);
    if let Some(shadow) = &config.shadow {
        // What it leaves out are the live ones.
        let own = |line| !config.threads.iter().any(|live| live.line == line);
        let threads: Vec<_> = shadow.threads.iter().filter(|rule| own(rule.line)).cloned().collect();
        let own = |line| !config.channels.iter().any(|live| live.line == line);
        let channels: Vec<_> = shadow.channels.iter().filter(|rule| own(rule.line)).cloned().collect();
        rules(&threads, &channels, "shadow.", &registered, report);
    }
}

/// What is registered; or why that means nothing for this shard now.
fn read(reader: &Reader, shard: &str) -> Result<Result<Registered, &'static str>, ReadError> {
    if reader.header().shard != shard {
        return Ok(Err("it is the segment of another shard"));
    }
    let mut sample = Sample::default();
    reader.sample(&mut sample)?;
    let ended = reader.lock_holder() == LockHolder::Nobody;
    if sample.state.known() == Some(ProcessState::Boot) && !ended {
        return Ok(Err("the target says that it is starting"));
    }
    let mut registered = Registered::default();
    for slot in &sample.threads {
        // In a process that ended in order, every thread has left.
        let there = matches!(slot.claim, SlotState::Live | SlotState::Dropped) || ended;
        if there && let Some(described) = reader.describe(slot.slot as usize)? {
            registered.threads.push(described.name);
        }
    }
    for slot in sample.channels.iter().filter(|slot| slot.live || ended) {
        registered.channels.extend(reader.describe_channel(slot.slot as usize)?);
    }
    for names in [&mut registered.threads, &mut registered.channels] {
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
    }
    Ok(Ok(registered))
}

fn rules(
    threads: &[ThreadRule],
    channels: &[ChannelRule],
    path: &str,
    registered: &Registered,
    report: &mut Report,
) {
    for (index, rule) in threads.iter().enumerate() {
        if let Some(told) = of_thread(threads, index, registered) {
            let remark = Remark::new(Topic::Threads, format!("{path}thread.name"), told);
            report.warn(remark.at(rule.line, &rule.name));
        }
        for (name, glob) in rule.silence.iter().flat_map(|silence| &silence.witnesses) {
            if !registered.channels.iter().any(|channel| glob.is_match(channel)) {
                let told = format!(
                    "no published channel matches it, so it never shows that there is work{}",
                    published(name, &registered.channels)
                );
                let remark = Remark::new(Topic::Silence, format!("{path}thread.idle_witness"), told);
                report.warn(remark.at(rule.line, name));
            }
        }
    }
    for rule in channels {
        if !registered.channels.contains(&rule.name) && rule.on != On::Ignore {
            let told = format!(
                "no channel of that name is published, so nothing is watched there, and after judge.startup_grace the \
                 verdict is degraded{}",
                published(&rule.name, &registered.channels)
            );
            let remark = Remark::new(Topic::Channels, format!("{path}channel.name"), told);
            report.warn(remark.at(rule.line, &rule.name));
        }
        let Some(consumer) = &rule.consumer else { continue };
        let glob = Glob::new(consumer).map(|glob| glob.compile_matcher());
        if glob.is_ok_and(|glob| !registered.threads.iter().any(|thread| glob.is_match(thread))) {
            let then = match rule.on {
                On::Kill => ", and a channel without a consumer never leads to a kill",
                On::Report | On::Ignore => "",
            };
            let told = format!(
                "no registered thread matches it, so nobody is known to receive from {}{then}{}",
                rule.name,
                among(consumer, &registered.threads)
            );
            let remark = Remark::new(Topic::Channels, format!("{path}channel.consumer"), told);
            report.warn(remark.at(rule.line, consumer));
        }
    }
}

/// What is wrong with a rule for threads; the first one that matches a thread has it.
fn of_thread(rules: &[ThreadRule], index: usize, registered: &Registered) -> Option<String> {
    let rule = rules.get(index)?;
    let matches = |glob: &GlobMatcher| registered.threads.iter().filter(|name| glob.is_match(name)).count();
    let has = |name: &&String| rules.iter().position(|rule| rule.glob.is_match(name)) == Some(index);
    let own = registered.threads.iter().filter(has).count();
    let wanted = if rule.on == On::Ignore { 1 } else { rule.count as usize };
    if own >= wanted {
        return None;
    }
    let then = match rule.on {
        On::Ignore => "",
        On::Kill | On::Report => ", and after judge.startup_grace the verdict is degraded",
    };
    let matching = matches(&rule.glob);
    if matching == 0 {
        let among = among(&rule.name, &registered.threads);
        return Some(format!("no registered thread matches it, so it watches nothing{then}{among}"));
    }
    if own == 0 {
        let all =
            "every registered thread that matches it belongs to a rule above it, and the first one wins";
        return Some(format!("{all}: it watches nothing{then}. Move it up, or remove it"));
    }
    let among = among(&rule.name, &registered.threads);
    Some(format!("count is {wanted}, and {own} of the registered threads belong to it{then}{among}"))
}

fn among(name: &str, threads: &[String]) -> String {
    told(name, threads, "Registered", "No thread is registered")
}

fn published(name: &str, channels: &[String]) -> String {
    told(name, channels, "Published", "No channel is published")
}

/// What there is instead, and the one that was probably meant.
fn told(name: &str, there: &[String], what: &str, nothing: &str) -> String {
    let mut shown: Vec<&str> = there.iter().map(String::as_str).collect();
    shown.dedup();
    let more = match shown.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.truncate(MOST_NAMES);
    let verb = match shown.len() {
        0 => return format!(". {nothing}"),
        1 => "is",
        _ => "are",
    };
    let near = near(name, there).map(|near| format!(". Did you mean {near:?}?")).unwrap_or_default();
    format!(". {what} {verb} {}{more}{near}", shown.join(", "))
}

/// The registered name that a rule probably means: near to what stands in it before its first
/// wildcard.
fn near<'a>(rule: &str, there: &'a [String]) -> Option<&'a str> {
    let plain = rule.split(['*', '?', '[', '{']).next().unwrap_or_default();
    let letters = plain.chars().count();
    let is_whole = plain.len() == rule.len();
    // Two wrong letters of three are another word.
    if letters < 4 {
        return None;
    }
    let begins = |name: &'a String| if is_whole { name.as_str() } else { beginning(name, letters) };
    // What begins as the rule does is no slip: it is just too few of them.
    let others = || there.iter().filter(|name| begins(name) != plain);
    let near = nearest(plain, others().map(begins))?;
    others().find(|name| begins(name) == near).map(String::as_str)
}

fn beginning(name: &str, letters: usize) -> &str {
    name.char_indices().nth(letters).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

#[cfg(test)]
#[path = "registered/tests.rs"]
mod tests;
