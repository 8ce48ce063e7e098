//! How a program that is linked statically with glibc looks up users and hosts.
//!
//! Sources in `/etc/nsswitch.conf` other than `files` and `dns` are shared libraries, such as
//! Debian's `libnss_systemd.so.2`. A static program has no loader of its own for them: it would
//! load a second C library into the process, and die by SIGSEGV at the first name that is not in
//! `/etc/passwd`. `files` and `dns` are part of the program since glibc 2.34.

/// From now on this process looks up users in `/etc/passwd` only, and hosts in `/etc/hosts` and
/// then by `/etc/resolv.conf`, whatever `/etc/nsswitch.conf` says. Call this before any lookup. It
/// changes nothing if the program is not static.
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
            // copies what it stores. It takes a lock of its own.
            let refused = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
            debug_assert_eq!(refused, 0, "glibc knows these databases and services");
        }
    }
}
