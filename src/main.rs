//! The `castellan` program: see `castellan::cli`.

use std::process::ExitCode;

// Uploads allocate at the rate of the network; this allocator halves what that costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    castellan::cli::run(std::env::args_os())
}
