# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# The steps of a script: how to undo a step is recorded before the step.

# later WHAT COMMAND…: records how to undo a step, before the step. WHAT tells a person how to do it
# by hand. COMMAND may be a function; it is retried until it works.
later() {
    what=$1
    shift
    if [ -n "$dry" ]; then
        undone_by="${undone_by:+$undone_by; }$what"
        return
    fi
    steps=$((steps + 1))
    {
        printf '# %s\n' "$what"
        quoted "$@"
    } >"$state/new" && mv "$state/new" "$state/$(printf 'undo.%03d' "$steps")" ||
        broke_off "$state cannot be written: is the disk full?"
}

# In a dry run prints what a step would do, and how that is undone.
would() {
    [ -n "$dry" ] || return 1
    printf '  would %s%s\n' "$1" "${undone_by:+ (undone by: $undone_by)}"
    undone_by=
}

# step WHAT COMMAND…: one thing that breaks, or the reason why it did not.
step() {
    what=$1
    shift
    ! would "$what" || return 0
    why=$("$@" 2>&1) || broke_off "cannot $what${why:+: $why}"
}

# child WHAT PROGRAM…: a program that runs during the fault. It ends with the fault, or by its own
# clock if no process is left to end it.
child() {
    what=$1
    shift
    undone_by="${undone_by:+$undone_by; }its end"
    ! would "$what" || return 0
    # Its session, and so its group, have its own number.
    setsid timeout -s KILL "$seconds" "$@" </dev/null 2>&7 7>&- &
    born=$!
    if look "$born"; then
        born_at=$began
        later "kill $born" end_child "$born" "$born_at"
    fi
}

# Waits until the last child reports that it is active, by a file called ready.
until_ready() {
    waited=0
    while [ ! -e "$state/ready" ]; do
        if ! is_same "$born" "$born_at" || [ "$waited" -ge $((patience_s * 20)) ]; then
            cat "$state/said"
            return 1
        fi
        sleep 0.05
        waited=$((waited + 1))
    done
}

# Together with everything that it has started.
end_child() {
    waited=0
    while is_same "$1" "$2"; do
        if [ "$waited" -lt 40 ]; then kill -s TERM -- "-$1"; else kill -s KILL -- "-$1"; fi 2>/dev/null
        [ "$waited" -lt $((patience_s * 20)) ] || return 1
        sleep 0.05
        waited=$((waited + 1))
    done
}

# if_same PID START COMMAND…: unless another process has that pid by now.
if_same() {
    is_same "$1" "$2" || return 0
    shift 2
    "$@"
}

put() { printf '%s\n' "$1" >"$2"; }

# signal NAME PID START: through a pidfd if perl is installed, so that it cannot reach another
# process; otherwise right after a check.
signal() {
    if command -v perl >/dev/null 2>&1; then
        perl "$kit/ptrace.pl" signal "$1" "$2" "$3"
    else
        is_same "$2" "$3" && kill "-$1" "$2"
    fi
}

# The numbers of the recorded steps.
last_first() {
    numbers=
    for one in "$state"/undo.*; do
        [ ! -e "$one" ] || numbers="${one##*.} $numbers"
    done
    printf '%s' "$numbers"
}

# Undoes the recorded steps, last first, and deletes those that worked.
undo_all() {
    left=0
    for nth in $(last_first); do
        # shellcheck disable=SC1090 # one line that `later` wrote
        if . "$state/undo.$nth"; then
            rm -f "$state/undo.$nth"
        else
            left=$((left + 1))
        fi
    done
    [ "$left" -eq 0 ]
}

by_hand() {
    say "NOT UNDONE. As the same user, do by hand:" >&2
    for nth in $(last_first); do sed -n '1s/^# /    /p' "$state/undo.$nth" >&2; done
    say "or run $kit/undo, which tries it again; once it is done by hand: rm -r $state" >&2
}

# If a step fails, the steps before it are undone.
broke_off() {
    printf '%s: %s\n' "$fault" "$*" >&2
    undo_all || exit 3
    rm -rf "$state"
    exit 2
}

