# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# For scripts whose fault involves a file: its place, as the target sees it.

# Takes --folder. `folder` leads to it for as long as this process lives, whether the target and its
# root do or not.
aim_at_folder() {
    [ -n "$opt_folder" ] || refuse "--folder is missing: a folder, as process $pid ($name) sees it"
    case $opt_folder in /*) ;; *) refuse "--folder $opt_folder: give the whole path" ;; esac
    [ -d "/proc/$pid/root$opt_folder" ] || refuse "process $pid ($name) sees no folder $opt_folder, or this user may not look"
    [ -r "/proc/$pid/root$opt_folder" ] || refuse "$opt_folder may not be read by this user"
    folder=$opt_folder
    if [ "$(readlink "/proc/$pid/root")" != / ] || [ "$(readlink "/proc/$pid/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; then
        exec 6<"/proc/$pid/root$opt_folder"
        folder=/proc/self/fd/6
    fi
}

# in_folder FOLDER COMMAND…: only a process that can see the folder can undo a change in it.
in_folder() {
    [ -d "$1/." ] || return 1
    shift
    "$@"
}

# A size in bytes, from a whole number and K, M or G.
bytes_of() {
    is_number "${1%[KMG]}" || return 1
    case $1 in
        *K) printf '%s\n' $((${1%K} << 10)) ;;
        *M) printf '%s\n' $((${1%M} << 20)) ;;
        *G) printf '%s\n' $((${1%G} << 30)) ;;
        *) printf '%s\n' "$1" ;;
    esac
}
