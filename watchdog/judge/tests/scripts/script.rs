//! A history as text → steps. Every line that cannot be read is reported, not only the first.

use std::time::Duration;

use shard_judge::policy::{ByKind, ChannelLimits, On, Rule, SectionLimits};
use shard_judge::section::Section;
use shard_judge::silence::Horizon;
use shard_judge::testing::glob;
use shard_judge::verdict::{ExcuseKind, StallKind};

use super::changes;
use super::expect::{self, CHANNEL, Subject, THREAD, WHOLE, Wanted};
use super::stage::{EVERY, Stage};
use super::words::{self, Word, one_of};

/// Something that changes what is observed next, or what the judge goes by.
pub type Change = Box<dyn Fn(&mut Stage) -> Result<(), String>>;

/// What one line says.
pub enum Step {
    /// All changes of one line.
    Change(Vec<Change>),
    /// Time passes; `every` is `None` for as often as the judge asks.
    Advance { time: Duration, every: Option<Duration>, until: Vec<Wanted> },
    /// Time passes without an observation, and then there is one.
    Away { time: Duration, until: Vec<Wanted> },
    /// Fields of what was observed last.
    Expect { subject: Subject, wanted: Vec<Wanted> },
    /// The notes since the last such line.
    ExpectNotes(Vec<String>),
    /// The lines up to `end`, so many times.
    Repeat { times: u64, steps: Vec<Line> },
}

/// A step and where it stands; lines count from 1.
pub struct Line {
    pub number: usize,
    pub step: Step,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub number: usize,
    pub why: String,
}

/// Reads a whole history.
pub fn read(text: &str) -> Result<Vec<Line>, Vec<Unreadable>> {
    let mut errors = Vec::new();
    // The outermost steps, then those of each `repeat` that is not closed yet.
    let mut open: Vec<(usize, u64, Vec<Line>)> = vec![(0, 1, Vec::new())];
    for (number, line) in (1..).zip(text.lines()) {
        match read_line(line) {
            Ok(Read::Nothing) => {}
            Ok(Read::Step(step)) => open.last_mut().unwrap().2.push(Line { number, step }),
            Ok(Read::Repeat(times)) => open.push((number, times, Vec::new())),
            Ok(Read::End) if open.len() > 1 => {
                let (number, times, steps) = open.pop().unwrap();
                open.last_mut().unwrap().2.push(Line { number, step: Step::Repeat { times, steps } });
            }
            Ok(Read::End) => errors.push(Unreadable { number, why: "`end` without `repeat`".to_owned() }),
            Err(why) => errors.push(Unreadable { number, why }),
        }
    }
    for (number, ..) in &open[1..] {
        errors.push(Unreadable { number: *number, why: "`repeat` without `end`".to_owned() });
    }
    if errors.is_empty() { Ok(open.swap_remove(0).2) } else { Err(errors) }
}

enum Read {
    Nothing,
    Step(Step),
    Repeat(u64),
    End,
}

/// Every command, for the README and for whoever mistypes one.
pub const COMMANDS: &[(&str, ())] = &[
    ("policy", ()),
    ("rule", ()),
    ("process", ()),
    ("thread", ()),
    ("worker", ()),
    ("channel", ()),
    ("suspend", ()),
    ("request", ()),
    ("clear", ()),
    ("advance", ()),
    ("away", ()),
    ("expect", ()),
    ("repeat", ()),
    ("end", ()),
];

