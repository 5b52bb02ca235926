//! Every program that a test requires or starts is in the list of packages, so that a complete machine skips nothing.
//!
//! Reads the names out of `require("…")` and `…command("…")` in the sources; it must not decide which tests run.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Report;
use crate::{packages, workspace::Workspace};

/// Where tests and their support are.
const PLACES: [&str; 2] = ["/tests/", "crates/testkit/"];

/// Names that are no program of a listed package: properties of the machine, what comes with the toolchain, and what
/// every Debian has (packages marked Essential).
const WORDS: [&str; 17] = [
    "root",
    "not-root",
    "userns",
    "unprivileged-user",
    "claude-code",
    "cargo",
    "rustc",
    "rustup",
    "sh",
    "bash",
    "cat",
    "env",
    "getent",
    "id",
    "sleep",
    "stty",
    "true",
];

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let packages = packages::read(workspace)?;
    let mut known: BTreeSet<&str> = WORDS.into();
    known.extend(
        packages
            .iter()
            .flat_map(|package| &package.programs)
            .map(String::as_str),
    );
    let mut seen = BTreeSet::new();
    for path in workspace.rust_files()? {
        let name = path.display().to_string();
        if !PLACES.iter().any(|place| name.contains(place)) {
            continue;
        }
        for required in requirements(&workspace.read(&path)?.unwrap_or_default()) {
            let program = required.rsplit('/').next().unwrap_or(&required);
            if !known.contains(program) && !required.starts_with("no-such-") {
                report.problem(format!(
                    "{name}: requires `{required}`, which ci/packages.txt does not bring"
                ));
            }
            seen.insert(required);
        }
    }
    report.note(format!(
        "{} packages; tests require {} things by name",
        packages.len(),
        seen.len()
    ));
    Ok(report)
}

/// The literal arguments of `require("…")`, without a version after a colon, and of `…command("…")`.
fn requirements(source: &str) -> Vec<String> {
    let program = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/+-".contains(c))
    };
    ["require(\"", "ommand(\"", "Command::new(\""]
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(|rest| rest.split_once('"'))
        .map(|(name, _)| name.split(':').next().unwrap_or(name).to_owned())
        .filter(|name| !name.is_empty() && program(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read() {
        assert_eq!(
            requirements("if !require(\"dig\") || !require(\"landlock:6\") {}"),
            ["dig", "landlock"]
        );
    }
}
