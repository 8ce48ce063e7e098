# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # variables that kit.sh and the script share
# For scripts whose fault uses a cgroup: where the target is, and how it is moved or limited.
#
# In version 1 a cgroup with processes may have cgroups below it, so the target gets one of its own.
# In version 2 it may not, for controllers that distribute a resource, so there the target's own
# cgroup is limited; only below the root, which has no limits, a new one is created.

# find_cgroup CONTROLLER: sets `version`, `root` (where that hierarchy is mounted) and `own` (the
# target's cgroup in it). freezer is no controller in version 2, but part of every cgroup.
find_cgroup() {
    version='' root='' own='' first='' second=''
    while read -r _ point type settings _; do
        case $type,$settings, in
            cgroup,*,"$1",*) first=$point ;;
            cgroup2,*) second=$point ;;
        esac
    done </proc/mounts
    case ${opt_version:-} in
        1) root=$first version=1 ;;
        2) root=$second version=2 ;;
        '') if [ -n "$first" ]; then root=$first version=1; else root=$second version=2; fi ;;
        *) refuse "--version $opt_version: 1 or 2" ;;
    esac
    [ -n "$root" ] || return 1
    while IFS=: read -r _ controllers path; do
        # A cgroup outside this cgroup namespace has a path that leads out of the mount.
        case $path in /..*) continue ;; esac
        case $version,$controllers, in
            2,, | 1,"$1", | 1,*,"$1", | 1,"$1",* | 1,*,"$1",*) own=$root${path%/} ;;
        esac
    done <"/proc/$pid/cgroup"
    [ -n "$own" ] && [ -d "$own" ]
}

# aim_at_cgroup CONTROLLER FILE: the same, or refuses with the reason. FILE is what version 2 needs
# there.
aim_at_cgroup() {
    find_cgroup "$1" ||
        refuse "there is no cgroup controller $1${version:+ (version $version)} in which process $pid ($name) can be found: see /proc/mounts and /proc/$pid/cgroup"
    [ -w "$own/cgroup.procs" ] || refuse "$own may not be written by this user: run this as root"
    made=$own/shard-fault-$pid
    in_place=
    if [ "$version" = 2 ] && [ "$own" != "$root" ] && [ "$2" != cgroup.freeze ]; then
        in_place=1
        [ -e "$own/$2" ] ||
            refuse "$own has no $2: echo +${2%%.*} >${own%/*}/cgroup.subtree_control, if that may have it"
        mine=$root$(sed -n 's/^0:://p' /proc/self/cgroup)
        case $mine/ in "$own"/*) refuse "$own holds this script as well: run it from elsewhere" ;; esac
        if [ -z "${opt_whole_cgroup:-}" ]; then
            while read -r one; do
                [ "$one" = "$pid" ] ||
                    refuse "$own holds process $one as well: add --whole-cgroup, if that is meant"
            done <"$own/cgroup.procs"
        fi
    elif [ "$version" = 2 ] && [ "$2" != cgroup.freeze ]; then
        grep -qw "${2%%.*}" "$root/cgroup.controllers" ||
            refuse "cgroups of version 2 at $root have no controller ${2%%.*} (version 1 has it, or the kernel has not)"
    fi
}

put_if_there() { [ ! -e "$2" ] || put "$1" "$2"; }

# Creates the cgroup for the target alone.
make_cgroup() {
    later "move what is in $made/cgroup.procs to $own/cgroup.procs, and rmdir $made" leave_cgroup "$made" "$own"
    step "make the cgroup $made" mkdir "$made"
}

move_in() {
    step "move process $pid ($name) into it" put "$pid" "$made/cgroup.procs"
}

# leave_cgroup FOLDER BACK: its processes may be ending, or have children by now.
leave_cgroup() {
    waited=0
    while [ -d "$1" ] && ! rmdir "$1" 2>/dev/null; do
        [ "$waited" -lt $((patience_s * 20)) ] || return 1
        while read -r one; do put "$one" "$2/cgroup.procs" 2>/dev/null || true; done <"$1/cgroup.procs"
        sleep 0.05
        waited=$((waited + 1))
    done
}

# limit FILE VALUE: for version 2, in the target's cgroup or in one of its own below the root.
limit() {
    if [ -n "$in_place" ]; then
        # io.max has a line for each disk, and takes a line of one.
        was=$(grep "^${2%% *} " "$own/$1" || case $1 in io.max) echo "${2%% *} rbps=max wbps=max" ;; *) cat "$own/$1" ;; esac)
        later "echo '$was' >$own/$1" put_if_there "$was" "$own/$1"
        step "set $own/$1 to $2 (it was $was)" put "$2" "$own/$1"
    else
        if ! grep -qw "${1%%.*}" "$root/cgroup.subtree_control"; then
            later "echo -${1%%.*} >$root/cgroup.subtree_control" put "-${1%%.*}" "$root/cgroup.subtree_control"
            step "have the cgroups below the root share out ${1%%.*}" put "+${1%%.*}" "$root/cgroup.subtree_control"
        fi
        make_cgroup
        step "set its $1 to $2" put "$2" "$made/$1"
        move_in
    fi
}
