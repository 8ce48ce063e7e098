//! The watch loop: probe → judge → act, on one plain thread.
//!
//! It never blocks: no disk, no socket, no lock, no async runtime. What it reports goes into a
//! bounded queue that drops and counts when it is full. It sleeps until the next moment at which a
//! verdict could change, or until something happens.

pub mod control;
mod gather;
pub mod hand;
mod near_miss;
mod obey;
pub mod publish;
mod rules;
pub mod shadow;
pub mod story;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::act::budget::{Budget, Past};
use crate::act::ladder::{Ladder, MOST_STEPS, Rung};
use crate::act::pidfd::prove;
use crate::adopt::Adopter;
use crate::clock::Monotonic;
use crate::config::{Config, KillBy, LEAVING};
use crate::event::{Event, Step};
use crate::evidence::gatherer::Gatherer;
use crate::judge::crash_loop::CrashLoops;
use crate::judge::incarnation::Incarnation;
use crate::judge::policy::Policy;
use crate::judge::{Judge, Note};
use crate::observation::Observation;
use crate::pause::Pause;
use crate::probe::tracer::Tracer;
use crate::probe::{Adopted, Probe};
use crate::recorder::Recorder;
use crate::verdict::{Reason, Verdict, Withheld};

use control::Inbox;
use gather::Gathering;
use hand::Hand;
use near_miss::NearMisses;
use obey::Obeyed;
use publish::{Publisher, Standing};
use rules::{asked, consumers, policy, ranks};
use shadow::Shadow;
use story::{Said, Story};

/// The kernel reveals an exit status only after the parent has reaped the process; supervisors do
/// so within moments.
const ASK_STATUS_FOR: Duration = Duration::from_secs(2);
/// How often the exit status is queried meanwhile.
const ASK_STATUS_EVERY: Duration = Duration::from_millis(5);
/// An impossible check is reported after this long: four of the adopter's own check intervals.
const TELL_UNPROVEN: Duration = Duration::from_secs(1);
/// How often the check is retried meanwhile, if nothing wakes the loop before.
const PROVE_EVERY: Duration = Duration::from_millis(50);

/// Everything that the loop works with. Created in advance, so that the loop itself opens nothing
/// slow.
#[derive(Debug)]
pub struct Watch {
    config: Arc<Config>,
    policy: Policy,
    probe: Probe,
    judge: Judge,
    adopter: Adopter,
    pending: Option<Box<Adopted>>,
    ladder: Option<Ladder>,
    gathering: Gathering,
    near: NearMisses,
    /// Since when a signal has been due but withheld, because a check is impossible.
    unproven_since: Option<Monotonic>,
    /// The target is condemned, and is killed by the end of this sidecar.
    leaves: bool,
    /// Why the last target was released alive, until the judge has been told.
    lapse: Option<String>,
    budget: Budget,
    story: Story,
    /// The deaths and crash loops last reported to the slow side.
    told_loops: CrashLoops,
    recorder: Recorder,
    /// Whether there is a long-term recording, which takes every chunk.
    archived: bool,
    /// Observations in chunks for that recording that did not fit in the queue.
    unarchived: u64,
    shadow: Option<Shadow>,
    publisher: Publisher,
    hand: Hand,
    inbox: Inbox,
    alive: Arc<AtomicU64>,
}

/// What the loop is built from.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// A probe without a target.
    pub probe: Probe,
    /// Finds the target.
    pub adopter: Adopter,
    /// Gathers evidence of a condemned process.
    pub gatherer: Gatherer,
    /// The queue to the slow side.
    pub events: tokio::sync::mpsc::Sender<Event>,
    /// Commands to the loop, such as reload and stop.
    pub inbox: Inbox,
    /// Kills by earlier lives of this sidecar, for which the budget has paid.
    pub past: Past,
    /// A pause from an earlier life that is not over.
    pub pause: Option<Arc<Pause>>,
    /// Work in a crash loop, and deaths, that an earlier life of this sidecar knew of.
    pub crash_loops: CrashLoops,
    /// Counts observations: the sidecar beats back into the segment only while this increases.
    pub alive: Arc<AtomicU64>,
}

