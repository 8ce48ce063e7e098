//! The variants in an observation as small numbers. Encoded by a `match`, so that a new variant
//! cannot be forgotten; decoded from a list, so that an unknown number decodes to nothing.

use crate::observation::{Claim, Declared, Presence, Survivors, TaskObservation, TaskState, WaitChannel};

const DECLARED: &[Declared] =
    &[Declared::Unknown, Declared::Boot, Declared::Running, Declared::Stopping, Declared::Failed];
const SURVIVORS: &[Survivors] =
    &[Survivors::NotAsked, Survivors::Unknown, Survivors::None, Survivors::Alone, Survivors::Some];
const CLAIMS: &[Claim] = &[Claim::Live, Claim::Left, Claim::Dropped];
const PRESENCES: &[Presence] = &[Presence::Present, Presence::Gone, Presence::Unknown, Presence::Unopened];
const STATES: &[TaskState] = &[
    TaskState::Running,
    TaskState::Sleeping,
    TaskState::DiskSleep,
    TaskState::Stopped,
    TaskState::Traced,
    TaskState::Zombie,
    TaskState::Dead,
    TaskState::Other,
];
/// The first four are encoded with bit 0 set, the others with bit 0 clear, in two bits each.
const WAITS: &[Option<WaitChannel>] = &[
    None,
    Some(WaitChannel::Frozen),
    Some(WaitChannel::Futex),
    Some(WaitChannel::Other),
    Some(WaitChannel::Memory),
    Some(WaitChannel::Answer),
    Some(WaitChannel::RealTime),
];
/// How many of them have bit 0 set. The others start at 1 in their two bits, since a zero byte
/// means no task.
const FIRST_WAITS: u8 = 4;

fn find<T: Copy>(words: &[T], code: u8) -> Option<T> {
    words.get(usize::from(code)).copied()
}

/// Encodes in three bits.
pub const fn declared(word: Declared) -> u8 {
    match word {
        Declared::Unknown => 0,
        Declared::Boot => 1,
        Declared::Running => 2,
        Declared::Stopping => 3,
        Declared::Failed => 4,
    }
}

/// Decodes it.
pub fn to_declared(code: u8) -> Option<Declared> {
    find(DECLARED, code)
}

/// Encodes in three bits.
pub const fn survivors(word: Survivors) -> u8 {
    match word {
        Survivors::NotAsked => 0,
        Survivors::Unknown => 1,
        Survivors::None => 2,
        Survivors::Alone => 3,
        Survivors::Some => 4,
    }
}

/// Decodes it.
pub fn to_survivors(code: u8) -> Option<Survivors> {
    find(SURVIVORS, code)
}

/// Encodes in three bits.
pub const fn state(word: TaskState) -> u8 {
    match word {
        TaskState::Running => 0,
        TaskState::Sleeping => 1,
        TaskState::DiskSleep => 2,
        TaskState::Stopped => 3,
        TaskState::Traced => 4,
        TaskState::Zombie => 5,
        TaskState::Dead => 6,
        TaskState::Other => 7,
    }
}

/// Decodes it.
pub fn to_state(code: u8) -> Option<TaskState> {
    find(STATES, code)
}

/// Encodes in two bits.
pub const fn presence(word: Presence) -> u8 {
    match word {
        Presence::Present => 0,
        Presence::Gone => 1,
        Presence::Unknown => 2,
        Presence::Unopened => 3,
    }
}

/// Decodes it.
pub fn to_presence(code: u8) -> Option<Presence> {
    find(PRESENCES, code)
}

/// Encodes the claim in the lower four bits, the presence in the upper.
pub const fn standing(claim: Claim, at: Presence) -> u8 {
    let claim = match claim {
        Claim::Live => 0,
        Claim::Left => 1,
        Claim::Dropped => 2,
    };
    claim | presence(at) << 4
}

/// Whether the section of a thread's work follows the byte of its claim and presence. Formats up to
/// 5 never have it.
pub const HAS_SECTION: u8 = 1 << 7;

/// Decodes both; whether a section follows is another question.
pub fn to_standing(code: u8) -> Option<(Claim, Presence)> {
    let code = code & !HAS_SECTION;
    Some((find(CLAIMS, code & 0xf)?, find(PRESENCES, code >> 4)?))
}

/// Whether a CPU time follows a task's byte.
pub const HAS_CPU: u8 = 1 << 6;
/// Whether a run delay follows it.
pub const HAS_DELAY: u8 = 1 << 7;

/// A task without its counters, never zero: bit 0, which selects the list of its wait; state, wait,
/// and which counters follow.
pub const fn task(task: &TaskObservation) -> u8 {
    let TaskObservation { state: at, cpu_ns, run_delay_ns, wait } = task;
    let (first, wait) = match wait {
        None => (1, 0),
        Some(WaitChannel::Frozen) => (1, 1),
        Some(WaitChannel::Futex) => (1, 2),
        Some(WaitChannel::Other) => (1, 3),
        Some(WaitChannel::Memory) => (0, 1),
        Some(WaitChannel::Answer) => (0, 2),
        Some(WaitChannel::RealTime) => (0, 3),
    };
    let cpu = if cpu_ns.is_some() { HAS_CPU } else { 0 };
    let delay = if run_delay_ns.is_some() { HAS_DELAY } else { 0 };
    first | state(*at) << 1 | wait << 4 | cpu | delay
}

/// Decodes state and wait from a task's byte.
pub fn to_task(code: u8) -> Option<(TaskState, Option<WaitChannel>)> {
    let wait = code >> 4 & 3;
    let wait = match code & 1 {
        0 => FIRST_WAITS + wait.checked_sub(1)?,
        _ => wait,
    };
    Some((to_state(code >> 1 & 7)?, find(WAITS, wait)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back() {
        for &word in DECLARED {
            assert_eq!(to_declared(declared(word)), Some(word));
        }
        for &word in SURVIVORS {
            assert_eq!(to_survivors(survivors(word)), Some(word));
        }
        for (&claim, &presence) in CLAIMS.iter().flat_map(|claim| PRESENCES.iter().map(move |p| (claim, p))) {
            assert_eq!(to_standing(standing(claim, presence)), Some((claim, presence)));
        }
        for (&state, &wait) in STATES.iter().flat_map(|state| WAITS.iter().map(move |wait| (state, wait))) {
            let code = task(&TaskObservation { state, cpu_ns: Some(1), run_delay_ns: None, wait });
            assert_eq!(to_task(code), Some((state, wait)));
            assert_ne!(code & !HAS_CPU, 0, "zero is no task");
            assert_eq!(code & (HAS_CPU | HAS_DELAY), HAS_CPU);
        }
        assert_eq!((to_task(HAS_CPU), to_task(0)), (None, None), "no word");
        assert_eq!((to_declared(5), to_standing(3), to_standing(0x40)), (None, None, None));
    }
}
