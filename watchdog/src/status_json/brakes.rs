//! Why the target has not been killed, for a person who wonders at three in the morning whether the
//! sidecar works.

use std::time::Duration;

use crate::verdict::{Health, Verdict};

use super::{BrakeJson, DeadlineJson, ExcuseJson, StatusJson, ThreadJson};

/// Everything that prevents a kill of the target: first the deciding cause, then whatever else
/// would still prevent it.
pub fn of(status: &StatusJson) -> Vec<BrakeJson> {
    let mut brakes = Vec::new();
    match status.verdict {
        Verdict::Healthy => add(&mut brakes, "healthy", "nothing is wrong"),
        Verdict::Excused => excused(status, &mut brakes),
        Verdict::Starting => match deadline(status, "startup_grace") {
            Some(grace) => {
                let left = rough(grace.at_most_seconds - grace.seconds);
                let all = rough(grace.at_most_seconds);
                add(
                    &mut brakes,
                    "grace",
                    format!("the target is within startup_grace: {left} of {all} are left"),
                );
            }
            None => add(&mut brakes, "grace", "the target is within startup_grace"),
        },
        Verdict::Degraded => degraded(status, &mut brakes),
        Verdict::Unguarded => add(&mut brakes, "unguarded", "no target is watched: see the reason"),
        Verdict::Dying => match deadline(status, "exiting") {
            Some(exit) => {
                let (so_far, all) = (rough(exit.seconds), rough(exit.at_most_seconds));
                add(
                    &mut brakes,
                    "dying",
                    format!("the target is ending already: {so_far} of {all} have passed"),
                );
            }
            None => add(&mut brakes, "dying", "the target is ending already"),
        },
        Verdict::Dead | Verdict::Restarting => {
            add(&mut brakes, "dead", "the target is dead; its supervisor has to start it");
        }
        Verdict::CrashLoop => {
            add(&mut brakes, "crash_loop", crash_loop(status));
        }
        Verdict::Condemned if status.held => {
            add(
                &mut brakes,
                "excuse",
                "the thread that it is condemned for is excused now, or stands still in a way that its rule only reports; a kill \
                 waits until that is over",
            );
        }
        Verdict::Condemned => {}
    }
    withheld(status, &mut brakes);
    if brakes.is_empty() {
        let why = "the kill is on its way, or the kernel refused the signal: see the incident and the log";
        add(&mut brakes, "pending", why);
    }
    if let Some(shadow) = status.shadow.as_ref().filter(|shadow| shadow.verdict == Verdict::Condemned)
        && status.verdict != Verdict::Condemned
    {
        let why =
            format!("the policy that condemns it is the shadow's, which never signals: {}", shadow.reason);
        add(&mut brakes, "shadow", why);
    }
    brakes
}

fn add(brakes: &mut Vec<BrakeJson>, because: &str, why: impl Into<String>) {
    brakes.push(BrakeJson { because: because.to_owned(), why: why.into() });
}

/// The work for which it is not killed, and what would end that.
fn crash_loop(status: &StatusJson) -> String {
    let keys: Vec<String> = status.crash_loop_keys.iter().map(ToString::to_string).collect();
    let keys = keys.join(", ");
    let now =
        if status.spared { "it is stalled on such work now" } else { "it does other work now, or none" };
    format!(
        "work {keys} was in flight at more than one death, and another kill for it would not help; {now}. Other work can \
         still lead to a kill; `shard-watchdog clear` ends this"
    )
}

/// Adds what prevents any kill at all.
fn withheld(status: &StatusJson, brakes: &mut Vec<BrakeJson>) {
    if status.mode == "observe" {
        let why =
            "kill.mode is \"observe\": it reports what it would do; kills are switched on with \"enforce\"";
        add(brakes, "observe", why);
    }
    if let Some(until) = status.paused_until {
        let by = status.paused_by.as_deref().unwrap_or("a person");
        let reason = status.paused_reason.as_deref().unwrap_or("no reason is known");
        add(brakes, "paused", format!("killing is paused until {until:.0}, by {by}: {reason}"));
    }
    if status.braked {
        let kills = status.kills_without_progress;
        let why = format!(
            "the last {kills} kills brought no finished piece of work, so another one would not help (kill.progress_brake); find \
             the cause, then `shard-watchdog clear`"
        );
        add(brakes, "no_progress", why);
    }
    if status.kills_left == Some(0) {
        add(brakes, "budget", "the kill budget is spent; it refills with time (kill.budget)");
    }
}

