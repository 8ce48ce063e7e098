# The demo with each of its faults, or those that the kernel's command line names
# (faults=spin,exit). Prints for the host:
#   DEMO fault line       its output
#   CODE fault number     its exit code
#   KILLED fault reason   the reason of each incident of any of its sidecars
#   RECORD fault json     that incident
shard-executor generate --out /tmp/blocks --blocks 4 --txs 200 > /tmp/said 2>&1 || cat /tmp/said
for fault in $(echo "${faults:-panic,exit,spin,deadlock,leader-exit}" | tr , ' '); do
    keep=/tmp/$fault
    shard-watchdog demo --fault $fault --keep $keep --blocks /tmp/blocks > /tmp/said 2>&1
    echo "CODE $fault $?"
    sed "s/^/DEMO $fault /" /tmp/said
    for incident in "$keep"/*/incidents/*/incident.json; do
        [ -e "$incident" ] || continue
        record=$(tr -d '\n' < "$incident")
        echo "KILLED $fault $(echo "$record" | sed 's/.*"reason": *"\([a-z_]*\)".*/\1/')"
        echo "RECORD $fault $record"
    done
    rm -rf $keep
done
