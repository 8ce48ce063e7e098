//! A sidecar's config, and queries about its state for scenarios.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{api, incident, replayed, wait};

/// What differs between the sidecars of the scenarios.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Glob of the watched thread; `None` watches the executor thread of the shard.
    pub thread: Option<String>,
    /// `stall_after` of the watched thread.
    pub stall_after: String,
    /// Further lines of the rule for the watched thread.
    pub rule: String,
    /// `kill.mode`.
    pub mode: String,
    /// Kills allowed in ten minutes.
    pub kills: u32,
    /// Further lines for `[judge]`.
    pub judge: String,
    /// Further lines of `[kill]`.
    pub kill: String,
    /// Further lines of `[evidence]`.
    pub evidence: String,
    /// How the sidecar learns of the end of threads: `pidfd` or `poll`.
    pub thread_events: String,
    /// Real-time priority of the watch thread.
    pub watch_priority: Option<String>,
    /// Further text for the config, in whole sections.
    pub append: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thread: None,
            stall_after: "1s".to_owned(),
            rule: String::new(),
            // A variable turns killing off, for a person who wants to see scenarios fail.
            mode: std::env::var("SHARD_TESTS_MODE").unwrap_or_else(|_| "enforce".to_owned()),
            kills: 3,
            judge: String::new(),
            thread_events: "pidfd".to_owned(),
            watch_priority: None,
            kill: String::new(),
            evidence: String::new(),
            append: String::new(),
        }
    }
}

impl Settings {
    /// Adds a further thread rule, which kills.
    #[must_use]
    pub fn thread_rule(mut self, name: &str, stall_after: &str) -> Self {
        writeln!(self.append, "[[thread]]\nname = {name:?}\nstall_after = {stall_after:?}")
            .expect("a string");
        self
    }

    /// Adds a channel rule: its name, its other lines, and `report` or `kill`.
    #[must_use]
    pub fn channel_rule(mut self, name: &str, limits: &str, on: &str) -> Self {
        writeln!(self.append, "[[channel]]\nname = {name:?}\n{limits}\non = {on:?}").expect("a string");
        self
    }
}

/// Where one sidecar stores its files and answers.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// The config file.
    pub config: PathBuf,
    /// Address of its HTTP interface.
    pub http: SocketAddr,
    /// The evidence directory.
    pub evidence: PathBuf,
    /// The segment that it reads.
    pub heartbeat: PathBuf,
}

impl Sidecar {
    /// Writes a config into `folder` for the target `name`, whose watched thread is `thread`.
    #[track_caller]
    pub fn configure(folder: &Path, name: &str, thread: &str, settings: &Settings) -> Self {
        let sidecar = Self {
            config: folder.join(format!("{name}.toml")),
            http: api::free_address(),
            evidence: folder.join(format!("{name}.evidence")),
            heartbeat: folder.join(format!("{name}.heartbeat")),
        };
        let thread = settings.thread.as_deref().unwrap_or(thread);
        let Settings { stall_after, rule, mode, kills, judge, kill, evidence, append, .. } = settings;
        let mut text = String::new();
        writeln!(text, "[target]\nshard = {name:?}\nheartbeat = {:?}", sidecar.heartbeat).expect("a string");
        writeln!(
            text,
            "[[thread]]\nname = {thread:?}\nstall_after = {stall_after:?}\n{rule}\n[judge]\n{judge}"
        )
        .expect("a string");
        writeln!(text, "[kill]\nmode = {mode:?}\nbudget = {{ kills = {kills}, per = \"10m\" }}\n{kill}")
            .expect("a string");
        writeln!(text, "[evidence]\ndirectory = {:?}\n{evidence}", sidecar.evidence).expect("a string");
        writeln!(text, "[http]\nlisten = \"{}\"\n{append}", sidecar.http).expect("a string");
        std::fs::write(&sidecar.config, text).expect("the config can be written");
        sidecar
    }

    /// Makes it watch the segment of the shard `name`, whatever the sidecar itself is called.
    pub fn watch_shard(&self, name: &str) {
        let text = std::fs::read_to_string(&self.config).expect("its config");
        let rest = text.split_once("heartbeat = ").expect("the key after the shard").1;
        let text = format!("[target]\nshard = {name:?}\nheartbeat = {rest}");
        std::fs::write(&self.config, text).expect("the config can be written");
    }

    /// The status, or `None` if nothing answers.
    pub fn status(&self) -> Option<Value> {
        api::json(self.http, "/api/v1/status")
    }

    /// The present verdict; empty if nothing answers.
    pub fn verdict(&self) -> String {
        self.status().and_then(|status| status["verdict"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits for a verdict. Returns the status.
    #[track_caller]
    pub fn wait_for(&self, verdict: &str) -> Value {
        wait::until(&format!("the verdict {verdict}, not {:?}", self.status()), || {
            self.status().filter(|status| status["verdict"] == verdict)
        })
    }

    /// The pid of the target that it watches.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let status = wait::until("a sidecar that watches", || self.status().filter(|s| s["pid"].is_i64()));
        status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid")
    }

    /// Incidents as the sidecar itself reports them, newest first: available even if its disk is
    /// not. Each is proved valid by the schema.
    #[track_caller]
    pub fn told_incidents(&self) -> Vec<Value> {
        let list = api::json(self.http, "/api/v1/incidents").unwrap_or_default();
        let ids = list["incidents"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str());
        let told = |id| api::json(self.http, &format!("/api/v1/incidents/{id}"));
        ids.filter_map(told).filter(|one| one["error"].is_null()).inspect(incident::assert_valid).collect()
    }

    /// Incidents in the evidence directory so far.
    #[track_caller]
    pub fn incidents(&self) -> Vec<Value> {
        incident::all(&self.evidence)
    }

    /// Waits for an incident in this state, and proves its recording by replay.
    #[track_caller]
    pub fn incident(&self, state: &str) -> Value {
        let found = wait::until(&format!("an incident that is {state}"), || {
            self.incidents().into_iter().find(|incident| incident["status"] == state)
        });
        replayed::prove(&self.config, &self.evidence, &found);
        found
    }

    /// Waits for an incident that has reached this step, and proves its recording by replay.
    #[track_caller]
    pub fn incident_with(&self, step: &str) -> Value {
        let found = wait::until(&format!("an incident with the step {step}"), || {
            self.incidents().into_iter().find(|incident| incident::step_at(incident, step).is_some())
        });
        replayed::prove(&self.config, &self.evidence, &found);
        found
    }
}
