# The demo with each of its faults. Prints for the host:
#   DEMO fault line       what it said
#   CODE fault number     how it ended
#   KILLED fault reason   the reason of each incident of any of its sidecars
shard-executor generate --out /tmp/blocks --blocks 4 --txs 200 > /tmp/said 2>&1 || cat /tmp/said
for fault in panic exit spin deadlock leader-exit; do
    keep=/tmp/$fault
    shard-watchdog demo --fault $fault --keep $keep --blocks /tmp/blocks > /tmp/said 2>&1
    echo "CODE $fault $?"
    sed "s/^/DEMO $fault /" /tmp/said
    for incident in "$keep"/*/incidents/*/incident.json; do
        [ ! -e "$incident" ] || echo "KILLED $fault $(tr -d '\n' < "$incident" | sed 's/.*"reason": *"\([a-z_]*\)".*/\1/')"
    done
    rm -rf $keep
done
