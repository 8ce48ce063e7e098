//! The identity of this process and thread, in terms that a sidecar can check against `/proc`.

use std::fs;
use std::io;

/// Identity of a thread: id in the writer's pid namespace, start time in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Thread id.
    pub tid: u64,
    /// Start time, in clock ticks.
    pub start_time: u64,
}

/// Identity of the calling thread.
#[cfg(not(loom))]
pub(crate) fn current_thread() -> io::Result<Identity> {
    Ok(Identity { tid: current_tid(), start_time: start_time(&fs::read("/proc/thread-self/stat")?)? })
}

/// Id of the calling thread: one system call, which cannot fail and allocates nothing.
#[cfg(not(loom))]
pub(crate) fn current_tid() -> u64 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into()
}

/// Start time of this process, in clock ticks.
pub(crate) fn process_start_time() -> io::Result<u64> {
    start_time(&fs::read("/proc/self/stat")?)
}

/// The kernel's boot id, or zeroes where it is hidden.
pub(crate) fn boot_id() -> [u8; 16] {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().and_then(|text| uuid(&text)).unwrap_or([0; 16])
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> =
        text.trim().chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(pair[0] * 16 + pair[1]).ok()?;
    }
    Some(id)
}

/// Field 22 of a `stat` file. The name in field 2 may contain spaces and brackets, so fields are
/// counted from its last bracket.
fn start_time(stat: &[u8]) -> io::Result<u64> {
    const AFTER_NAME: usize = 22 - 3;
    let text = String::from_utf8_lossy(stat);
    text.rsplit_once(") ")
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(AFTER_NAME))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "stat has no start time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_in_the_name_does_not_shift_the_fields() {
        let stat = b"7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(start_time(stat).unwrap(), 4242);
        assert!(start_time(b"7 (a").is_err());
    }

    #[test]
    fn a_boot_id_is_read_in_the_order_it_is_printed_in() {
        let id = uuid("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!((id[0], id[1], id[15]), (0x00, 0x11, 0xff));
        assert_eq!(uuid("0011"), None);
        assert_eq!(uuid("zz112233-4455-6677-8899-aabbccddeeff"), None);
    }
}
