//! Processes for which the kernel lacks a system call, or a container's profile forbids it. A
//! seccomp filter imitates that, which takes only two calls of `prctl` and no privilege.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The architecture values for the filter's first check, from `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets of the call's number and the architecture in `struct seccomp_data` of `linux/seccomp.h`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// Makes the given system call return `errno` in everything that `command` starts.
///
/// # Errors
/// Starting it fails where the kernel has no seccomp filters.
pub fn refuse(command: &mut Command, call: libc::c_long, errno: i32) {
    let number = u32::try_from(call).expect("the number of a call");
    let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("an errno");
    let set = move || {
        let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
        let equal = |what, no| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, no, what);
        let give = |what| step(libc::BPF_RET | libc::BPF_K, 0, 0, what);
        let mut filter = [
            load(ARCHITECTURE_AT),
            equal(ARCHITECTURE, 3),
            load(NUMBER_AT),
            equal(number, 1),
            give(answer),
            give(libc::SECCOMP_RET_ALLOW),
        ];
        let length = u16::try_from(filter.len()).unwrap_or(0);
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        // SAFETY: prctl reads the program and the filter that it points to, both of which outlive
        // the calls.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
        };
        if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec it makes two system calls on values on its own stack, and
    // allocates nothing.
    unsafe { command.pre_exec(set) };
}

fn step(code: u32, jump_if: u8, jump_else: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: jump_if, jf: jump_else, k: value }
}