fn read_line(line: &str) -> Result<Read, String> {
    let words = words::split(line)?;
    let Some((command, rest)) = words.split_first() else { return Ok(Read::Nothing) };
    one_of(&command.key, COMMANDS)?;
    command.bare()?;
    let changes = |read: Result<Vec<Change>, String>| read.map(|changes| Read::Step(Step::Change(changes)));
    match command.key.as_str() {
        "policy" => changes(some(rest, "a field, as in `exit_within=30s`", policy)),
        "rule" => rule(rest).map(|change| Read::Step(Step::Change(vec![change]))),
        "process" => changes(some(rest, "what happens to it, as in `starts`", changes::process)),
        "thread" => changes(named(rest, "thread", changes::thread)),
        "worker" => changes(named(rest, "worker", changes::worker)),
        "channel" => changes(named(rest, "channel", changes::channel)),
        "suspend" => changes(changes::suspend(rest)),
        "request" => changes(changes::request(rest)),
        "clear" => changes(changes::clear(rest)),
        "advance" => advance(rest).map(Read::Step),
        "away" => away(rest).map(Read::Step),
        "expect" => expect(rest).map(Read::Step),
        "repeat" => match rest {
            [times] => times
                .key
                .parse()
                .map(Read::Repeat)
                .map_err(|_| format!("`{}` is no whole number of times", times.raw)),
            _ => Err("`repeat` needs how many times, and nothing else".to_owned()),
        },
        _ if rest.is_empty() => Ok(Read::End),
        _ => Err("`end` stands alone".to_owned()),
    }
}

/// One change for each word, of which there must be one.
fn some(
    words: &[Word],
    what: &str,
    read: impl Fn(&Word) -> Result<Change, String>,
) -> Result<Vec<Change>, String> {
    if words.is_empty() {
        return Err(format!("missing: {what}"));
    }
    words.iter().map(read).collect()
}

/// What comes after a name.
fn named(
    words: &[Word],
    what: &str,
    read: impl Fn(&str, &[Word]) -> Result<Vec<Change>, String>,
) -> Result<Vec<Change>, String> {
    let (name, rest) = name(words, what)?;
    read(&name, rest)
}

fn name<'a>(words: &'a [Word], what: &str) -> Result<(String, &'a [Word]), String> {
    match words.split_first() {
        Some((name, rest)) if name.value.is_none() => Ok((name.key.clone(), rest)),
        _ => Err(format!("missing: the name of the {what}, before anything else")),
    }
}

const ON: &[(&str, On)] = &[("kill", On::Kill), ("report", On::Report), ("ignore", On::Ignore)];

fn policy(word: &Word) -> Result<Change, String> {
    if let Some(kind) = ExcuseKind::ALL.iter().find(|kind| kind.label() == word.key) {
        let cap = word.time()?;
        return Ok(Box::new(move |stage| {
            stage.scene.policy.excuse_caps = stage.scene.policy.excuse_caps.with(*kind, cap);
            Ok(())
        }));
    }
    macro_rules! field {
        ($field:ident = $value:expr) => {{
            let value = $value;
            Box::new(move |stage: &mut Stage| {
                stage.scene.policy.$field = value;
                stage.scene.reload();
                Ok(())
            })
        }};
    }
    Ok(match one_of(&word.key, POLICY)? {
        "startup_grace" => field!(startup_grace = word.time()?),
        "exit_within" => field!(exit_within = word.time()?),
        "stopped_at_most" => field!(stopped_at_most = word.time()?),
        "stopped_then" => field!(stopped_kills = word.one_of(&ON[..2])? == On::Kill),
        "restart_within" => field!(restart_within = word.time()?),
        _ => field!(
            poison_after = u32::try_from(word.number()?).map_err(|_| "poison_after: too many".to_owned())?
        ),
    })
}

/// The fields of `policy`, besides the caps of excuses.
pub const POLICY: &[(&str, &str)] = &[
    ("startup_grace", "startup_grace"),
    ("exit_within", "exit_within"),
    ("stopped_at_most", "stopped_at_most"),
    ("stopped_then", "stopped_then"),
    ("restart_within", "restart_within"),
    ("poison_after", "poison_after"),
];

