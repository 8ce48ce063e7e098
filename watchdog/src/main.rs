//! The program. All of it is in [`shard_watchdog::cli`], so that other programs can read the
//! definition of the command line too.

fn main() -> std::process::ExitCode {
    shard_watchdog::cli::main()
}
