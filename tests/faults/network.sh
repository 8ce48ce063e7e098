# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# For scripts that disturb a network: that of the target, which must not be the host's.

# The table of rules that these scripts create; a namespace has one at a time.
table='inet shard_faults'

# Opens the network namespace of the target. It stays reachable as long as this process lives, even
# if the target ends.
aim_at_network() {
    need nsenter util-linux
    need_capability 21 CAP_SYS_ADMIN "entering a network namespace"
    theirs=$(readlink "/proc/$pid/ns/net") || refuse "the network of process $pid ($name) may not be looked at: run this as root"
    for one in 1 self; do
        [ "$theirs" != "$(readlink "/proc/$one/ns/net")" ] ||
            refuse "process $pid ($name) shares the network of the host, where everybody would lose packets: start it in a namespace of its own (a container, ip netns exec, unshare --net)"
    done
    exec 5<"/proc/$pid/ns/net"
}

# Runs a command in it.
inside() { nsenter --net=/proc/self/fd/5 -- "$@"; }

aim_at_rules() {
    need nft nftables
    aim_at_network
    # shellcheck disable=SC2086 # two words
    [ -n "$is_guard" ] || ! inside nft list table $table >/dev/null 2>&1 ||
        refuse "another fault is at work in the network of process $pid: wait for its end, or nsenter -t $pid -n nft delete table $table"
}

# drop WHAT RULE: drops each incoming or outgoing packet that matches the rule.
drop() {
    later "nsenter -t $pid -n nft delete table $table" drop_no_more
    step "drop $1 in the network of process $pid ($name)" inside nft "
        create table $table
        add chain $table out { type filter hook output priority -300; }
        add chain $table in { type filter hook input priority -300; }
        $2"
}

# Only a process that can enter a network can undo a change in it.
in_reach() { [ -e /proc/self/fd/5 ]; }

drop_no_more() {
    in_reach || return 1
    # shellcheck disable=SC2086 # two words
    ! inside nft list table $table >/dev/null 2>&1 || inside nft delete table $table
}
