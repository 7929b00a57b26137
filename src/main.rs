//! The `runner` command.

mod cli;

/// A run allocates on one thread what it frees on another: the system's allocator would have them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
