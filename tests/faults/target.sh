# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# Which process a script may break: one that it can name, and that is still the one it named.

is_number() {
    case $1 in '' | *[!0-9]* | 0?* | ????????*) return 1 ;; esac
}

# Reads /proc/PID/stat: `letter` is its state, `bits` its flags, and `began` its start in clock
# ticks since boot, which together with the pid identifies it. The name in it may contain anything.
look() {
    words=$(cat "/proc/$1/stat" 2>/dev/null) && words=${words##*) } && [ -n "$words" ] || return 1
    # shellcheck disable=SC2086 # words, on purpose
    set -- $words
    letter=$1 bits=$7 began=${20}
}

# Whether that pid is still that process, and has not ended.
is_same() {
    look "$1" && [ "$began" = "$2" ] || return 1
    case $letter in Z | X) ! has_ended "$1" ;; esac
}

# A process may continue after its first thread has ended; this one has no other.
has_ended() {
    for task in "/proc/$1/task"/*; do
        [ "${task##*/}" = "$1" ] || [ ! -e "$task" ] || return 1
    done
}

field_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" 2>/dev/null; }

# Takes --pid for the target, if it may be one.
aim() {
    [ -n "$pid" ] || refuse "--pid is missing: the process to break"
    is_number "$pid" || refuse "--pid $pid is no process id: give a number"
    [ "$pid" -ne 1 ] || refuse "process 1 is everybody's: give the process itself, not its init"
    look "$pid" || refuse "there is no process $pid: see ps -e"
    start=$began
    [ "$(field_of "$pid" Tgid)" = "$pid" ] ||
        refuse "$pid is a thread of process $(field_of "$pid" Tgid): give that to --pid, and this to --thread"
    case $letter in Z | X)
        ! has_ended "$pid" || refuse "process $pid has ended, and waits only for its parent to take note"
        ;;
    esac
    # PF_KTHREAD of linux/sched.h.
    [ $((bits & 0x200000)) -eq 0 ] || refuse "$pid is a thread of the kernel: give a process"
    up=$$
    while [ "$up" -gt 0 ]; do
        [ "$up" -ne "$pid" ] || refuse "process $pid is this script or has started it: run it from elsewhere"
        up=$(field_of "$up" PPid)
        [ -n "$up" ] || break
    done
    name=$(printable "/proc/$pid/comm")
    # Whether or not it uses SIGKILL: a user who may not signal a process may not break it.
    kill -0 "$pid" 2>/dev/null ||
        refuse "process $pid ($name) belongs to another user: run this as that user, or as root"
    # A fault that leaves nothing to undo may run beside another.
    [ -n "$is_guard$dry${momentary:-}" ] || recover "$pid-$start"
}

# Finds the thread that --thread names.
aim_at_thread() {
    [ -n "$thread" ] || refuse "--thread is missing: a name or an id, out of: $(threads)"
    tid=
    for one in "/proc/$pid/task"/*; do
        is_named=$(cat "$one/comm" 2>/dev/null)
        one=${one##*/}
        if [ "$one" = "$thread" ] || [ "$is_named" = "$thread" ]; then
            [ -z "$tid" ] || refuse "process $pid has several threads called $thread: give an id, $tid or $one"
            tid=$one
        fi
    done
    [ -n "$tid" ] || refuse "process $pid has no thread $thread; it has: $(threads)"
    look "$pid/task/$tid" || refuse "thread $tid has just ended: look again"
    thread_start=$began
}

# A name is any bytes.
printable() { tr -d '\n' <"$1" 2>/dev/null | tr -c '[:alnum:] ._/:-' '?'; }

# The first of its threads, to choose from.
threads() {
    for one in "/proc/$pid/task"/*; do
        printf '%s (%s)\n' "${one##*/}" "$(printable "$one/comm")"
    done | head -n 20 | tr '\n' ' '
}

