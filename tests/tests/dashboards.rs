//! The dashboards against real data: a cluster with faults, scraped by a real Prometheus, and every
//! query of every panel evaluated. A query without a result is a panel that an operator would find
//! empty.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::Process;
use shard_tests::prometheus::{self, Prometheus, Series};
use shard_tests::sidecar::Settings;
use shard_tests::wait;

/// Seconds between two points of a recorded range, as Grafana chooses for a short one.
const STEP: f64 = 1.0;
/// The scrape interval that the data source would be given, in seconds. Rate windows are four times
/// as long, and must hold one of the sidecar's readings of CPU totals, which come every 5 s.
const TIME_INTERVAL: f64 = 1.5;

/// One query of a dashboard.
struct Query {
    dashboard: String,
    panel: Value,
    title: String,
    mappings: Value,
    expr: String,
    instant: bool,
    coarse: bool,
}

#[test]
fn the_dashboards_pass_their_own_check() {
    let Some(python) = python() else {
        return prometheus::skip("the_dashboards_pass_their_own_check", "python3 is not installed");
    };
    let mut command = Command::new(python);
    command.arg(root().join("dashboards/check"));
    let mut check = Process::start("dashboards/check", command);
    let status = check.wait("the end of dashboards/check");
    assert!(status.success(), "{status}; its last lines follow");
}

/// How long they take for thousands of shards is a benchmark: `dashboards/bench`.
#[test]
fn the_queries_of_the_fleet_answer_for_each_of_many_shards() {
    const NAME: &str = "the_queries_of_the_fleet_answer_for_each_of_many_shards";
    if !Prometheus::installed_or_skip(NAME) {
        return;
    }
    let Some(python) = python() else { return prometheus::skip(NAME, "python3 is not installed") };
    let folder = tempfile::tempdir().expect("a folder");
    let figures = folder.path().join("figures.json");
    let mut command = Command::new(python);
    command.arg(root().join("dashboards/bench"));
    command.args(["--shards", "40", "--threads", "2", "--minutes", "10", "--times", "1", "--at-most", "120"]);
    command.arg("--json").arg(&figures).env("TMPDIR", folder.path());
    let mut bench = Process::start("dashboards/bench", command);
    let status = bench.wait("the end of dashboards/bench");
    assert!(status.success(), "{status}; its last lines follow");
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let panels = figures["panels"].as_array().unwrap();
    assert!(panels.len() > 20, "{figures}");
    for panel in panels {
        let series = panel["series"].as_u64().unwrap();
        let wide = ["Verdict of each shard A", "Now, shard by shard B", "Threads in trouble by shard A"];
        let least = if wide.contains(&panel["panel"].as_str().unwrap()) { 40 } else { 1 };
        assert!(series >= least, "{panel}");
    }
}

fn python() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|at| at.join("python3")).find(|at| at.is_file())
}

