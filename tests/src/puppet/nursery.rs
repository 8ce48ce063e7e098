//! Processes in a pid namespace of their own, in which the next process id can be chosen, so that
//! ids really are reused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Answer, order, serve};
use crate::api;
use crate::process::{Process, binary};

/// Gives the next process or thread that starts in the caller's pid namespace this id, if it is
/// free.
pub(super) fn next_pid(pid: i32) -> Result<(), String> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    std::fs::write(LAST, (pid - 1).to_string()).map_err(|error| format!("{LAST}: {error}"))
}

/// What the program `puppet nursery` does as the first process of its namespace: it starts and ends
/// children on order.
pub(super) fn run(port: SocketAddr) -> ! {
    let mut children: BTreeMap<i32, Child> = BTreeMap::new();
    serve(port, move |words| match *words {
        ["next", pid] => next_pid(pid.parse().map_err(|_| "no pid")?).map(|()| String::new()),
        ["start", program, ref arguments @ ..] => {
            let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
            let child = child.map_err(|error| format!("{program}: {error}"))?;
            let pid = i32::try_from(child.id()).map_err(|_| "no pid")?;
            children.insert(pid, child);
            Ok(format!("pid={pid}"))
        }
        ["signal", pid, name] => {
            let (child, pid) = child(&mut children, pid)?;
            // A child that has not been reaped keeps its number.
            if child.try_wait().ok().flatten().is_none() {
                let signal = match name {
                    "STOP" => Signal::STOP,
                    "CONT" => Signal::CONT,
                    "TERM" => Signal::TERM,
                    "KILL" => Signal::KILL,
                    _ => return Err(format!("{name} is no signal")),
                };
                kill_process(pid, signal).map_err(|error| error.to_string())?;
            }
            Ok(String::new())
        }
        // Once it has ended it is reaped here, and its number is free.
        ["alive", pid] => {
            let (child, _) = child(&mut children, pid)?;
            let alive = child.try_wait().map_err(|error| error.to_string())?.is_none();
            Ok(format!("alive={}", i32::from(alive)))
        }
        _ => Err(format!("{words:?} is no order")),
    })
}

fn child<'a>(children: &'a mut BTreeMap<i32, Child>, pid: &str) -> Result<(&'a mut Child, Pid), String> {
    let number = pid.parse().map_err(|_| "no pid")?;
    let child = children.get_mut(&number).ok_or("no child of that pid")?;
    Ok((child, Pid::from_raw(number).ok_or("no pid")?))
}

/// What the program `puppet stranger` does: it maps another process's file, and lives.
pub(super) fn map(file: &Path) -> ! {
    /// In case nobody ends it.
    const LIVES: std::time::Duration = std::time::Duration::from_secs(120);
    let file = std::fs::File::open(file).expect("the file is there");
    // SAFETY: a new mapping at an address of the kernel's choice, which nobody reads.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::SHARED,
            &file,
            0,
        )
    };
    mapped.expect("a mapping");
    println!("a stranger maps the file");
    std::thread::sleep(LIVES);
    std::process::exit(0)
}

/// A scenario's handle on the namespace. Everything in it ends with it.
#[derive(Debug)]
pub struct Nursery {
    /// The namespace's first process, seen from outside.
    pub process: Process,
    port: SocketAddr,
}

impl Nursery {
    /// Creates a namespace.
    ///
    /// # Errors
    /// The reason, if this machine allows no pid namespace, or no choice of the next id in it.
    #[track_caller]
    pub fn open() -> Result<Self, String> {
        let port = api::free_address();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        command.arg(binary("puppet")).args(["nursery", &port.to_string()]);
        let mut process = Process::start("nursery", command);
        let began = std::time::Instant::now();
        while std::net::TcpStream::connect_timeout(&port, crate::wait::GENEROUS).is_err() {
            if let Some(status) = process.ended() {
                return Err(format!("no pid namespace: {status}: {}", process.lines().join(" ")));
            }
            assert!(began.elapsed() < crate::wait::GENEROUS, "the nursery takes no orders");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let nursery = Self { process, port };
        // Before Linux 3.3, or without CONFIG_CHECKPOINT_RESTORE, the next id cannot be chosen.
        let chosen = std::fs::metadata("/proc/sys/kernel/ns_last_pid");
        chosen.map_err(|error| format!("/proc/sys/kernel/ns_last_pid: {error}"))?;
        Ok(nursery)
    }

    /// Starts a program in the namespace. Returns its pid there.
    #[track_caller]
    pub fn start(&self, program: &Path, arguments: &[&str]) -> i32 {
        let line = format!("start {} {}", program.display(), arguments.join(" "));
        self.order(line.trim_end()).number("pid")
    }

    /// Gives the next process that starts this pid.
    #[track_caller]
    pub fn next(&self, pid: i32) {
        self.order(&format!("next {pid}"));
    }

    /// Sends a signal to a child.
    #[track_caller]
    pub fn signal(&self, pid: i32, name: &str) {
        self.order(&format!("signal {pid} {name}"));
    }

    /// Whether a child lives. If it does not, this call reaps it, and its number is free.
    #[track_caller]
    pub fn is_alive(&self, pid: i32) -> bool {
        self.order(&format!("alive {pid}")).number("alive") == 1
    }

    #[track_caller]
    fn order(&self, line: &str) -> Answer {
        order(self.port, line)
    }
}
