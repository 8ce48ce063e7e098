//! Each section of the file: what may stand in it, its defaults, and what contradicts what.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use toml::de::DeValue;

use super::section::{Complaints, Section};
use super::units::{self, DURATION_FORM};
use super::{
    ChannelRule, Config, EvidenceConfig, FindTarget, HttpConfig, JudgeConfig, KillConfig, KillMode, KillSignal, On,
    OtlpConfig, RestartConfig, TargetConfig, ThreadRule,
};

/// Longest label of a shard, what the segment has room for.
const SHARD_BYTES: usize = 32;
/// What the kernel keeps of a thread's name.
const COMM_BYTES: usize = 15;
/// Evidence may delay a kill; a restart that waits longer than this for it is worth more than any evidence.
const LONGEST_EVIDENCE: Duration = Duration::from_secs(10);

/// The whole file. `None` only with complaints.
pub fn config(mut file: Section<'_>, complaints: &mut Complaints<'_>) -> Option<Config> {
    let target = match file.table("target", complaints) {
        Some(section) => target(section, complaints),
        None => {
            complaints.add_at(0, "target", "is missing: without it the sidecar does not know what to watch");
            None
        }
    };
    let threads = threads(file.tables("thread", complaints), complaints);
    let channels = file.tables("channel", complaints).into_iter().filter_map(|s| channel(s, complaints)).collect();
    let judge = judge(file.table("judge", complaints), complaints);
    let restart = restart(file.table("restart", complaints), complaints);
    let kill = kill(file.table("kill", complaints), complaints);
    let shard = target.as_ref().map_or("", |t: &TargetConfig| &t.shard).to_owned();
    let evidence = evidence(file.table("evidence", complaints), &shard, complaints);
    let http = http(file.table("http", complaints), complaints);
    let otlp = file.table("otlp", complaints).and_then(|section| otlp(section, complaints));
    file.finish(complaints);
    Some(Config { target: target?, threads, channels, judge, restart, kill, evidence, http, otlp })
}

fn target(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<TargetConfig> {
    let shard = section.parse(
        "shard",
        "1 to 32 bytes without control characters; it goes on every metric and log line",
        complaints,
        |value| {
            let text = value.as_str()?;
            let fits = !text.is_empty() && text.len() <= SHARD_BYTES && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned())
        },
    );
    if shard.is_none() && !section.was_there("shard") {
        complaints.add_at(section.start(), &section.dotted("shard"), "is missing: name the shard");
    }
    let path = "a path in double quotes";
    let heartbeat = section.string("heartbeat", path, complaints);
    let pid_file = section.string("pid_file", path, complaints);
    let command = section.parse("command", "a regular expression on /proc/PID/cmdline", complaints, |value| {
        regex::Regex::new(value.as_str()?).ok()
    });
    let unit = section.string("systemd_unit", "the name of a unit, such as \"shard-0.service\"", complaints);
    let given = [heartbeat.as_ref().map(|h| &h.1), pid_file.as_ref().map(|p| &p.1), command.as_ref().map(|c| &c.1)];
    if let [_, second, ..] = given.iter().flatten().collect::<Vec<_>>()[..] {
        complaints.add(second, &section.dotted("heartbeat, pid_file, command"), "name one of them, not several");
    }
    let find = if let Some((path, _)) = heartbeat {
        Some(FindTarget::Heartbeat(PathBuf::from(path)))
    } else if let Some((path, _)) = pid_file {
        Some(FindTarget::PidFile(PathBuf::from(path)))
    } else if let Some((regex, _)) = command {
        Some(FindTarget::Command(regex))
    } else {
        unit.as_ref().map(|_| FindTarget::SystemdUnit)
    };
    if find.is_none() {
        let what = "names no process; give one of heartbeat, pid_file, command or systemd_unit";
        complaints.add_at(section.start(), "target", what);
    }
    section.finish(complaints);
    Some(TargetConfig { shard: shard?.0, find: find?, systemd_unit: unit.map(|(name, _)| name) })
}

fn threads(sections: Vec<Section<'_>>, complaints: &mut Complaints<'_>) -> Vec<ThreadRule> {
    let mut rules: Vec<ThreadRule> = Vec::new();
    for section in sections {
        let start = section.start();
        let Some(rule) = thread(section, complaints) else { continue };
        if rules.iter().any(|earlier| earlier.name == rule.name) {
            complaints.add_at(start, "thread.name", format!("«{}» stands twice; the first rule wins", rule.name));
        }
        rules.push(rule);
    }
    rules
}

