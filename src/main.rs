//! The `handsup` program: see [`handsup::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    handsup::cli::main()
}