fn rule(words: &[Word]) -> Result<Change, String> {
    let (about, rest) = name(words, "rule's subject (`thread` or `channel`)")?;
    let (name, rest) = name(rest, "thread or channel")?;
    match one_of(&about, &[("thread", true), ("channel", false)])? {
        true => thread_rule(name, rest),
        false => channel_rule(name, rest),
    }
}

/// The fields of `rule thread`.
pub const THREAD_RULE: &[(&str, ())] = &[
    ("stall_after", ()),
    ("warn_after", ()),
    ("warm_up", ()),
    ("count", ()),
    ("section", ()),
    ("idle_at_most", ()),
    ("idle_witness", ()),
    ("on_idle", ()),
    ("on", ()),
];

/// What `on=` takes besides one word for everything: `KIND:ON`, for one kind of stall.
fn on_by_kind(value: &str) -> Result<(StallKind, On), String> {
    let (kind, on) = value.split_once(':').ok_or("on: as in `io_wait:report`")?;
    let kinds = StallKind::ALL.iter().map(|kind| (kind.label(), *kind)).collect::<Vec<_>>();
    Ok((one_of(kind, &kinds)?, one_of(on, ON)?))
}

/// What `section=` takes: `NAME:TIME`.
fn section(value: &str) -> Result<(Section, Duration), String> {
    let (name, time) = value.split_once(':').ok_or("section: as in `reading:2s`")?;
    let section = Section::parse(name).ok_or_else(|| format!("section: `{name}` is no name of one"))?;
    Ok((section, words::time(time).map_err(|why| format!("section: {why}"))?))
}

fn thread_rule(name: String, words: &[Word]) -> Result<Change, String> {
    let (mut stall_after, mut warn_after, mut count, mut on) = (None, None, 1, On::Kill);
    let mut warm_up = Duration::ZERO;
    let (mut named, mut by_kind) = (Vec::new(), ByKind::default());
    let (mut idle_at_most, mut witnesses, mut kills) = (None, Vec::new(), false);
    for word in words {
        one_of(&word.key, THREAD_RULE)?;
        match word.key.as_str() {
            "stall_after" => stall_after = Some(word.time()?),
            "warn_after" => warn_after = Some(word.time()?),
            "warm_up" => warm_up = word.time()?,
            "idle_at_most" => idle_at_most = Some(word.time()?),
            "idle_witness" => witnesses = word.value()?.split(',').map(glob).collect(),
            "on_idle" => kills = word.one_of(&ON[..2])? == On::Kill,
            "count" => count = u32::try_from(word.number()?).map_err(|_| "count: too many".to_owned())?,
            "section" => named.push(section(word.value()?)?),
            _ if word.value()?.contains(':') => {
                let (kind, on) = on_by_kind(word.value()?)?;
                by_kind = by_kind.with(kind, on);
            }
            _ => on = word.one_of(ON)?,
        }
    }
    let stall_after = stall_after.ok_or("missing: stall_after=…, the threshold of the rule")?;
    // As the config has it.
    let warn_after = warn_after.unwrap_or(stall_after * 2 / 5);
    let sections = named
        .into_iter()
        .map(|(section, time)| SectionLimits::new(section, time, (stall_after, warn_after)))
        .collect();
    let silence = idle_at_most.map(|idle_at_most| Horizon { idle_at_most, witnesses, kills });
    let rule = Rule {
        glob: glob(&name),
        name,
        count,
        stall_after,
        warn_after,
        warm_up,
        sections,
        on,
        by_kind,
        silence,
    };
    Ok(Box::new(move |stage| {
        let rules = &mut stage.scene.policy.rules;
        match rules.iter_mut().find(|known| known.name == rule.name) {
            Some(known) => *known = rule.clone(),
            None => rules.push(rule.clone()),
        }
        stage.scene.reload();
        Ok(())
    }))
}

/// The fields of `rule channel`.
pub const CHANNEL_RULE: &[(&str, ())] = &[("max_age", ()), ("max_depth", ()), ("consumer", ()), ("on", ())];

