#!/usr/bin/env bash
# revm-precompile 43.0.3 with its default features (`c-kzg` 2.1.8 among them): the first point
# evaluation (0x0a) of a process takes seconds of CPU and some 100 MiB, every later one less than 2
# ms.
#
# The call that verifies one proof asks for settings with the precomputation level 8. That level
# builds tables which only speed up making proofs. Verifying reads none of them. They are built
# lazily, so the price falls into whatever transaction calls the precompile first. With the feature
# `blst` alone the same call verifies the same proof at once.
#
# Seen on x86_64, Linux 6.18, 2 cores, 2026-11-28 (printed by this script):
#   c-kzg: first call 1796.0 ms, second call 0.5 ms, memory grew by 100 MiB
#   blst:  first call 0.3 ms, second call 0.3 ms, memory grew by 0 MiB
# Needs cargo and a C compiler. Exits 1 when the first call no longer stands out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src"
cat >"$work/src/main.rs" <<'RS'
use std::time::Instant;

use revm_precompile::kzg_point_evaluation::{kzg_to_versioned_hash, run};

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    // The zero polynomial: commitment and proof are the point at infinity, and its value is 0 everywhere.
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    let mut z = [0; 32];
    z[31] = 3;
    let input = [&kzg_to_versioned_hash(&infinity)[..], &z, &[0; 32], &infinity, &infinity].concat();
    let before = resident();
    let mut took = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        assert!(run(&input, 50_000).is_ok(), "a valid proof is refused");
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("{:.1} {:.1} {}", took[0], took[1], (resident() - before) / 1024);
}
RS
# The figures of one set of features, as "FIRST_MS SECOND_MS MIB".
with() {
    cat >"$work/Cargo.toml" <<TOML
[package]
name = "first-call"
version = "0.0.0"
edition = "2024"
[dependencies]
revm-precompile = { version = "=43.0.3", default-features = false, features = ["std", "blst", "portable"$1] }
c-kzg = { version = "=2.1.8", optional = true }
TOML
    (cd "$work" && cargo run --quiet --release)
}
read -r first second mib <<<"$(with ', "c-kzg"')"
echo "c-kzg: first call $first ms, second call $second ms, memory grew by $mib MiB"
read -r plain_first plain_second plain_mib <<<"$(with '')"
echo "blst:  first call $plain_first ms, second call $plain_second ms, memory grew by $plain_mib MiB"
awk -v f="$first" -v s="$second" -v m="$mib" -v p="$plain_first" \
    'BEGIN { exit !(f > 100 * s && m > 64 && f > 20 * p) }' || {
    echo "changed: the first point evaluation no longer pays for a table"
    exit 1
}
echo "as described: the first point evaluation of a process pays for a table that verifying does not need"
