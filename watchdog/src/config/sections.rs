//! Each section of the file: its keys, their defaults, and what contradicts what.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shard_judge::crash_loop::DEATHS;
use shard_telemetry::http::host::{HostPattern, NotAHost};
use shard_telemetry::otlp::{Endpoint, Transport};
use toml::de::DeValue;

use super::section::{Complaints, Section, integer};
use super::units::{self, DURATION_FORM};
use super::{
    Config, DEFAULT_EVIDENCE_TIME, EvidenceConfig, HttpConfig, JudgeConfig, KillBy, KillConfig, KillMode,
    KillSignal, MOST_JITTER, On, OtlpConfig, RecorderConfig, RestartConfig, TargetConfig, links, shadow,
    sign_of_life, watched,
};

/// Capacity of the kernel's `sockaddr_un`, without the terminating zero.
const SOCKET_BYTES: usize = 107;
/// Near misses beyond these tell nothing new, and each costs some reading.
const MOST_NEAR_MISSES: u32 = 1_000;
/// Evidence may delay a kill, but no evidence is worth a restart that waits longer than this.
const LONGEST_EVIDENCE: Duration = Duration::from_secs(10);

/// Reads the whole file, for the shard of that name if one is given. `None` only if there are
/// problems.
pub fn config(mut file: Section<'_>, shard: Option<&str>, complaints: &mut Complaints<'_>) -> Option<Config> {
    let target = match file.table("target", complaints) {
        Some(section) => watched::target(section, shard, complaints),
        None => {
            complaints.add_at(0, "target", "is missing: without it the sidecar does not know what to watch");
            None
        }
    };
    let threads = watched::threads(file.tables("thread", complaints), complaints);
    let channels = watched::channels(file.tables("channel", complaints), complaints);
    let judge = judge(file.table("judge", complaints), JudgeConfig::default(), complaints);
    let restart = restart(file.table("restart", complaints), complaints);
    let kill = kill(file.table("kill", complaints), complaints);
    let shard = target.as_ref().map_or("", |t: &TargetConfig| &t.shard).to_owned();
    let evidence = evidence(file.table("evidence", complaints), &shard, complaints);
    let http = http(file.table("http", complaints), complaints);
    let links = links::links(file.table("links", complaints), complaints);
    let otlp = file.table("otlp", complaints).and_then(|section| otlp(section, complaints));
    let heartbeat_out = file.table("heartbeat_out", complaints);
    let heartbeat_out = heartbeat_out.and_then(|section| sign_of_life::heartbeat_out(section, complaints));
    let recorder = file.table("recorder", complaints).map(|section| recorder(section, &evidence, complaints));
    let live = shadow::Live { threads: &threads, channels: &channels, judge: &judge, kill: &kill };
    let shadow = file.table("shadow", complaints).map(|section| shadow::shadow(section, &live, complaints));
    file.finish(complaints);
    Some(Config {
        target: target?,
        threads,
        channels,
        judge,
        restart,
        kill,
        evidence,
        http,
        links,
        otlp,
        heartbeat_out,
        recorder,
        shadow,
    })
}

