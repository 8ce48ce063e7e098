#!/usr/bin/env bash
# mimalloc 0.1.52 (libmimalloc-sys 0.1.49): a program that links it is another one after each build.
# The allocator's C code stores the date and the time at which it was compiled, to print them when
# MIMALLOC_VERBOSE is set.
#
# The Rust compiler gives the same bytes for the same source, and cargo's lock file pins that
# source. So one would expect a program to be reproducible once the paths of the machine are mapped
# away. With this allocator, common in executors and nodes, it is not, and neither is whatever
# contains it: packages, images, their signatures. No path or name of the machine is in the program,
# which is where people look first. SOURCE_DATE_EPOCH, which gcc and clang obey for both macros, or
# a definition of the two (-D__DATE__=…) makes the builds equal.
#
# Seen on x86_64, rustc 1.95, gcc 12.2, 2026-11-30 (printed by this script):
#   without the allocator: two builds are equal
#   with it: two builds differ
#   with it, and SOURCE_DATE_EPOCH: two builds are equal
# Needs cargo and a C compiler. Exits 1 when one of these is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=$work/target
unset SOURCE_DATE_EPOCH CFLAGS

# program NAME: a package of that name, whose manifest and source end with what is given.
program() {
    mkdir -p "$work/$1/src"
    printf '[package]\nname = "%s"\nversion = "0.0.0"\nedition = "2024"\n%s\n' "$1" "$2" >"$work/$1/Cargo.toml"
    printf '%s\nfn main() { println!("{}", vec![1; 8].len()); }\n' "$3" >"$work/$1/src/main.rs"
}
program plain '' ''
program allocator $'[dependencies]\nmimalloc = "=0.1.52"\nlibmimalloc-sys = "=0.1.49"' \
    '#[global_allocator] static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;'

# The sum of the program in folder $1, built from nothing.
sum() {
    rm -rf "$CARGO_TARGET_DIR"
    (cd "$work/$1" && cargo build --quiet --release)
    sha256sum <"$CARGO_TARGET_DIR/release/$1"
}
compared() {
    local first
    first=$(sum "$1")
    # The stored time has whole seconds.
    sleep 1.1
    if [ "$first" = "$(sum "$1")" ]; then echo "two builds are equal"; else echo "two builds differ"; fi
}

plain=$(compared plain)
allocator=$(compared allocator)
fixed=$(SOURCE_DATE_EPOCH=1 compared allocator)
echo "without the allocator: $plain"
echo "with it: $allocator"
echo "with it, and SOURCE_DATE_EPOCH: $fixed"
[ "$plain; $allocator; $fixed" = "two builds are equal; two builds differ; two builds are equal" ]
