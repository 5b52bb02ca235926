//! cargo-deny over `deny.toml`: licences, duplicate and banned packages, sources.
//!
//! Advisories are not part of the gate: they change without a commit, so a clean tree would fail tomorrow.

use anyhow::Result;

use super::Report;
use crate::{process, workspace::Workspace};

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    if process::find_program("cargo-deny").is_none() {
        report.skipped =
            Some("cargo-deny is not installed (`cargo install --locked cargo-deny`)".into());
        return Ok(report);
    }
    let arguments = [
        "deny",
        "--workspace",
        "--locked",
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ];
    let output = process::capture(&mut workspace.cargo(&arguments))?;
    if !output.status.success() {
        report.problem(format!(
            "`cargo {}`:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(report)
}
