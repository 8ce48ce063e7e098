//! Bytes → observations. The bytes are hostile: any input results in an observation or an error, in
//! time and memory bounded by its length.

use std::sync::Arc;

use shard_heartbeat::layout::{MAX_LANES, MAX_SLOTS};

use crate::clock::Monotonic;
use crate::judge::crash_loop::{CrashLoops, DEATHS, KEYS};
use crate::observation::{
    ChannelObservation, ProcessObservation, TaskObservation, ThreadObservation, ThrottleObservation,
    WorkerObservation,
};
use crate::snapshot::TargetIdentity;

use super::delta::{self, Counters, Memory};
use super::wire::{Damage, In};
use super::{LONGEST_REFUSAL, codes};

/// A registered name has 15 bytes; escaping may have expanded each of them to several.
const LONGEST_NAME: usize = 256;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A chunk begins.
    Key {
        /// When the judge met the process shown by the next observation.
        first_seen: Option<Monotonic>,
    },
    /// An observation, which is now in the memory.
    Look,
    /// A target was refused.
    Refused {
        /// When it was refused.
        at: Monotonic,
        /// Why, as a sentence.
        why: String,
    },
    /// The config was reloaded.
    Reloaded {
        /// When it was reloaded.
        at: Monotonic,
    },
    /// Killing is paused: since now, or since before the chunk that begins here.
    Paused {
        /// When this was recorded.
        at: Monotonic,
        /// When the pause ends.
        until: Monotonic,
    },
    /// The pause has ended.
    Resumed {
        /// When it ended.
        at: Monotonic,
    },
    /// A person requests the kill of the watched process.
    Requested {
        /// When it was requested.
        at: Monotonic,
        /// Who requested it and why, as a sentence.
        why: String,
    },
    /// What the judge knew of deaths when the chunk began.
    Known(Box<CrashLoops>),
    /// A person cleared work in a crash loop.
    Cleared {
        /// When it was cleared.
        at: Monotonic,
        /// Key of the work; `None` for all.
        key: Option<u64>,
    },
    /// Observations just before this were not recorded.
    Lost {
        /// How many are missing.
        looks: u64,
    },
}

/// Reads the next record. After an error, the contents of `memory` are meaningless.
///
/// # Errors
/// If the bytes are not a record.
pub fn record(memory: &mut Memory, input: &mut In<'_>) -> Result<Record, Damage> {
    let tag = input.byte()?;
    match tag {
        // Both belong to the observation that follows.
        delta::SUSPENDED | delta::STOLEN => {
            let mut tag = tag;
            if tag == delta::SUSPENDED {
                memory.seen.suspended_ns = input.varint()?;
                tag = input.byte()?;
            }
            memory.seen.stolen_ns = None;
            if tag == delta::STOLEN {
                memory.seen.stolen_ns = Some(input.varint()?);
                tag = input.byte()?;
            }
            match tag {
                flags @ 0..=delta::FLAGS => look(memory, flags, input).map(|()| Record::Look),
                _ => Err(input.damage("a suspend or stolen time without a look")),
            }
        }
        0..=delta::FLAGS => {
            memory.seen.stolen_ns = None;
            look(memory, tag, input)?;
            Ok(Record::Look)
        }
        delta::KEY => {
            let at = Monotonic(input.varint()?);
            if at < memory.seen.at {
                return Err(input.damage("its time runs backwards"));
            }
            let age = input.varint()?.checked_sub(1);
            memory.forget(at);
            Ok(Record::Key { first_seen: age.map(|age| Monotonic(at.0.saturating_sub(age))) })
        }
        delta::REFUSED => Ok(Record::Refused {
            at: Monotonic(input.varint()?),
            why: input.text(LONGEST_REFUSAL)?.to_owned(),
        }),
        delta::RELOADED => Ok(Record::Reloaded { at: Monotonic(input.varint()?) }),
        delta::PAUSED => {
            Ok(Record::Paused { at: Monotonic(input.varint()?), until: Monotonic(input.varint()?) })
        }
        delta::RESUMED => Ok(Record::Resumed { at: Monotonic(input.varint()?) }),
        delta::REQUESTED => Ok(Record::Requested {
            at: Monotonic(input.varint()?),
            why: input.text(LONGEST_REFUSAL)?.to_owned(),
        }),
        delta::KNOWN => known(input).map(|known| Record::Known(Box::new(known))),
        delta::KNOWN_AFTER_KILLS => {
            let kills = input.number()?;
            known(input).map(|known| Record::Known(Box::new(known.after_kills(kills))))
        }
        delta::CLEARED => Ok(Record::Cleared {
            at: Monotonic(input.varint()?),
            key: Some(input.varint()?).filter(|key| *key != 0),
        }),
        delta::LOST => Ok(Record::Lost { looks: input.varint()? }),
        _ => Err(input.damage("a record of an unknown kind")),
    }
}

