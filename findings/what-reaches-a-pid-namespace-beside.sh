#!/usr/bin/env bash
# Linux 6.18: a process passes descriptors by SCM_RIGHTS to a process in a sibling pid namespace.
# The descriptor of /proc shows the sender's whole namespace, and the pidfd becomes readable when
# the sender ends, but pidfd_send_signal on it returns EINVAL. A pipe that is armed with F_SETOWN,
# F_SETSIG SIGKILL and O_ASYNC does kill its owner when the receiver writes to it, unless the owner
# is the first process of its pid namespace, as the program of a container is.
#
# One would expect that a pidfd, which contains no number, works wherever it can be sent, as other
# descriptors do; and that SIGKILL, if the kernel itself sends it, kills its target. But the first
# depends on the namespaces of sender and target, and the second is not a signal from an ancestor,
# so it is dropped for a namespace's init.
#
# Seen on x86_64, Linux 6.18.44, 2026-11-29 (printed by this script), both sides as one user without
# capabilities:
#   through the /proc that was given:  its stat, maps and status can be read; "self" leads nowhere
#   pidfd_send_signal:                 EINVAL
#   a byte into the armed pipe:        the second process of the namespace is killed by signal 9,
#                                      the first lives
#   at the end of the first:           its pidfd is readable
# Needs root, util-linux (unshare, setpriv) and python3. Exits 1 when one of these is no longer so.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "it takes root to make pid namespaces" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work"
cat >"$work/shown.py" <<'PY'
import fcntl, os, signal, socket, sys

F_SETSIG = 10
asks = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asks.settimeout(20)
asks.connect(sys.argv[1])


def give():
    """What lets this process be seen, and a line that is to end it."""
    end, line = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    socket.send_fds(asks, [b"%d" % os.getpid()], [proc, os.pidfd_open(os.getpid()), line])
    return end


child = os.fork()
if child == 0:
    kept = give()
    signal.pause()
_, how = os.waitpid(child, 0)
asks.send(b"%d" % (os.WTERMSIG(how) if os.WIFSIGNALED(how) else 0))
kept = give()
asks.recv(1)
PY
cat >"$work/sees.py" <<'PY'
import errno, os, select, signal, socket, sys

door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.bind(sys.argv[1])
door.listen(1)
door.settimeout(20)
print("listening", flush=True)
peer, _ = door.accept()
peer.settimeout(20)
good = True


def told(what, holds):
    global good
    good &= holds
    print(what, flush=True)


def ended(pidfd, within):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within))


for first in (False, True):
    number, (proc, pidfd, line), _, _ = socket.recv_fds(peer, 64, 3)
    there = f"/proc/self/fd/{proc}/{number.decode()}"
    if not first:
        read = [len(open(f"{there}/{name}").read()) > 0 for name in ("stat", "maps", "status")]
        told(f"through the /proc that was given:  {'all can be read' if all(read) else read}", all(read))
        try:
            leads = os.readlink(f"/proc/self/fd/{proc}/self")
        except FileNotFoundError:
            leads = "nowhere"
        told(f"'self' there leads:                {leads}", leads == "nowhere")
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            answer = 0
        except OSError as error:
            answer = error.errno
        told(f"pidfd_send_signal:                 {errno.errorcode.get(answer, answer)}", answer == errno.EINVAL)
        os.write(line, b"x")
        how = int(peer.recv(16))
        told(f"the pipe, second process:          killed by signal {how}", how == signal.SIGKILL)
    else:
        os.write(line, b"x")
        lives = not ended(pidfd, 500)
        told(f"the pipe, first process:           {'lives' if lives else 'has ended'}", lives)
        peer.send(b"x")
        over = ended(pidfd, 20_000)
        told(f"at the end of the first:           its pidfd is {'readable' if over else 'silent'}", over)
sys.exit(not good)
PY
python=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
[ -x /usr/bin/python3 ] && python=/usr/bin/python3
apart=(unshare --pid --fork --kill-child --mount-proc
    setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$python")
timeout 60 "${apart[@]}" "$work/sees.py" "$work/door" >"$work/said" &
sees=$!
for _ in $(seq 200); do
    grep -q listening "$work/said" && break
    sleep 0.05
done
timeout 60 "${apart[@]}" "$work/shown.py" "$work/door" || true
wait "$sees" && good=yes || good=no
grep -v listening "$work/said"
if [ "$good" = no ]; then
    echo "changed: something else reaches a pid namespace beside than described"
    exit 1
fi
echo "as described: sight reaches a pid namespace beside, a signal does not, and an armed pipe does not kill its first process"
