# The fault kit on a unified hierarchy of cgroups, by busybox's shell and without perl, beside a
# sidecar in enforce mode. common.sh explains what it prints, besides:
#   SAID text             output of a script
#   LEFT phase value      after the undo, the contents of a file that a script has written
. /kernels/common.sh
mkdir -p /run
# Here a system call takes so long that one step of the puppet may take ten seconds by itself.
configure 2m

sh -c "echo \$\$ > $shard/cgroup.procs; exec puppet target /tmp/heartbeat 127.0.0.1:9000" &
puppet=$!
watch

# fault PHASE WORDS NAME OPTIONS: from the fault until the sidecar reports these words, and the
# undo.
fault() {
    phase=$1 words=$2 name=$3
    shift 3
    echo "PID $phase $puppet"
    rm -f /tmp/said
    /faults/$name --pid $puppet --for 5m "$@" > /tmp/said 2>&1 &
    script=$!
    for _ in $(seq 200); do
        grep -qs broken /tmp/said && break
        kill -0 $script || break
        sleep 0.1
    done
    echo "LEFT $phase-quota $(cat $cg/shard-fault-$puppet/cpu.max 2>/dev/null)"
    order "$during"
    until_status "$words"
    echo "STATUS $phase $(status)"
    kill -TERM $script
    wait $script
    echo "LEFT $phase-code $?"
    sed 's/^/SAID /' /tmp/said
    until_status '"verdict":"healthy"'
    echo "PID $phase $(cat $cg/cgroup.procs $shard/cgroup.procs | grep -x $puppet)"
}

until_status '"verdict":"healthy"'

during="wait memory"
fault memory_throttled '"memory_throttled":([1-9]|0\.[0-9]*[1-9])' memory-high --memory 8M
echo "LEFT memory.high $(cat $shard/memory.high)"
during="wait calls"
fault throttled '"throttled":([1-9]|0\.[0-9]*[1-9])' throttle --cpu 1
echo "LEFT cpu.max $(cat $shard/cpu.max)"

# The root has no limits: a new cgroup is created there. Excused time accumulates, so it is no sign
# here.
echo $puppet > $cg/cgroup.procs
fault root '"verdict"' throttle --cpu 1
echo "LEFT root $(ls -d $cg/shard-fault* 2>/dev/null | wc -l)"

# Another process in its cgroup requires --whole-cgroup.
echo $puppet > $shard/cgroup.procs
sleep 100 &
echo $! > $shard/cgroup.procs
/faults/throttle --pid $puppet --for 1s 2>&1 | sed 's/^/SAID /'
/faults/throttle --pid $puppet --for 100ms --whole-cgroup 2>&1 | sed 's/^/SAID /'
echo "LEFT cpu.max $(cat $shard/cpu.max)"

end