fn excused(status: &StatusJson, brakes: &mut Vec<BrakeJson>) {
    if let Some(stop) = deadline(status, "stopped") {
        let (so_far, all) = (rough(stop.seconds), rough(stop.at_most_seconds));
        let then = if stop.kills { "then it is condemned" } else { "then it is reported" };
        add(
            brakes,
            "stopped",
            format!("the process has been stopped by a signal for {so_far} of {all}; {then}"),
        );
    }
    for thread in &status.threads {
        for excuse in thread.excuses.iter().filter(|excuse| excuse.running) {
            let (because, why) = running(thread, excuse);
            add(brakes, because, why);
        }
    }
    if brakes.is_empty() {
        add(brakes, "excuse", "the standstill is not the target's fault");
    }
}

fn running(thread: &ThreadJson, excuse: &ExcuseJson) -> (&'static str, String) {
    let (name, kind, so_far) = (&thread.name, excuse.kind, rough(excuse.seconds));
    match excuse.at_most_seconds {
        Some(cap) if thread.excuse_over_cap => {
            let cap = rough(cap);
            let why = format!(
                "thread {name} has been {kind} for {so_far}, longer than the {cap} that this may excuse (judge.excuse): that is for a \
                 person to look at, never a reason to kill"
            );
            ("excuse_over", why)
        }
        Some(cap) => ("excuse", format!("thread {name} has been {kind} for {so_far} of {}", rough(cap))),
        None => ("excuse", format!("thread {name} has been {kind} for {so_far}")),
    }
}

fn degraded(status: &StatusJson, brakes: &mut Vec<BrakeJson>) {
    for thread in &status.threads {
        let name = &thread.name;
        match thread.health {
            _ if thread.unobserved.is_some() => {
                let why = format!("thread {name} cannot be observed, and nothing is killed blindly");
                add(brakes, "unobserved", why);
            }
            Health::Late if thread.silent_seconds.is_some() => {
                let why = format!(
                    "thread {name} begins no work, for which its rule only reports, or not for long enough (idle_at_most, on_idle)"
                );
                add(brakes, "report", why);
            }
            Health::Late => {
                let (counted, all) = (rough(thread.counted_seconds), rough(thread.stall_after_seconds));
                add(
                    brakes,
                    "threshold",
                    format!("thread {name} is only late so far: {counted} of {all} have counted"),
                );
            }
            Health::Stalled => {
                add(brakes, "report", format!("thread {name} is stalled, and its rule says on = \"report\""));
            }
            Health::Gone if thread.tid.is_none() => {
                add(brakes, "missing", format!("no thread {name} was ever seen, so none can be lost"));
            }
            Health::Gone => {
                add(brakes, "report", format!("thread {name} is gone, and its rule says on = \"report\""));
            }
            Health::Starting | Health::Idle | Health::Working | Health::Excused => {}
        }
    }
    if brakes.is_empty() {
        add(brakes, "report", "what is wrong is only reported");
    }
}

fn deadline<'a>(status: &'a StatusJson, what: &str) -> Option<&'a DeadlineJson> {
    status.deadlines.iter().find(|deadline| deadline.what == what)
}

/// `0.25s`, `12s`, `1m 30s`, `1h`: as precise as a person needs.
fn rough(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    let whole = time.as_secs();
    let and = |large: u64, one: &str, small: u64, other: &str| {
        if small == 0 { format!("{large}{one}") } else { format!("{large}{one} {small}{other}") }
    };
    match whole {
        0..10 => format!("{:.2}s", time.as_secs_f64()),
        10..60 => format!("{whole}s"),
        60..3_600 => and(whole / 60, "m", whole % 60, "s"),
        _ => and(whole / 3_600, "h", whole % 3_600 / 60, "m"),
    }
}

#[cfg(test)]
#[path = "brakes/tests.rs"]
mod tests;
