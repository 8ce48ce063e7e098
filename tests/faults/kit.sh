# shellcheck shell=sh
# What all scripts of this folder share: options, permitted targets, and how to undo.
#
# A script describes itself in its header, which is also its --help, defines
#   check   refuses what cannot be done, before anything is touched
#   begin   breaks, by `step`, each step after the `later` that undoes it
# and ends with `run "$@"`. Two processes then do the work:
#
#   the script       was started by the user: holds the write end of a pipe and waits
#   its guard        in a session of its own, reads that pipe: breaks, holds, undoes
#
# When the script ends for any reason, the pipe closes and the guard undoes. If the guard is killed,
# the script undoes. If both are killed at once, the steps to undo are still recorded: the next run
# on the same target does them first, and so does the script `undo`.
#
# Exit codes: 0 done and undone; 2 refused, nothing is broken; 3 something could not be undone, and
# what to do by hand is printed; 129, 130, 143 undone after SIGHUP, SIGINT, SIGTERM.

set -u
fault=${0##*/}
kit=$(cd "$(dirname "$0")" && pwd)

# How long a fault lasts by default, and at most: even a forgotten one ends soon.
hold_default=10s
hold_most_ms=3600000
# How long an undo waits for what the kernel does asynchronously, such as the end of a process.
patience_s=10

pid=
start=
thread=
hold=$hold_default
dry=
state=
key=
undone_by=
told=
is_guard=
undoing=
steps=0

say() { printf '%s: %s\n' "$fault" "$*"; }

# Ends with the reason and the next step. Nothing was broken.
refuse() {
    [ -z "$is_guard" ] || [ -n "$undoing" ] || rm -rf "$state"
    printf '%s: %s\n' "$fault" "$*" >&2
    exit 2
}

# The comment at the top of the script.
header() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# Words as a shell reads them back.
quoted() {
    for word; do
        case $word in *"'"*) word=$(printf '%s' "$word" | sed "s/'/'\\\\''/g") ;; esac
        printf "'%s' " "$word"
    done
}

# --- requirements

# need PROGRAM PACKAGE: a program, or else the Debian package that contains it.
need() {
    command -v "$1" >/dev/null 2>&1 || refuse "it needs $1: apt-get install $2"
}

# need_capability BIT NAME WHAT: see linux/capability.h.
need_capability() {
    caps=$(field_of self CapEff)
    # Only the low 60 bits: shells count in 63.
    [ $((0x${caps#?} >> $1 & 1)) -eq 1 ] || refuse "$3 needs $2: run it as root"
}

# --- options

# shellcheck source=tests/faults/target.sh
. "$kit/target.sh"
# shellcheck source=tests/faults/steps.sh
. "$kit/steps.sh"
# shellcheck source=tests/faults/guard.sh
. "$kit/guard.sh"

# A duration in milliseconds.
ms_of() {
    number=${1%%[a-z]*}
    is_number "$number" || return 1
    case ${1#"$number"} in
        ms) printf '%s\n' "$number" ;;
        s) printf '%s\n' $((number * 1000)) ;;
        m) printf '%s\n' $((number * 60000)) ;;
        h) printf '%s\n' $((number * 3600000)) ;;
        *) return 1 ;;
    esac
}

# The same in seconds, as sleep and timeout take it.
seconds_of() {
    ms=$(ms_of "$1") || return 1
    if [ $((ms % 1000)) -eq 0 ]; then printf '%s\n' $((ms / 1000)); else printf '%s.%03d\n' $((ms / 1000)) $((ms % 1000)); fi
}

take_hold() {
    ms=$(ms_of "$hold") && [ "$ms" -gt 0 ] ||
        refuse "--for $hold is no duration: a whole number and ms, s, m or h, such as 30s"
    [ "$ms" -le "$hold_most_ms" ] || refuse "--for $hold is longer than 1h: no fault lasts longer"
    seconds=$(seconds_of "$hold")
}

# run "$@": runs a script. `options` and `flags` name what it takes besides the common ones; the
# words in `options` set variables opt_WORD. A script without --pid sets `key` in `check`.
run() {
    for word; do
        case $word in
            --help | -h)
                header
                exit 0
                ;;
            --) break ;;
        esac
    done
    all=$(quoted "$@")
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry=1 ;;
            --)
                shift
                break
                ;;
            --*=*)
                both=$1
                shift
                set -- "${both%%=*}" "${both#*=}" "$@"
                continue
                ;;
            --*)
                word=${1#--}
                case $word in *[!a-z-]*) refuse "there is no option $1: see $fault --help" ;; esac
                case " ${flags:-} " in *" $word "*)
                    eval "opt_$(printf '%s' "$word" | tr - _)=1"
                    shift
                    continue
                    ;;
                esac
                case " pid for ${options:-} " in
                    *" $word "*) [ $# -ge 2 ] || refuse "--$word has no value: see $fault --help" ;;
                    *) refuse "there is no option --$word: see $fault --help" ;;
                esac
                case $word in
                    pid) pid=$2 ;;
                    for)
                        [ -z "${momentary:-}" ] || refuse "--for has no meaning here: what is done is done at once"
                        hold=$2
                        ;;
                    thread) thread=$2 ;;
                    *) eval "opt_$(printf '%s' "$word" | tr - _)=\$2" ;;
                esac
                shift
                ;;
            *) refuse "$1 is no option: see $fault --help" ;;
        esac
        shift
    done
    take_hold
    rest=$(quoted "$@")
    [ -z "$rest" ] || [ -n "${takes_command:-}" ] || refuse "nothing may follow --: see $fault --help"
    # What the script passed to its guard only.
    if [ -n "${SHARD_FAULTS_STATE:-}" ]; then
        is_guard=1
        state=$SHARD_FAULTS_STATE
        undoing=${SHARD_FAULTS_UNDO:-}
        unset SHARD_FAULTS_STATE SHARD_FAULTS_UNDO
    fi
    # If the process has ended, only the recorded steps can undo what was done to it.
    target=${state##*.}
    if [ -z "$undoing" ] || is_same "${target%-*}" "${target#*-}"; then check; fi
    [ -n "$key" ] || key=$pid-$start
    if [ -n "$dry" ]; then
        header
        printf '\n'
        begin
    elif [ -n "$undoing" ]; then
        undo_all || exit 3
    elif [ -n "$is_guard" ]; then
        [ "$key" = "${state##*/}" ] || refuse "process $pid is another one by now: nothing was done to it"
        watch_over
    else
        need setsid util-linux
        need timeout coreutils
        need mkfifo coreutils
        eval "attend $all"
    fi
}