fn known(input: &mut In<'_>) -> Result<CrashLoops, Damage> {
    let deaths = keys(DEATHS, input)?;
    Ok(CrashLoops::remembered(&deaths, &keys(KEYS, input)?))
}

fn keys(most: usize, input: &mut In<'_>) -> Result<Vec<u64>, Damage> {
    let count: usize = input.number()?;
    if count > most {
        return Err(input.damage("more work than a judge remembers"));
    }
    (0..count).map(|_| input.varint()).collect()
}

fn look(memory: &mut Memory, flags: u8, input: &mut In<'_>) -> Result<(), Damage> {
    let after = input.varint()?;
    memory.seen.at = Monotonic(memory.seen.at.0.saturating_add(after));
    if flags & delta::PROCESS != 0 {
        memory.seen.process = process(input)?;
    }
    if let Some(process) = &mut memory.seen.process {
        if flags & delta::CONDITION != 0 {
            condition(process, input)?;
        }
        if flags & delta::SIGNALLED != 0 {
            process.signalled = input.varint()?.checked_sub(1).map(Monotonic);
        }
        if flags & delta::THROTTLE != 0 {
            process.throttle = throttle(process.throttle.unwrap_or_default(), input)?;
        }
    } else if flags & (delta::CONDITION | delta::SIGNALLED | delta::THROTTLE) != 0 {
        return Err(input.damage("the condition of no process"));
    }
    if flags & delta::MEMBERS != 0 {
        members(memory, input)?;
    }
    if flags & delta::THREADS != 0 {
        threads(memory, input)?;
    }
    if flags & delta::CHANNELS != 0 {
        channels(memory, input)?;
    }
    Ok(())
}

fn process(input: &mut In<'_>) -> Result<Option<ProcessObservation>, Damage> {
    match input.byte()? {
        0 => Ok(None),
        1 => Ok(Some(ProcessObservation::blank(TargetIdentity {
            pid: id(input)?,
            start_time: input.varint()?,
            incarnation: input.varint()?,
        }))),
        _ => Err(input.damage("neither a process nor none")),
    }
}

/// A pid or tid, which may be negative in the kernel's type.
fn id(input: &mut In<'_>) -> Result<i32, Damage> {
    let number = input.moved(0)?.cast_signed();
    i32::try_from(number).map_err(|_| input.damage("no process has this number"))
}

fn condition(process: &mut ProcessObservation, input: &mut In<'_>) -> Result<(), Damage> {
    let (first, second) = (input.byte()?, input.byte()?);
    let unknown = || input.damage("an unknown condition");
    process.declared = codes::to_declared(first & 7).ok_or_else(unknown)?;
    process.segment_readable = first & 1 << 3 != 0;
    process.exited = first & 1 << 4 != 0;
    process.core_dumping = first & 1 << 5 != 0;
    process.survivors = codes::to_survivors(second & 7).ok_or_else(unknown)?;
    process.leader = match second >> 3 {
        0 => None,
        state => Some(codes::to_state(state - 1).ok_or_else(unknown)?),
    };
    Ok(())
}

fn throttle(old: ThrottleObservation, input: &mut In<'_>) -> Result<Option<ThrottleObservation>, Damage> {
    match input.byte()? {
        0 => Ok(None),
        1 => Ok(Some(ThrottleObservation {
            periods: input.moved(old.periods)?,
            time_ns: input.moved(old.time_ns)?,
        })),
        _ => Err(input.damage("neither counts of throttling nor none")),
    }
}

/// Length of a list, at most what fits in a segment.
fn count(input: &mut In<'_>) -> Result<u32, Damage> {
    let count = input.number()?;
    if count > MAX_SLOTS {
        return Err(input.damage("more threads or channels than a segment has room for"));
    }
    Ok(count)
}

fn members(memory: &mut Memory, input: &mut In<'_>) -> Result<(), Damage> {
    let Memory { seen, counters } = memory;
    seen.threads.clear();
    counters.clear();
    for _ in 0..count(input)? {
        let (slot, generation) = (input.number()?, input.varint()?);
        let name = Arc::from(input.text(LONGEST_NAME)?);
        let mut thread = ThreadObservation::blank(slot, generation, name, id(input)?);
        let mut counted = Counters::default();
        fields(&mut thread, &mut counted, input)?;
        seen.threads.push(thread);
        counters.push(counted);
    }
    seen.channels.clear();
    for _ in 0..count(input)? {
        seen.channels.push(ChannelObservation {
            slot: input.number()?,
            generation: input.varint()?,
            name: Arc::from(input.text(LONGEST_NAME)?),
            sent: input.varint()?,
            received: input.varint()?,
        });
    }
    Ok(())
}