fn thread(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<ThreadRule> {
    let name = glob(&mut section, "name", complaints);
    if let Some((name, _, span)) = &name
        && name.len() > COMM_BYTES
        && !name.contains(['*', '?', '[', '{'])
    {
        let what = "can never match: thread names end after 15 bytes; shorten it, or end it with *";
        complaints.add(span, "thread.name", what);
    }
    if name.is_none() && !section.was_there("name") {
        complaints.add_at(section.start(), "thread.name", "is missing: which threads does this rule mean?");
    }
    let count = section.count("count", complaints).map_or(1, |(count, _)| count);
    let stall_after = section.duration("stall_after", complaints).map_or(Duration::from_secs(5), |(d, _)| d);
    let warn_after = section.duration("warn_after", complaints);
    if let Some((warn, span)) = &warn_after
        && *warn > stall_after
    {
        complaints.add(span, "thread.warn_after", format!("must not be longer than stall_after ({stall_after:?})"));
    }
    let on = on(&mut section, On::Kill, complaints);
    section.finish(complaints);
    let (name, glob, _) = name?;
    let warn_after = warn_after.map_or(stall_after * 2 / 5, |(warn, _)| warn);
    Some(ThreadRule { name, glob, count, stall_after, warn_after, on })
}

fn channel(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<ChannelRule> {
    let start = section.start();
    let name = section.string("name", "the published name of a channel", complaints);
    if name.is_none() && !section.was_there("name") {
        complaints.add_at(start, "channel.name", "is missing: which channel does this rule mean?");
    }
    let max_age = section.duration("max_age", complaints).map(|(age, _)| age);
    let max_depth = section.count("max_depth", complaints).map(|(depth, _)| u64::from(depth));
    let consumer = glob(&mut section, "consumer", complaints).map(|(name, ..)| name);
    let on = on(&mut section, On::Report, complaints);
    if on == On::Kill && (consumer.is_none() || max_age.is_none()) {
        let what = "on = \"kill\" needs consumer and max_age: only a consumer that does not receive can be at fault";
        complaints.add_at(start, "channel", what);
    }
    section.finish(complaints);
    Some(ChannelRule { name: name?.0, max_age, max_depth, consumer, on })
}

fn glob(
    section: &mut Section<'_>,
    key: &'static str,
    complaints: &mut Complaints<'_>,
) -> Option<(String, GlobMatcher, std::ops::Range<usize>)> {
    let read = |value: &DeValue<'_>| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some((text.to_owned(), Glob::new(text).ok()?.compile_matcher()))
    };
    let ((name, glob), span) = section.parse(key, "a glob such as \"exec-s*\"", complaints, read)?;
    Some((name, glob, span))
}

fn on(section: &mut Section<'_>, default: On, complaints: &mut Complaints<'_>) -> On {
    let read = |value: &DeValue<'_>| match value.as_str()? {
        "kill" => Some(On::Kill),
        "report" => Some(On::Report),
        "ignore" => Some(On::Ignore),
        _ => None,
    };
    section.parse("on", "\"kill\", \"report\" or \"ignore\"", complaints, read).map_or(default, |(on, _)| on)
}

fn judge(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> JudgeConfig {
    let mut judge = JudgeConfig::default();
    let Some(mut section) = section else { return judge };
    set(&mut judge.startup_grace, section.duration("startup_grace", complaints));
    set(&mut judge.exit_within, section.duration("exit_within", complaints));
    if let Some(mut excuse) = section.table("excuse", complaints) {
        set(&mut judge.starved, excuse.duration("starved", complaints));
        set(&mut judge.throttled, excuse.duration("throttled", complaints));
        set(&mut judge.traced, excuse.duration("traced", complaints));
        if let Some(mut stopped) = excuse.table("stopped", complaints) {
            set(&mut judge.stopped_at_most, stopped.duration("at_most", complaints));
            let read = |value: &DeValue<'_>| match value.as_str()? {
                "kill" => Some(On::Kill),
                "report" => Some(On::Report),
                _ => None,
            };
            set(&mut judge.stopped_then, stopped.parse("then", "\"kill\" or \"report\"", complaints, read));
            stopped.finish(complaints);
        }
        excuse.finish(complaints);
    }
    section.finish(complaints);
    judge
}