/// Settings that are omitted are those in `judge`.
pub(super) fn judge(
    section: Option<Section<'_>>,
    mut judge: JudgeConfig,
    complaints: &mut Complaints<'_>,
) -> JudgeConfig {
    let Some(mut section) = section else { return judge };
    set(&mut judge.startup_grace, section.duration("startup_grace", complaints));
    set(&mut judge.exit_within, section.duration("exit_within", complaints));
    let read = |value: &DeValue<'_>| {
        let deaths = integer(value).and_then(|n| u32::try_from(n).ok())?;
        (deaths as usize <= DEATHS).then_some(deaths)
    };
    let allowed = format!("a whole number from 1 to {DEATHS}, or 0 for never");
    set(&mut judge.poison_after, section.parse("poison_after", &allowed, complaints, read));
    if let Some(mut excuse) = section.table("excuse", complaints) {
        set(&mut judge.starved, excuse.duration("starved", complaints));
        set(&mut judge.stolen, excuse.duration("stolen", complaints));
        set(&mut judge.throttled, excuse.duration("throttled", complaints));
        set(&mut judge.memory_throttled, excuse.duration("memory_throttled", complaints));
        set(&mut judge.traced, excuse.duration("traced", complaints));
        set(&mut judge.frozen, excuse.duration("frozen", complaints));
        set(&mut judge.core_dumping, excuse.duration("core_dumping", complaints));
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
        by: KillBy::Signal,
        signals: vec![(KillSignal::Kill, Duration::ZERO)],
        budget_kills: 3,
        budget_per: Duration::from_secs(600),
        progress_brake: 3,
        jitter: Duration::ZERO,
    };
    let Some(mut section) = section else { return kill };
    let read = |value: &DeValue<'_>| match value.as_str()? {
        "observe" => Some(KillMode::Observe),
        "enforce" => Some(KillMode::Enforce),
        _ => None,
    };
    set(&mut kill.mode, section.parse("mode", "\"observe\" or \"enforce\"", complaints, read));
    let read = |value: &DeValue<'_>| match value.as_str()? {
        "signal" => Some(KillBy::Signal),
        "exit-code" => Some(KillBy::ExitCode),
        _ => None,
    };
    set(&mut kill.by, section.parse("by", "\"signal\" or \"exit-code\"", complaints, read));
    let form = format!(
        "pairs of a signal and the time after the verdict, such as [[\"SIGABRT\", \"0s\"], [\"SIGKILL\", \"5s\"]]; signals: SIGABRT, SIGTERM, SIGQUIT, SIGKILL; times: {DURATION_FORM}"
    );
    if let Some((signals, span)) = section.parse("signals", &form, complaints, signals) {
        let ascending = signals.is_sorted_by_key(|(_, after)| *after);
        if !ascending || signals.last().map(|(signal, _)| *signal) != Some(KillSignal::Kill) {
            let what = "the times must not go down, and the last signal must be SIGKILL, which alone cannot be ignored";
            complaints.add(&span, "kill.signals", what);
        }
        if kill.by == KillBy::ExitCode {
            let what = "no signal is sent where kill.by is \"exit-code\": leave one of the two out";
            complaints.add(&span, "kill.signals", what);
        }
        kill.signals = signals;
    }
    budget(&mut section, &mut kill, complaints);
    let read = |value: &DeValue<'_>| integer(value).and_then(|kills| u32::try_from(kills).ok());
    let form = "a whole number of kills, or 0 for no limit";
    set(&mut kill.progress_brake, section.parse("progress_brake", form, complaints, read));
    let read = |value: &DeValue<'_>| {
        value.as_str().and_then(units::duration).filter(|jitter| *jitter <= MOST_JITTER)
    };
    let form = format!("{DURATION_FORM}, at most {MOST_JITTER:?}");
    set(&mut kill.jitter, section.parse("jitter", &form, complaints, read));
    section.finish(complaints);
    kill
}

/// The budget in a section about killing.
pub(super) fn budget(section: &mut Section<'_>, kill: &mut KillConfig, complaints: &mut Complaints<'_>) {
    if let Some(mut budget) = section.table("budget", complaints) {
        set(&mut kill.budget_kills, budget.count("kills", complaints));
        set(&mut kill.budget_per, budget.duration("per", complaints));
        budget.finish(complaints);
    }
}

fn signals(value: &DeValue<'_>) -> Option<Vec<(KillSignal, Duration)>> {
    /// Each rung of the ladder takes an entry in a fixed table of the watch loop.
    const MOST: usize = 4;
    let rungs: Option<Vec<_>> = value
        .as_array()?
        .iter()
        .map(|pair| {
            let [signal, after] = pair.get_ref().as_array()?.iter().collect::<Vec<_>>()[..] else {
                return None;
            };
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
    // A shard's label may contain a slash; its folder may not.
    let folder = shard.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "_");
    let folder = if folder.starts_with('.') { format!("_{folder}") } else { folder };
    let mut evidence = EvidenceConfig {
        directory: PathBuf::from("/var/lib/shard-watchdog").join(folder),
        time_limit: DEFAULT_EVIDENCE_TIME,
        minidump: false,
        near_misses_per_day: 20,
        keep_incidents: 50,
        keep_bytes: 256 << 20,
    };
    let Some(mut section) = section else { return evidence };
    let directory = section.path("directory", complaints);
    set(&mut evidence.directory, directory);
    let read = |value: &DeValue<'_>| {
        value.as_str().and_then(units::duration).filter(|limit| *limit <= LONGEST_EVIDENCE)
    };
    let form = format!(
        "{DURATION_FORM}, at most {LONGEST_EVIDENCE:?} since a kill waits for it; \"0s\" gathers none"
    );
    set(&mut evidence.time_limit, section.parse("time_limit", &form, complaints, read));
    let read = |value: &DeValue<'_>| {
        integer(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= MOST_NEAR_MISSES)
    };
    let form = format!("a whole number from 0, which records none, to {MOST_NEAR_MISSES}");
    set(&mut evidence.near_misses_per_day, section.parse("near_misses_per_day", &form, complaints, read));
    let read = |value: &DeValue<'_>| value.as_bool();
    set(&mut evidence.minidump, section.parse("minidump", "true or false", complaints, read));
    if let Some(mut keep) = section.table("keep", complaints) {
        set(&mut evidence.keep_incidents, keep.count("incidents", complaints));
        set(&mut evidence.keep_bytes, keep.size("bytes", complaints));
        keep.finish(complaints);
    }
    section.finish(complaints);
    evidence
}