impl Watch {
    /// Assembles the loop from its parts.
    pub fn new(parts: Parts) -> Self {
        let now = crate::clock::now();
        let kill = &parts.config.kill;
        let mut probe = parts.probe;
        let policy = policy(&parts.config, &probe);
        let shadow = parts.config.shadow.as_ref();
        let shadow = shadow.map(|shadow| Shadow::new(shadow, &policy, parts.crash_loops, now));
        probe.look_at_consumers(consumers(&policy, shadow.as_ref()));
        probe.rank_by(ranks(&policy));
        let mut publisher = Publisher::new(parts.events);
        let mut recorder =
            Recorder::new(now, parts.past.clone(), policy.poll_threads).remembering(parts.crash_loops);
        if let Some(pause) = &parts.pause {
            recorder.paused(pause.until, now);
        }
        parts.adopter.keep_from(parts.crash_loops.keys());
        Self {
            archived: parts.config.recorder.is_some(),
            unarchived: 0,
            shadow,
            budget: Budget::new(kill.budget_kills, kill.budget_per, &parts.past, now),
            recorder,
            told_loops: parts.crash_loops,
            policy,
            probe,
            judge: Judge::new(now).remembering(parts.crash_loops),
            adopter: parts.adopter,
            pending: None,
            ladder: None,
            gathering: Gathering::new(parts.gatherer),
            near: NearMisses::default(),
            unproven_since: None,
            leaves: false,
            lapse: None,
            story: Story::default(),
            hand: Hand::new(parts.pause, &mut publisher),
            publisher,
            inbox: parts.inbox,
            alive: parts.alive,
            config: parts.config,
        }
    }

    /// Runs until told to stop, leaving the target alone; or until this sidecar must end so that
    /// the target is restarted.
    pub fn run(mut self) -> Ended {
        let mut seen = Observation::default();
        let mut look_at = crate::clock::now();
        loop {
            self.probe.wait(look_at);
            self.alive.fetch_add(1, Ordering::Relaxed);
            if self.obey() == Obeyed::Stop {
                self.recorder.end();
                self.archive();
                return Ended::Told;
            }
            self.take_found();
            look_at = self.look(&mut seen);
            if self.leaves {
                self.recorder.end();
                self.archive();
                return Ended::ToBeRestarted;
            }
        }
    }

    /// Makes one observation and acts on it. Returns when to observe again.
    fn look(&mut self, seen: &mut Observation) -> Monotonic {
        let at = crate::clock::now();
        self.hand.tick(at, &mut self.publisher);
        self.probe.observe(at, seen);
        let decision = self.judge.observe(&self.policy, seen);
        let judged = crate::clock::now();
        self.publisher.looked(decision.late_by);
        // Once a process is gone, nobody can tell who traced it. This matters for a stall, and is
        // not read before the signal for anything else.
        let opened = |note: &Note| match note {
            Note::Opened(condemned) if condemned.reason == Reason::Stalled => {
                Some(condemned.slot.map(|(slot, _)| slot))
            }
            _ => None,
        };
        let slot = self.judge.notes().iter().find_map(opened);
        let tracer = slot.and_then(|slot| self.probe.tracer_of(slot));
        let exited = seen.process.as_ref().is_some_and(|process| process.exited);
        self.wait_for_evidence(at, exited);
        // Signal first, report afterwards.
        let waits = decision.held && self.ladder.as_ref().is_some_and(Ladder::is_withheld);
        let acted = if decision.condemned && !waits { self.act(at) } else { Acted::default() };
        self.answer(&acted, exited);
        if !decision.condemned {
            self.spare();
        }
        self.recorder.look(seen);
        self.recorder.remember(self.judge.crash_loops());
        self.tell(seen, judged, tracer);
        self.remember(at);
        self.archive();
        if let Some(shadow) = &mut self.shadow {
            shadow.look(seen, decision.verdict, &mut self.publisher);
        }
        self.probe.look_at_silent(asked(&self.judge, self.shadow.as_ref()));
        let second = self.shadow.as_ref().is_some_and(Shadow::wants_steal);
        self.probe.want_steal(second || self.judge.wants_steal());
        for step in acted.steps.into_iter().flatten() {
            self.story.step(step.0, step.1, &mut self.publisher);
        }
        if exited {
            self.let_go(at);
        }
        if let Some(why) = self.probe.lapse().map(ToString::to_string) {
            self.lapsed(why, at);
        }
        // By now the judge has no process.
        if let Some(why) = self.lapse.take_if(|_| seen.process.is_none()) {
            self.judge.refused(&why, at);
        }
        self.story.ask_exit_status(at, &mut self.publisher);
        let standing = Standing {
            kills_left: self.budget.left(at),
            next_kill_in: self.budget.next_in(at),
            braked: self.restraint().brakes(&self.config.kill),
            events: self.probe.thread_events(),
            paused: self.hand.pause(),
            shadow: self.shadow.as_ref(),
            restored: self.probe.is_restored(),
        };
        self.publisher.snapshot(&self.judge, &self.policy, seen, standing);
        let goes_on = self.gather(at);
        self.near_misses(at);
        self.next_look(decision.look_at, at, acted.signalled || goes_on)
    }

