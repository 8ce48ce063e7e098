//! A sample snapshot and its configuration, for tests.

use std::sync::Arc;
use std::time::Duration;

use shard_telemetry::dropped::Dropped;

use crate::clock::{Monotonic, WallAnchor};
use crate::config::{
    Config, EvidenceConfig, FindTarget, HttpConfig, JudgeConfig, KillBy, KillConfig, KillMode, KillSignal,
    Links, On, RestartConfig, TargetConfig,
};
use crate::judge::section::Section;
use crate::judge::target::FaultyThread;
use crate::snapshot::{ChannelStatus, SilenceStatus, Snapshot, Spent, TargetIdentity, ThreadStatus};
use crate::verdict::{Health, Verdict};

use super::Board;

/// A configuration that stores its evidence below `directory` and listens nowhere.
pub(crate) fn config(directory: &std::path::Path) -> Config {
    Config {
        target: TargetConfig {
            shard: "7".to_owned(),
            find: FindTarget::Heartbeat(directory.join("heartbeat")),
            user: None,
            systemd_unit: None,
        },
        threads: Vec::new(),
        channels: Vec::new(),
        judge: JudgeConfig {
            startup_grace: Duration::from_secs(30),
            exit_within: Duration::from_secs(30),
            starved: Duration::from_secs(600),
            stolen: Duration::from_secs(600),
            throttled: Duration::from_secs(600),
            memory_throttled: Duration::from_secs(600),
            traced: Duration::from_secs(3_600),
            frozen: Duration::from_secs(600),
            core_dumping: Duration::from_secs(600),
            stopped_at_most: Duration::from_secs(60),
            stopped_then: On::Kill,
            poison_after: 2,
        },
        restart: RestartConfig { within: Duration::from_secs(30) },
        kill: KillConfig {
            mode: KillMode::Enforce,
            by: KillBy::Signal,
            signals: vec![(KillSignal::Kill, Duration::ZERO)],
            budget_kills: 3,
            budget_per: Duration::from_secs(600),
            progress_brake: 3,
            jitter: Duration::ZERO,
        },
        evidence: EvidenceConfig {
            directory: directory.join("evidence"),
            time_limit: Duration::from_millis(250),
            minidump: false,
            near_misses_per_day: 20,
            keep_incidents: 50,
            keep_bytes: 1 << 20,
        },
        http: HttpConfig { listen: None, public: None, socket: None, hosts: Vec::new(), token_file: None },
        links: Links::default(),
        otlp: None,
        heartbeat_out: None,
        recorder: None,
        shadow: None,
    }
}

/// An empty board.
pub(crate) fn board() -> Arc<Board> {
    let config = config(std::path::Path::new("/nonexistent"));
    Arc::new(Board::new(&config, WallAnchor::now(), Arc::new(Dropped::default())))
}

/// A healthy shard of two threads, one busy and one idle, and one channel.
pub(crate) fn snapshot() -> Snapshot {
    let at = crate::clock::now();
    let ago = |millis: u64| Monotonic(at.0 - millis * 1_000_000);
    let idle = ThreadStatus {
        name: "net-in".to_owned(),
        tid: Some(12),
        health: Health::Idle,
        unobserved: None,
        kind: None,
        excuse: None,
        excuses: Vec::new(),
        excuse_over_cap: false,
        last_beat: Some(ago(3_000)),
        beats: 4,
        work_key: None,
        attempt: None,
        section: None,
        sections: Vec::new(),
        work_since: None,
        counted: Duration::ZERO,
        stall_after: Duration::from_secs(5),
        rule_stall_after: Duration::from_secs(5),
        section_stall_after: None,
        silence: Some(SilenceStatus {
            counted: Duration::ZERO,
            idle_at_most: Duration::from_secs(600),
            silent_since: None,
            kills: false,
        }),
        spent: Spent { idle_ns: 60_000_000_000, ..Spent::default() },
    };
    let working = ThreadStatus {
        name: "exec-s0".to_owned(),
        tid: Some(11),
        health: Health::Working,
        unobserved: None,
        last_beat: Some(ago(500)),
        beats: 40,
        work_key: Some(19_426_587),
        attempt: Some(1),
        section: Section::parse("executing"),
        sections: ["reading", "executing"].into_iter().filter_map(Section::parse).collect(),
        work_since: Some(ago(1_500)),
        counted: Duration::from_millis(500),
        ..idle.clone()
    };
    let commands = ChannelStatus {
        name: "commands".to_owned(),
        depth: 2,
        oldest_since: Some(ago(250)),
        sent: 12,
        received: 10,
        max_age: Some(Duration::from_secs(3)),
        counted: None,
        late: false,
    };
    Snapshot {
        at,
        verdict: Verdict::Healthy,
        reason: "every watched thread is idle or makes progress".to_owned(),
        since: ago(60_000),
        target: Some(TargetIdentity { pid: 10, start_time: 20, incarnation: 30 }),
        first_finished: Some(Some(1)),
        threads: vec![working, idle],
        channels: vec![commands],
        kills_left: 3,
        next_kill_in: None,
        excused: Default::default(),
        dropped: 0,
        thread_events: "pidfd",
        held: false,
        crash_loop_keys: Vec::new(),
        spared: false,
        kills_without_progress: 0,
        braked: false,
        restored: false,
        deadlines: Vec::new(),
        shadow: None,
        paused: None,
    }
}

/// A thread at work on this key.
pub fn faulty_thread(work_key: u64) -> FaultyThread {
    FaultyThread {
        name: "exec-s0".to_owned(),
        tid: 7,
        kind: None,
        work_key: Some(work_key),
        attempt: None,
        section: None,
        trace_id: None,
        span_id: None,
    }
}
