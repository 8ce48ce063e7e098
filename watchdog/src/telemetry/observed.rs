//! The metrics that are read from the board at each collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::KeyValue;

use crate::board::Board;
use crate::board::listening::{State, Which};
use crate::board::totals::{ProcessTotals, STALE, TargetStats, ThreadCpu};
use crate::judge::section::Section;
use crate::snapshot::{ChannelStatus, Snapshot, ThreadStatus};
use crate::verdict::{ExcuseKind, Health, Unobserved, Verdict};

use shard_telemetry::metric::Metric;
use shard_telemetry::sign_of_life::SignOfLife;

use super::catalogue;
use super::dropped::Signal;
use super::instruments::{Points, Workshop, named};
use super::labels::Names;

/// Registers all of them.
pub(super) fn register(workshop: &Workshop, board: &Arc<Board>, names: &Arc<Names>) {
    let source = Source { workshop, board, names };
    source.verdict();
    source.threads();
    source.channels();
    source.watch();
    source.target();
    source.processes();
}

struct Source<'a> {
    workshop: &'a Workshop,
    board: &'a Arc<Board>,
    names: &'a Arc<Names>,
}

impl Source<'_> {
    fn on_board(&self, metric: &'static Metric, read: impl Fn(&Board) -> Points + Send + Sync + 'static) {
        let board = Arc::clone(self.board);
        self.workshop.observe(metric, move || read(&board));
    }

    fn in_snapshot(
        &self,
        metric: &'static Metric,
        read: impl Fn(&Snapshot, &Names) -> Points + Send + Sync + 'static,
    ) {
        let names = Arc::clone(self.names);
        self.on_board(metric, move |board| {
            board.snapshot().map(|snapshot| read(&snapshot, &names)).unwrap_or_default()
        });
    }

    /// One value for each thread name. Threads may share a name: `join` combines two values into
    /// one.
    fn per_thread(
        &self,
        metric: &'static Metric,
        read: fn(&Snapshot, &ThreadStatus) -> Option<f64>,
        join: fn(f64, f64) -> f64,
    ) {
        self.in_snapshot(metric, move |snapshot, names| {
            let threads = snapshot.threads.iter();
            let numbers =
                threads.filter_map(|thread| Some((names.label(&thread.name), read(snapshot, thread)?)));
            by_name("thread", numbers, join)
        });
    }

    fn per_channel(
        &self,
        metric: &'static Metric,
        read: fn(&Snapshot, &ChannelStatus) -> Option<f64>,
        join: fn(f64, f64) -> f64,
    ) {
        self.in_snapshot(metric, move |snapshot, names| {
            let channels = snapshot.channels.iter();
            let numbers =
                channels.filter_map(|channel| Some((names.label(&channel.name), read(snapshot, channel)?)));
            by_name("channel", numbers, join)
        });
    }

    fn verdict(&self) {
        self.on_board(&catalogue::VERDICT, |board| {
            let stands = board.standing(crate::clock::now()).verdict;
            let flag = |verdict: &Verdict| {
                (flag(*verdict == stands), vec![KeyValue::new("verdict", verdict.label())])
            };
            Verdict::ALL.iter().map(flag).collect()
        });
    }

    fn threads(&self) {
        self.in_snapshot(&catalogue::THREAD_HEALTH, |snapshot, names| {
            let mut has: BTreeMap<Arc<str>, Vec<Health>> = BTreeMap::new();
            for thread in &snapshot.threads {
                has.entry(names.label(&thread.name)).or_default().push(thread.health);
            }
            let mut points = Points::new();
            for (name, present) in has {
                for health in Health::ALL {
                    let labels =
                        vec![named("thread", Arc::clone(&name)), KeyValue::new("health", health.label())];
                    points.push((flag(present.contains(health)), labels));
                }
            }
            points
        });
        self.in_snapshot(&catalogue::SECTION_THREADS, |snapshot, names| {
            let within = snapshot.threads.iter().flat_map(|thread| {
                let is = move |section: &Section| flag(thread.section == Some(*section));
                thread.sections.iter().map(move |section| (names.label(&section.to_string()), is(section)))
            });
            by_name("section", within, |a, b| a + b)
        });
        self.in_snapshot(&catalogue::UNOBSERVED, |snapshot, _| {
            let count = |why: &Unobserved| {
                let threads = snapshot.threads.iter().filter(|thread| thread.unobserved == Some(*why));
                (number(threads.count() as u64), vec![KeyValue::new("reason", why.label())])
            };
            Unobserved::ALL.iter().map(count).collect()
        });
        self.in_snapshot(&catalogue::SILENT, |snapshot, _| {
            let ruled = || snapshot.threads.iter().filter_map(|thread| thread.silence);
            let silent = ruled().filter(|silence| silence.silent_since.is_some()).count();
            one(ruled().next().map(|_| number(silent as u64)))
        });
        self.per_thread(&catalogue::HEARTBEATS, |_, thread| Some(number(thread.beats)), |a, b| a + b);
        let beat = |snapshot: &Snapshot, thread: &ThreadStatus| {
            thread.last_beat.map(|last| snapshot.at.since(last).as_secs_f64())
        };
        self.per_thread(&catalogue::HEARTBEAT_AGE, beat, f64::max);
        let work = |snapshot: &Snapshot, thread: &ThreadStatus| {
            thread.work_since.map(|since| snapshot.at.since(since).as_secs_f64())
        };
        self.per_thread(&catalogue::WORK_AGE, work, f64::max);
        let stall = |_: &Snapshot, thread: &ThreadStatus| Some(thread.rule_stall_after.as_secs_f64());
        self.per_thread(&catalogue::STALL_AFTER, stall, f64::min);
    }

    fn channels(&self) {
        self.per_channel(&catalogue::CHANNEL_DEPTH, |_, channel| Some(number(channel.depth)), |a, b| a + b);
        let age = |snapshot: &Snapshot, channel: &ChannelStatus| {
            Some(channel.oldest_since.map_or(0.0, |since| snapshot.at.since(since).as_secs_f64()))
        };
        self.per_channel(&catalogue::CHANNEL_AGE, age, f64::max);
        let most = |_: &Snapshot, channel: &ChannelStatus| channel.max_age.map(|age| age.as_secs_f64());
        self.per_channel(&catalogue::CHANNEL_MAX_AGE, most, f64::min);
        self.per_channel(&catalogue::CHANNEL_LATE, |_, channel| Some(flag(channel.late)), f64::max);
        self.in_snapshot(&catalogue::CHANNEL_MESSAGES, |snapshot, names| {
            let count = |direction: &'static str, read: fn(&ChannelStatus) -> u64| {
                let channels = snapshot.channels.iter();
                let counts = channels.map(|channel| (names.label(&channel.name), number(read(channel))));
                let mut points = by_name("channel", counts, |a, b| a + b);
                for (_, labels) in &mut points {
                    labels.push(KeyValue::new("direction", direction));
                }
                points
            };
            let mut points = count("sent", |channel| channel.sent);
            points.extend(count("received", |channel| channel.received));
            points
        });
    }

    fn watch(&self) {
        self.in_snapshot(&catalogue::EXCUSE_OVER_CAP, |snapshot, _| {
            let over = |kind: &ExcuseKind| {
                snapshot.threads.iter().any(|thread| thread.excuse_over_cap && thread.excuse == Some(*kind))
            };
            let kinds = ExcuseKind::ALL.iter();
            kinds.map(|kind| (flag(over(kind)), vec![KeyValue::new("kind", kind.label())])).collect()
        });
        self.in_snapshot(&catalogue::KILLS_LEFT, |snapshot, _| {
            vec![(f64::from(snapshot.kills_left), vec![])]
        });
        self.in_snapshot(&catalogue::PAUSED, |snapshot, _| vec![(flag(snapshot.paused.is_some()), vec![])]);
        self.in_snapshot(&catalogue::CRASH_LOOP_KEYS, |snapshot, _| {
            vec![(number(snapshot.crash_loop_keys.len() as u64), vec![])]
        });
        self.in_snapshot(&catalogue::EXCUSED, |snapshot, _| {
            let kinds = ExcuseKind::ALL.iter().zip(snapshot.excused);
            kinds
                .map(|(kind, time)| (time.as_secs_f64(), vec![KeyValue::new("kind", kind.label())]))
                .collect()
        });
        self.on_board(&catalogue::RECORDING_BYTES, |board| {
            one(board.archive().map(|held| number(held.bytes)))
        });
        self.on_board(&catalogue::RECORDING_DROPPED, |board| {
            let held = board.archive().into_iter();
            let counts = held.flat_map(|held| [("looks", held.missing), ("files", held.removed)]);
            counts.map(|(what, count)| (number(count), vec![KeyValue::new("what", what)])).collect()
        });
        self.on_board(&catalogue::HEARTBEATS_OUT, |board| {
            let told = board.sign_of_life().map(SignOfLife::told).into_iter();
            let counts = told.flat_map(|told| [("sent", told.sent), ("failed", told.failed)]);
            counts.map(|(outcome, count)| (number(count), vec![KeyValue::new("outcome", outcome)])).collect()
        });
        self.on_board(&catalogue::HTTP_LISTENING, |board| {
            let all = board.listening().all();
            let point = |(which, state): (Which, State)| {
                let listens = matches!(state, State::Listens(_));
                (flag(listens), vec![KeyValue::new("listener", which.label())])
            };
            all.into_iter().map(point).collect()
        });
        self.on_board(&catalogue::RELOAD_SUCCEEDED, |board| {
            vec![(flag(board.last_reload().succeeded), vec![])]
        });
        self.on_board(&catalogue::RELOAD_GOOD_AT, |board| {
            vec![(board.last_reload().good_at.as_duration().as_secs_f64(), vec![])]
        });
        self.on_board(&catalogue::TELEMETRY_DROPPED, |board| {
            let count = |signal: &Signal| {
                (number(board.dropped().get(*signal)), vec![KeyValue::new("signal", signal.label())])
            };
            Signal::ALL.iter().map(count).collect()
        });
        self.on_board(&catalogue::BUILD_INFO, |_| {
            vec![(1.0, vec![KeyValue::new("version", env!("CARGO_PKG_VERSION"))])]
        });
    }

    /// Totals of each thread's time, once they have been read.
    fn target(&self) {
        let cpu = |thread: &ThreadCpu, user: bool| if user { thread.user } else { thread.system };
        let names = Arc::clone(self.names);
        self.on_board(&catalogue::THREAD_CPU, move |board| {
            let mut points = Points::new();
            for (mode, user) in [("user", true), ("system", false)] {
                let threads = of_target(board);
                let numbers = threads
                    .iter()
                    .flat_map(|stats| &stats.threads)
                    .map(|t| (names.label(&t.name), cpu(t, user)));
                let mut some = by_name("thread", numbers, |a, b| a + b);
                for (_, labels) in &mut some {
                    labels.push(KeyValue::new("mode", mode));
                }
                points.append(&mut some);
            }
            points
        });
        let names = Arc::clone(self.names);
        self.on_board(&catalogue::THREAD_RUN_DELAY, move |board| {
            let threads = of_target(board);
            let numbers = threads
                .iter()
                .flat_map(|stats| &stats.threads)
                .filter_map(|thread| Some((names.label(&thread.name), thread.run_delay?)));
            by_name("thread", numbers, |a, b| a + b)
        });
    }

    fn processes(&self) {
        type Read = fn(&ProcessTotals) -> Option<f64>;
        let cpu: Read = |totals| Some(totals.cpu.as_secs_f64());
        let memory: Read = |totals| Some(number(totals.resident_bytes));
        let fds: Read = |totals| totals.open_fds.map(number);
        let threads: Read = |totals| totals.threads.map(number);
        let start: Read = |totals| Some(number(totals.start_unix_seconds));
        let targets = [
            (&catalogue::SHARD_CPU, cpu),
            (&catalogue::SHARD_MEMORY, memory),
            (&catalogue::SHARD_FDS, fds),
            (&catalogue::SHARD_THREADS, threads),
            (&catalogue::SHARD_START, start),
        ];
        for (metric, read) in targets {
            self.on_board(metric, move |board| {
                let stats = of_target(board);
                one(stats.and_then(|stats| stats.process).as_ref().and_then(read))
            });
        }
        let most_fds: Read = |totals| totals.max_fds.map(number);
        let virtual_memory: Read = |totals| Some(number(totals.virtual_bytes));
        let own = [
            (&catalogue::OWN_CPU, cpu),
            (&catalogue::OWN_MEMORY, memory),
            (&catalogue::OWN_VIRTUAL, virtual_memory),
            (&catalogue::OWN_FDS, fds),
            (&catalogue::OWN_MOST_FDS, most_fds),
            (&catalogue::OWN_THREADS, threads),
            (&catalogue::OWN_START, start),
        ];
        for (metric, read) in own {
            self.on_board(metric, move |board| {
                one(fresh(board).and_then(|stats| stats.sidecar).as_ref().and_then(read))
            });
        }
    }
}

/// The target's totals, if they belong to the process that is watched now.
fn of_target(board: &Board) -> Option<Arc<TargetStats>> {
    let watched = board.snapshot()?.target?;
    fresh(board).filter(|stats| stats.identity == Some(watched))
}

/// The newest totals, unless their reader hangs.
fn fresh(board: &Board) -> Option<Arc<TargetStats>> {
    board.target().filter(|stats| crate::clock::now().since(stats.at) <= STALE)
}

fn by_name(
    key: &'static str,
    numbers: impl Iterator<Item = (Arc<str>, f64)>,
    join: fn(f64, f64) -> f64,
) -> Points {
    let mut joined: BTreeMap<Arc<str>, f64> = BTreeMap::new();
    for (name, number) in numbers {
        joined.entry(name).and_modify(|held| *held = join(*held, number)).or_insert(number);
    }
    joined.into_iter().map(|(name, number)| (number, vec![named(key, name)])).collect()
}

fn one(value: Option<f64>) -> Points {
    value.map(|value| (value, Vec::new())).into_iter().collect()
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// Above 2⁵³ the last digits are lost; Prometheus has only floats.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows nothing but floats")]
fn number(count: u64) -> f64 {
    count as f64
}
