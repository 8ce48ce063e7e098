//! An observation → bytes, as its difference to the previous one. Every structure is destructured
//! field by field, so that a new field does not compile until it is recorded.

use crate::clock::Monotonic;
use crate::judge::crash_loop::CrashLoops;
use crate::observation::{
    ChannelObservation, Observation, ProcessObservation, TaskObservation, ThreadObservation,
    ThrottleObservation, WorkerObservation,
};

use super::codes;
use super::delta::{self, Counters, Memory};
use super::wire::Out;

/// The beginning of a chunk whose first observation is at `at`; `first_seen`: when the judge met
/// the process that it shows.
pub fn key(at: Monotonic, first_seen: Option<Monotonic>, out: &mut Out<'_>) {
    out.byte(delta::KEY);
    out.varint(at.0);
    out.varint(first_seen.map_or(0, |first| at.0.saturating_sub(first.0).saturating_add(1)));
}

/// So many observations before this were not recorded.
pub fn lost(looks: u64, out: &mut Out<'_>) {
    out.byte(delta::LOST);
    out.varint(looks);
}

/// A target was refused.
pub fn refused(at: Monotonic, why: &str, out: &mut Out<'_>) {
    out.byte(delta::REFUSED);
    out.varint(at.0);
    // A reader rejects control characters.
    out.text(why.split(char::is_control).next().unwrap_or_default());
}

/// The config was reloaded.
pub fn reloaded(at: Monotonic, out: &mut Out<'_>) {
    out.byte(delta::RELOADED);
    out.varint(at.0);
}

/// A person has paused killing.
pub fn paused(at: Monotonic, until: Monotonic, out: &mut Out<'_>) {
    out.byte(delta::PAUSED);
    out.varint(at.0);
    out.varint(until.0);
}

/// The pause has ended.
pub fn resumed(at: Monotonic, out: &mut Out<'_>) {
    out.byte(delta::RESUMED);
    out.varint(at.0);
}

/// A person requests the kill of the watched process.
pub fn requested(at: Monotonic, why: &str, out: &mut Out<'_>) {
    out.byte(delta::REQUESTED);
    out.varint(at.0);
    out.text(why);
}

/// What the judge knew of deaths.
pub fn known(known: &CrashLoops, out: &mut Out<'_>) {
    match known.kills_without_progress() {
        0 => out.byte(delta::KNOWN),
        kills => {
            out.byte(delta::KNOWN_AFTER_KILLS);
            out.varint(kills.into());
        }
    }
    for keys in [known.deaths(), known.keys()] {
        out.varint(keys.len() as u64);
        keys.iter().for_each(|key| out.varint(*key));
    }
}

/// A person cleared work: one key, or all.
pub fn cleared(at: Monotonic, key: Option<u64>, out: &mut Out<'_>) {
    out.byte(delta::CLEARED);
    out.varint(at.0);
    // No work has the key 0.
    out.varint(key.unwrap_or(0));
}

