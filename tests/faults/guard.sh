# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# The script and its guard: which of them holds, which undoes, and which run may work on a target.

# The folder in which runs record what they have to undo: only for this user.
keep_state() {
    if [ "$(id -u)" -eq 0 ] && [ -w /run ]; then
        base=/run/shard-faults
    else
        base=${XDG_RUNTIME_DIR:-/tmp}/shard-faults-$(id -u)
    fi
    mkdir -m 700 "$base" 2>/dev/null
    [ "$(stat -c '%u %a %F' "$base" 2>/dev/null)" = "$(id -u) 700 directory" ] ||
        refuse "$base must be a folder of yours with mode 700: remove it, or make it so"
    state=$base/$key
}

# Undoes what a run that was killed together with its guard left on the target KEY: with the script
# of that run and its arguments.
recover() {
    keep_state
    state=$base/$1
    [ -e "$state/runner" ] || return 0
    while read -r who_pid who_start who_fault; do
        ! is_same "$who_pid" "$who_start" ||
            refuse "$who_fault (pid $who_pid) is at work on this target: wait for its end, or kill $who_pid"
    done <"$state/runner"
    old=$base/left.$$.$1
    mv "$state" "$old" 2>/dev/null || refuse "another run has just begun on this target: wait for its end"
    SHARD_FAULTS_STATE=$old SHARD_FAULTS_UNDO=1 sh -c "$(cat "$old/arguments")" || {
        mv "$old" "$state"
        by_hand
        exit 3
    }
    read -r _ _ who_fault <"$old/runner"
    rm -rf "$old"
    say "an earlier run ($who_fault) was killed together with its guard: what it left is undone"
}

# Takes the target for this run alone.
lock() {
    recover "$key"
    mkdir -m 700 "$state" 2>/dev/null || {
        # A run that was killed between these lines has broken nothing.
        [ -z "$(find "$state" -prune -mmin +1)" ] || rm -rf "$state"
        refuse "another run has just begun on this target: wait for its end"
    }
    quoted "$kit/$fault" "$@" >"$state/arguments"
    look $$
    printf '%s %s %s\n' "$$" "$began" "$fault" >"$state/runner"
}

# What was started: starts the guard, holds the pipe, and undoes should the guard be gone.
attend() {
    lock "$@"
    trap 'told=130; exec 3>&-' INT
    trap 'told=143; exec 3>&-' TERM
    trap 'told=129; exec 3>&-' HUP
    trap : PIPE
    mkfifo -m 600 "$state/alive" && exec 3<>"$state/alive" && exec 4<"$state/alive" || refuse "no pipe in $state"
    [ -z "$told" ] || exec 3>&-
    SHARD_FAULTS_STATE=$state setsid "$kit/$fault" "$@" <&4 3>&- 4<&- &
    guard=$!
    exec 4<&-
    ! look "$guard" || printf '%s %s %s\n' "$guard" "$began" "$fault" >>"$state/runner"
    while :; do
        wait "$guard"
        code=$?
        kill -0 "$guard" 2>/dev/null || break
    done
    # A run that has nothing left to undo removes the folder.
    if [ -d "$state" ]; then
        [ "$code" -eq 3 ] || say "its guard was killed: this undoes" >&2
        undo_all || {
            by_hand
            exit 3
        }
        rm -rf "$state"
    elif [ "$code" -eq 2 ]; then
        exit 2
    fi
    [ -n "${momentary:-}" ] || say "undone"
    exit "${told:-0}"
}

# Until the time is up or the script has ended, whichever comes first.
hold_on() { timeout -s KILL "$seconds" cat >/dev/null 2>&1; }

# The guard: its standard input ends when the script does.
watch_over() {
    # Caught and not ignored: what it starts would inherit that.
    trap : INT TERM HUP QUIT PIPE
    # The output of its children.
    exec 7>"$state/said"
    begin
    if [ -z "${momentary:-}" ]; then
        say "broken: for $hold at most"
        hold_on
    fi
    undo_all || exit 3
    rm -rf "$state"
}