    /// No signal is due any more.
    fn spare(&mut self) {
        (self.ladder, self.unproven_since) = (None, None);
        self.gathering.end();
    }

    fn next_look(&self, judge: Monotonic, at: Monotonic, at_once: bool) -> Monotonic {
        if at_once || self.lapse.is_some() || self.pending.is_some() && self.probe.handle().is_none() {
            return at;
        }
        let restraint = self.restraint();
        let ladder = match self.unproven_since {
            // What was due by now was done, or an excuse holds it and the judge says when to
            // observe next.
            None => (self.ladder.as_ref())
                .and_then(|ladder| ladder.due(&self.config.kill, restraint))
                .filter(|due| *due > at),
            Some(_) => Some(at.plus(PROVE_EVERY)),
        };
        let resumes = self.hand.pause().map(|pause| pause.until);
        let status = self.story.wants_exit_status().then(|| at.plus(ASK_STATUS_EVERY));
        let shadow = self.shadow.as_ref().map(Shadow::look_at);
        [ladder, status, shadow, resumes].into_iter().flatten().fold(judge, Monotonic::min)
    }

    /// Climbs the ladder as far as possible now.
    fn act(&mut self, at: Monotonic) -> Acted {
        let mut acted = Acted::default();
        let restraint = self.restraint();
        let ladder = self.ladder.get_or_insert_default();
        let mut unproven = None;
        for place in &mut acted.steps {
            let mut told_at = crate::clock::now();
            let (mut proven, handle) = (None, self.probe.handle());
            let mut may = || match handle.map(|handle| prove(handle, told_at)) {
                None => Err(None),
                Some(Ok(proof)) => {
                    proven = Some(proof);
                    Ok(())
                }
                Some(Err(why)) => {
                    // What cannot be determined now may be settled in a moment: no alarm for that.
                    let since = *self.unproven_since.get_or_insert(told_at);
                    let tell = why.is_certain() || told_at.since(since) >= TELL_UNPROVEN;
                    let withheld = why.withholds().filter(|_| tell);
                    unproven = Some(why);
                    Err(withheld)
                }
            };
            let step = match ladder.step_if(at, &self.config.kill, &mut self.budget, restraint, &mut may) {
                Rung::Wait => break,
                Rung::Withhold(by @ (Withheld::NotTarget | Withheld::Unproven)) => {
                    let why = unproven.as_ref().map(ToString::to_string).unwrap_or_default();
                    Step::Unproven { by, why }
                }
                Rung::Withhold(reason) => Step::Withheld(reason),
                Rung::NotDead => Step::NotDead,
                Rung::Send(signal) => {
                    let Some(proof) = proven else { break };
                    self.unproven_since = None;
                    // Before the call: the dying threads may take this CPU before it returns.
                    told_at = crate::clock::now();
                    let (name, answer) = match self.config.kill.by {
                        KillBy::Signal => (signal.name(), proof.signal(signal)),
                        KillBy::ExitCode => {
                            self.leaves = true;
                            (BY_LEAVING, Ok(()))
                        }
                    };
                    if answer != Err(Errno::PERM) {
                        self.probe.signalled(at);
                        acted.signalled = true;
                    }
                    Step::Signal { signal: name, error: answer.err().map(|error| error.to_string()) }
                }
            };
            *place = Some((told_at, step));
        }
        if ladder.began() == Some(at) {
            self.recorder.killed(at);
        }
        match unproven {
            Some(why) if why.is_certain() => self.probe.lapsed(why),
            Some(why) => {
                acted.waits_for_proof = why.withholds().is_some() && acted.steps.iter().all(Option::is_none);
                self.adopter.ask_again();
            }
            None => {}
        }
        acted
    }

