//! The machine a benchmark ran on: figures mean nothing without it.

use serde_json::{Value, json};

/// Cores, CPU model, kernel, and the load of the last minute (processes that run or want to).
pub fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| {
        line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model.to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok());
    json!({
        "cores": cores,
        "cpu": model,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average_1m": load,
    })
}

/// Number of processes on the machine now: a walk through all of `/proc` pays for each.
pub fn processes() -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc can be listed");
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_str().is_some_and(is_pid)).count()
}
