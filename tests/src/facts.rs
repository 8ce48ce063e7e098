//! What differs for a watchdog from one kernel to another, determined by asking the kernel itself:
//! one line each, `FACT name value`. The program `kernel-facts` prints them, as root in the root of
//! a unified hierarchy of cgroups that has the controllers `cpu` and `memory`; `docs/kernels.md` is
//! made from its lines.

mod calls;
mod cgroups;
mod counters;
mod waits;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

/// A task's folder in `/proc`.
fn task(pid: i32, tid: i32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("task").join(tid.to_string())
}

/// How long a state is given to come about. After that it is reported as it is.
const AT_MOST: Duration = Duration::from_secs(20);

fn fact(name: &str, value: impl Display) {
    println!("FACT {name} {value}");
}

/// The arguments of the program `kernel-facts`: none, or what a child process is to do.
pub fn run(arguments: &[String]) {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => tell(),
        ["child", what] => cgroups::be(what),
        _ => {
            eprintln!("kernel-facts: takes no arguments");
            std::process::exit(2);
        }
    }
}

fn tell() {
    calls::tell();
    waits::tell();
    counters::tell();
    cgroups::tell();
}