/// The limit must allow several files of several chunks each: with less the recorder would delete
/// what it has just written.
const FEWEST_RECORDED: u64 = 16 << 20;

fn recorder(
    mut section: Section<'_>,
    evidence: &EvidenceConfig,
    complaints: &mut Complaints<'_>,
) -> RecorderConfig {
    let mut recorder = RecorderConfig {
        directory: evidence.directory.join("recordings"),
        keep_days: 7,
        keep_bytes: 2 << 30,
    };
    set(&mut recorder.directory, section.path("directory", complaints));
    if let Some(mut keep) = section.table("keep", complaints) {
        set(&mut recorder.keep_days, keep.count("days", complaints));
        if let Some((bytes, span)) = keep.size("bytes", complaints) {
            if bytes < FEWEST_RECORDED {
                complaints.add(
                    &span,
                    "recorder.keep.bytes",
                    "allowed: at least 16MiB, some minutes of a busy shard",
                );
            }
            recorder.keep_bytes = bytes;
        }
        keep.finish(complaints);
    }
    section.finish(complaints);
    recorder
}

fn http(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> HttpConfig {
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 9611)));
    let mut http = HttpConfig { listen, public: None, socket: None, hosts: Vec::new(), token_file: None };
    let Some(mut section) = section else { return http };
    let form = "a loopback address and port; use http.public for others";
    let listen = section.parse("listen", form, complaints, |value| match value.as_str()? {
        "" => Some(None),
        text => text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback()).map(Some),
    });
    set(&mut http.listen, listen);
    let form = "an address and port, such as \"0.0.0.0:9612\"";
    http.public =
        section.parse("public", form, complaints, |value| value.as_str()?.parse().ok()).map(|(a, _)| a);
    if let (Some(listen), Some(public)) = (http.listen, http.public)
        && listen.port() == public.port()
        && listen.port() != 0
        && (public.ip() == listen.ip() || public.ip().is_unspecified())
    {
        let what = format!("cannot have the port of http.listen ({listen}): the two are different listeners");
        complaints.add_at(section.start(), "http.public", what);
    }
    if let Some((socket, span)) = section.path("socket", complaints) {
        if socket.as_os_str().len() > SOCKET_BYTES {
            let what =
                format!("is longer than the {SOCKET_BYTES} bytes that the path of a unix socket may have");
            complaints.add(&span, "http.socket", what);
        }
        http.socket = Some(socket);
    }
    let form = format!("a list of hosts, each {NotAHost}");
    let hosts = section.parse("hosts", &form, complaints, |value| {
        let hosts = value.as_array()?.iter().map(|host| host.get_ref().as_str()?.parse().ok());
        hosts.collect::<Option<Vec<HostPattern>>>()
    });
    set(&mut http.hosts, hosts);
    http.token_file = section.path("token_file", complaints).map(|(path, _)| path);
    section.finish(complaints);
    http
}

fn otlp(mut section: Section<'_>, complaints: &mut Complaints<'_>) -> Option<OtlpConfig> {
    let form = "an address such as \"http://127.0.0.1:4318\"";
    let endpoint = section.parse("endpoint", form, complaints, |value| Endpoint::parse(value.as_str()?).ok());
    if endpoint.is_none() && !section.was_there("endpoint") {
        complaints.add_at(section.start(), "otlp.endpoint", "is missing: where does the collector listen?");
    }
    let protocol = section.parse("protocol", "\"http/protobuf\" or \"grpc\"", complaints, |value| {
        value.as_str().and_then(Transport::parse)
    });
    let interval = section.duration("interval", complaints);
    section.finish(complaints);
    Some(OtlpConfig {
        endpoint: endpoint?.0,
        protocol: protocol.map_or(Transport::Http, |(protocol, _)| protocol),
        interval: interval.map_or(Duration::from_secs(10), |(interval, _)| interval),
    })
}

fn set<T>(place: &mut T, value: Option<super::section::Placed<T>>) {
    if let Some((value, _)) = value {
        *place = value;
    }
}