/// Index of the next member that has changed; `None` at the end of the list.
fn next_changed(from: &mut usize, input: &mut In<'_>) -> Result<Option<usize>, Damage> {
    let passed: usize = input.number()?;
    let Some(passed) = passed.checked_sub(1) else { return Ok(None) };
    let place = from.checked_add(passed).ok_or_else(|| input.damage("no such thread or channel"))?;
    *from = place.saturating_add(1);
    Ok(Some(place))
}

fn threads(memory: &mut Memory, input: &mut In<'_>) -> Result<(), Damage> {
    let mut next = 0;
    while let Some(place) = next_changed(&mut next, input)? {
        let thread = memory.seen.threads.get_mut(place).zip(memory.counters.get_mut(place));
        let (thread, counters) = thread.ok_or_else(|| input.damage("no such thread"))?;
        fields(thread, counters, input)?;
    }
    Ok(())
}

fn channels(memory: &mut Memory, input: &mut In<'_>) -> Result<(), Damage> {
    let mut next = 0;
    while let Some(place) = next_changed(&mut next, input)? {
        let channel = memory.seen.channels.get_mut(place).ok_or_else(|| input.damage("no such channel"))?;
        let fields = input.byte()?;
        if fields & delta::SENT != 0 {
            channel.sent = input.moved(channel.sent)?;
        }
        if fields & delta::RECEIVED != 0 {
            channel.received = input.moved(channel.received)?;
        }
    }
    Ok(())
}

fn fields(thread: &mut ThreadObservation, counters: &mut Counters, input: &mut In<'_>) -> Result<(), Damage> {
    let fields = input.byte()?;
    let numbers = [
        (delta::ACTIVITY, &mut thread.activity),
        (delta::PROGRESS, &mut thread.progress),
        (delta::WORK_KEY, &mut thread.work_key),
        (delta::ATTEMPT, &mut thread.attempt),
    ];
    for (_, number) in numbers.into_iter().filter(|(field, _)| fields & field != 0) {
        *number = input.moved(*number)?;
    }
    if fields & delta::STANDING != 0 {
        let code = input.byte()?;
        let standing =
            codes::to_standing(code).ok_or_else(|| input.damage("an unknown claim or presence"))?;
        (thread.claim, thread.presence) = standing;
        if code & codes::HAS_SECTION != 0 {
            thread.section = input.moved(thread.section)?;
        }
    }
    if fields & delta::TASK != 0 {
        thread.task = task(&mut counters.cpu_ns, &mut counters.run_delay_ns, input)?;
    }
    if fields & delta::DEADLINE != 0 {
        thread.deadline_ns = input.moved(thread.deadline_ns)?;
    }
    if fields & delta::WORKERS != 0 {
        workers(thread, counters, input)?;
    }
    Ok(())
}

fn workers(
    thread: &mut ThreadObservation,
    counters: &mut Counters,
    input: &mut In<'_>,
) -> Result<(), Damage> {
    let count: u32 = input.number()?;
    if count > MAX_LANES {
        return Err(input.damage("more workers than a thread has lanes for"));
    }
    thread.workers.clear();
    for _ in 0..count {
        let (lane, generation): (u32, u64) = (input.number()?, input.varint()?);
        if lane >= MAX_LANES {
            return Err(input.damage("a lane that no thread has"));
        }
        let presence =
            codes::to_presence(input.byte()?).ok_or_else(|| input.damage("an unknown presence"))?;
        let (mut cpu_ns, mut run_delay_ns) = counters.of_worker(lane, generation);
        let task = task(&mut cpu_ns, &mut run_delay_ns, input)?;
        thread.workers.push(WorkerObservation { lane, generation, presence, task });
    }
    thread.workers.iter().for_each(|worker| counters.take_worker(worker));
    Ok(())
}

fn task(
    cpu_ns: &mut u64,
    run_delay_ns: &mut u64,
    input: &mut In<'_>,
) -> Result<Option<TaskObservation>, Damage> {
    let code = input.byte()?;
    if code == 0 {
        return Ok(None);
    }
    let (state, wait) = codes::to_task(code).ok_or_else(|| input.damage("an unknown state"))?;
    let mut counter = |flag: u8, last: &mut u64| {
        if code & flag == 0 {
            return Ok(None);
        }
        *last = input.moved(*last)?;
        Ok(Some(*last))
    };
    let cpu_ns = counter(codes::HAS_CPU, cpu_ns)?;
    let run_delay_ns = counter(codes::HAS_DELAY, run_delay_ns)?;
    Ok(Some(TaskObservation { state, cpu_ns, run_delay_ns, wait }))
}
