#!/usr/bin/env bash
# Linux 6.18: a descriptor of /proc/PID/maps that was opened before the process executed another
# program reads as an empty file afterwards, without an error, and the ioctl PROCMAP_QUERY on it
# fails with ESRCH, although the process lives.
#
# One would expect that the file shows whatever the process maps now, as other files that were
# opened there do (stat and status that were opened then describe the new program), or that it still
# shows the old map, since it holds the old memory. A reader that takes an empty map for "does not
# map it" is right by luck; one that takes ESRCH for "has ended" is wrong. But such a descriptor can
# serve as a proof: as long as it answers, the process runs the program that it ran when it was
# opened.
#
# Seen on x86_64, Linux 6.18.44, 2026-11-29 (printed by this script):
#   before exec:  maps has lines, the query says 0, stat names python3
#   after exec:   maps has 0 bytes, the query says ESRCH, stat names sleep, the process lives
#   opened anew:  maps has lines
# Needs python3 and a kernel with PROCMAP_QUERY (6.11). Exits 1 when one of these is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/kept.py" <<'PY'
import ctypes, errno, fcntl, os, signal, struct, sys, time

# _IOWR('f', 17, struct procmap_query): 104 bytes.
PROCMAP_QUERY = 3 << 30 | 104 << 16 | ord("f") << 8 | 17
AT_OR_AFTER = 0x10


def query(fd):
    """The errno of asking for the first mapping; 0 if there is one."""
    ask = bytearray(104)
    struct.pack_into("QQQ", ask, 0, 104, AT_OR_AFTER, 0)
    try:
        fcntl.ioctl(fd, PROCMAP_QUERY, ask)
        return 0
    except OSError as error:
        return error.errno


def name(fd):
    return os.pread(fd, 4096, 0).split(b"(")[1].split(b")")[0].decode()


go = os.pipe()
child = os.fork()
if child == 0:
    os.read(go[0], 1)
    os.execvp("sleep", ["sleep", "60"])
try:
    maps = os.open(f"/proc/{child}/maps", os.O_RDONLY)
    stat = os.open(f"/proc/{child}/stat", os.O_RDONLY)
    before = (len(os.pread(maps, 4096, 0)) > 0, query(maps), name(stat))
    os.write(go[1], b"x")
    for _ in range(2000):
        if name(stat) == "sleep":
            break
        time.sleep(0.005)
    after = (len(os.pread(maps, 4096, 0)), query(maps), name(stat))
    lives = os.waitpid(child, os.WNOHANG) == (0, 0)
    with open(f"/proc/{child}/maps", "rb") as anew:
        again = len(anew.read()) > 0
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(f"before exec:  maps has {'lines' if before[0] else 'nothing'}, the query says {before[1]}, stat names {before[2]}")
told = errno.errorcode.get(after[1], "0")
print(f"after exec:   maps has {after[0]} bytes, the query says {told}, stat names {after[2]}, the process {'lives' if lives else 'is gone'}")
print(f"opened anew:  maps has {'lines' if again else 'nothing'}")
sys.exit(not (before[0] and before[1] == 0 and after == (0, errno.ESRCH, "sleep") and lives and again))
PY
if ! timeout 60 python3 "$work/kept.py"; then
    echo "changed: a kept descriptor of maps tells something else after an exec"
    exit 1
fi
echo "as described: a kept descriptor of maps is empty after an exec, and its query says ESRCH"
