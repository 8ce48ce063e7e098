//! The settings that a config comes to, one by one and with its defaults: to show them, and to say
//! what a reload changes.

use std::fmt;
use std::path::Path;

use shard_judge::policy::On;
use shard_judge::verdict::StallKind;

use super::reference::{self, Takes};
use super::units::{size_written, written};
use super::{
    ChannelRule, Config, EvidenceConfig, FindTarget, HttpConfig, JudgeConfig, KillConfig, ThreadRule,
};

/// The most changes that one line of the log names.
const MOST_TOLD: usize = 20;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its dotted name; a rule is named too, as in `thread."exec-s*".stall_after`.
    pub key: String,
    /// Its value as it stands in a file.
    pub value: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

/// What one reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is in force now, one clause each.
    pub now: Vec<String>,
    /// What waits for the next start, likewise.
    pub at_start: Vec<String>,
}

impl Changes {
    /// What a reload changes: what is in force now is compared with `before`, and what waits for
    /// the next start with the config of this start, however often it was read since.
    pub fn of_reload(started: &Config, before: &Config, now: &Config) -> Self {
        Self { now: Self::between(before, now).now, at_start: Self::between(started, now).at_start }
    }

    /// Compares the settings that were read before with those that are read now.
    pub fn between(before: &Config, now: &Config) -> Self {
        let (old, new) = (before.settings(), now.settings());
        let value = |settings: &[Setting], key: &str| {
            settings.iter().find(|setting| setting.key == key).map(|setting| setting.value.clone())
        };
        let mut changes = Self::default();
        let gone = old.iter().filter(|setting| value(&new, &setting.key).is_none());
        for key in new.iter().chain(gone).map(|setting| &setting.key) {
            let told = match (value(&old, key), value(&new, key)) {
                (Some(from), Some(to)) if from == to => continue,
                (Some(from), Some(to)) => format!("{key}: {from} → {to}"),
                (None, Some(to)) => format!("{key}: {to}, new"),
                (Some(from), None) => format!("{key}: {from}, removed"),
                (None, None) => continue,
            };
            changes.add(key, told, now);
        }
        let url = |config: &Config| config.heartbeat_out.as_ref().map(|out| out.url.clone());
        if url(before)
            .zip(url(now))
            .is_some_and(|(old, new)| old != new && old.to_string() == new.to_string())
        {
            // What is different in it is a secret.
            changes.at_start.push("heartbeat_out.url: another path".to_owned());
        }
        changes
    }

    fn add(&mut self, key: &str, told: String, now: &Config) {
        let takes = reference::find(key).map(|key| key.takes_effect);
        // The helper that takes dumps runs from the start on, or not at all.
        let off = key == "evidence.minidump" && !now.evidence.minidump;
        if takes == Some(Takes::Reload) || off { self.now.push(told) } else { self.at_start.push(told) }
    }

    /// In one sentence, with at most twenty of each.
    pub fn told(&self) -> String {
        let list = |changes: &[String]| {
            let mut told: Vec<String> = changes.iter().take(MOST_TOLD).cloned().collect();
            if let Some(more) = changes.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
                told.push(format!("and {more} more"));
            }
            told.join("; ")
        };
        match (self.now.is_empty(), self.at_start.is_empty()) {
            (true, true) => "nothing has changed".to_owned(),
            (false, true) => format!("in force now: {}", list(&self.now)),
            (true, false) => {
                format!("nothing is different before the next start; then: {}", list(&self.at_start))
            }
            (false, false) => {
                format!("in force now: {}. At the next start: {}", list(&self.now), list(&self.at_start))
            }
        }
    }
}

/// A list under construction.
struct List {
    settings: Vec<Setting>,
    table: String,
}

impl List {
    fn table(&mut self, name: impl Into<String>) -> &mut Self {
        self.table = name.into();
        self
    }

    fn add(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.settings.push(Setting { key: format!("{}.{key}", self.table), value: value.into() });
        self
    }

    fn maybe(&mut self, key: &str, value: Option<String>) -> &mut Self {
        if let Some(value) = value {
            self.add(key, value);
        }
        self
    }

    fn time(&mut self, key: &str, value: std::time::Duration) -> &mut Self {
        self.add(key, quoted(&written(value)))
    }
}

