//! Programs that are useful with rcc. Only looked for on `PATH`, never started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use rustix::fs::Access;

use super::system::System;
use super::{Check, Finding, Fix, Need, Status};

/// Name of the program, what it is good for, and the package it comes in (none: it has its own way).
const PROGRAMS: [(&str, &str, Option<&str>); 4] = [
    (
        "git",
        "version control of the project, inside and outside",
        Some("git"),
    ),
    (
        "node",
        "runs Claude Code, Codex and Gemini CLI from their npm packages",
        Some("nodejs"),
    ),
    (
        "npm",
        "installs agents and the packages of Node.js projects",
        Some("npm"),
    ),
    ("claude", "the agent that `rcc claude` starts", None),
];

/// Looks for each of them.
pub(super) fn findings(
    environment: &BTreeMap<OsString, OsString>,
    system: &System,
) -> Vec<Finding> {
    PROGRAMS
        .iter()
        .map(|(name, protects, package)| {
            let check = Check {
                name,
                need: Need::Optional,
                protects,
            };
            match find(name, environment) {
                Some(path) => check.ok(rcc_plan::escape(&path).to_string()),
                None => {
                    let fix = match package {
                        Some(package) => {
                            Fix::new(format!("install {package}"), system.install(package))
                        }
                        None => Fix::new("rcc offers to install it", ["rcc claude".to_owned()]),
                    };
                    check.found(Status::Missing, "not on PATH", Some(fix))
                }
            }
        })
        .collect()
}

/// The first executable file of that name on `PATH`.
fn find(name: &str, environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let path = environment.get(OsStr::new("PATH"))?;
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_absolute_entries_only() {
        let with = |path: &str| BTreeMap::from([(OsString::from("PATH"), OsString::from(path))]);
        assert_eq!(
            find("sh", &with("/nonexistent:/bin")),
            Some(PathBuf::from("/bin/sh"))
        );
        assert_eq!(find("sh", &with("bin:.")), None);
        assert_eq!(find("sh", &BTreeMap::new()), None);
        // A directory is no program.
        assert_eq!(find("bin", &with("/usr")), None);
    }
}