/// One observation.
pub fn look(memory: &Memory, seen: &Observation, out: &mut Out<'_>) {
    let Observation { at, suspended_ns, stolen_ns, process, threads, channels } = seen;
    let before = &memory.seen;
    if *suspended_ns != before.suspended_ns {
        out.byte(delta::SUSPENDED);
        out.varint(*suspended_ns);
    }
    if let Some(stolen_ns) = stolen_ns {
        out.byte(delta::STOLEN);
        out.varint(*stolen_ns);
    }
    let identity = |process: &Option<ProcessObservation>| process.as_ref().map(|process| process.identity);
    let other_process = identity(process) != identity(&before.process);
    let blank = process.as_ref().map(|process| ProcessObservation::blank(process.identity));
    let old = if other_process { blank.as_ref() } else { before.process.as_ref() };
    let other_members = !memory.has_members_of(seen);
    let mut flags = 0;
    if other_process {
        flags |= delta::PROCESS;
    }
    if let (Some(old), Some(new)) = (old, process) {
        if condition(old) != condition(new) {
            flags |= delta::CONDITION;
        }
        if old.signalled != new.signalled {
            flags |= delta::SIGNALLED;
        }
        if old.throttle != new.throttle {
            flags |= delta::THROTTLE;
        }
    }
    if other_members {
        flags |= delta::MEMBERS;
    } else {
        if threads.iter().zip(&before.threads).any(|(new, old)| thread_fields(old, new) != 0) {
            flags |= delta::THREADS;
        }
        if channels.iter().zip(&before.channels).any(|(new, old)| channel_fields(old, new) != 0) {
            flags |= delta::CHANNELS;
        }
    }
    out.byte(flags);
    out.varint(at.0.saturating_sub(before.at.0));
    if flags & delta::PROCESS != 0 {
        write_identity(process.as_ref(), out);
    }
    if let Some(process) = process {
        if flags & delta::CONDITION != 0 {
            condition(process).into_iter().for_each(|byte| out.byte(byte));
        }
        if flags & delta::SIGNALLED != 0 {
            out.varint(process.signalled.map_or(0, |at| at.0.saturating_add(1)));
        }
        if flags & delta::THROTTLE != 0 {
            write_throttle(old.and_then(|old| old.throttle).unwrap_or_default(), process.throttle, out);
        }
    }
    if other_members {
        write_members(threads, channels, out);
    }
    if flags & delta::THREADS != 0 {
        write_threads(memory, threads, out);
    }
    if flags & delta::CHANNELS != 0 {
        write_channels(before, channels, out);
    }
}

fn write_identity(process: Option<&ProcessObservation>, out: &mut Out<'_>) {
    out.byte(u8::from(process.is_some()));
    if let Some(process) = process {
        out.moved(0, i64::from(process.identity.pid).cast_unsigned());
        out.varint(process.identity.start_time);
        out.varint(process.identity.incarnation);
    }
}

fn write_throttle(old: ThrottleObservation, new: Option<ThrottleObservation>, out: &mut Out<'_>) {
    out.byte(u8::from(new.is_some()));
    if let Some(ThrottleObservation { periods, time_ns }) = new {
        out.moved(old.periods, periods);
        out.moved(old.time_ns, time_ns);
    }
}

/// A process without its identity, the time of its signal and what its cgroups report.
fn condition(process: &ProcessObservation) -> [u8; 2] {
    let ProcessObservation {
        identity: _,
        declared,
        segment_readable,
        exited,
        leader,
        survivors,
        signalled: _,
        throttle: _,
        core_dumping,
    } = process;
    let leader = leader.map_or(0, |state| codes::state(state) + 1);
    [
        codes::declared(*declared)
            | u8::from(*segment_readable) << 3
            | u8::from(*exited) << 4
            | u8::from(*core_dumping) << 5,
        codes::survivors(*survivors) | leader << 3,
    ]
}

fn write_members(threads: &[ThreadObservation], channels: &[ChannelObservation], out: &mut Out<'_>) {
    out.varint(threads.len() as u64);
    for thread in threads {
        out.varint(u64::from(thread.slot));
        out.varint(thread.generation);
        out.text(&thread.name);
        out.moved(0, i64::from(thread.tid).cast_unsigned());
        let blank = ThreadObservation::blank(thread.slot, thread.generation, thread.name.clone(), thread.tid);
        write_thread(&blank, thread, &Counters::default(), out);
    }
    out.varint(channels.len() as u64);
    for channel in channels {
        let ChannelObservation { slot, generation, name, sent, received } = channel;
        out.varint(u64::from(*slot));
        out.varint(*generation);
        out.text(name);
        out.varint(*sent);
        out.varint(*received);
    }
}

/// Each changed thread after the number of unchanged ones before it plus one; zero ends the list.
fn write_threads(memory: &Memory, threads: &[ThreadObservation], out: &mut Out<'_>) {
    let mut passed = 1;
    for ((new, old), counters) in threads.iter().zip(&memory.seen.threads).zip(&memory.counters) {
        if thread_fields(old, new) == 0 {
            passed += 1;
            continue;
        }
        out.varint(passed);
        write_thread(old, new, counters, out);
        passed = 1;
    }
    out.varint(0);
}

