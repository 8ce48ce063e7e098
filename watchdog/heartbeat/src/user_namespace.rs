//! What a file's owner means to a process in a user namespace, such as a container's.

use std::fs;
use std::path::Path;

/// Whether `uid`, the owner of a file, is the number that the kernel shows for every user without
/// one in this process's user namespace, usually the root of the machine. Nobody in the namespace
/// can become such a user. `proc_root` is the path of `/proc`.
///
/// False if `/proc` cannot be read, and in a namespace that maps all users: there this number is a
/// user like any other, `nobody`.
pub fn is_unmapped(uid: u32, proc_root: &Path) -> bool {
    // The map of a namespace that maps all users, from user_namespaces(7).
    const ALL: [&str; 3] = ["0", "0", "4294967295"];
    let overflow = fs::read_to_string(proc_root.join("sys/kernel/overflowuid"));
    let map = fs::read_to_string(proc_root.join("self/uid_map"));
    overflow.is_ok_and(|number| number.trim().parse() == Ok(uid))
        && map.is_ok_and(|map| !map.split_whitespace().eq(ALL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_user_is_nobody_where_all_users_have_numbers() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("sys/kernel")).unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        assert!(!is_unmapped(65_534, proc.path()), "nothing is told");
        fs::write(proc.path().join("sys/kernel/overflowuid"), "65534\n").unwrap();
        let told = |map| {
            fs::write(proc.path().join("self/uid_map"), map).unwrap();
            [65_534, 0, 1_000].map(|uid| is_unmapped(uid, proc.path()))
        };
        assert_eq!(told("         0          0 4294967295\n"), [false, false, false]);
        assert_eq!(told("         0     100000      65536\n"), [true, false, false]);
        assert_eq!(told("      1000       1000          1\n"), [true, false, false]);
    }
}
