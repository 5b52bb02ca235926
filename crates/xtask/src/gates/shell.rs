//! shellcheck over every shell script of the tree.

use std::process::Command;

use anyhow::Result;

use super::Report;
use crate::{process, workspace::Workspace};

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let mut scripts = Vec::new();
    for path in workspace.files()? {
        let text = workspace.read(&path)?.unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("#!") && first.ends_with("sh") {
            if first.ends_with("bash") && !text.contains("set -Eeuo pipefail") {
                report.problem(format!("{}: without `set -Eeuo pipefail`", path.display()));
            }
            scripts.push(path);
        }
    }
    report.note(format!("{} scripts", scripts.len()));
    let Some(shellcheck) = process::find_program("shellcheck") else {
        report.skipped = Some("shellcheck is not installed".into());
        return Ok(report);
    };
    let output = process::capture(
        Command::new(shellcheck)
            .args(&scripts)
            .current_dir(&workspace.root),
    )?;
    if !output.status.success() {
        report.problem(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Ok(report)
}
