//! The program. All of it is in [`shard_executor::cli`], so that other code can read the command
//! line's description too.

/// A helper's allocations are freed by its owner, tens of times a transaction. The C library's
/// allocator takes a lock for each of these, and the two threads contend for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    shard_executor::cli::main()
}
