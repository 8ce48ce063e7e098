#!/usr/bin/env bash
# Linux 6.18: /proc/PID/status shows a blocked signal as not blocked (SigBlk) for as long as the
# thread waits for it by sigwait, sigwaitinfo or sigtimedwait.
#
# One would expect that SigBlk is the mask that the program set, and that a signal that is neither
# blocked, caught nor ignored there would end the process. A supervisor that checks this before it
# passes SIGHUP on to a daemon would then withhold it from exactly those daemons that only wait for
# it.
#
# Seen on x86_64, Linux 6.18.44, 2026-11-28 (printed by this script):
#   blocked, asleep:      SIGHUP in SigBlk: yes
#   waiting by sigwait:   SIGHUP in SigBlk: no
#   SIGHUP was sent:      sigwait returned it, and the process lives on
# Needs python3. Exits 1 when SigBlk names the signal while a thread waits for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/waits.py" <<'PY'
import os, signal, sys, time

HUP = {signal.SIGHUP}


def is_shown_as_blocked(pid):
    with open(f"/proc/{pid}/status", "rb") as status:
        line = next(line for line in status if line.startswith(b"SigBlk:"))
    return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def settles(pid, wanted):
    """Waits until SigBlk is as wanted, for ten seconds at most."""
    for _ in range(2000):
        if is_shown_as_blocked(pid) == wanted:
            return True
        time.sleep(0.005)
    return False


go, told = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, HUP)
    os.read(go[0], 1)
    os.write(told[1], b"HUP" if signal.sigwait(HUP) == signal.SIGHUP else b"?")
    time.sleep(60)
    os._exit(0)
try:
    blocked = settles(child, True)
    os.write(go[1], b"x")
    vanished = settles(child, False)
    os.kill(child, signal.SIGHUP)
    heard = os.read(told[0], 3)
    lives = os.waitpid(child, os.WNOHANG) == (0, 0)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print("blocked, asleep:      SIGHUP in SigBlk:", "yes" if blocked else "no")
print("waiting by sigwait:   SIGHUP in SigBlk:", "no" if vanished else "yes")
print("SIGHUP was sent:      sigwait returned it, and the process lives on" if heard == b"HUP" and lives else "?")
sys.exit(not (blocked and vanished and heard == b"HUP" and lives))
PY
if ! timeout 60 python3 "$work/waits.py"; then
    echo "changed: SigBlk names a signal while a thread waits for it"
    exit 1
fi
echo "as described: a signal that a thread waits for is not shown as blocked"
