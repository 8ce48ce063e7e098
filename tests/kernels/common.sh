# What the scenarios share: a puppet in a cgroup of its own, a sidecar in enforce mode beside it,
# and what they print for the host (tests/src/kernel.rs):
#   STATUS phase json     the sidecar's status at the end of a phase
#   PID phase number      the puppet at the beginning and at the end of a phase
#   INCIDENT json         each incident, at the end
# To be sourced by busybox's shell.
cg=/sys/fs/cgroup
shard=$cg/shard

# configure STALL_AFTER: the shard's cgroup, and the sidecar's config.
configure() {
    echo "+memory +cpu" > $cg/cgroup.subtree_control
    mkdir $shard
    cat > /tmp/sidecar.toml <<T
[target]
shard = "puppet"
heartbeat = "/tmp/heartbeat"
[[thread]]
name = "exec-s0"
stall_after = "$1"
[kill]
mode = "enforce"
budget = { kills = 3, per = "10m" }
[evidence]
directory = "/tmp/evidence"
[http]
listen = "127.0.0.1:9611"
T
}

watch() {
    shard-watchdog run --config /tmp/sidecar.toml > /tmp/sidecar.log 2>&1 &
    sidecar=$!
}

status() { wget -q -O - http://127.0.0.1:9611/api/v1/status 2>/dev/null; }
order() { echo "$1" | nc -w 2 127.0.0.1 9000; }
puppet() { head -n 1 $shard/cgroup.procs; }

# Waits for words in the status. Gives up after a minute or more: the host detects by what is
# missing that they never appeared.
until_status() {
    for _ in $(seq 200); do
        status | grep -Eq "$1" && return
        sleep 0.3
    done
    echo "GAVE UP on $1: $(status)"
    tail -n 20 /tmp/sidecar.log
}

# Ends the sidecar, and prints its incidents.
end() {
    kill -TERM $sidecar
    wait $sidecar
    for incident in /tmp/evidence/incidents/*/incident.json; do
        [ ! -e "$incident" ] || echo "INCIDENT $(tr -d '\n' < "$incident")"
    done
}
