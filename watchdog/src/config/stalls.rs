//! What a `[[thread]]` says about sections of a piece of work and about kinds of stall.

use std::time::Duration;

use shard_judge::policy::{ByKind, On};
use shard_judge::section::{SECTION_FORM, Section as Named};
use shard_judge::verdict::StallKind;
use toml::de::DeValue;

use super::section::{Complaints, Section};
use super::units::{self, DURATION_FORM};
use super::{MOST_SECTIONS, SectionRule};

/// What `on` may be besides a table.
pub(super) const ON_FORM: &str = "\"kill\", \"report\" or \"ignore\"";

/// One of the words of `on`.
pub(super) fn on_word(value: &DeValue<'_>) -> Option<On> {
    match value.as_str()? {
        "kill" => Some(On::Kill),
        "report" => Some(On::Report),
        "ignore" => Some(On::Ignore),
        _ => None,
    }
}

/// Reads `on` of a thread: one word, or a table by kind of stall. A table leaves what it does not
/// name, and a lost thread, to be killed for.
pub(super) fn on(section: &mut Section<'_>, complaints: &mut Complaints<'_>) -> (On, ByKind) {
    let Some(value) = section.take("on") else { return (On::Kill, ByKind::default()) };
    let (span, path) = (value.span(), section.dotted("on"));
    let keys = match value.into_inner() {
        DeValue::Table(keys) => keys,
        other => {
            let on = on_word(&other);
            if on.is_none() {
                let by_kind = "or a table by kind of stall, such as { io_wait = \"report\" }";
                complaints.add(&span, &path, format!("allowed: {ON_FORM}, {by_kind}"));
            }
            return (on.unwrap_or(On::Kill), ByKind::default());
        }
    };
    let mut table = Section::new(path.clone(), span.clone(), keys);
    let mut by_kind = ByKind::default();
    for kind in StallKind::ALL {
        let read = |value: &DeValue<'_>| on_word(value).filter(|on| *on != On::Ignore);
        if let Some((on, _)) = table.parse(kind.label(), "\"kill\" or \"report\"", complaints, read) {
            by_kind = by_kind.with(*kind, on);
        }
    }
    if !StallKind::ALL.iter().any(|kind| table.was_there(kind.label())) && table.is_empty() {
        let kinds: Vec<&str> = StallKind::ALL.iter().map(|kind| kind.label()).collect();
        complaints.add(&span, &path, format!("names no kind of stall; allowed here: {}", kinds.join(", ")));
    }
    table.finish(complaints);
    (On::Kill, by_kind)
}

/// Reads `sections` of a thread: a threshold for each name.
pub(super) fn sections(section: &mut Section<'_>, complaints: &mut Complaints<'_>) -> Vec<SectionRule> {
    let Some(table) = section.table("sections", complaints) else { return Vec::new() };
    let (start, path) = (table.start(), table.name().to_owned());
    let mut rules = Vec::new();
    for (key, value) in table.into_keys() {
        let name = key.get_ref().as_ref();
        let of = format!("{path}.{name}");
        let named = Named::parse(name);
        if named.is_none() {
            complaints.add(&key.span(), &of, format!("a section is named by {SECTION_FORM}"));
        }
        let time = value.get_ref().as_str().and_then(units::duration).filter(|time| !time.is_zero());
        if time.is_none() {
            complaints.add(&value.span(), &of, format!("allowed: {DURATION_FORM}, longer than zero"));
        }
        if let (Some(section), Some(stall_after)) = (named, time) {
            rules.push(SectionRule { section, stall_after });
        }
    }
    if rules.len() > MOST_SECTIONS {
        let many = rules.len();
        complaints.add_at(start, &path, format!("{many} sections; allowed: {MOST_SECTIONS} at most"));
    }
    rules.sort_by_key(|rule| rule.section.to_string());
    rules
}

/// One section with its threshold, as `check` and `suggest` write it.
pub fn written(rules: &[SectionRule], time: impl Fn(Duration) -> String) -> Vec<String> {
    rules.iter().map(|rule| format!("{} {}", rule.section, time(rule.stall_after))).collect()
}

#[cfg(test)]
mod tests {
    use shard_heartbeat::Section as Published;

    use super::*;

    #[test]
    fn the_judge_and_the_heartbeat_write_a_section_alike() {
        for name in ["a", "reading", "state_root-2", "............", "0.-_z9", "", "Reading", "thirteen-char"]
        {
            let (ours, theirs) = (Named::parse(name), Published::parse(name));
            assert_eq!(ours.map(Named::word), theirs.map(Published::word), "{name}");
            assert_eq!(ours.map(|s| s.to_string()), theirs.map(|s| s.to_string()));
        }
        for word in [0, 1, 39, 40, 41, 40_u64.pow(12) - 1, 40_u64.pow(12), u64::MAX] {
            let (ours, theirs) = (Named::from_word(word), Published::from_word(word));
            assert_eq!(ours.map(|s| s.to_string()), theirs.map(|s| s.to_string()), "{word}");
        }
    }
}
