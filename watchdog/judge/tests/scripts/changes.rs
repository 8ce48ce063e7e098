//! What can happen to a process, its threads, workers and channels, and what a person can do.

use shard_judge::observation::{
    Claim, Declared, Presence, Survivors, TaskObservation, TaskState, ThrottleObservation, WaitChannel,
};
use shard_judge::section::Section;
use shard_judge::testing::{self, ns};

use super::script::Change;
use super::stage::Stage;
use super::words::{self, Word, one_of};

/// What can be said of a process.
pub const PROCESS: &[(&str, ())] = &[
    ("starts", ()),
    ("exits", ()),
    ("signalled", ()),
    ("declares", ()),
    ("main", ()),
    ("survivors", ()),
    ("core", ()),
    ("segment", ()),
    ("throttled", ()),
    ("stolen", ()),
];

const DECLARED: &[(&str, Declared)] = &[
    ("boot", Declared::Boot),
    ("running", Declared::Running),
    ("stopping", Declared::Stopping),
    ("failed", Declared::Failed),
    ("unknown", Declared::Unknown),
];

const SURVIVORS: &[(&str, Survivors)] = &[
    ("not_asked", Survivors::NotAsked),
    ("unknown", Survivors::Unknown),
    ("none", Survivors::None),
    ("alone", Survivors::Alone),
    ("some", Survivors::Some),
];

const STATES: &[(&str, TaskState)] = &[
    ("R", TaskState::Running),
    ("S", TaskState::Sleeping),
    ("D", TaskState::DiskSleep),
    ("T", TaskState::Stopped),
    ("t", TaskState::Traced),
    ("Z", TaskState::Zombie),
    ("X", TaskState::Dead),
];

const WAITS: &[(&str, Option<WaitChannel>)] = &[
    ("futex", Some(WaitChannel::Futex)),
    ("frozen", Some(WaitChannel::Frozen)),
    ("memory", Some(WaitChannel::Memory)),
    ("answer", Some(WaitChannel::Answer)),
    ("real-time", Some(WaitChannel::RealTime)),
    ("other", Some(WaitChannel::Other)),
    ("unknown", None),
];

/// `process …`
pub fn process(word: &Word) -> Result<Change, String> {
    macro_rules! field {
        ($field:ident = $value:expr) => {{
            let value = $value;
            Box::new(move |stage: &mut Stage| {
                stage.running()?;
                stage.scene.process().$field = value;
                Ok(())
            })
        }};
    }
    one_of(&word.key, PROCESS)?;
    Ok(match word.key.as_str() {
        "starts" => {
            word.bare()?;
            Box::new(|stage| {
                stage.starts();
                Ok(())
            })
        }
        "exits" => {
            word.bare()?;
            field!(exited = true)
        }
        "signalled" => {
            word.bare()?;
            Box::new(|stage| {
                stage.running()?;
                stage.scene.process().signalled = Some(stage.scene.now.at);
                Ok(())
            })
        }
        "declares" => field!(declared = word.one_of(DECLARED)?),
        "main" if word.value()? == "unread" => field!(leader = None),
        "main" => field!(leader = Some(word.one_of(STATES)?)),
        "survivors" => field!(survivors = word.one_of(SURVIVORS)?),
        "core" => field!(core_dumping = word.one_of(&[("yes", true), ("no", false)])?),
        "stolen" => {
            let value = word.value()?;
            let taken = words::time(value.trim_start_matches('+')).map_err(|why| format!("stolen: {why}"))?;
            let more = value.starts_with('+');
            Box::new(move |stage| {
                let stolen = &mut stage.scene.now.stolen_ns;
                *stolen = Some(stolen.filter(|_| more).unwrap_or(0) + ns(taken));
                Ok(())
            })
        }
        "segment" => field!(segment_readable = word.one_of(&[("readable", true), ("unreadable", false)])?),
        _ => {
            let value = word.value()?;
            let more = value.starts_with('+');
            let number = value.trim_start_matches('+').parse::<u64>();
            let number = number.map_err(|_| format!("throttled: `{value}` is no number of periods"))?;
            Box::new(move |stage| {
                stage.running()?;
                let throttle = &mut stage.scene.process().throttle;
                let before = throttle.filter(|_| more).map_or(0, |before| before.periods);
                *throttle = Some(ThrottleObservation { periods: before + number, time_ns: 0 });
                Ok(())
            })
        }
    })
}

