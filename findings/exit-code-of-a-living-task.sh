#!/usr/bin/env bash
# Linux 6.18: the last field of /proc/PID/stat, the exit code, is not zero for a living task that
# its tracer has just stopped. It holds the kernel's report of the stop to the tracer, until the
# tracer has waited for it.
#
# One would expect that a task has an exit code only once it ends: a watcher that takes a code other
# than 0 for the beginning of an exit will occasionally declare a process dead that runs under
# strace, which stops it at each system call.
#
# Seen on x86_64, Linux 6.18.44, 2026-11-28 (printed by this script):
#   running:                    state S, exit code 0
#   stopped at a system call:   state t, exit code 133 (SIGTRAP | 0x80)
#   its tracer has waited:      state t, exit code 0
#   gone on:                    state S, exit code 0
# Needs python3. Exits 1 when a task that a tracer has just stopped shows 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/traced.py" <<'PY'
import ctypes, os, signal, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
CONT, DETACH, SYSCALL, SETOPTIONS, SEIZE, INTERRUPT = 7, 17, 24, 0x4200, 0x4206, 0x4207
TRACESYSGOOD = 1


def ptrace(request, pid, data=0):
    if libc.ptrace(request, pid, None, data) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def shown(pid):
    with open(f"/proc/{pid}/stat", "rb") as stat:
        fields = stat.read().rpartition(b") ")[2].split()
    return fields[0].decode(), int(fields[49])


def asleep(pid):
    for _ in range(2000):
        if shown(pid)[0] == "S":
            return shown(pid)
        time.sleep(0.005)
    raise SystemExit("the child does not fall asleep")


child = os.fork()
if child == 0:
    while True:
        time.sleep(0.2)
try:
    running = asleep(child)
    ptrace(SEIZE, child, TRACESYSGOOD)
    ptrace(INTERRUPT, child)
    os.waitpid(child, 0)
    ptrace(SYSCALL, child)
    # Waits, and leaves the report in place.
    os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOWAIT)
    stopped = shown(child)
    os.waitpid(child, 0)
    waited = shown(child)
    ptrace(DETACH, child)
    gone_on = asleep(child)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print("running:                    state %s, exit code %d" % running)
print("stopped at a system call:   state %s, exit code %d (SIGTRAP | 0x80)" % stopped)
print("its tracer has waited:      state %s, exit code %d" % waited)
print("gone on:                    state %s, exit code %d" % gone_on)
sys.exit(running[1] != 0 or stopped[1] == 0)
PY
if ! timeout 60 python3 "$work/traced.py"; then
    echo "changed: a task that a tracer has just stopped shows no exit code"
    exit 1
fi
echo "as described: a living task has an exit code until its tracer has waited for the stop"
