//! Makes a history that breaks a rule as short as possible: fewer events, fewer threads, an earlier
//! end, as long as the same rule is broken.

use super::history::Stage;
use super::invariants::Violation;
use super::plan::{Event, Nanos, Plan};

/// Rounds over all events. Each leaves fewer; a few suffice.
const ROUNDS: usize = 6;

/// The shortest history found that breaks the same rule as `plan`, and how it breaks it.
pub fn shrink(stage: &Stage, plan: &Plan) -> Option<(Plan, Violation)> {
    let mut violation = stage.live(plan).violation?;
    let mut shortest = plan.clone();
    let keeps = |candidate: &Plan, violation: &mut Violation| match stage.live(candidate).violation {
        Some(found) if found.rule == violation.rule => {
            *violation = found;
            true
        }
        _ => false,
    };
    for _ in 0..ROUNDS {
        let before = shortest.events.len();
        let mut place = shortest.events.len();
        while place > 0 {
            place -= 1;
            let mut candidate = shortest.clone();
            candidate.events.remove(place);
            if keeps(&candidate, &mut violation) {
                shortest = candidate;
            }
        }
        // Then a calmer machine, and shorter events.
        for calm in CALMER {
            let mut candidate = shortest.clone();
            calm(&mut candidate);
            if keeps(&candidate, &mut violation) {
                shortest = candidate;
            }
        }
        for place in 0..shortest.events.len() {
            let mut candidate = shortest.clone();
            if let Some(length) = length(&mut candidate.events[place].event) {
                *length /= 2;
                if keeps(&candidate, &mut violation) {
                    shortest = candidate;
                }
            }
        }
        if shortest.events.len() == before {
            break;
        }
    }
    shortest.end = shortest.end.min(violation.at + 1);
    Some((shortest, violation))
}

const CALMER: [fn(&mut Plan); 14] = [
    |plan| plan.threads = 1,
    |plan| plan.machine.jitter = 0,
    |plan| plan.machine.tick = super::plan::MS,
    |plan| plan.machine.schedstat = true,
    |plan| plan.machine.wchan = true,
    |plan| plan.machine.poll_threads = false,
    |plan| plan.machine.watched_leader = false,
    |plan| plan.machine.throttled_off_queue = false,
    |plan| plan.machine.cpu_stat = false,
    |plan| plan.machine.limited_class = false,
    |plan| plan.machine.steal_in_cpu = false,
    |plan| plan.rules.channel = None,
    |plan| plan.machine.core = 0,
    |plan| plan.events.iter_mut().for_each(|timed| no_deadline(&mut timed.event)),
];

const fn no_deadline(event: &mut Event) {
    if let Event::Work { deadline, .. } | Event::Join { deadline, .. } = event {
        *deadline = 0;
    }
}

const fn length(event: &mut Event) -> Option<&mut Nanos> {
    match event {
        Event::Starve { length, .. }
        | Event::StarveWorker { length, .. }
        | Event::Trace { length, .. }
        | Event::Memory { length, .. }
        | Event::Stop { length }
        | Event::Freeze { length }
        | Event::Throttle { length, .. }
        | Event::Core { length }
        | Event::Unreadable { length }
        | Event::Garbage { length }
        | Event::Flaky { length, .. }
        | Event::Deaf { length, .. }
        | Event::Away { length }
        | Event::Pause { length } => Some(length),
        _ => None,
    }
}
