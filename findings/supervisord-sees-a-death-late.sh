#!/usr/bin/env bash
# supervisord 4.2.5: a program that ends at once "has stayed up for > than 1 seconds", and is
# restarted forever.
#
# One would expect that with startsecs=1 and startretries=3 a program that ends within milliseconds
# is FATAL after its fourth try. But supervisord checks its children once a second, or when one of
# them writes something or closes its output. Here the program logs to a file of its own, as many
# do: supervisord checks when its output closes, before it has ended, and next a second later. By
# then startsecs have passed, so it calls the start a success and resets the retries. If the output
# closes with the end of the program, there is a race which of the two it detects first. With
# startsecs=2 each end is recognised as one.
#
# Seen on x86_64, Linux 6.18.44, Python 3.11, 2026-11-29 (printed by this script):
#   startsecs=1: 9 starts, 8 called a success; still tried after 15 s
#   startsecs=2: 4 starts, 0 called a success; FATAL
# Installs supervisor 4.2.5 from PyPI in a temporary folder; needs python3 with venv. Exits 1 when
# no start of startsecs=1 was called a success.
set -euo pipefail
work=$(mktemp -d)
running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# supervisor requires pkg_resources, which later versions of setuptools no longer contain.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check supervisor==4.2.5 setuptools==75.8.0

# Runs a program that ends at once for as long as three retries may take, and prints how supervisord
# judged it.
try() {
    cat >"$work/conf" <<CONF
[supervisord]
logfile=$work/log
pidfile=$work/pid
childlogdir=$work
[unix_http_server]
file=$work/socket
[supervisorctl]
serverurl=unix://$work/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:ends]
command=/bin/sh -c "exec >>$work/own.log 2>&1; sleep 0.05; exit 2"
autorestart=true
startsecs=$1
startretries=3
CONF
    : >"$work/log"
    "$work/venv/bin/supervisord" --nodaemon --configuration "$work/conf" >/dev/null 2>&1 &
    running=$!
    # Without a success in between it gives up after 1 s, 2 s and 3 s of waiting, and a second to
    # see each end.
    for _ in $(seq 60); do
        sleep 0.25
        ! grep -q FATAL "$work/log" || break
    done
    kill "$running"
    wait "$running" || true
    running=
    starts=$(grep -c spawned "$work/log")
    successes=$(grep -c 'success: ends entered RUNNING' "$work/log" || true)
    state=$(grep -q FATAL "$work/log" && echo FATAL || echo "still tried after 15 s")
    echo "startsecs=$1: $starts starts, $successes called a success; $state"
}
try 1
late=$successes
try 2
[ "$late" -gt 0 ] && [ "$successes" -eq 0 ]