fn quoted(text: &str) -> String {
    // As the library writes it, which escapes what must be.
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

const fn word(on: On) -> &'static str {
    match on {
        On::Kill => "\"kill\"",
        On::Report => "\"report\"",
        On::Ignore => "\"ignore\"",
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", names.map(quoted).collect::<Vec<_>>().join(", "))
}

impl Config {
    /// Every setting that is in force under this config, in the order of the reference. Of an
    /// address that may hold a secret, only the host.
    pub fn settings(&self) -> Vec<Setting> {
        let mut list = List { settings: Vec::new(), table: String::new() };
        self.target(&mut list);
        for rule in &self.threads {
            thread(list.table(format!("thread.{}", quoted(&rule.name))), rule);
        }
        for rule in &self.channels {
            channel(list.table(format!("channel.{}", quoted(&rule.name))), rule);
        }
        judge(list.table("judge"), &self.judge);
        list.table("restart").time("within", self.restart.within);
        kill(list.table("kill"), &self.kill);
        evidence(list.table("evidence"), &self.evidence);
        http(list.table("http"), &self.http);
        let links = [
            ("runbook", &self.links.runbook),
            ("trace", &self.links.trace),
            ("dashboard", &self.links.dashboard),
        ];
        for (key, link) in links {
            list.table("links").maybe(key, link.as_ref().map(|link| quoted(link.as_str())));
        }
        if let Some(otlp) = &self.otlp {
            let list = list.table("otlp").add("endpoint", quoted(&otlp.endpoint.to_string()));
            list.add("protocol", quoted(otlp.protocol.label())).time("interval", otlp.interval);
        }
        if let Some(out) = &self.heartbeat_out {
            let list = list.table("heartbeat_out").add("url", quoted(&out.url.to_string()));
            list.time("interval", out.interval).time("time_limit", out.time_limit);
        }
        if let Some(recorder) = &self.recorder {
            let list = list.table("recorder").add("directory", path(&recorder.directory));
            list.add("keep.days", recorder.keep_days.to_string());
            list.add("keep.bytes", quoted(&size_written(recorder.keep_bytes)));
        }
        self.shadow(&mut list);
        list.settings
    }

    fn target(&self, list: &mut List) {
        let target = &self.target;
        list.table("target").add("shard", quoted(&target.shard));
        match &target.find {
            FindTarget::Heartbeat(file) => list.add("heartbeat", path(file)),
            FindTarget::PidFile(file) => list.add("pid_file", path(file)),
            FindTarget::Command(regex) => list.add("command", quoted(regex.as_str())),
            FindTarget::SystemdUnit => list,
        };
        let user = target.user.as_ref();
        list.maybe("user", user.map(|user| user.name.as_deref().map_or(user.uid.to_string(), quoted)));
        list.maybe("systemd_unit", target.systemd_unit.as_deref().map(quoted));
    }

    /// Of the shadow, each table is one setting: what matters is that it changed.
    fn shadow(&self, list: &mut List) {
        let Some(shadow) = &self.shadow else { return };
        let told = |fill: &dyn Fn(&mut List)| {
            let mut inner = List { settings: Vec::new(), table: String::new() };
            fill(&mut inner);
            let settings: Vec<String> = inner.settings.iter().map(ToString::to_string).collect();
            format!("{{ {} }}", settings.join(", ").replace(" = ", "=").trim_start_matches('.'))
        };
        let threads = told(&|inner| {
            shadow.threads.iter().for_each(|rule| thread(inner.table(quoted(&rule.name)), rule));
        });
        let channels = told(&|inner| {
            shadow.channels.iter().for_each(|rule| channel(inner.table(quoted(&rule.name)), rule));
        });
        let list = list.table("shadow").add("thread", threads).add("channel", channels);
        let list = list.add("judge", told(&|inner| judge(inner.table("judge"), &shadow.judge)));
        let KillConfig { budget_kills, budget_per, .. } = shadow.kill;
        list.add(
            "kill",
            format!("{{ budget = {{ kills = {budget_kills}, per = \"{}\" }} }}", written(budget_per)),
        );
    }
}

fn thread(list: &mut List, rule: &ThreadRule) {
    list.add("count", rule.count.to_string());
    list.time("stall_after", rule.stall_after).time("warn_after", rule.warn_after);
    list.maybe("warm_up", rule.warm_up.map(|time| quoted(&written(time))));
    let sections: Vec<String> = rule
        .sections
        .iter()
        .map(|rule| format!("{} = {}", rule.section, quoted(&written(rule.stall_after))))
        .collect();
    list.maybe("sections", (!sections.is_empty()).then(|| format!("{{ {} }}", sections.join(", "))));
    let kinds = StallKind::ALL.iter().filter_map(|kind| Some((kind.label(), rule.by_kind.of(*kind)?)));
    let kinds: Vec<String> = kinds.map(|(kind, on)| format!("{kind} = {}", word(on))).collect();
    let on = if kinds.is_empty() { word(rule.on).to_owned() } else { format!("{{ {} }}", kinds.join(", ")) };
    list.add("on", on);
    let Some(silence) = &rule.silence else { return };
    list.time("idle_at_most", silence.idle_at_most);
    if !silence.witnesses.is_empty() {
        list.add("idle_witness", names(silence.witnesses.iter().map(|(name, _)| name.as_str())));
    }
    list.add("on_idle", word(silence.on_idle));
}

fn channel(list: &mut List, rule: &ChannelRule) {
    list.maybe("max_age", rule.max_age.map(|age| quoted(&written(age))));
    list.maybe("max_depth", rule.max_depth.map(|depth| depth.to_string()));
    list.maybe("consumer", rule.consumer.as_deref().map(quoted));
    list.add("on", word(rule.on));
}

fn judge(list: &mut List, judge: &JudgeConfig) {
    list.time("startup_grace", judge.startup_grace).time("exit_within", judge.exit_within);
    list.add("poison_after", judge.poison_after.to_string());
    let excuses = [
        ("starved", judge.starved),
        ("stolen", judge.stolen),
        ("throttled", judge.throttled),
        ("memory_throttled", judge.memory_throttled),
        ("traced", judge.traced),
        ("frozen", judge.frozen),
        ("core_dumping", judge.core_dumping),
        ("stopped.at_most", judge.stopped_at_most),
    ];
    for (kind, cap) in excuses {
        list.time(&format!("excuse.{kind}"), cap);
    }
    list.add("excuse.stopped.then", word(judge.stopped_then));
}

fn kill(list: &mut List, kill: &KillConfig) {
    list.add("mode", quoted(kill.mode.label())).add("by", quoted(kill.by.label()));
    let signals: Vec<String> = kill
        .signals
        .iter()
        .map(|(signal, after)| format!("[{}, {}]", quoted(signal.name()), quoted(&written(*after))))
        .collect();
    list.add("signals", format!("[{}]", signals.join(", ")));
    list.add("budget.kills", kill.budget_kills.to_string()).time("budget.per", kill.budget_per);
    list.add("progress_brake", kill.progress_brake.to_string()).time("jitter", kill.jitter);
}

fn evidence(list: &mut List, evidence: &EvidenceConfig) {
    list.add("directory", path(&evidence.directory)).time("time_limit", evidence.time_limit);
    list.add("minidump", evidence.minidump.to_string());
    list.add("near_misses_per_day", evidence.near_misses_per_day.to_string());
    list.add("keep.incidents", evidence.keep_incidents.to_string());
    list.add("keep.bytes", quoted(&size_written(evidence.keep_bytes)));
}

fn http(list: &mut List, http: &HttpConfig) {
    list.add("listen", quoted(&http.listen.map_or_else(String::new, |address| address.to_string())));
    list.maybe("public", http.public.map(|address| quoted(&address.to_string())));
    list.maybe("socket", http.socket.as_deref().map(path));
    let hosts: Vec<String> = http.hosts.iter().map(ToString::to_string).collect();
    list.add("hosts", names(hosts.iter().map(String::as_str)));
    list.maybe("token_file", http.token_file.as_deref().map(path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::parse;

    fn config(text: &str) -> Config {
        let text = format!("[target]\nshard = \"0\"\nheartbeat = \"/h\"\n{text}");
        parse(&text, Path::new("w.toml")).unwrap()
    }

    fn told(before: &str, now: &str) -> String {
        Changes::between(&config(before), &config(now)).told()
    }

    #[test]
    fn a_reload_tells_what_changed_and_what_must_wait() {
        assert_eq!(told("", ""), "nothing has changed");
        assert_eq!(
            told("[kill]\nmode = \"observe\"", ""),
            "nothing has changed",
            "a default that is written down"
        );
        assert_eq!(
            told("", "[kill]\nmode = \"enforce\"\nbudget = { kills = 5, per = \"10m\" }"),
            "in force now: kill.mode: \"observe\" → \"enforce\"; kill.budget.kills: 3 → 5"
        );
        assert_eq!(
            told(
                "[[thread]]\nname = \"exec-s*\"\nwarm_up = \"30s\"",
                "[[thread]]\nname = \"exec-s*\"\nstall_after = \"2s\""
            ),
            "in force now: thread.\"exec-s*\".stall_after: \"5s\" → \"2s\"; thread.\"exec-s*\".warn_after: \"2s\" → \
             \"800ms\"; thread.\"exec-s*\".warm_up: \"30s\", removed"
        );
        assert_eq!(
            told(
                "",
                "[http]\npublic = \"0.0.0.0:9612\"\n[otlp]\nendpoint = \"http://user:secret@127.0.0.1:4318\""
            ),
            "nothing is different before the next start; then: http.public: \"0.0.0.0:9612\", new; otlp.endpoint: \
             \"http://127.0.0.1:4318/\", new; otlp.protocol: \"http/protobuf\", new; otlp.interval: \"10s\", new"
        );
        assert_eq!(
            told("[judge]\nstartup_grace = \"1s\"", "[evidence]\ndirectory = \"/e\""),
            "in force now: judge.startup_grace: \"1s\" → \"30s\". At the next start: evidence.directory: \
             \"/var/lib/shard-watchdog/0\" → \"/e\""
        );
    }

    #[test]
    fn what_waits_for_the_next_start_is_told_at_each_reload() {
        let (started, first) = (config(""), config("[evidence]\nkeep = { incidents = 9 }"));
        let second = config("[evidence]\nkeep = { incidents = 9 }\n[restart]\nwithin = \"1m\"");
        assert_eq!(
            Changes::of_reload(&started, &first, &second).told(),
            "in force now: restart.within: \"30s\" → \"1m\". At the next start: evidence.keep.incidents: 50 → 9"
        );
        assert_eq!(
            Changes::of_reload(&started, &second, &started).told(),
            "in force now: restart.within: \"1m\" → \"30s\""
        );
    }

    #[test]
    fn a_helper_that_is_not_there_cannot_be_switched_on() {
        let (off, on) = ("[evidence]\nminidump = false", "[evidence]\nminidump = true");
        assert!(told(off, on).starts_with("nothing is different before the next start"));
        assert!(told(on, off).starts_with("in force now"));
    }

    #[test]
    fn a_secret_is_not_told_but_its_change_is() {
        let of = |secret| format!("[heartbeat_out]\nurl = \"https://hc.example/ping/{secret}\"");
        let told = told(&of("first"), &of("second"));
        assert!(told.contains("heartbeat_out.url: another path"), "{told}");
        assert!(!told.contains("first") && !told.contains("second"), "{told}");
        assert!(config(&of("first")).settings().iter().all(|setting| !setting.value.contains("first")));
    }

    #[test]
    fn a_shadow_that_changed_is_told() {
        let of = |after| format!("[[shadow.thread]]\nname = \"exec-s*\"\nstall_after = \"{after}\"");
        let told = told(&of("1s"), &of("2s"));
        assert!(told.starts_with("in force now: shadow.thread: { \"exec-s*\".count=1"), "{told}");
    }

    #[test]
    fn no_number_of_changes_makes_an_endless_line() {
        let rules = |after| {
            let rule =
                |n| format!("[[thread]]\nname = \"t{n}\"\nstall_after = \"{after}\"\nwarn_after = \"1ms\"\n");
            (0..50).map(rule).collect::<String>()
        };
        let told = told(&rules("1s"), &rules("2s"));
        assert!(told.ends_with("; and 30 more"), "{told}");
    }
}