fn restart(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> RestartConfig {
    let mut restart = RestartConfig { within: Duration::from_secs(30) };
    let Some(mut section) = section else { return restart };
    set(&mut restart.within, section.duration("within", complaints));
    section.finish(complaints);
    restart
}

fn kill(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> KillConfig {
    let mut kill = KillConfig {
        mode: KillMode::Observe,
        signals: vec![(KillSignal::Kill, Duration::ZERO)],
        budget_kills: 3,
        budget_per: Duration::from_secs(600),
    };
    let Some(mut section) = section else { return kill };
    let read = |value: &DeValue<'_>| match value.as_str()? {
        "observe" => Some(KillMode::Observe),
        "enforce" => Some(KillMode::Enforce),
        _ => None,
    };
    set(&mut kill.mode, section.parse("mode", "\"observe\" or \"enforce\"", complaints, read));
    let form = format!("pairs of a signal and the time after the verdict, such as [[\"SIGABRT\", \"0s\"], [\"SIGKILL\", \"5s\"]]; signals: SIGABRT, SIGTERM, SIGQUIT, SIGKILL; times: {DURATION_FORM}");
    if let Some((signals, span)) = section.parse("signals", &form, complaints, signals) {
        let ascending = signals.is_sorted_by_key(|(_, after)| *after);
        if !ascending || signals.last().map(|(signal, _)| *signal) != Some(KillSignal::Kill) {
            let what = "the times must not go down, and the last signal must be SIGKILL, which alone cannot be ignored";
            complaints.add(&span, "kill.signals", what);
        }
        kill.signals = signals;
    }
    if let Some(mut budget) = section.table("budget", complaints) {
        set(&mut kill.budget_kills, budget.count("kills", complaints));
        set(&mut kill.budget_per, budget.duration("per", complaints));
        budget.finish(complaints);
    }
    section.finish(complaints);
    kill
}

fn signals(value: &DeValue<'_>) -> Option<Vec<(KillSignal, Duration)>> {
    /// Each rung of the ladder costs a place in a fixed table of the watch loop.
    const MOST: usize = 4;
    let rungs: Option<Vec<_>> = value
        .as_array()?
        .iter()
        .map(|pair| {
            let [signal, after] = pair.get_ref().as_array()?.iter().collect::<Vec<_>>()[..] else { return None };
            let signal = match signal.get_ref().as_str()? {
                "SIGABRT" => KillSignal::Abort,
                "SIGTERM" => KillSignal::Term,
                "SIGQUIT" => KillSignal::Quit,
                "SIGKILL" => KillSignal::Kill,
                _ => return None,
            };
            Some((signal, units::duration(after.get_ref().as_str()?)?))
        })
        .collect();
    rungs.filter(|rungs| !rungs.is_empty() && rungs.len() <= MOST)
}

fn evidence(section: Option<Section<'_>>, shard: &str, complaints: &mut Complaints<'_>) -> EvidenceConfig {
    // A shard's label may hold a slash; its folder may not.
    let folder = shard.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "_");
    let mut evidence = EvidenceConfig {
        directory: PathBuf::from("/var/lib/shard-watchdog").join(folder.trim_start_matches('.')),
        time_limit: Duration::from_millis(250),
        keep_incidents: 50,
        keep_bytes: 256 << 20,
    };
    let Some(mut section) = section else { return evidence };
    let directory = section.string("directory", "a path in double quotes", complaints);
    set(&mut evidence.directory, directory.map(|(path, span)| (PathBuf::from(path), span)));
    if let Some((limit, span)) = section.duration("time_limit", complaints) {
        if limit > LONGEST_EVIDENCE {
            complaints.add(&span, "evidence.time_limit", "allowed: at most 10s, since a kill waits for it");
        }
        evidence.time_limit = limit;
    }
    if let Some(mut keep) = section.table("keep", complaints) {
        set(&mut evidence.keep_incidents, keep.count("incidents", complaints));
        set(&mut evidence.keep_bytes, keep.size("bytes", complaints));
        keep.finish(complaints);
    }
    section.finish(complaints);
    evidence
}

fn http(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> HttpConfig {
    let mut http = HttpConfig { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9611))), public: None, socket: None };
    let Some(mut section) = section else { return http };
    let form = "a loopback address and port; use http.public for others";
    let listen = section.parse("listen", form, complaints, |value| match value.as_str()? {
        "" => Some(None),
        text => text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback()).map(Some),
    });
    set(&mut http.listen, listen);
    let form = "an address and port, such as \"0.0.0.0:9612\"";
    http.public = section.parse("public", form, complaints, |value| value.as_str()?.parse().ok()).map(|(a, _)| a);
    http.socket = section.string("socket", "a path in double quotes", complaints).map(|(path, _)| PathBuf::from(path));
    section.finish(complaints);
    http
}

fn otlp(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<OtlpConfig> {
    let form = "an address such as \"http://127.0.0.1:4318\"";
    let endpoint = section.parse("endpoint", form, complaints, |value| {
        let text = value.as_str()?;
        (text.starts_with("http://") || text.starts_with("https://")).then(|| text.to_owned())
    });
    if endpoint.is_none() && !section.was_there("endpoint") {
        complaints.add_at(section.start(), "otlp.endpoint", "is missing: where does the collector listen?");
    }
    let protocol = section.parse("protocol", "\"http/protobuf\" or \"grpc\"", complaints, |value| {
        value.as_str().filter(|text| ["http/protobuf", "grpc"].contains(text)).map(str::to_owned)
    });
    let interval = section.duration("interval", complaints);
    section.finish(complaints);
    Some(OtlpConfig {
        endpoint: endpoint?.0,
        protocol: protocol.map_or_else(|| "http/protobuf".to_owned(), |(protocol, _)| protocol),
        interval: interval.map_or(Duration::from_secs(10), |(interval, _)| interval),
    })
}

fn set<T>(place: &mut T, value: Option<super::section::Placed<T>>) {
    if let Some((value, _)) = value {
        *place = value;
    }
}
