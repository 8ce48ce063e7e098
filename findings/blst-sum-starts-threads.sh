#!/usr/bin/env bash
# blst 0.3.17 with default features: the first multi-scalar multiplication of a process, over two
# points, starts one thread for each core. The threads have no name of their own and stay until the
# process ends.
#
# revm's precompiles for BLS12-381 (EIP-2537) end in this call. So the first transaction that adds
# up two points changes the number of threads of a process, and the caller waits for threads that
# were not started on purpose. Code that counts, names or confines the threads of an executor finds
# unknown ones. The feature `no-threads` computes the same sum on the caller.
#
# Seen on x86_64, Linux 6.18, 2 cores, 2026-11-28 (printed by this script):
#   default:    1 thread before the first sum, 3 after it
#   no-threads: 1 thread before the first sum, 1 after it
# Needs cargo and a C compiler. Exits 1 when the first sum no longer starts threads.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src"
cat >"$work/src/main.rs" <<'RS'
use blst::{MultiPoint, blst_p1, blst_p1_affine, blst_p1_generator, blst_p1_to_affine};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn main() {
    let mut generator = blst_p1_affine::default();
    // SAFETY: both pointers are valid, and the generator is a point of the curve.
    unsafe { blst_p1_to_affine(&mut generator, blst_p1_generator()) };
    let before = threads();
    // Two points, each times 1: 32 bytes a scalar, the least significant first.
    let mut scalars = [0_u8; 64];
    (scalars[0], scalars[32]) = (1, 1);
    let sum: blst_p1 = [generator, generator][..].mult(&scalars, 255);
    assert!(sum != blst_p1::default());
    println!("{before} {}", threads());
}
RS
# The threads before and after, with these features.
with() {
    cat >"$work/Cargo.toml" <<TOML
[package]
name = "first-sum"
version = "0.0.0"
edition = "2024"
[dependencies]
blst = { version = "=0.3.17", features = [$1] }
TOML
    (cd "$work" && cargo run --quiet --release)
}
read -r before after <<<"$(with '"portable"')"
echo "default:    $before thread before the first sum, $after after it"
read -r plain_before plain_after <<<"$(with '"portable", "no-threads"')"
echo "no-threads: $plain_before thread before the first sum, $plain_after after it"
if [ "$after" -le "$before" ] || [ "$plain_after" -ne "$plain_before" ]; then
    echo "changed: the first sum no longer starts threads, or no-threads no longer prevents it"
    exit 1
fi
echo "as described: the first sum over two points starts a pool of threads"
