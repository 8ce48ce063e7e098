//! What a history expects: fields of the verdict, of a thread, of a channel, sums of excused time,
//! and notes.

use std::time::Duration;

use shard_judge::Condemnation;
use shard_judge::verdict::{ExcuseKind, Health, Reason, StallKind, Unobserved, Verdict};

use super::stage::Stage;
use super::words::{Word, time, written};

/// What a field can hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`. The field alone means `yes`.
    YesNo,
    /// One word of these, or `none`.
    One(fn() -> Vec<&'static str>),
    /// A length of time, or a range of it: `5s..5s20ms`, `9s..`, `..70ms`.
    Time,
    /// A whole number, or `none`.
    Number,
    /// Any word, or `none`.
    Name,
    /// A piece of a sentence.
    Text,
    /// What is no piece of it.
    Absent,
}

macro_rules! labels {
    ($of:ty) => {
        Kind::One(|| <$of>::ALL.iter().map(|one| one.label()).collect())
    };
}

/// The fields of `expect` without a subject, and of `until`.
pub const WHOLE: &[(&str, Kind)] = &[
    ("verdict", labels!(Verdict)),
    ("why", Kind::Text),
    ("silent_about", Kind::Absent),
    ("condemned", Kind::YesNo),
    ("kill", Kind::YesNo),
    ("held", Kind::YesNo),
    ("spared", Kind::YesNo),
    ("reason", labels!(Reason)),
    ("faulty", Kind::Name),
    ("key", Kind::Number),
    ("because", Kind::Text),
    ("took", Kind::Time),
    ("next", Kind::Time),
];

/// The fields of `expect thread`.
pub const THREAD: &[(&str, Kind)] = &[
    ("health", labels!(Health)),
    ("excuse", labels!(ExcuseKind)),
    ("kind", labels!(StallKind)),
    ("section", Kind::Name),
    ("counted", Kind::Time),
    ("over_cap", Kind::YesNo),
    ("out_of_sight", labels!(Unobserved)),
    ("silent", Kind::YesNo),
    ("silence", Kind::Time),
];

/// The fields of `expect channel`.
pub const CHANNEL: &[(&str, Kind)] = &[("waiting", Kind::Number), ("counted", Kind::Time)];

/// What an `expect` line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Whole,
    Thread(String),
    Channel(String),
    Excused,
}

/// One field and what it should hold.
#[derive(Clone, Debug)]
pub struct Wanted {
    field: String,
    want: Want,
    /// As written in the line.
    pub raw: String,
}

#[derive(Clone, Debug)]
enum Want {
    Word(String),
    Time(Duration, Duration),
    Text(String),
    Absent(String),
}

/// A field that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As written in the line.
    pub raw: String,
    /// What should stand there instead.
    pub instead: String,
    /// As a sentence.
    pub told: String,
}

impl Wanted {
    /// Reads `field=value`; for a field of yes or no the field alone means yes.
    pub fn read(word: &Word, fields: &[(&str, Kind)]) -> Result<Self, String> {
        let (field, raw) = (word.key.clone(), word.raw.clone());
        let kind = super::words::one_of(&field, fields)?;
        let want = match kind {
            Kind::YesNo if word.value.is_none() => Want::Word("yes".to_owned()),
            Kind::YesNo => Want::Word(known(word, &["yes", "no"])?),
            Kind::One(labels) => Want::Word(known(word, &[labels(), vec!["none"]].concat())?),
            Kind::Time => range(word)?,
            Kind::Number if word.value()? != "none" => Want::Word(word.number()?.to_string()),
            Kind::Number | Kind::Name => Want::Word(word.value()?.to_owned()),
            Kind::Text => Want::Text(word.value()?.to_owned()),
            Kind::Absent => Want::Absent(word.value()?.to_owned()),
        };
        Ok(Self { field, want, raw })
    }

    /// Compares the field with what it should hold.
    pub fn check(&self, subject: &Subject, stage: &Stage) -> Result<Option<Mismatch>, String> {
        let came = value(&self.field, subject, stage)?;
        let (holds, expected, came) = match (&self.want, came) {
            (Want::Word(want), Came::Word(came)) => (*want == came, want.clone(), came),
            (Want::Time(from, to), Came::Time(came)) => {
                let expected = self.raw.split_once('=').map_or("", |(_, range)| range).to_owned();
                ((*from..=*to).contains(&came), expected, written(came))
            }
            (Want::Text(want), Came::Text(came)) => {
                let holds = came.iter().any(|line| line.contains(want));
                (holds, format!("\"{want}\""), format!("\"{}\"", came.join(" / ")))
            }
            (Want::Absent(want), Came::Text(came)) => {
                let holds = !came.iter().any(|line| line.contains(want));
                (holds, "otherwise".to_owned(), format!("\"{}\"", came.join(" / ")))
            }
            _ => return Err(format!("{}: nothing to compare", self.field)),
        };
        let instead = match self.want {
            // No other value makes it right.
            Want::Absent(_) => self.raw.clone(),
            _ => format!("{}={came}", self.field),
        };
        let told = format!("{}: expected {expected}, came {came}", self.field);
        Ok((!holds).then(|| Mismatch { raw: self.raw.clone(), instead, told }))
    }
}

