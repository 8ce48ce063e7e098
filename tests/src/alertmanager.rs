//! The path from a rule to a person: a real Prometheus that evaluates this repository's rules, a
//! real Alertmanager with its routes and inhibitions, and a receiver that records what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;
use crate::{api, skip, wait};

/// Where Debian's package `prometheus-alertmanager` installs it.
const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";
/// Where Debian's package `prometheus` installs it.
const PROMETHEUS: &str = "/usr/bin/prometheus";
/// The receiver address in this repository's routes.
const PLACEHOLDER: &str = "127.0.0.1:9099";
/// The routes wait minutes before the next message of a group; a scenario cannot.
const GROUP_INTERVAL: (&str, &str) = ("group_interval: 5m", "group_interval: 1s");

/// Whether both programs are installed. If not, `test` is recorded as skipped; in CI that is a
/// failure.
#[track_caller]
pub fn installed_or_skip(test: &str) -> bool {
    let missing: Vec<_> =
        [PROMETHEUS, ALERTMANAGER].into_iter().filter(|path| !Path::new(path).is_file()).collect();
    if missing.is_empty() {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "CI needs {missing:?}: .ci/run installs them");
    skip::note(
        test,
        &format!("{missing:?} are not installed (apt-get install prometheus prometheus-alertmanager)"),
    );
    false
}

/// One message from Alertmanager.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The receiver: `page`, `ticket` or `info`.
    pub receiver: String,
    /// Status of the group as a whole: `firing` or `resolved`.
    pub status: String,
    /// The shard that the group is about.
    pub shard: String,
    /// The group's alerts: name and status of each.
    pub alerts: Vec<(String, String)>,
    /// The whole message as received.
    pub body: Value,
}

impl Notice {
    fn of(path: &str, body: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        Self {
            receiver: path.trim_start_matches('/').to_owned(),
            status: text(&body["status"]),
            shard: text(&body["groupLabels"]["shard"]),
            alerts: alerts
                .iter()
                .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["status"])))
                .collect(),
            body,
        }
    }
}

/// Both programs and the receiver. They run until this is dropped.
#[derive(Debug)]
pub struct Alerting {
    _prometheus: Process,
    prometheus: SocketAddr,
    _alertmanager: Process,
    alertmanager: SocketAddr,
    receiver: Receiver,
}

impl Alerting {
    /// Starts all three in `folder`, with Prometheus scraping `/metrics` of every target, and waits
    /// until they are ready.
    #[track_caller]
    pub fn start(folder: &Path, targets: &[SocketAddr]) -> Self {
        let receiver = Receiver::start();
        let (_alertmanager, alertmanager) = start_alertmanager(folder, receiver.address);
        let (_prometheus, prometheus) = start_prometheus(folder, targets, alertmanager);
        Self { _prometheus, prometheus, _alertmanager, alertmanager, receiver }
    }

