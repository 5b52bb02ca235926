//! Text that is made from the code is equal to what the code makes now.
//!
//! Pages made from tables in the code (exit codes) are compared by the tests of `crates/rcc`; this gate does what needs
//! the built binary and user namespaces: the demo of the README.

use std::process::Command;

use anyhow::Result;

use super::Report;
use crate::{demo, process, workspace::Workspace};

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let trial =
        process::capture(Command::new("unshare").args(["--user", "--map-root-user", "true"]));
    if !trial.is_ok_and(|output| output.status.success()) || process::find_program("curl").is_none()
    {
        report.skipped = Some("the demo needs user namespaces and curl".into());
        return Ok(report);
    }
    let (old, new) = demo::pages(workspace)?;
    if old != new {
        report
            .problem("README.md: the demo is not what the commands print (run `cargo xtask demo`)");
        let changed = old.lines().zip(new.lines()).find(|(old, new)| old != new);
        report.problem(format!("the first difference: {changed:?}"));
    }
    Ok(report)
}
