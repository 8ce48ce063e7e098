//! What a good config comes to, for a person.

use std::fmt::Write as _;

use shard_watchdog::config::units::written;
use shard_watchdog::config::{
    Config, FindTarget, KillBy, KillConfig, KillMode, LEAVING, Links, On, SignOfLifeConfig, ThreadRule,
    written_sections,
};
use shard_watchdog::verdict::StallKind;

/// What the config comes to, a line for each part.
pub(super) fn summary(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(&mut text, config);
    text
}

fn write_summary(text: &mut String, config: &Config) -> std::fmt::Result {
    let target = &config.target;
    write!(text, "  target   shard {}, ", target.shard)?;
    match &target.find {
        FindTarget::Heartbeat(path) => write!(text, "the process that writes {}", path.display())?,
        FindTarget::PidFile(path) => write!(text, "the process whose pid stands in {}", path.display())?,
        FindTarget::SystemdUnit => write!(text, "the main process of its unit")?,
        FindTarget::Command(regex) => write!(text, "the process whose command line matches {regex}")?,
    }
    if let Some(user) = &target.user {
        write!(text, ", of user {user}")?;
    }
    match &target.systemd_unit {
        Some(unit) => writeln!(text, ", in unit {unit}")?,
        None => writeln!(text)?,
    }
    for rule in &config.threads {
        write_rule(text, "thread", rule)?;
    }
    if config.threads.is_empty() {
        writeln!(text, "  thread   no rule: only the process as a whole is watched")?;
    }
    write_kill(text, &config.kill)?;
    if let Some(shadow) = &config.shadow {
        writeln!(text, "  shadow   judged beside it, signals nobody:")?;
        for rule in &shadow.threads {
            write_rule(text, "shadow", rule)?;
        }
    }
    let limit = written(config.evidence.time_limit);
    let gathered = match config.evidence.time_limit.is_zero() {
        true => "none is gathered of the process".to_owned(),
        false if config.evidence.minidump => {
            format!("gathered, with a minidump, for at most {limit} before the first signal")
        }
        false => format!("gathered for at most {limit} before the first signal"),
    };
    writeln!(text, "  evidence {}, {gathered}", config.evidence.directory.display())?;
    if let Some(SignOfLifeConfig { url, interval, time_limit }) = &config.heartbeat_out {
        writeln!(
            text,
            "  sign     of life to {url} every {} while the target is seen, each within {}",
            written(*interval),
            written(*time_limit)
        )?;
    }
    if let Some(recorder) = &config.recorder {
        let (days, mib) = (recorder.keep_days, recorder.keep_bytes >> 20);
        writeln!(text, "  recorder {}, {days} days, {mib} MiB at most", recorder.directory.display())?;
    }
    let http = &config.http;
    let places: Vec<String> = http
        .listen
        .map(|address| address.to_string())
        .into_iter()
        .chain(http.public.map(|address| format!("{address} (public part)")))
        .chain(http.socket.as_ref().map(|path| path.display().to_string()))
        .collect();
    let places = if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") };
    let names = match http.hosts.len() {
        0 => String::new(),
        1 => ", also by 1 name".to_owned(),
        more => format!(", also by {more} names"),
    };
    writeln!(text, "  http     {places}{names}")?;
    write_links(text, &config.links)?;
    Ok(())
}

fn write_links(text: &mut String, links: &Links) -> std::fmt::Result {
    let Links { runbook, trace, dashboard } = links;
    for (name, link) in [("runbook", runbook), ("trace", trace), ("dashboard", dashboard)] {
        if let Some(link) = link {
            writeln!(text, "  link     {name}: {}", link.as_str())?;
        }
    }
    Ok(())
}

fn write_kill(text: &mut String, kill: &KillConfig) -> std::fmt::Result {
    let KillConfig { mode, by, signals, budget_kills, budget_per, progress_brake, jitter } = kill;
    if *mode == KillMode::Observe {
        return writeln!(text, "  kill     observe: says what it would kill, and kills nothing");
    }
    let ladder = match by {
        KillBy::Signal => {
            let ladder: Vec<_> = signals
                .iter()
                .map(|(signal, after)| format!("{} at {}", signal.name(), written(*after)))
                .collect();
            ladder.join(", ")
        }
        KillBy::ExitCode => {
            format!("ends itself with exit code {LEAVING}, for the pod's rules to restart all containers")
        }
    };
    writeln!(text, "  kill     enforce: {ladder}; at most {budget_kills} kills in {}", written(*budget_per))?;
    if *progress_brake > 0 {
        writeln!(
            text,
            "           after {progress_brake} kills without a finished piece of work: none, until `clear`"
        )?;
    }
    if jitter.is_zero() {
        return Ok(());
    }
    writeln!(
        text,
        "           up to {} later for a stall, at random, in which it may recover",
        written(*jitter)
    )
}

fn write_rule(text: &mut String, policy: &str, rule: &ThreadRule) -> std::fmt::Result {
    let then = if rule.by_kind.is_empty() { on_label(rule.on) } else { "as below" };
    let ThreadRule { count, name, stall_after, warn_after, warm_up, sections, by_kind, .. } = rule;
    let first =
        warm_up.map(|time| format!(", {} for the first piece of work", written(time))).unwrap_or_default();
    writeln!(
        text,
        "  {policy:<8} {count} × {name}: gone, or no progress for {} → {then} (warning at {}{first})",
        written(*stall_after),
        written(*warn_after)
    )?;
    if !sections.is_empty() {
        let sections = written_sections(sections, written).join(", ");
        writeln!(text, "           in its section: {sections}")?;
    }
    if let Some(silence) = &rule.silence {
        writeln!(text, "           {}", silence.told())?;
    }
    if by_kind.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = StallKind::ALL
        .iter()
        .filter_map(|kind| Some(format!("{kind} → {}", on_label(by_kind.of(*kind)?))))
        .collect();
    let (kinds, other) = (kinds.join(", "), on_label(rule.on));
    writeln!(text, "           by kind of stall: {kinds}; any other, and a lost thread → {other}")
}

const fn on_label(on: On) -> &'static str {
    match on {
        On::Kill => "kill",
        On::Report => "report",
        On::Ignore => "ignore",
    }
}
