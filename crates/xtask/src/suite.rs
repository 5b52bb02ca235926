//! `cargo xtask test`: builds rcc and runs every test of the workspace.
//!
//! It lists what the machine lacks before it starts, so that a skip is never silent. It must not install anything.

use std::process::ExitCode;

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// Builds the binary, then runs `cargo test --workspace` with the given arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    // The tests start the real binary; `cargo test` alone would leave an old one in place.
    if !process::passes(&mut workspace.cargo(&["build", "--locked", "--package", "rcc"]))? {
        return Ok(ExitCode::FAILURE);
    }
    let mut command = workspace.cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    command.args(arguments);
    Ok(if process::passes(&mut command)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
