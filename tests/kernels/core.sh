# The core of the fault matrix on this kernel and its unified hierarchy of cgroups: what must be
# excused, and what must be seen. What it prints is explained in common.sh.
. /kernels/common.sh
configure 4s

# Of its own CPU, where one of them has no tick: only what is put there runs there.
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

# excused KIND SET UNSET FILE ORDER: from the writing of SET into FILE until so much has been
# excused by that name (eight seconds, twice the threshold), and back.
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

# killed PHASE ORDER LEFT: from the order until another puppet is healthy, with so many kills left.
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

# Somebody else kills the process: it is only begun anew.
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
# Nothing of this scenario runs beside the next.
xargs kill -9 < $shard/cgroup.procs