fn channel_rule(name: String, words: &[Word]) -> Result<Change, String> {
    let mut limits = ChannelLimits { name, max_age: None, max_depth: None, consumer: None, on: On::Kill };
    for word in words {
        one_of(&word.key, CHANNEL_RULE)?;
        match word.key.as_str() {
            "max_age" => limits.max_age = Some(word.time()?),
            "max_depth" => limits.max_depth = Some(word.number()?),
            "consumer" => limits.consumer = Some(glob(word.value()?)),
            _ => limits.on = word.one_of(ON)?,
        }
    }
    if limits.max_age.is_none() && limits.max_depth.is_none() {
        return Err("missing: max_age=… or max_depth=…, a limit of the channel".to_owned());
    }
    Ok(Box::new(move |stage| {
        let rules = &mut stage.scene.policy.channels;
        match rules.iter_mut().find(|known| known.name == limits.name) {
            Some(known) => *known = limits.clone(),
            None => rules.push(limits.clone()),
        }
        stage.scene.reload();
        Ok(())
    }))
}

/// A length of time, and what comes after it.
fn passes(words: &[Word]) -> Result<(Duration, &[Word]), String> {
    let Some((first, rest)) = words.split_first() else {
        return Err("missing: how much time passes, as in `900ms`".to_owned());
    };
    let time = words::time(&first.raw)?;
    if time.is_zero() { Err("no time passes".to_owned()) } else { Ok((time, rest)) }
}

/// What comes after `until`.
fn until(words: &[Word]) -> Result<Vec<Wanted>, String> {
    match words.split_first() {
        None => Ok(Vec::new()),
        Some((until, [])) if until.raw == "until" => {
            Err("missing: what `until` waits for, as in `condemned`".to_owned())
        }
        Some((until, rest)) if until.raw == "until" => {
            rest.iter().map(|word| Wanted::read(word, WHOLE)).collect()
        }
        Some((other, _)) => Err(format!("unknown word `{}`; known: every=…, until …", other.raw)),
    }
}

fn advance(words: &[Word]) -> Result<Step, String> {
    let (time, mut rest) = passes(words)?;
    let mut every = Some(EVERY);
    if let [word, after @ ..] = rest
        && word.key == "every"
    {
        every = if word.value()? == "asked" { None } else { Some(word.time()?) };
        if every.is_some_and(|every| every.is_zero()) {
            return Err("every: observations take time".to_owned());
        }
        rest = after;
    }
    Ok(Step::Advance { time, every, until: until(rest)? })
}

fn away(words: &[Word]) -> Result<Step, String> {
    let (time, rest) = passes(words)?;
    Ok(Step::Away { time, until: until(rest)? })
}

fn expect(words: &[Word]) -> Result<Step, String> {
    let Some((first, rest)) = words.split_first() else {
        return Err("missing: what is expected, as in `verdict=healthy`".to_owned());
    };
    let bare = first.value.is_none();
    let (subject, rest) = match first.key.as_str() {
        "notes" if bare => return expect::notes(rest).map(Step::ExpectNotes),
        "excused" if bare => (Subject::Excused, rest),
        subject @ ("thread" | "channel") if bare => {
            let (name, rest) = name(rest, subject)?;
            (if subject == "thread" { Subject::Thread(name) } else { Subject::Channel(name) }, rest)
        }
        _ => (Subject::Whole, words),
    };
    if rest.is_empty() {
        return Err("missing: a field and what it holds, as in `counted=2s`".to_owned());
    }
    let excuses = expect::excuses();
    let fields = match subject {
        Subject::Thread(_) => THREAD,
        Subject::Channel(_) => CHANNEL,
        Subject::Excused => &excuses,
        Subject::Whole => WHOLE,
    };
    let wanted = rest.iter().map(|word| Wanted::read(word, fields)).collect::<Result<_, _>>()?;
    Ok(Step::Expect { subject, wanted })
}