/// Reads the names of notes.
pub fn notes(words: &[Word]) -> Result<Vec<String>, String> {
    const KNOWN: &[&str] = &[
        "opened",
        "lifted",
        "exited",
        "crash_loop",
        "restart_overdue",
        "restarted",
        "recovered",
        "excuse",
        "excuse_over",
        "channel_late",
        "channel_in_time",
        "silent",
        "works_again",
        "nothing",
    ];
    let name = |word: &Word| {
        word.bare()?;
        let kind = word.key.split(':').next().unwrap_or_default();
        let known = KNOWN.iter().map(|name| (*name, ())).collect::<Vec<_>>();
        super::words::one_of(kind, &known).map(|()| word.key.clone())
    };
    let names = words.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    match names.as_slice() {
        [] => Err("`expect notes` needs the notes, or `nothing`".to_owned()),
        [one] if one == "nothing" => Ok(Vec::new()),
        _ => Ok(names),
    }
}

fn known(word: &Word, labels: &[&'static str]) -> Result<String, String> {
    let known = labels.iter().map(|label| (*label, *label)).collect::<Vec<_>>();
    word.one_of(&known).map(str::to_owned)
}

fn range(word: &Word) -> Result<Want, String> {
    let value = word.value()?;
    let end = |text: &str, open| if text.is_empty() { Ok(open) } else { time(text) };
    let bounds = match value.split_once("..") {
        None => time(value).map(|time| (time, time)),
        Some((from, to)) => end(from, Duration::ZERO).and_then(|from| Ok((from, end(to, Duration::MAX)?))),
    };
    bounds.map(|(from, to)| Want::Time(from, to)).map_err(|why| format!("{}: {why}", word.key))
}

/// What a field holds.
enum Came {
    Word(String),
    Time(Duration),
    Text(Vec<String>),
}

fn yes(is: bool) -> Came {
    Came::Word(if is { "yes" } else { "no" }.to_owned())
}

fn or_none(word: Option<impl ToString>) -> Came {
    Came::Word(word.map_or_else(|| "none".to_owned(), |word| word.to_string()))
}

fn value(field: &str, subject: &Subject, stage: &Stage) -> Result<Came, String> {
    match subject {
        Subject::Whole => whole(field, stage),
        Subject::Thread(name) => thread(field, name, stage),
        Subject::Channel(name) => channel(field, name, stage),
        Subject::Excused => excused(field, stage),
    }
}

fn whole(field: &str, stage: &Stage) -> Result<Came, String> {
    let decision = stage.decision.ok_or("nothing was observed yet: `advance` comes first")?;
    let scene = &stage.scene;
    let incident = stage.incident.as_ref();
    Ok(match field {
        "verdict" => Came::Word(decision.verdict.to_string()),
        "why" | "silent_about" => Came::Text(vec![scene.judge.why().to_owned()]),
        "condemned" => yes(decision.condemned),
        "kill" => yes(decision.condemned && !decision.held && !decision.spared),
        "held" => yes(decision.held),
        "spared" => yes(decision.spared),
        "reason" => or_none(scene.reason()),
        "faulty" => or_none(incident.and_then(|incident| incident.thread.as_ref()).map(|it| &it.name)),
        "key" => or_none(incident.and_then(Condemnation::work_key)),
        "because" => Came::Text(incident.map(|incident| incident.observations.clone()).unwrap_or_default()),
        "took" => Came::Time(stage.took),
        "next" => Came::Time(decision.look_at.since(scene.now.at)),
        _ => return Err(format!("`{field}` is no field")),
    })
}

fn thread(field: &str, name: &str, stage: &Stage) -> Result<Came, String> {
    let trials = stage.scene.judge.incarnation().map(|current| current.threads()).unwrap_or_default();
    let trial = trials.iter().find(|trial| &*trial.name == name);
    let trial = trial.ok_or_else(|| format!("thread {name} was not observed"))?;
    Ok(match field {
        "health" => Came::Word(trial.health.to_string()),
        "excuse" => or_none(trial.excuse),
        "kind" => Came::Word(trial.kind().to_string()),
        "section" => or_none(trial.section()),
        "counted" => Came::Time(trial.counted()),
        "over_cap" => yes(trial.over_cap),
        "out_of_sight" => or_none(trial.unobserved),
        "silent" => yes(trial.silence.as_ref().is_some_and(|silence| silence.silent_since().is_some())),
        "silence" => Came::Time(trial.silence.as_ref().map(|silence| silence.counted()).unwrap_or_default()),
        _ => return Err(format!("`{field}` is no field of a thread")),
    })
}

fn channel(field: &str, name: &str, stage: &Stage) -> Result<Came, String> {
    let trials = stage.scene.judge.incarnation().map(|current| current.channels()).unwrap_or_default();
    let trial = trials.iter().find(|trial| &*trial.name == name);
    let trial = trial.ok_or_else(|| format!("channel {name} was not observed"))?;
    Ok(match field {
        "waiting" => or_none(Some(trial.depth())),
        "counted" => Came::Time(trial.counted()),
        _ => return Err(format!("`{field}` is no field of a channel")),
    })
}

fn excused(field: &str, stage: &Stage) -> Result<Came, String> {
    let kind = ExcuseKind::ALL.iter().find(|kind| kind.label() == field);
    let kind = kind.ok_or_else(|| format!("`{field}` is no excuse"))?;
    Ok(Came::Time(stage.scene.excused(*kind)))
}

/// The fields of `expect excused`: one for each excuse.
pub fn excuses() -> Vec<(&'static str, Kind)> {
    ExcuseKind::ALL.iter().map(|kind| (kind.label(), Kind::Time)).collect()
}
