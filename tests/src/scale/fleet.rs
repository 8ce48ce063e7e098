//! A fleet as Prometheus sees it: the pages of one real shard and its sidecar, served to a real
//! Prometheus as those of many.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::{Blocks, Cluster, Plan};
use crate::prometheus::Prometheus;
use crate::sidecar::Settings;
use crate::{api, wait};

/// How long a real page is served before it is fetched again.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Scrapes after which memory is measured: enough for several garbage collections.
const SCRAPES: u32 = 5;

/// The size of one page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Number of series.
    pub series: usize,
    /// Number of metrics, that is of distinct series names.
    pub metrics: usize,
    /// Size in bytes.
    pub bytes: usize,
}

impl Page {
    fn of(text: &str) -> Self {
        let samples = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let names: BTreeSet<_> =
            samples().map(|line| line.split(['{', ' ']).next().unwrap_or_default()).collect();
        Self { series: samples().count(), metrics: names.len(), bytes: text.len() }
    }
}

/// One real shard that runs blocks, with its sidecar.
#[derive(Debug)]
pub struct Model {
    cluster: Cluster,
}

impl Model {
    /// Starts the shard, and waits until it works.
    #[track_caller]
    pub fn start() -> Self {
        let cluster = Cluster::start(&Plan {
            shards: 1,
            settings: Settings::default(),
            metrics: true,
            blocks: Blocks::Generated { blocks: 20, transactions: 50 },
            quiet_output: true,
            ..Plan::default()
        });
        cluster.verified_after(0);
        Self { cluster }
    }

    /// The addresses where the sidecar and the executor serve their pages.
    fn addresses(&self) -> [SocketAddr; 2] {
        let shard = &self.cluster.shards[0];
        [shard.sidecar.http, shard.metrics.expect("the plan says so")]
    }

    /// The pages of the sidecar and of the executor.
    #[track_caller]
    pub fn pages(&self) -> [Page; 2] {
        self.addresses().map(|address| {
            Page::of(
                &wait::until("a page", || api::get(address, "/metrics").filter(|page| page.code == 200)).body,
            )
        })
    }
}

/// The resources that Prometheus uses for that many shards.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Series in its head.
    pub series: f64,
    /// Samples per second.
    pub samples_per_second: f64,
    /// Resident memory, MiB.
    pub rss_mib: f64,
    /// CPU time as a share of one core, percent.
    pub cpu_percent_of_core: f64,
}

/// Has a Prometheus scrape `shards` shards for some rounds, each target every `every` seconds.
#[track_caller]
pub fn scrape(model: &Model, folder: &Path, shards: usize, every: u32) -> Taken {
    let server = serve(model.addresses());
    let prometheus = Prometheus::start_with(folder, &config(server, shards, every));
    let began = Instant::now();
    let patience = Duration::from_secs(u64::from(every * SCRAPES) * 3);
    let sum = |expr: &str| {
        let series = prometheus.now(expr);
        series.iter().flat_map(|one| &one.samples).map(|(_, value)| value).sum::<f64>()
    };
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let all = (shards * 2) as f64;
    wait::within(patience, "every shard to be scraped", || (sum("sum(up)") >= all).then_some(()));
    let rounds = Duration::from_secs(u64::from(every * SCRAPES));
    std::thread::sleep(rounds.saturating_sub(began.elapsed()));
    assert!(sum("sum(up)") >= all, "a target was not scraped in time: this machine is too slow for so many");
    let used = || crate::footprint::cpu_time(prometheus.pid());
    let (cpu, at) = (used(), Instant::now());
    std::thread::sleep(Duration::from_secs(u64::from(every)));
    let cpu = (used() - cpu).as_secs_f64() / at.elapsed().as_secs_f64() * 100.0;
    Taken {
        series: sum("count({job=~\"shard-.*\"})"),
        samples_per_second: sum("sum(scrape_samples_scraped)") / f64::from(every),
        rss_mib: crate::footprint::Size::of(prometheus.pid()).rss_mib,
        cpu_percent_of_core: cpu,
    }
}

/// Lists every shard twice: its sidecar and its executor.
fn config(server: SocketAddr, shards: usize, every: u32) -> String {
    let mut text = format!("global: {{ scrape_interval: {every}s }}\nscrape_configs:\n");
    for (job, page) in [("shard-watchdog", 0), ("shard-executor", 1)] {
        let _ = writeln!(text, "- job_name: {job}\n  static_configs:");
        for shard in 0..shards {
            let _ = writeln!(
                text,
                "  - {{ targets: [\"{server}\"], labels: {{ __metrics_path__: \"/{page}/{shard}\", \
                 instance: \"shard-{shard}\" }} }}"
            );
        }
    }
    text
}

/// Serves each page for every shard, with its own shard label, until the process ends.
#[track_caller]
fn serve(real: [SocketAddr; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let pages = Arc::new(real.map(|address| Mutex::new(Kept { address, text: String::new(), at: None })));
    for _ in 0..4 {
        let (listener, pages) = (listener.try_clone().expect("a second handle"), Arc::clone(&pages));
        let answer = move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                // A client that disconnects midway gets no answer.
                let _ = answer(stream, &pages);
            }
        };
        std::thread::Builder::new().name("fleet".to_owned()).spawn(answer).expect("a thread");
    }
    address
}

/// A page, and when it was fetched.
struct Kept {
    address: SocketAddr,
    text: String,
    at: Option<Instant>,
}

fn answer(mut stream: TcpStream, pages: &[Mutex<Kept>; 2]) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = [0; 2_048];
    let read = stream.read(&mut request).ok()?;
    let request = String::from_utf8_lossy(request.get(..read)?).into_owned();
    let mut path = request.split(' ').nth(1)?.trim_start_matches('/').split('/');
    let (page, shard) = (path.next()?.parse::<usize>().ok()?, path.next()?);
    let text = {
        let mut kept = pages.get(page)?.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.at.is_none_or(|at| at.elapsed() > FRESH_FOR) {
            kept.text = api::get(kept.address, "/metrics")?.body;
            kept.at = Some(Instant::now());
        }
        kept.text.replace("shard=\"0\"", &format!("shard=\"{shard}\""))
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len()).ok()
}