fn write_channels(before: &Observation, channels: &[ChannelObservation], out: &mut Out<'_>) {
    let mut passed = 1;
    for (new, old) in channels.iter().zip(&before.channels) {
        let fields = channel_fields(old, new);
        if fields == 0 {
            passed += 1;
            continue;
        }
        out.varint(passed);
        out.byte(fields);
        if fields & delta::SENT != 0 {
            out.moved(old.sent, new.sent);
        }
        if fields & delta::RECEIVED != 0 {
            out.moved(old.received, new.received);
        }
        passed = 1;
    }
    out.varint(0);
}

/// Which fields of a thread have changed.
fn thread_fields(old: &ThreadObservation, new: &ThreadObservation) -> u8 {
    let ThreadObservation {
        // Always equal in the same thread.
        slot: _,
        generation: _,
        name: _,
        tid: _,
        claim,
        presence,
        activity,
        progress,
        work_key,
        attempt,
        deadline_ns,
        section,
        task,
        workers,
    } = new;
    let bit = |changed: bool, field: u8| if changed { field } else { 0 };
    bit(*activity != old.activity, delta::ACTIVITY)
        | bit(*progress != old.progress, delta::PROGRESS)
        | bit(*work_key != old.work_key, delta::WORK_KEY)
        | bit(*attempt != old.attempt, delta::ATTEMPT)
        | bit(*deadline_ns != old.deadline_ns, delta::DEADLINE)
        | bit((*claim, *presence, *section) != (old.claim, old.presence, old.section), delta::STANDING)
        | bit(*task != old.task, delta::TASK)
        | bit(*workers != old.workers, delta::WORKERS)
}

fn channel_fields(old: &ChannelObservation, new: &ChannelObservation) -> u8 {
    let sent = if old.sent == new.sent { 0 } else { delta::SENT };
    let received = if old.received == new.received { 0 } else { delta::RECEIVED };
    sent | received
}

fn write_thread(old: &ThreadObservation, new: &ThreadObservation, counters: &Counters, out: &mut Out<'_>) {
    let fields = thread_fields(old, new);
    out.byte(fields);
    let numbers = [
        (delta::ACTIVITY, old.activity, new.activity),
        (delta::PROGRESS, old.progress, new.progress),
        (delta::WORK_KEY, old.work_key, new.work_key),
        (delta::ATTEMPT, old.attempt, new.attempt),
    ];
    for (_, old, new) in numbers.into_iter().filter(|(field, ..)| fields & field != 0) {
        out.moved(old, new);
    }
    if fields & delta::STANDING != 0 {
        let section = if new.section == old.section { 0 } else { codes::HAS_SECTION };
        out.byte(codes::standing(new.claim, new.presence) | section);
        if section != 0 {
            out.moved(old.section, new.section);
        }
    }
    if fields & delta::TASK != 0 {
        write_task(new.task.as_ref(), (counters.cpu_ns, counters.run_delay_ns), out);
    }
    if fields & delta::DEADLINE != 0 {
        out.moved(old.deadline_ns, new.deadline_ns);
    }
    if fields & delta::WORKERS != 0 {
        out.varint(new.workers.len() as u64);
        for worker in &new.workers {
            let WorkerObservation { lane, generation, presence, task } = worker;
            out.varint(u64::from(*lane));
            out.varint(*generation);
            out.byte(codes::presence(*presence));
            write_task(task.as_ref(), counters.of_worker(*lane, *generation), out);
        }
    }
}

/// A task, with its counters as differences to those written last.
fn write_task(task: Option<&TaskObservation>, (cpu_before, delay_before): (u64, u64), out: &mut Out<'_>) {
    let Some(task) = task else { return out.byte(0) };
    out.byte(codes::task(task));
    if let Some(cpu_ns) = task.cpu_ns {
        out.moved(cpu_before, cpu_ns);
    }
    if let Some(run_delay_ns) = task.run_delay_ns {
        out.moved(delay_before, run_delay_ns);
    }
}