    fn tell(&mut self, seen: &Observation, judged: Monotonic, mut tracer: Option<Tracer>) {
        let at = seen.at;
        for note in self.judge.notes() {
            match note {
                Note::Opened(condemned) => {
                    let trace =
                        condemned.slot.and_then(|(slot, generation)| self.probe.trace_of(slot, generation));
                    let last_words = self.probe.last_words();
                    let said = Said { trace, last_words, tracer: tracer.take() };
                    self.story.open(condemned, judged, said, &mut self.publisher);
                    if let Some(incident) = self.story.number() {
                        let excerpt = Box::new(self.recorder.excerpt(at));
                        self.publisher.send(Event::Recorded { incident, excerpt });
                    }
                }
                Note::Exited => self.story.exited(at, &mut self.publisher),
                Note::CrashLoop { work_key } => {
                    self.story.step(at, Step::CrashLoop { work_key: *work_key }, &mut self.publisher);
                }
                Note::Lifted { why } => self.story.abandon(at, why.clone(), &mut self.publisher),
                Note::RestartOverdue => self.story.step(at, Step::RestartOverdue, &mut self.publisher),
                Note::Restarted { target, after } => {
                    let step = Step::Restarted { target: *target, after: *after };
                    self.story.step(at, step, &mut self.publisher);
                }
                Note::Recovered { work_key } => self.story.recovered(at, *work_key, &mut self.publisher),
                Note::Verdict { from } => self.publisher.send(Event::Verdict {
                    at,
                    from: *from,
                    to: self.judge.verdict(),
                    why: self.judge.why().to_owned(),
                    unmatched: self.judge.verdict() == Verdict::Degraded
                        && self.judge.incarnation().is_some_and(Incarnation::has_unmatched_rules),
                }),
                Note::Excuse { thread, kind } => {
                    self.publisher.send(Event::Excuse { at, thread: thread.to_string(), kind: *kind });
                }
                Note::ExcuseOver { thread, kind, cap } => self.publisher.send(Event::ExcuseOver {
                    at,
                    thread: thread.to_string(),
                    kind: *kind,
                    cap: *cap,
                }),
                Note::ChannelLate { channel, why } => self.publisher.send(Event::ChannelLate {
                    at,
                    channel: channel.to_string(),
                    why: why.clone(),
                }),
                Note::ChannelInTime { channel, after, deepest } => {
                    self.publisher.send(Event::ChannelInTime {
                        at,
                        channel: channel.to_string(),
                        after: *after,
                        deepest: *deepest,
                    });
                }
                Note::Silent { threads, evidence, after } => self.publisher.send(Event::Silent {
                    at,
                    threads: threads.clone(),
                    evidence: evidence.clone(),
                    after: *after,
                }),
                Note::WorksAgain { threads, after } => {
                    self.publisher.send(Event::WorksAgain { at, threads: threads.clone(), after: *after });
                }
                Note::ProgressGap { thread, gap } => {
                    if let Some(thread) = seen.threads.get(*thread) {
                        self.publisher.gap(&thread.name, *gap);
                    }
                }
            }
        }
        if !self.judge.notes().iter().all(|note| matches!(note, Note::ProgressGap { .. })) {
            self.publisher.hurry();
        }
    }

    /// If the remembered deaths have changed, passes them on: the slow side stores them for the
    /// next life of this sidecar, and the process learns which work not to take.
    fn remember(&mut self, at: Monotonic) {
        let known = *self.judge.crash_loops();
        if known == self.told_loops {
            return;
        }
        let told = Event::CrashLoops { at, known: Box::new(known), before: Box::new(self.told_loops) };
        self.adopter.keep_from(known.keys());
        // If there was no room, it is reported after the next observation.
        if self.publisher.offer(told) {
            self.told_loops = known;
        }
    }

    /// Sends complete chunks to the long-term recording.
    fn archive(&mut self) {
        if !self.archived {
            return;
        }
        while let Some((excerpt, looks)) = self.recorder.take_whole(crate::clock::now()) {
            let chunk = Event::Chunk { excerpt: Box::new(excerpt), looks, lost: self.unarchived };
            let sent = self.publisher.offer(chunk);
            self.unarchived = if sent { 0 } else { self.unarchived.saturating_add(u64::from(looks)) };
        }
    }
}

/// The result of climbing the ladder once.
#[derive(Debug, Default)]
struct Acted {
    signalled: bool,
    /// A check was impossible, and this has not been reported yet.
    waits_for_proof: bool,
    steps: [Option<(Monotonic, Step)>; MOST_STEPS],
}

/// Why the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Told,
    /// The target must be restarted, which happens if this sidecar ends with [`LEAVING`].
    ToBeRestarted,
}

/// Stands for a signal in an incident.
const BY_LEAVING: &str = "exit code 86";
const _: () = assert!(LEAVING == 86);

/// Whether a refused signal means that the sidecar lacks the right to send it.
pub fn not_permitted(step: &Step) -> Option<Withheld> {
    let Step::Signal { error: Some(error), .. } = step else { return None };
    (*error == Errno::PERM.to_string()).then_some(Withheld::NotPermitted)
}
