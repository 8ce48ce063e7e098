//! One round of a block over the shards: sends the parts out, answers state requests, takes the
//! outcomes, and dispatches again what is lost.
//!
//! A part is lost when its shard's connection breaks, when its deadline passes, or when the shard
//! reports an error or sends something wrong. It then goes to a connected shard that is not
//! suspect, at once if there is one, else to the first that comes back. The block's deadline bounds
//! it all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::answers::{Answers, SharedView};
use super::coord::Beat;
use super::link::Event;
use super::links::{Links, Suspicion};
use super::report::Report;
use super::step::{Failure, Step};
use super::{CoordinatorError, discarded, serve};
use crate::block::Block;
use crate::deadline::Deadlines;
use crate::faults::{DispatchFault, Faults};
use crate::net::{WorkRef, wire};
use crate::partition::partition;
use crate::process::Stopping;
use crate::telemetry::Telemetry;
use crate::telemetry::counts::Late;
use crate::telemetry::spans::{Open, number};
use crate::vm::{self, ExecutionEnv, TxOutcome};

/// Pause before a refused part is offered again: the shard that refused it is full or about to end,
/// and an immediate second offer would only spend a retry.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);

/// Pause before a part that could not be sent is offered again: long enough that the loop does not
/// spin, short enough that a survivor gets the part practically at once.
const UNSENT_PAUSE: Duration = Duration::from_millis(1);

/// Distance between the attempt numbers of a flood and real ones: more than a part can have retries
/// within a block.
const FLOOD_ATTEMPTS: usize = 1_000_000;

pub(super) struct BlockRun<'a> {
    pub(super) block: &'a Block,
    /// Number of the round; 0 is the first, speculative one.
    pub(super) round: u32,
    /// The state that shards read: that before the first transaction and, in later rounds, what is
    /// settled.
    pub(super) state: SharedView,
    /// The block's deadline.
    pub(super) until: Instant,
    pub(super) deadlines: Deadlines,
    pub(super) retries: u32,
    /// After how many shards lost with the same part the block is given up; 0: only its retries
    /// count.
    pub(super) poison_after: u32,
    pub(super) faults: &'a Faults,
    pub(super) stopping: &'a Stopping,
    pub(super) beat: &'a Beat,
    pub(super) telemetry: &'a Telemetry,
    /// The parent span of its parts.
    pub(super) span: Option<&'a Open>,
}

/// A finished round.
pub(super) struct Done {
    /// Whether every part came back. A round after the first may be given up: the missing
    /// transactions are then executed in order.
    pub(super) complete: bool,
    /// How many parts were sent out.
    pub(super) parts: usize,
    /// How many dispatches were not the first of their part.
    pub(super) retries: u32,
}

struct Part {
    /// Number of the part in the block's partition.
    number: usize,
    places: Vec<usize>,
    work: Vec<u8>,
    /// How often the part was dispatched.
    dispatched: u32,
    /// How many shards were lost while they executed the part.
    took_down: u32,
    /// How the last attempt failed, if it did.
    failed: Option<Failure>,
    is: Is,
}

enum Is {
    /// To be dispatched, but not before this time.
    Waiting(Instant),
    Running {
        link: usize,
        tag: wire::Tag,
        until: Instant,
        span: Option<Open>,
        /// The shard's own name for itself.
        shard: String,
    },
    Done,
}

impl Part {
    const fn until(&self) -> Option<Instant> {
        if let Is::Running { until, .. } = self.is { Some(until) } else { None }
    }

    fn running_on(&self, link: usize) -> bool {
        matches!(self.is, Is::Running { link: on, .. } if on == link)
    }
}

