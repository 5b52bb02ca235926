//! Gates that are programs of the Rust toolchain: rustfmt, clippy, rustdoc.

use anyhow::Result;

use super::Report;
use crate::{process, workspace::Workspace};

/// `cargo fmt --check` over the workspace.
pub(super) fn format(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    // -l names the files only: a contributor runs `cargo fmt`, nobody reads the diff.
    let output = process::capture(&mut workspace.cargo(&["fmt", "--all", "--", "--check", "-l"]))?;
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        report.problem(format!(
            "not as rustfmt writes it (run `cargo fmt`):\n{}{}",
            out.trim(),
            err.trim()
        ));
    }
    Ok(report)
}

/// clippy over every target of the workspace; a warning is an error.
pub(super) fn clippy(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    if !process::passes(&mut workspace.cargo(&arguments))? {
        report.problem(format!("`cargo {}` found the above", arguments.join(" ")));
    }
    Ok(report)
}

/// rustdoc over the libraries, private items too; a broken link is an error. (Programs' comments are their help.)
pub(super) fn rustdoc(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--lib",
        "--no-deps",
        "--document-private-items",
    ];
    if !process::passes(
        workspace
            .cargo(&arguments)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )? {
        report.problem(format!("`cargo {}` found the above", arguments.join(" ")));
    }
    Ok(report)
}
