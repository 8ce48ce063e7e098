//! Where names of users and hosts are looked up by a program that is linked statically with glibc.
//!
//! What `/etc/nsswitch.conf` names beside `files` and `dns` is a shared library, such as Debian's
//! `libnss_systemd.so.2`. A static program has no loader of its own for it: it would bring a second
//! C library into the process, and ends there by SIGSEGV at the first name that is not in
//! `/etc/passwd`. `files` and `dns` are part of the program since glibc 2.34.

/// From now on this process looks users up in `/etc/passwd` alone, and hosts in `/etc/hosts` and
/// then by `/etc/resolv.conf`, whatever `/etc/nsswitch.conf` says. To be called before anything is
/// looked up. Where the program is not static, everything stays as the machine has it.
pub fn settle() {
    #[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
    {
        use std::ffi::{CStr, c_char, c_int};

        unsafe extern "C" {
            fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
        }
        const SOURCES: [(&CStr, &CStr); 3] =
            [(c"passwd", c"files"), (c"group", c"files"), (c"hosts", c"files dns")];
        for (database, services) in SOURCES {
            // SAFETY: both are strings of this program that end with a zero byte, and the C library
            // copies what it keeps. It takes a lock of its own.
            let refused = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
            debug_assert_eq!(refused, 0, "glibc knows these databases and services");
        }
    }
}