#[test]
fn no_panel_of_the_dashboards_is_empty() {
    if !Prometheus::installed_or_skip("no_panel_of_the_dashboards_is_empty") {
        return;
    }
    let cluster = Cluster::start(&Plan {
        // One kill each: the second fault of shard 0 is withheld, which the dashboards must also
        // show.
        settings: Settings { kills: 1, ..Settings::default() }.channel_rule(
            "commands",
            "max_age = \"10s\"",
            "report",
        ),
        metrics: true,
        ..Plan::default()
    });
    let sidecars: Vec<_> = cluster.shards.iter().map(|shard| shard.sidecar.http).collect();
    let metrics = cluster.shards.iter().map(|shard| shard.metrics).chain([cluster.coordinator().metrics]);
    let executors: Vec<_> = metrics.flatten().collect();
    assert_eq!(executors.len(), 3);
    let prometheus = Prometheus::start(cluster.folder(), &sidecars, &executors);
    // As of a while ago, here and at the end, so that it is on the recorded grid too.
    scraped(&prometheus, "both shards watched", "count(shard_process_cpu_seconds_total offset 6s) == 2");
    let from = prometheus::now() - 6.0;

    cluster.inject(0, &["hook off", "arm panic after 3"]);
    recovered(&prometheus, "0", "thread_gone");
    cluster.inject(1, &["arm spin after 3"]);
    recovered(&prometheus, "1", "stalled");
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    scraped(
        &prometheus,
        "a kill withheld",
        r#"shard_watchdog_kills_withheld_total{reason="budget"} offset 6s == 1"#,
    );
    scraped(&prometheus, "totals of the target", r#"count(shard_process_cpu_seconds_total) == 2"#);
    // The coordinator kept running throughout.
    assert!(cluster.verified() > 0);

    let until = prometheus::now();
    let range = until - from;
    let mut empty = Vec::new();
    let mut recorded: Vec<(String, Vec<Value>)> = Vec::new();
    for query in queries() {
        let expr = substituted(&query, range);
        let answer = if query.instant {
            prometheus.at(&expr, until)
        } else {
            prometheus.range(&expr, from, until, STEP)
        };
        let series =
            answer.unwrap_or_else(|error| panic!("{}: {}: {error}\n{expr}", query.dashboard, query.title));
        if !series.iter().any(Series::tells) {
            empty.push(format!("{}: {}\n{expr}", query.dashboard, query.title));
        }
        told_right(&query, &series);
        let entry = json!({"panel": query.panel, "expr": query.expr, "series": series.iter().map(dumped).collect::<Vec<_>>()});
        match recorded.last_mut().filter(|(dashboard, _)| *dashboard == query.dashboard) {
            Some((_, entries)) => entries.push(entry),
            None => recorded.push((query.dashboard, vec![entry])),
        }
    }
    for (dashboard, entries) in &recorded {
        keep(dashboard, &json!({"from": from, "until": until, "step": STEP, "queries": entries}));
    }
    assert!(empty.is_empty(), "{} queries give nothing:\n{}", empty.len(), empty.join("\n\n"));
    told_by_name(&prometheus);
}

/// For two panels the result is known: the meaning of the codes, and incidents that count although
/// each was the first of its series.
#[track_caller]
fn told_right(query: &Query, series: &[Series]) {
    let last = |wanted: &dyn Fn(&Value) -> bool| {
        let found = series.iter().find(|series| wanted(&series.labels));
        found.and_then(|series| series.samples.last()).map(|(_, value)| *value)
    };
    match (query.dashboard.as_str(), query.title.as_str()) {
        ("shard", "Verdict") => {
            let code = last(&|labels| labels["shard"] == "0").unwrap();
            assert_eq!(query.mappings[0]["options"][code.to_string()]["text"], "condemned", "{code}");
        }
        ("shard", "Detection time") => {
            let incidents = last(&|labels| labels["le"] == "+Inf").unwrap();
            assert!((incidents - 3.0).abs() < 0.01, "two kills and a withheld one, not {incidents}");
        }
        _ => {}
    }
}

/// A new verdict or health that the dashboards do not name would be drawn as if the sidecar were
/// silent.
#[track_caller]
fn told_by_name(prometheus: &Prometheus) {
    let everything: String = queries().map(|query| query.expr).collect();
    for label in ["verdict", "health"] {
        let values = prometheus.values(label);
        assert!(!values.is_empty());
        for value in values {
            assert!(
                everything.contains(&format!("{label}=\"{value}\"")),
                "no panel names the {label} {value}"
            );
        }
    }
}

#[track_caller]
fn recovered(prometheus: &Prometheus, shard: &str, reason: &str) {
    scraped(
        prometheus,
        &format!("shard {shard} recovered from {reason}"),
        &format!(
            r#"shard_watchdog_kills_total{{shard="{shard}", reason="{reason}"}} == 1
               and on (shard) shard_watchdog_restart_seconds_count == 1
               and on (shard) (shard_watchdog_verdict{{verdict="healthy"}} == 1)
               and on (shard) shard_process_start_time_seconds"#
        ),
    );
}

#[track_caller]
fn scraped(prometheus: &Prometheus, what: &str, expr: &str) {
    wait::until(&format!("{what}, as Prometheus sees it"), || {
        (!prometheus.now(expr).is_empty()).then_some(())
    });
}

/// Every query of every panel and annotation.
fn queries() -> impl Iterator<Item = Query> {
    let folder = root().join("dashboards/grafana");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files.into_iter().flat_map(|file| of_dashboard(&file))
}

fn of_dashboard(file: &Path) -> Vec<Query> {
    let board: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let name = file.file_stem().unwrap().to_string_lossy().into_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    for row in list(&board["panels"]) {
        for panel in std::iter::once(row.clone()).chain(list(&row["panels"])) {
            for target in list(&panel["targets"]) {
                queries.push(Query {
                    dashboard: name.clone(),
                    panel: panel["id"].clone(),
                    title: panel["title"].as_str().unwrap().to_owned(),
                    mappings: panel["fieldConfig"]["defaults"]["mappings"].clone(),
                    expr: target["expr"].as_str().unwrap().to_owned(),
                    instant: target["instant"] == true,
                    coarse: panel["interval"].is_string(),
                });
            }
        }
    }
    for annotation in list(&board["annotations"]["list"]) {
        if let Some(expr) = annotation["target"]["expr"].as_str() {
            queries.push(Query {
                dashboard: name.clone(),
                panel: annotation["name"].clone(),
                title: format!("annotation {}", annotation["name"]),
                mappings: Value::Null,
                expr: expr.to_owned(),
                instant: false,
                // Drawn over windows of a minute and more, whatever its interval.
                coarse: false,
            });
        }
    }
    assert!(!queries.is_empty(), "{}", file.display());
    queries
}

/// As Grafana substitutes its variables with everything selected; longer names first, since one is
/// a prefix of another.
fn substituted(query: &Query, range: f64) -> String {
    let range = range.ceil();
    // Four scrapes, or a step and a scrape, whichever is longer: Grafana's own rule. A panel with a
    // long step of its own gets windows hardly longer than that step.
    let rate = if query.coarse { STEP * 1.25 } else { f64::max(STEP + TIME_INTERVAL, 4.0 * TIME_INTERVAL) };
    let expr = query
        .expr
        .replace("$__rate_interval", &format!("{}ms", rate * 1e3))
        .replace("$__range_s", &range.to_string())
        .replace("$__range", &format!("{range}s"))
        .replace("$__interval", &format!("{STEP}s"))
        .replace("$shard", ".+")
        .replace("$thread", ".+");
    assert!(!expr.contains('$'), "a variable that the test does not know: {expr}");
    expr
}

fn dumped(series: &Series) -> Value {
    // JSON has no NaN, so such samples become gaps.
    let samples: Vec<_> = series.samples.iter().filter(|(_, value)| value.is_finite()).collect();
    json!({"labels": series.labels, "samples": samples})
}

/// Stores the recording for `dashboards/render`.
fn keep(dashboard: &str, recording: &Value) {
    let folder = root().join("target/dashboards");
    // The recording is for people; a read-only target folder must not fail the test.
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("{dashboard}.json")), recording.to_string());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
