# shellcheck shell=bash
# Packages of other Debian releases than this machine's: fetched and unpacked, never installed. They
# are signed with Debian's keys. To be sourced.

# debian_fetch SUITE INTO PACKAGE…
# Puts the newest version of each package, as a file, into INTO. It uses apt with its own lists and
# settings: those of this machine are neither used nor changed. The folder `debian_apt`, which the
# caller creates and removes, retains the lists between calls.
# shellcheck disable=SC2154
debian_fetch() {
    local suite=$1 into=$2 apt=$debian_apt/$1 mirror package check=true
    shift 2
    # A release that is no longer supported moves to the archive, where the expiry date of the lists
    # is no longer renewed.
    local mirrors=(http://deb.debian.org/debian http://archive.debian.org/debian)
    for mirror in "${mirrors[@]}"; do
        [ -s "$apt/packages" ] && break
        rm -rf "$apt"
        mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=$check] $mirror $suite main" >"$apt/sources.list"
        : >"$apt/status"
        printf '%s\n' "Dir::Etc::sourcelist \"$apt/sources.list\";" 'Dir::Etc::sourceparts "/dev/null";' 'Dir::Etc::preferencesparts "/dev/null";' \
            "Dir::State::lists \"$apt/lists\";" "Dir::State::status \"$apt/status\";" "Dir::Cache \"$apt/cache\";" \
            'APT::Sandbox::User "root";' 'Acquire::Languages "none";' >"$apt/apt.conf"
        APT_CONFIG=$apt/apt.conf apt-get -qq update >"$apt/update" 2>&1 || true
        APT_CONFIG=$apt/apt.conf apt-cache pkgnames libc6 >"$apt/packages"
        check=false
    done
    if [ ! -s "$apt/packages" ]; then
        echo "no list of packages of Debian $suite could be fetched from ${mirrors[*]}:" >&2
        cat "$apt/update" >&2
        return 1
    fi
    for package in "$@"; do
        if ! APT_CONFIG=$apt/apt.conf apt-cache show "$package" >/dev/null 2>&1; then
            echo "Debian $suite has no package $package: it has been removed there, or renamed" >&2
            return 1
        fi
    done
    mkdir -p "$into"
    (cd "$into" && APT_CONFIG=$apt/apt.conf apt-get -qq download "$@")
}

# debian_depends SUITE PACKAGE
# The packages that one of the lists fetched above depends on, such as today's kernel behind
# `linux-image-amd64`.
debian_depends() {
    APT_CONFIG=$debian_apt/$1/apt.conf apt-cache depends --no-recommends --no-suggests "$2" | sed -n 's/^ *Depends: //p'
}
