# What a unified hierarchy of cgroups does to a shard, and a sidecar in enforce mode beside it. Prints lines for the host:
#   STATUS phase json     what the sidecar said at the end of a phase
#   PID phase number      the puppet at the beginning and at the end of a phase
#   INCIDENT json         each of them, at the end
cg=/sys/fs/cgroup
shard=$cg/shard
echo "+memory" > $cg/cgroup.subtree_control
mkdir $shard

cat > /tmp/sidecar.toml <<T
[target]
shard = "puppet"
heartbeat = "/tmp/heartbeat"
[[thread]]
name = "exec-s0"
stall_after = "4s"
[kill]
mode = "enforce"
budget = { kills = 3, per = "10m" }
[evidence]
directory = "/tmp/evidence"
[http]
listen = "127.0.0.1:9611"
T

# The supervisor of the puppet.
(while true; do
    sh -c "echo \$\$ > $shard/cgroup.procs; exec puppet target /tmp/heartbeat 127.0.0.1:9000"
    sleep 0.2
done) &
shard-watchdog run --config /tmp/sidecar.toml > /tmp/sidecar.log 2>&1 &
sidecar=$!

status() { wget -q -O - http://127.0.0.1:9611/api/v1/status; }
order() { echo "$1" | nc -w 2 127.0.0.1 9000; }
puppet() { cat $shard/cgroup.procs | head -n 1; }

# Waits for words in the status. Gives up after a minute or more: the host sees by what is missing that they did not come.
until_status() {
    for _ in $(seq 200); do
        status | grep -Eq "$1" && return
        sleep 0.3
    done
    echo "GAVE UP on $1: $(status)"
    tail -n 20 /tmp/sidecar.log
}

# Waits until so much has been excused by that name: eight seconds, twice the threshold.
until_excused() {
    until_status "\"$1\":([89]|[1-9][0-9])"
    echo "STATUS $1 $(status)"
}

until_status '"verdict":"healthy"'

echo "PID memory_throttled $(puppet)"
echo 8M > $shard/memory.high
order "wait memory"
until_excused memory_throttled
echo max > $shard/memory.high
until_status '"verdict":"healthy"'
echo "PID memory_throttled $(puppet)"

echo "PID frozen $(puppet)"
echo 1 > $shard/cgroup.freeze
until_excused frozen
echo 0 > $shard/cgroup.freeze
until_status '"verdict":"healthy"'
echo "PID frozen $(puppet)"

echo "PID hang $(puppet)"
order "wait hang"
# Killed, and another one begun.
until_status '"kills_left":2[,}]'
until_status '"verdict":"healthy"'
echo "PID hang $(puppet)"

kill -TERM $sidecar
wait $sidecar
for incident in /tmp/evidence/incidents/*/incident.json; do
    echo "INCIDENT $(tr -d '\n' < "$incident")"
done