impl BlockRun<'_> {
    /// Runs the round's parts, taken from `places` or else from a partition of the whole block, and
    /// stores the results in `outcomes`. `None` if the coordinator was told to stop meanwhile.
    pub(super) fn execute(
        &self,
        links: &mut Links,
        report: &mut Report,
        places: Option<Vec<Vec<usize>>>,
        outcomes: &mut [Option<TxOutcome>],
    ) -> Result<Option<Done>, CoordinatorError> {
        links.begin_round(self.deadlines.block);
        // Shards that are away or stuck get no part: another shard would have to execute it on top
        // of its own.
        let places = places.unwrap_or_else(|| partition(self.block, links.trusted().max(1)));
        let mut parts = self.parts(places)?;
        let answering = links.answers.begin(Arc::clone(&self.state));
        let outcome = self.until_done(&mut parts, outcomes, links, report);
        drop(answering);
        for part in &parts {
            self.end_span(part, Some("abandoned with its block"));
        }
        let retries = parts.iter().map(|part| part.dispatched.saturating_sub(1)).sum();
        // Shards that still work on an abandoned attempt should stop.
        if retries > 0 || outcome.is_err() {
            let cancel = wire::Cancel { sequence: links.sequence };
            for link in 0..links.len() {
                links.send(link, wire::down::Message::Cancel(cancel));
            }
        }
        let complete = match outcome {
            Ok(true) => true,
            Ok(false) => return Ok(None),
            // A later round can only save time, so it may fail. But a part that may have taken a
            // shard down is not executed here.
            Err(CoordinatorError::Retries { .. } | CoordinatorError::Deadline { .. })
                if self.round > 0 && parts.iter().all(|part| part.took_down == 0) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Done { complete, parts: parts.len(), retries }))
    }

    fn parts(&self, places: Vec<Vec<usize>>) -> Result<Vec<Part>, CoordinatorError> {
        let env = ExecutionEnv::of(self.block);
        let mut parts = Vec::new();
        for (number, places) in places.into_iter().enumerate() {
            if places.is_empty() {
                continue;
            }
            let work = vm::encode(&WorkRef::new(&env, self.block, &places))
                .map_err(|source| CoordinatorError::TooLarge { block: self.block.number(), source })?;
            let is = Is::Waiting(Instant::now());
            parts.push(Part { number, places, work, dispatched: 0, took_down: 0, failed: None, is });
        }
        Ok(parts)
    }

    /// Ends the span of the part's current attempt, if one is under way.
    fn end_span(&self, part: &Part, failed: Option<&str>) {
        let Is::Running { tag, span, shard, .. } = &part.is else { return };
        let numbers = [
            number("part.number", tag.part.into()),
            number("part.attempt", tag.attempt.into()),
            number("part.transactions", part.places.len() as u64),
        ];
        let mut attributes: Vec<_> = numbers.into_iter().flatten().collect();
        attributes.push(KeyValue::new("part.shard", shard.clone()));
        self.telemetry.tracer().end(*span, "part", attributes, failed.map(str::to_owned));
    }

    /// Runs the round until every part is done. False: told to stop.
    fn until_done(
        &self,
        parts: &mut [Part],
        outcomes: &mut [Option<TxOutcome>],
        links: &mut Links,
        report: &mut Report,
    ) -> Result<bool, CoordinatorError> {
        let until = self.until;
        loop {
            let Some(missing) = parts.iter().find(|part| !matches!(part.is, Is::Done)) else {
                return Ok(true);
            };
            let now = Instant::now();
            if now >= until {
                return Err(self.block_late(missing, links));
            }
            if self.stopping.begun() {
                return Ok(false);
            }
            self.dispatch(parts, links, report)?;
            let next = parts.iter().filter_map(|part| match part.is {
                Is::Waiting(from) => (from > now).then_some(from),
                Is::Running { until, .. } => Some(until),
                Is::Done => None,
            });
            let wake = next.min().unwrap_or(until).min(until);
            let event = links.next(wake, report)?;
            // Each turn of this loop is progress: the loop ends by a deadline of its own, and the
            // block with it.
            self.beat.progress();
            if let Some(event) = event {
                self.take(event, parts, outcomes, links, report)?;
            }
            self.give_up_late(parts, links)?;
        }
    }

    fn block_late(&self, missing: &Part, links: &Links) -> CoordinatorError {
        let (step, reason) = match (&missing.is, &missing.failed) {
            (Is::Running { link, .. }, _) => {
                (Step::Result, format!("{} has not returned it", links.name(*link)))
            }
            (_, Some(Failure { shard, step, reason })) => {
                let reason = format!("{shard} lost it ({step}: {reason}) and no other shard is there");
                (Step::Connect, reason)
            }
            (_, None) => (Step::Connect, format!("no shard is there: {}", links.tried())),
        };
        let within = self.deadlines.block;
        CoordinatorError::Deadline { block: self.block.number(), part: missing.number, within, step, reason }
    }

    /// Sends out every waiting part for which there is a shard.
    fn dispatch(
        &self,
        parts: &mut [Part],
        links: &mut Links,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        let now = Instant::now();
        if let Some(shard) = self.kept_from(links) {
            return Err(CoordinatorError::Kept { block: self.block.number(), shard });
        }
        for at in 0..parts.len() {
            let Some(link) = parts
                .get(at)
                .filter(|part| matches!(part.is, Is::Waiting(from) if from <= now))
                .and_then(|part| pick(part, parts, links))
            else {
                continue;
            };
            let ahead = parts.iter().filter(|part| part.running_on(link)).count();
            let Some(part) = parts.get_mut(at) else { continue };
            self.dispatch_to(link, u32::try_from(ahead).unwrap_or(u32::MAX), part, links, report)?;
        }
        Ok(())
    }

    /// The name of a shard that died of the block more than once, according to its watchdog. Other
    /// shards need not die of it too.
    fn kept_from(&self, links: &Links) -> Option<String> {
        (self.poison_after > 0).then(|| links.keeps(self.block.number())).flatten()
    }

    fn dispatch_to(
        &self,
        link: usize,
        ahead: u32,
        part: &mut Part,
        links: &mut Links,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        let Some((incarnation, shard, name)) = links
            .get(link)
            .and_then(|at| at.up.as_ref().map(|up| (up.incarnation, up.shard.clone(), at.name())))
        else {
            return Ok(());
        };
        // A shard executes its parts one after the other, so this part's time begins when those
        // before it are done.
        let time = self.deadlines.part.saturating_mul(ahead.saturating_add(1)).min(self.deadlines.block);
        let tag = wire::Tag {
            coordinator: links.incarnation,
            shard: incarnation,
            sequence: links.sequence,
            block: self.block.number(),
            part: u32::try_from(part.number).unwrap_or(u32::MAX),
            attempt: part.dispatched,
        };
        let span = self.telemetry.tracer().asks(self.span);
        let run = wire::RunPart {
            tag: Some(tag),
            round: self.round,
            part_deadline_ms: milliseconds(time),
            state_deadline_ms: milliseconds(self.deadlines.state_request),
            trace: span.as_ref().map(Open::to_wire).unwrap_or_default(),
            work: part.work.clone(),
        };
        let fault = self.faults.dispatch_point(self.block.number());
        let flood =
            if let Some(DispatchFault::Flood(count)) = fault { Some((count, run.clone())) } else { None };
        // Registered before it is sent: its first request may arrive before this thread runs again.
        links.answers.runs(link, tag);
        if fault != Some(DispatchFault::Drop) && !links.send(link, wire::down::Message::Run(run)) {
            links.answers.over(&tag);
            // The shard has just died, and that news is on its way, or it does not read. Nothing
            // was tried, so no retry is spent.
            links.suspect(link, Suspicion::Silent(Instant::now()));
            part.is = Is::Waiting(Instant::now() + UNSENT_PAUSE);
            return Ok(());
        }
        if let Some((count, run)) = flood {
            send_again(count, &run, link, links);
        }
        if let Some(failure) = &part.failed {
            report.retry(self.block.number(), part.number, part.dispatched, failure, &name)?;
            self.telemetry.counts().retries.add(1);
        }
        part.dispatched += 1;
        part.is = Is::Running { link, tag, until: Instant::now() + time, span, shard };
        Ok(())
    }

    /// Handles one event.
    fn take(
        &self,
        event: Event,
        parts: &mut [Part],
        outcomes: &mut [Option<TxOutcome>],
        links: &mut Links,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        match event {
            Event::Lost { link, reason, .. } => {
                let failure = Failure {
                    shard: links.name(link),
                    step: Step::Result,
                    reason: format!("connection lost: {reason}"),
                };
                // A shard executes its parts one after the other: only the part at the front can
                // have ended it, not those queued behind.
                let first =
                    parts.iter_mut().filter(|part| part.running_on(link)).min_by_key(|part| part.until());
                let killer = first.map(|part| {
                    part.took_down += 1;
                    (part.number, part.took_down)
                });
                let lost = parts.iter().map(|part| part.took_down).sum();
                // Shards lost at the same time with different parts have a common cause elsewhere.
                // If one part takes a second shard down, the block is to blame.
                if let Some((part, again)) = killer
                    && self.poison_after > 0
                    && lost >= self.poison_after
                    && again > 1
                {
                    return Err(CoordinatorError::Killed {
                        block: self.block.number(),
                        part,
                        lost,
                        shard: failure.shard,
                        reason: failure.reason,
                    });
                }
                for part in parts.iter_mut().filter(|part| part.running_on(link)) {
                    self.lost(part, failure.clone(), Duration::ZERO, &links.answers)?;
                }
                Ok(())
            }
            Event::Message { link, message, .. } => self.hear(link, message, parts, outcomes, links, report),
            Event::Joined { .. } | Event::Unreachable { .. } => Ok(()),
        }
    }

    fn hear(
        &self,
        link: usize,
        message: wire::up::Message,
        parts: &mut [Part],
        outcomes: &mut [Option<TxOutcome>],
        links: &mut Links,
        report: &mut Report,
    ) -> Result<(), CoordinatorError> {
        use wire::up::Message;
        let tag = discarded::tag(&message).copied();
        // The shard sends, so it is not stuck.
        links.trust(link);
        let Some(part) = parts.iter_mut().find(|part| {
            matches!(&part.is, Is::Running { link: on, tag: wanted, .. } if *on == link && Some(*wanted) == tag)
        }) else {
            return links.discard(link, &message, report);
        };
        let wrong = match message {
            Message::State(_) if self.faults.mutes_state(self.block.number()) => None,
            Message::State(request) => match serve::answer(&request, &*self.state) {
                // A shard that does not read its answers runs into its deadline.
                Ok(reply) => {
                    self.telemetry.counts().state_requests.add(1);
                    links.send(link, wire::down::Message::State(reply));
                    None
                }
                Err(error) => Some((Step::State, format!("a wrong state request: {error}"))),
            },
            Message::Result(result) => match accept(&result.outcomes, &part.places, outcomes) {
                Ok(()) => {
                    self.end_span(part, None);
                    if let Some(tag) = &tag {
                        links.answers.over(tag);
                    }
                    part.is = Is::Done;
                    None
                }
                Err(reason) => Some((Step::Result, format!("a wrong result: {reason}"))),
            },
            Message::Error(error)
                if self.poison_after > 0 && error.reason() == wire::part_error::Reason::Quarantined =>
            {
                let shard = links.name(link);
                return Err(CoordinatorError::Kept { block: self.block.number(), shard });
            }
            Message::Error(error) => {
                let said = format!("{}: {}", error.reason().as_str_name(), error.detail);
                Some((Step::of(error.reason()), said))
            }
            Message::Hello(_) => None,
        };
        let Some((step, reason)) = wrong else { return Ok(()) };
        links.suspect(link, Suspicion::Wrong);
        let failure = Failure { shard: links.name(link), step, reason };
        self.lost(part, failure, REFUSED_PAUSE, &links.answers)
    }

    fn give_up_late(&self, parts: &mut [Part], links: &mut Links) -> Result<(), CoordinatorError> {
        let now = Instant::now();
        for part in parts {
            let Is::Running { link, until, .. } = part.is else { continue };
            if now < until {
                continue;
            }
            links.suspect(link, Suspicion::Silent(now));
            self.telemetry.counts().late(Late::Part).add(1);
            let reason = "no result within its deadline".to_owned();
            let failure = Failure { shard: links.name(link), step: Step::Result, reason };
            self.lost(part, failure, Duration::ZERO, &links.answers)?;
        }
        Ok(())
    }

    /// Records a failed attempt; there may be another.
    fn lost(
        &self,
        part: &mut Part,
        failure: Failure,
        pause: Duration,
        answers: &Answers,
    ) -> Result<(), CoordinatorError> {
        if let Is::Running { tag, .. } = &part.is {
            answers.over(tag);
        }
        self.end_span(part, Some(&format!("{}: {}", failure.step, failure.reason)));
        if part.dispatched > self.retries {
            let Failure { shard, step, reason } = failure;
            return Err(CoordinatorError::Retries {
                block: self.block.number(),
                part: part.number,
                attempts: part.dispatched,
                shard,
                step,
                reason,
            });
        }
        part.failed = Some(failure);
        part.is = Is::Waiting(Instant::now() + pause);
        Ok(())
    }
}

