//! Development tasks of rcc: `cargo xtask check` (all gates), `cargo xtask test` (the test command), `cargo xtask bench`.
//!
//! Nothing here is shipped, and nothing shipped may depend on it (the `edges` gate sees to that). It must not
//! contain knowledge about the sandbox: it runs programs, reads the tree, and reports.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a task's whole purpose is its report on the terminal"
)]
#![expect(clippy::print_stderr, reason = "usage errors go to stderr")]

mod bench;
mod commands;
mod demo;
mod fuzz;
mod gates;
mod packages;
mod process;
mod rust_source;
mod suite;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match commands::dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
