//! Waits for what another process owes and never gives: a page, a file system, a decision on a
//! system call. Each returns only if the kernel refuses it.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A page of memory.
const PAGE: usize = 4096;

/// `struct uffdio_api` of `linux/userfaultfd.h`.
#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// Touches a page whose faults go to a descriptor that nobody reads.
pub(super) fn page() {
    /// `UFFD_USER_MODE_ONLY`: also for those who may not handle the kernel's own faults.
    const USER_MODE_ONLY: libc::c_int = 1;
    /// `UFFD_API`.
    const API: u64 = 0xaa;
    /// `UFFDIO_API` and `UFFDIO_REGISTER`.
    const SET_API: libc::c_ulong = 0xc018_aa3f;
    const REGISTER: libc::c_ulong = 0xc020_aa00;
    let mut api = UffdioApi { api: API, features: 0, ioctls: 0 };
    // SAFETY: the calls take numbers and structures that outlive them, of the sizes that the
    // requests contain. The mapping is new and belongs to nobody else; its page is read as bytes.
    unsafe {
        let faults = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY);
        let Ok(faults) = i32::try_from(faults) else { return };
        if faults < 0 || libc::ioctl(faults, SET_API, &raw mut api) != 0 {
            return;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let place = libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, flags, -1, 0);
        if place == libc::MAP_FAILED {
            return;
        }
        let mut range = UffdioRegister { start: place as u64, len: PAGE as u64, mode: 1, ioctls: 0 };
        if libc::ioctl(faults, REGISTER, &raw mut range) == 0 {
            std::hint::black_box(place.cast::<u8>().read_volatile());
        }
    }
}

/// Asks a file system that was mounted and is never served, in a mount namespace of this thread.
pub(super) fn file_system(near: &Path) {
    let folder = near.with_extension("served");
    if std::fs::create_dir_all(&folder).is_err() {
        return;
    }
    let Ok(device) = OpenOptions::new().read(true).write(true).open("/dev/fuse") else { return };
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let (Ok(point), Ok(options)) = (CString::new(folder.as_os_str().as_bytes()), CString::new(options))
    else {
        return;
    };
    // SAFETY: numbers, and texts that end with a zero and outlive the calls. Mounts of the new
    // namespace go with this thread.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) == 0
            && libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(
                c"puppet".as_ptr(),
                point.as_ptr(),
                c"fuse".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV,
                options.as_ptr().cast(),
            ) == 0
    };
    if mounted {
        let _ = std::fs::metadata(folder.join("file"));
    }
}

/// Makes a system call on which another process would have to decide.
pub(super) fn decision() {
    /// `SECCOMP_SET_MODE_FILTER`, `SECCOMP_FILTER_FLAG_NEW_LISTENER`, and what the filter returns:
    /// `SECCOMP_RET_USER_NOTIF` for the call, `SECCOMP_RET_ALLOW` for all others.
    const SET_FILTER: libc::c_ulong = 1;
    const NEW_LISTENER: libc::c_ulong = 8;
    const NOTIFY: u32 = 0x7fc0_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let Ok(call) = u32::try_from(libc::SYS_getppid) else { return };
    let step = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // Loads the number of the call, compares it, returns one or the other.
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, call),
        step(0x06, 0, 0, NOTIFY),
        step(0x06, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its four instructions outlive the call, which copies them. It binds
    // this thread alone.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_seccomp, SET_FILTER, NEW_LISTENER, &raw const program) >= 0
        {
            libc::syscall(libc::SYS_getppid);
        }
    }
}
