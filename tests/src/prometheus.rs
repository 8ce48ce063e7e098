//! A real Prometheus on a loopback port, with a folder of its own, that scrapes the targets a
//! scenario names.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::process::Process;
use crate::{api, wait};

/// Where Debian's package `prometheus` installs it.
const BINARY: &str = "/usr/bin/prometheus";

/// One series of a query result.
#[derive(Clone, Debug)]
pub struct Series {
    /// The labels, as Prometheus returns them.
    pub labels: Value,
    /// The samples: seconds since 1970, value.
    pub samples: Vec<(f64, f64)>,
}

impl Series {
    /// Whether it contains any number: quantiles of nothing are `NaN`.
    pub fn tells(&self) -> bool {
        self.samples.iter().any(|(_, value)| value.is_finite())
    }
}

/// A Prometheus that runs until it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// Whether Prometheus is installed. If not, `test` is recorded as skipped; in CI it fails.
    #[track_caller]
    pub fn installed_or_skip(test: &str) -> bool {
        let there = Path::new(BINARY).is_file();
        if !there {
            skip(test, &format!("{BINARY} is not installed (apt-get install prometheus)"));
        }
        there
    }

    /// Starts one in `folder` that scrapes `/metrics` of every sidecar and executor, and waits
    /// until it is ready.
    #[track_caller]
    pub fn start(folder: &Path, sidecars: &[SocketAddr], executors: &[SocketAddr]) -> Self {
        let mut text = String::new();
        // Short compared with every incident, so that each of its steps is recorded; the cost of a
        // scrape is not measured here.
        writeln!(text, "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms }}").expect("a string");
        writeln!(text, "scrape_configs:").expect("a string");
        for (job, targets) in [("shard-watchdog", sidecars), ("shard-executor", executors)] {
            let names: Vec<_> = targets.iter().map(SocketAddr::to_string).collect();
            writeln!(text, "- job_name: {job}").expect("a string");
            writeln!(text, "  static_configs: [{{ targets: {names:?} }}]").expect("a string");
        }
        Self::start_with(folder, &text)
    }

    /// Starts one in `folder` with this config, and waits until it is ready.
    #[track_caller]
    pub fn start_with(folder: &Path, config: &str) -> Self {
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).expect("the config can be written");
        let address = api::free_address();
        let mut command = Command::new(BINARY);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn");
        let mut process = Process::start("prometheus", command);
        wait::until("a Prometheus that is ready", || {
            if let Some(status) = process.ended() {
                panic!("prometheus ended with {status}: {}", process.lines().join("\n"));
            }
            api::get(address, "/-/ready").filter(|answer| answer.code == 200)
        });
        Self { process, address }
    }

    /// Pid of Prometheus.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The result of `expr` at one moment, or the message with which the query was refused.
    ///
    /// # Errors
    /// If Prometheus refuses the query or does not answer.
    pub fn at(&self, expr: &str, at: f64) -> Result<Vec<Series>, String> {
        self.ask(&format!("/api/v1/query?query={}&time={at:.3}", encode(expr)))
    }

    /// The result of `expr` now, for polling: empty while there is none or the query is refused.
    pub fn now(&self, expr: &str) -> Vec<Series> {
        self.at(expr, now()).unwrap_or_default()
    }

    /// The results of `expr` from `from` until `until`, every `step` seconds.
    ///
    /// # Errors
    /// If Prometheus refuses the query or does not answer.
    pub fn range(&self, expr: &str, from: f64, until: f64, step: f64) -> Result<Vec<Series>, String> {
        let query = encode(expr);
        self.ask(&format!("/api/v1/query_range?query={query}&start={from:.3}&end={until:.3}&step={step}"))
    }

    /// Every value of a label.
    pub fn values(&self, label: &str) -> Vec<String> {
        let answer = api::json(self.address, &format!("/api/v1/label/{label}/values")).unwrap_or_default();
        let values = answer["data"].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    fn ask(&self, path: &str) -> Result<Vec<Series>, String> {
        let answer = api::json(self.address, path).ok_or_else(|| "no answer".to_owned())?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        Ok(result.iter().map(series).collect())
    }
}

fn series(result: &Value) -> Series {
    let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    let many = result["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = result.get("value");
    Series { labels: result["metric"].clone(), samples: many.iter().chain(one).filter_map(sample).collect() }
}

/// Seconds since 1970, the time format of Prometheus.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Records by name a test that could not run: on stderr, and as a file in `target/skipped` because
/// a runner hides what a passing test prints. CI has everything, so there it fails.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "CI runs {test}: {why}");
    eprintln!("skipped: {test}: {why}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/skipped");
    // The record is for people; a read-only target folder must not fail a test.
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(test), format!("{why}\n"));
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
