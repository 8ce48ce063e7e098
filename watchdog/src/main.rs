//! The program: all of it is in [`shard_watchdog::cli`], where what describes the command line can
//! be read by others too.

fn main() -> std::process::ExitCode {
    shard_watchdog::cli::main()
}