/// Carries out [`DispatchFault::Flood`]. Messages that do not fit on the stream are not sent.
fn send_again(count: u64, run: &wire::RunPart, link: usize, links: &Links) {
    let Some(tag) = run.tag else { return };
    for attempt in (tag.attempt..=u32::MAX).skip(FLOOD_ATTEMPTS).take(usize::try_from(count).unwrap_or(0)) {
        let tag = Some(wire::Tag { attempt, ..tag });
        links.send(link, wire::down::Message::Run(wire::RunPart { tag, ..run.clone() }));
    }
}

/// The best shard for a part: a trusted one before a suspect, then the least busy, then the one
/// that the part was cut for.
fn pick(part: &Part, parts: &[Part], links: &Links) -> Option<usize> {
    let busy = |link: usize| parts.iter().filter(|part| part.running_on(link)).count();
    let connected =
        links.connected().map(|(link, up)| (up.is_suspect(), busy(link), link != part.number, link));
    connected.min().map(|(.., link)| link)
}

/// Stores the outcomes of a part if they are valid and complete.
fn accept(encoded: &[u8], places: &[usize], outcomes: &mut [Option<TxOutcome>]) -> Result<(), String> {
    let part: Vec<TxOutcome> = vm::decode(encoded).map_err(|error| error.to_string())?;
    // Both are in ascending order, so one walk checks that each outcome belongs to this part and
    // comes once.
    let mut expected = places.iter();
    for outcome in &part {
        let index = outcome.index as usize;
        if !expected.any(|place| *place == index) {
            return Err(format!("transaction {index} is not of this part, or comes twice"));
        }
    }
    for outcome in part {
        if let Some(place) = outcomes.get_mut(outcome.index as usize) {
            *place = Some(outcome);
        }
    }
    Ok(())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{Effect, ReadSet};

    fn encoded(indices: &[u32]) -> Vec<u8> {
        let effect = || Effect::Invalid { reason: "nonce".to_owned() };
        let outcomes: Vec<TxOutcome> = indices
            .iter()
            .map(|index| TxOutcome { index: *index, reads: ReadSet::default(), effect: effect() })
            .collect();
        vm::encode(&outcomes).expect("small")
    }

    #[test]
    fn outcomes_of_the_part_are_accepted_with_gaps() {
        let mut outcomes = vec![None; 6];
        accept(&encoded(&[1, 5]), &[1, 3, 5], &mut outcomes).expect("accepted");
        let places: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
        assert_eq!(places, [false, true, false, false, false, true]);
    }

    #[test]
    fn outcomes_of_other_parts_or_twice_are_refused_whole() {
        for wrong in [&[1, 2][..], &[3, 1], &[1, 1], &[9]] {
            let mut outcomes = vec![None; 6];
            accept(&encoded(wrong), &[1, 3, 5], &mut outcomes).expect_err("refused");
            assert!(outcomes.iter().all(Option::is_none));
        }
        accept(b"\xff\xff\xff", &[1], &mut [None]).expect_err("not an encoding");
    }
}
