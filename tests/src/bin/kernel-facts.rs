//! What differs from kernel to kernel, as this kernel shows it: see `shard_tests::facts`.

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    shard_tests::facts::run(&arguments);
}
