//! What a failing row leaves: the folders of its scene, with configs, incidents and recordings, and
//! for each sidecar still running its status, its metrics and the recording of its last minute.
//!
//! It runs inside a panic hook, so nothing here may panic; what cannot be collected is left out.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::api;

/// Larger files are blocks and cores, not evidence.
const LARGEST: u64 = 64 << 20;
/// Most nested folders, in case of a link that leads back.
const DEEPEST: usize = 12;
/// A sidecar answers between two observations.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Copies everything in the folder `from`, and asks the sidecars configured there.
pub(super) fn keep(from: &Path, to: &Path) {
    if let Err(error) = copy(from, to, DEEPEST) {
        eprintln!("evidence in {}: {error}", to.display());
    }
    ask_sidecars(from, to, DEEPEST);
}

fn copy(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.filter_map(Result::ok) {
        let (Ok(kind), Ok(about)) = (entry.file_type(), entry.metadata()) else { continue };
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        // What cannot be copied must not prevent the rest.
        let copied = if kind.is_dir() && depth > 0 {
            copy(&path, &target, depth - 1)
        } else if kind.is_file() && about.len() <= LARGEST {
            fs::copy(&path, &target).map(drop)
        } else {
            Ok(())
        };
        if let Err(error) = copied {
            eprintln!("evidence {}: {error}", path.display());
        }
    }
    Ok(())
}

/// Asks every sidecar that answers at the address in its config.
fn ask_sidecars(from: &Path, to: &Path, depth: usize) {
    let Ok(entries) = fs::read_dir(from) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && depth > 0 {
            ask_sidecars(&path, &to.join(name), depth - 1);
        } else if let Some(name) = name.strip_suffix(".toml")
            && let Some(address) = listens(&path)
        {
            ask(address, name, to);
        }
    }
}

fn listens(config: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(config).ok()?;
    let http = text.split_once("[http]")?.1;
    http.lines().find_map(|line| line.strip_prefix("listen = ")?.trim_matches('"').parse().ok())
}

fn ask(address: SocketAddr, name: &str, to: &Path) {
    for (path, file) in [("/api/v1/status", "status.json"), ("/metrics", "metrics.txt")] {
        let Some(answer) = api::get(address, path) else { return };
        let _ = fs::write(to.join(format!("{name}.{file}")), answer.body);
    }
    let Some(watchdog) = std::env::current_exe().ok().map(|own| own.with_file_name("shard-watchdog")) else {
        return;
    };
    let mut command = Command::new(watchdog);
    command.args(["record", "--url", &format!("http://{address}"), "--out"]);
    command.arg(to.join(format!("{name}.recording"))).stdin(Stdio::null());
    let Ok(mut record) = command.spawn() else { return };
    let began = Instant::now();
    while began.elapsed() < ANSWERS_WITHIN {
        if !matches!(record.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = record.kill();
    let _ = record.wait();
}