/// What can be said of a thread, besides what the kernel shows of it.
pub const THREAD: &[(&str, ())] = &[
    ("idle", ()),
    ("working", ()),
    ("key", ()),
    ("attempt", ()),
    ("deadline", ()),
    ("section", ()),
    ("progresses", ()),
    ("live", ()),
    ("leaves", ()),
    ("drops", ()),
    ("again", ()),
];

/// What the kernel shows of a thread or a worker.
pub const TASK: &[(&str, ())] = &[
    ("state", ()),
    ("cpu", ()),
    ("delay", ()),
    ("wait", ()),
    ("spins", ()),
    ("unread", ()),
    ("present", ()),
    ("gone", ()),
    ("unknown", ()),
    ("unopened", ()),
];

fn known(word: &Word, groups: &[&[(&'static str, ())]]) -> Result<(), String> {
    one_of(&word.key, &groups.concat())
}

const PRESENCE: &[(&str, Presence)] = &[
    ("present", Presence::Present),
    ("gone", Presence::Gone),
    ("unknown", Presence::Unknown),
    ("unopened", Presence::Unopened),
];

/// `thread NAME …`; the name alone registers it.
pub fn thread(name: &str, words: &[Word]) -> Result<Vec<Change>, String> {
    for word in words {
        known(word, &[THREAD, TASK])?;
    }
    let has = |key: &str| words.iter().any(|word| word.key == key);
    if has("working") && !has("key") {
        return Err("missing: key=…, of the work that it begins".to_owned());
    }
    if !has("working")
        && let Some(word) = words.iter().find(|word| ["key", "attempt", "deadline"].contains(&&*word.key))
    {
        return Err(format!("`{}` is of work: `working key=…` begins it", word.key));
    }
    let owner = name.to_owned();
    let mut changes: Vec<Change> = vec![Box::new(move |stage| stage.thread(&owner).map(|_| ()))];
    for word in words {
        changes.push(thread_word(name.to_owned(), word)?);
    }
    Ok(changes)
}

fn thread_word(name: String, word: &Word) -> Result<Change, String> {
    macro_rules! thread {
        (|$thread:ident| $change:expr) => {
            Box::new(move |stage: &mut Stage| {
                let place = stage.thread(&name)?;
                let $thread = &mut stage.scene.now.threads[place];
                $change;
                Ok(())
            })
        };
    }
    if let Some((_, presence)) = PRESENCE.iter().find(|(name, _)| *name == word.key) {
        word.bare()?;
        return Ok(thread!(|thread| thread.presence = *presence));
    }
    let claimed = |claim| word.bare().map(|()| claim);
    Ok(match word.key.as_str() {
        "idle" => {
            word.bare()?;
            thread!(|thread| thread.activity += u64::from(thread.working()))
        }
        "working" => {
            word.bare()?;
            // Work that is followed by other work was ended in between.
            thread!(|thread| {
                thread.activity += 1 + u64::from(thread.working());
                (thread.attempt, thread.deadline_ns, thread.section) = (1, 0, 0);
            })
        }
        "key" => {
            let key = word.number()?;
            thread!(|thread| thread.work_key = key)
        }
        "attempt" => {
            let attempt = word.number()?;
            thread!(|thread| thread.attempt = attempt)
        }
        "deadline" => {
            let deadline = ns(word.time()?);
            thread!(|thread| thread.deadline_ns = deadline)
        }
        "section" => {
            let name = word.value()?;
            let section = match name {
                "none" => 0,
                _ => {
                    Section::parse(name).ok_or_else(|| format!("section: `{name}` is no name of one"))?.word()
                }
            };
            thread!(|thread| thread.section = section)
        }
        "progresses" => {
            word.bare()?;
            thread!(|thread| thread.progress += 1)
        }
        "again" => {
            word.bare()?;
            thread!(|thread| thread.generation += 1)
        }
        "live" | "leaves" | "drops" => {
            let claims = [("live", Claim::Live), ("leaves", Claim::Left), ("drops", Claim::Dropped)];
            let claim = claimed(one_of(&word.key, &claims)?)?;
            thread!(|thread| thread.claim = claim)
        }
        _ => {
            let shows = task_word(word)?;
            Box::new(move |stage: &mut Stage| {
                let place = stage.thread(&name)?;
                let shown = &mut stage.shown[place];
                shows(&mut shown.task, &mut shown.spins);
                Ok(())
            })
        }
    })
}

type Shows = Box<dyn Fn(&mut Option<TaskObservation>, &mut bool)>;

/// What the kernel shows: a change of its view, and of whether the task spins.
fn task_word(word: &Word) -> Result<Shows, String> {
    const NEVER_SHOWN: TaskObservation = testing::task(TaskState::Sleeping, None, 0);
    macro_rules! task {
        (|$task:ident| $change:expr) => {
            Box::new(move |task: &mut Option<TaskObservation>, _: &mut bool| {
                let $task = task.get_or_insert(NEVER_SHOWN);
                $change;
            })
        };
    }
    Ok(match word.key.as_str() {
        "state" => {
            let state = word.one_of(STATES)?;
            Box::new(move |task, spins| {
                task.get_or_insert(NEVER_SHOWN).state = state;
                *spins = false;
            })
        }
        "spins" => {
            word.bare()?;
            Box::new(|task, spins| {
                task.get_or_insert(NEVER_SHOWN).state = TaskState::Running;
                *spins = true;
            })
        }
        "unread" => {
            word.bare()?;
            Box::new(|task, _| *task = None)
        }
        "wait" => {
            let wait = word.one_of(WAITS)?;
            task!(|task| task.wait = wait)
        }
        field @ ("cpu" | "delay") => {
            let cpu = field == "cpu";
            let counter = counter(word)?;
            task!(|task| {
                let place = if cpu { &mut task.cpu_ns } else { &mut task.run_delay_ns };
                *place = counter(*place);
            })
        }
        other => return Err(format!("`{other}` cannot be said here")),
    })
}

type Counter = Box<dyn Fn(Option<u64>) -> Option<u64>>;

/// A counter of the kernel: `=5ms`, `=+5ms` more than before, or `=unknown`.
fn counter(word: &Word) -> Result<Counter, String> {
    let value = word.value()?;
    if value == "unknown" {
        return Ok(Box::new(|_| None));
    }
    match value.strip_prefix('+') {
        Some(more) => {
            let more = ns(words::time(more).map_err(|why| format!("{}: {why}", word.key))?);
            Ok(Box::new(move |before| Some(before.unwrap_or(0) + more)))
        }
        None => {
            let all = ns(word.time()?);
            Ok(Box::new(move |_| Some(all)))
        }
    }
}

/// `worker THREAD LANE …`
pub fn worker(name: &str, words: &[Word]) -> Result<Vec<Change>, String> {
    let Some((lane, words)) = words.split_first() else {
        return Err("missing: its lane, a number after the thread's name".to_owned());
    };
    let lane: u32 = lane.raw.parse().map_err(|_| format!("`{}` is no number of a lane", lane.raw))?;
    let mut changes = Vec::new();
    for word in words {
        known(word, &[TASK])?;
        changes.push(worker_word(name.to_owned(), lane, word)?);
    }
    if changes.is_empty() { Err("missing: what it does, as in `state=R`".to_owned()) } else { Ok(changes) }
}

fn worker_word(name: String, lane: u32, word: &Word) -> Result<Change, String> {
    let presence = PRESENCE.iter().find(|(name, _)| *name == word.key).map(|(_, presence)| *presence);
    let shows = match presence {
        Some(_) => word.bare().map(|()| None)?,
        None => Some(task_word(word)?),
    };
    Ok(Box::new(move |stage| {
        let place = stage.thread(&name)?;
        let shown = &mut stage.shown[place];
        let known = shown.workers.iter().position(|worker| worker.lane == lane);
        let index = known.unwrap_or(shown.workers.len());
        if known.is_none() {
            let asleep = testing::task(TaskState::Sleeping, None, 0);
            shown.workers.push(testing::worker(lane, Some(asleep)));
        }
        let worker = &mut shown.workers[index];
        if let Some(presence) = presence {
            worker.presence = presence;
            worker.task = worker.task.filter(|_| presence == Presence::Present);
        }
        if let Some(shows) = &shows {
            let mut spins = shown.spinning.contains(&lane);
            shows(&mut worker.task, &mut spins);
            shown.spinning.retain(|spinning| *spinning != lane);
            shown.spinning.extend(spins.then_some(lane));
        }
        Ok(())
    }))
}

/// What can be said of a channel.
pub const CHANNEL: &[(&str, ())] = &[("sends", ()), ("receives", ())];

/// `channel NAME …`; the name alone publishes it.
pub fn channel(name: &str, words: &[Word]) -> Result<Vec<Change>, String> {
    let published = name.to_owned();
    let mut changes: Vec<Change> = vec![Box::new(move |stage| stage.channel(&published).map(|_| ()))];
    for word in words {
        one_of(&word.key, CHANNEL)?;
        let (name, sends, messages) = (name.to_owned(), word.key == "sends", word.number()?);
        changes.push(Box::new(move |stage| {
            let channel = stage.channel(&name)?;
            *(if sends { &mut channel.sent } else { &mut channel.received }) += messages;
            Ok(())
        }));
    }
    Ok(changes)
}

/// `suspend TIME`
pub fn suspend(words: &[Word]) -> Result<Vec<Change>, String> {
    let [word] = words else { return Err("missing: for how long, and nothing else".to_owned()) };
    let time = ns(words::time(&word.raw)?);
    Ok(vec![Box::new(move |stage| {
        stage.scene.now.suspended_ns += time;
        Ok(())
    })])
}

/// What is asked for, and whether the line says that it is refused.
fn asked(words: &[Word]) -> (&[Word], bool) {
    match words {
        [asked @ .., word] if word.raw == "refused" => (asked, true),
        words => (words, false),
    }
}

/// `request "WHY"`, or `request "WHY" refused`
pub fn request(words: &[Word]) -> Result<Vec<Change>, String> {
    let (words, refused) = asked(words);
    let [word] = words else { return Err("missing: the person's reason, in quotation marks".to_owned()) };
    word.bare()?;
    let why = word.key.clone();
    Ok(vec![Box::new(move |stage| match (stage.scene.judge.request(&why), refused) {
        (true, true) => Err("it is not refused".to_owned()),
        (false, false) => Err("nobody is watched, or a kill was asked for before".to_owned()),
        _ => Ok(()),
    })])
}

/// `clear` or `clear key=…`, or one of them with `refused`
pub fn clear(words: &[Word]) -> Result<Vec<Change>, String> {
    let (words, refused) = asked(words);
    let key = match words {
        [] => None,
        [word] if word.key == "key" => Some(word.number()?),
        _ => return Err("`clear` takes `key=…` or nothing".to_owned()),
    };
    Ok(vec![Box::new(move |stage| match (stage.scene.judge.clear(key) > 0, refused) {
        (true, true) => Err("it is not refused".to_owned()),
        (false, false) => Err("no such work is in a crash loop".to_owned()),
        _ => Ok(()),
    })])
}
