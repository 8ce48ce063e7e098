//! The program: all of it is in [`shard_executor::cli`], where what describes the command line can
//! be read by others too.

/// What a helper allocates its owner frees, tens of times a transaction. The C library's allocator
/// takes a lock for each of these, which the two then wait for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    shard_executor::cli::main()
}
