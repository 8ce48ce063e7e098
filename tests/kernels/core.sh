# The core of the fault matrix on this kernel and its unified hierarchy of cgroups: what must be
# excused, and what must be detected. common.sh explains what it prints.
. /kernels/common.sh
configure 4s

# On a CPU of its own, if one of them has no tick: only what is put there runs there.
quiet=$(cat /sys/devices/system/cpu/nohz_full 2>/dev/null)
case $quiet in
[0-9]*) there="taskset -c $quiet" ;;
*) there= ;;
esac

# The supervisor of the puppet.
(while true; do
    sh -c "echo \$\$ > $shard/cgroup.procs; exec $there puppet target /tmp/heartbeat 127.0.0.1:9000"
    sleep 0.2
done) &
supervisor=$!
watch

healthy='"verdict":"healthy"'

# excused KIND SET UNSET FILE ORDER: writes SET into FILE, waits until enough time has been excused
# under that name (eight seconds, twice the threshold), and reverts it.
excused() {
    echo "PID $1 $(puppet)"
    echo "$2" > "$shard/$4"
    [ -z "$5" ] || order "$5"
    until_status "\"$1\":([89]|[1-9][0-9])"
    echo "STATUS $1 $(status)"
    echo "$3" > "$shard/$4"
    until_status "$healthy"
    echo "PID $1 $(puppet)"
}

# killed PHASE ORDER LEFT: from the order until another puppet is healthy, with LEFT kills left.
killed() {
    echo "PID $1 $(puppet)"
    order "$2"
    until_status "\"kills_left\":$3[,}]"
    until_status "$healthy"
    echo "PID $1 $(puppet)"
}

until_status "$healthy"

excused memory_throttled 8M max memory.high "wait memory"
excused throttled "1000 100000" "max 100000" cpu.max "wait busy"
excused frozen 1 0 cgroup.freeze

killed deadlock "wait priority-lock" 2
killed livelock "wait spin" 1

# Another process kills the target: it is only restarted.
was=$(puppet)
echo "PID gone $was"
kill -9 "$was"
for _ in $(seq 200); do
    now=$(puppet)
    [ -n "$now" ] && [ "$now" != "$was" ] && break
    sleep 0.3
done
until_status "\"pid\":${now}[,}]"
until_status "$healthy"
echo "PID gone $(puppet)"
echo "STATUS gone $(status)"

end
kill $supervisor
# Nothing of this scenario may run during the next.
xargs kill -9 < $shard/cgroup.procs
