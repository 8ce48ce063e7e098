//! Processes of the harness that take orders: see `shard_tests::puppet`.

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    shard_tests::puppet::run(&arguments)
}