    /// All messages received so far, in order.
    pub fn notices(&self) -> Vec<Notice> {
        self.receiver.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a message to `receiver` about `shard` with this status.
    #[track_caller]
    pub fn notice(&self, bound: Duration, receiver: &str, shard: &str, status: &str) -> Notice {
        let wanted = |one: &Notice| one.receiver == receiver && one.shard == shard && one.status == status;
        wait::within(bound, &format!("a {receiver} about shard {shard} that is {status}"), || {
            self.notices().into_iter().find(wanted)
        })
    }

    /// Rules that Prometheus could not evaluate over its scraped data, each with its error.
    #[track_caller]
    pub fn broken_rules(&self) -> Vec<String> {
        let answer = api::json(self.prometheus, "/api/v1/rules").expect("Prometheus tells of its rules");
        let groups = answer["data"]["groups"].as_array().expect("groups of rules");
        let rules: Vec<_> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        assert!(!rules.is_empty(), "{answer:#}");
        let broken = rules.into_iter().filter(|rule| rule["health"] != "ok");
        broken.map(|rule| format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"])).collect()
    }

    /// Whether Alertmanager inhibits this alert of `shard` because of another one.
    pub fn inhibits(&self, alert: &str, shard: &str) -> bool {
        let alerts = api::json(self.alertmanager, "/api/v2/alerts").unwrap_or_default();
        alerts.as_array().into_iter().flatten().any(|one| {
            one["labels"]["alertname"] == alert
                && one["labels"]["shard"] == shard
                && one["status"]["inhibitedBy"].as_array().is_some_and(|by| !by.is_empty())
        })
    }
}

#[track_caller]
fn start_alertmanager(folder: &Path, receiver: SocketAddr) -> (Process, SocketAddr) {
    let routes = std::fs::read_to_string(root().join("alerts/alertmanager.yml")).expect("the routes");
    let mut text = routes;
    for (from, to) in [(PLACEHOLDER, receiver.to_string().as_str()), GROUP_INTERVAL] {
        assert!(
            text.contains(from),
            "alerts/alertmanager.yml says '{from}' no more; the scenarios replace it"
        );
        text = text.replace(from, to);
    }
    let config = folder.join("alertmanager.yml");
    std::fs::write(&config, text).expect("the config can be written");
    let address = api::free_address();
    let mut command = Command::new(ALERTMANAGER);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
        .arg(format!("--web.listen-address={address}"))
        // It has no peers and opens no further port.
        .arg("--cluster.listen-address=")
        .arg("--log.level=warn");
    (ready("alertmanager", command, address), address)
}

#[track_caller]
fn start_prometheus(
    folder: &Path,
    targets: &[SocketAddr],
    alertmanager: SocketAddr,
) -> (Process, SocketAddr) {
    let rules = root().join("alerts/shard-watchdog.rules.yml");
    let rules = rules.canonicalize().expect("the rules");
    let targets: Vec<_> = targets.iter().map(SocketAddr::to_string).collect();
    // Short compared with the seconds that a shard is down. The rules' own times stay unchanged.
    let text = format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
         rule_files: [{rules:?}]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [{:?}] }}] }}] }}\n\
         scrape_configs:\n\
         - job_name: shard-watchdog\n\
         \x20 static_configs: [{{ targets: {targets:?} }}]\n",
        alertmanager.to_string(),
    );
    let config = folder.join("alerting.yml");
    std::fs::write(&config, text).expect("the config can be written");
    let address = api::free_address();
    let mut command = Command::new(PROMETHEUS);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("alerting.tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=warn");
    (ready("prometheus", command, address), address)
}

/// Starts one of the two programs and waits until it reports that it is ready.
#[track_caller]
fn ready(name: &str, command: Command, address: SocketAddr) -> Process {
    let mut process = Process::start(name, command);
    wait::until(&format!("{name} that is ready"), || {
        if let Some(status) = process.ended() {
            panic!("{name} ended with {status}: {}", process.lines().join("\n"));
        }
        api::get(address, "/-/ready").filter(|answer| answer.code == 200)
    });
    process
}

/// Pager, tracker and log in one: a web server that records what it is sent.
#[derive(Debug)]
struct Receiver {
    address: SocketAddr,
    notices: Arc<Mutex<Vec<Notice>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    #[track_caller]
    fn start() -> Self {
        let address = api::free_address();
        let listener = TcpListener::bind(address).expect("a reserved port is free");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let (notices, stop) = (Arc::<Mutex<Vec<Notice>>>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (notices, stop) = (Arc::clone(&notices), Arc::clone(&stop));
            std::thread::spawn(move || receive(&listener, &notices, &stop))
        };
        Self { address, notices, stop, thread: Some(thread) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread checks for a stop every few milliseconds, and no request holds it longer
            // than its time limit.
            let _ = thread.join();
        }
        if std::thread::panicking() {
            for notice in self.notices.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                eprintln!("--- {} about shard {}: {:?}", notice.receiver, notice.shard, notice.alerts);
            }
        }
    }
}

fn receive(listener: &TcpListener, notices: &Mutex<Vec<Notice>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // A truncated request was not delivered: Alertmanager sends it again.
        match listener.accept().map(|(stream, _)| request(&stream)) {
            Ok(Some(notice)) => notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice),
            Ok(None) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Reads one request and answers it. The next one comes on its own connection.
fn request(stream: &TcpStream) -> Option<Notice> {
    /// Only Alertmanager sends requests, from the same machine.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// The largest message in a scenario is a few kilobytes.
    const LARGEST: usize = 1 << 20;
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut from = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        from.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok().filter(|length| *length <= LARGEST)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).ok()?;
    let mut answer = stream;
    answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some(Notice::of(&path, body))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
