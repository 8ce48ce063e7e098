#!/usr/bin/env bash
# Linux 6.18, x86_64: what PTRACE_GETREGSET gave of a stopped thread's extended registers
# (NT_X86_XSTATE) cannot always be given back by PTRACE_SETREGSET. With a buffer that is smaller
# than all of them, the first call succeeds and says how much it has written; the second refuses the
# very same bytes with EFAULT, although the address is good.
#
# One would expect that what was read can be written, as it can for the general registers
# (NT_PRSTATUS), where a part is taken too. A tracer whose buffer was large enough for the
# processors of its time runs until it meets one with more registers: AVX-512 took 2.7 KiB, AMX
# takes 11 KiB, whether or not the traced program uses them. It then fails when it puts registers
# back, not when it reads them, and the error names the address instead of the size. Whoever saves
# registers (debuggers, checkpoints, dumps that resume) must ask for the size first: a large buffer,
# and the length that comes back.
#
# Seen on x86_64, Linux 6.18.44, 2026-11-30 (printed by this script; the size is the processor's):
#   all 11008 bytes: read, written
#   the first 1024 bytes: read, EFAULT
#   the first 64 bytes of the general registers: read, written
# Needs python3. Exits 1 when one of these is no longer so, except for the size.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/registers.py" <<'PY'
import ctypes, errno, os, signal, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
TRACEME, GETREGSET, SETREGSET = 0, 0x4204, 0x4205
GENERAL, EXTENDED = 1, 0x202


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def answer(request, child, which, piece):
    done = libc.ptrace(request, child, which, ctypes.byref(piece))
    return errno.errorcode[ctypes.get_errno()] if done else "ok"


def there_and_back(child, which, room):
    """How many bytes were read into so much room, and what came of reading and writing them."""
    buffer = ctypes.create_string_buffer(room)
    piece = Piece(ctypes.addressof(buffer), room)
    read = answer(GETREGSET, child, which, piece)
    return piece.length, read, answer(SETREGSET, child, which, piece)


child = os.fork()
if child == 0:
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
try:
    os.waitpid(child, 0)
    whole = there_and_back(child, EXTENDED, 1 << 16)
    part = there_and_back(child, EXTENDED, 1024)
    general = there_and_back(child, GENERAL, 64)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
word = lambda written: "written" if written == "ok" else written
print(f"all {whole[0]} bytes: {'read' if whole[1] == 'ok' else whole[1]}, {word(whole[2])}")
print(f"the first {part[0]} bytes: {'read' if part[1] == 'ok' else part[1]}, {word(part[2])}")
print(f"the first {general[0]} bytes of the general registers: {'read' if general[1] == 'ok' else general[1]}, {word(general[2])}")
if whole[0] <= 1024:
    sys.exit("this processor has so few registers that nothing can be shown")
sys.exit((whole[1:], part, general) != (("ok", "ok"), (1024, "ok", "EFAULT"), (64, "ok", "ok")))
PY
if ! timeout 60 python3 "$work/registers.py"; then
    echo "changed: registers go back otherwise"
    exit 1
fi
echo "as described: a part of the extended registers is given and not taken back"
