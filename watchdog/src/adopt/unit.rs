//! The systemd unit that a process is in, by its cgroup.

use crate::config::unit::SUFFIXES;
use crate::probe::task::TaskDir;

use super::misfit::Misfit;

/// At most this many bytes of `/proc/PID/cgroup` are read.
const LIMIT: u64 = 128 << 10;

/// Fails if the process is not in the unit of that name.
pub(super) fn stands_in(dir: &TaskDir, wanted: &str) -> Result<(), Misfit> {
    let lines: Vec<Vec<u8>> = dir.lines("cgroup", LIMIT).map(Iterator::collect).unwrap_or_default();
    let paths: Vec<_> = lines.iter().filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2)).collect();
    if paths.iter().any(|path| path.split(|byte| *byte == b'/').any(|part| part == wanted.as_bytes())) {
        return Ok(());
    }
    let found = match paths.iter().find_map(|path| innermost(path)) {
        Some(unit) => format!("the unit {unit}"),
        // A path in the process's own cgroup namespace shows no unit outside it.
        None => match paths.iter().max_by_key(|path| path.len()) {
            Some(path) => format!("no unit (cgroup {})", String::from_utf8_lossy(path)),
            None => "no unit that the sidecar can see (/proc/PID/cgroup says nothing)".to_owned(),
        },
    };
    Err(Misfit::OtherUnit { found, wanted: wanted.to_owned() })
}

/// The innermost unit of a path: a service rather than the slice around it.
fn innermost(path: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(path);
    let unit = |part: &&str| SUFFIXES.iter().any(|suffix| part.ends_with(suffix));
    text.rsplit('/').find(unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a process with this `cgroup` file is not in `shard-0.service`; `None` if it is.
    fn told(cgroup: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup"), cgroup).unwrap();
        let dir = TaskDir::open(folder.path()).unwrap();
        stands_in(&dir, "shard-0.service").err().map(|why| why.to_string())
    }

    #[test]
    fn a_refusal_names_the_unit_that_was_found() {
        assert_eq!(told(b"0::/system.slice/shard-0.service\n"), None);
        assert_eq!(told(b"0::/system.slice/shard-0.service/payload\n"), None, "a cgroup below it");
        assert_eq!(told(b"9:misc:/\xff\xd1\n1:name=systemd:/system.slice/shard-0.service\n0::/\n"), None);
        let other = told(b"0::/system.slice/shard-1.service\n").unwrap();
        assert_eq!(
            other,
            "which stands in the unit shard-1.service, and systemd_unit asks for shard-0.service"
        );
        let session = told(b"0::/user.slice/user-0.slice/session-3.scope\n").unwrap();
        assert!(session.contains("session-3.scope"), "{session}");
        let namespaced = told(b"0::/\n").unwrap();
        assert!(namespaced.contains("no unit (cgroup /)"), "{namespaced}");
        assert!(told(b"").unwrap().contains("says nothing"));
        assert!(told(b"0::/shard-0.service.d\n").is_some(), "a longer name");
    }
}
