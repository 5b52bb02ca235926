//! What works on this host, what does not, and the exact fix: the values behind `rcc doctor`.
//!
//! Slow on purpose, and never on the way of a start: what can be tried is tried, in a child process that is thrown
//! away, because settings alone do not say whether a kernel really lets this user build a sandbox. Must not change
//! anything on the host, send a packet, or guess: a check that could not be made says so.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde::Serialize;

mod isolation;
mod kernel;
mod modules;
mod programs;
mod resolver;
mod state;
mod system;
mod trial;

pub use system::{Container, Distribution, System};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// It works in part, or something weaker is used instead.
    Degraded,
    /// It does not work.
    Missing,
}

/// Whether rcc can run a sandbox without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The native engine refuses to start without it.
    Required,
    /// A sandbox starts without it; what is lost is said.
    Optional,
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// One sentence: what stands in the way, and where to change it.
    pub text: String,
    /// Commands for a shell, in order; may be empty.
    pub commands: Vec<String>,
}

impl Fix {
    fn new(text: impl Into<String>, commands: impl IntoIterator<Item = String>) -> Self {
        Self {
            text: text.into(),
            commands: commands.into_iter().collect(),
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked, for example `user namespaces`.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// Whether a sandbox can do without.
    pub need: Need,
    /// What it protects, or is good for.
    pub protects: &'static str,
    /// What was found, in one line.
    pub detail: String,
    /// What to do, when it is not [`Status::Ok`] and something is known to help.
    pub fix: Option<Fix>,
}

/// A check before its outcome.
#[derive(Debug, Clone, Copy)]
struct Check {
    name: &'static str,
    need: Need,
    protects: &'static str,
}

impl Check {
    fn found(self, status: Status, detail: impl Into<String>, fix: Option<Fix>) -> Finding {
        Finding {
            name: self.name,
            status,
            need: self.need,
            protects: self.protects,
            detail: detail.into(),
            fix,
        }
    }

    fn ok(self, detail: impl Into<String>) -> Finding {
        self.found(Status::Ok, detail, None)
    }
}

/// Makes every check. The calling process must have one thread: it forks.
#[must_use]
pub fn examine(environment: &BTreeMap<OsString, OsString>) -> Vec<Finding> {
    let system = System::look(environment);
    let trial = trial::run();
    let mut findings = vec![kernel::version()];
    findings.extend(isolation::findings(&trial, &system));
    findings.push(kernel::seccomp());
    findings.push(kernel::landlock());
    findings.push(kernel::cgroup());
    findings.push(modules::finding());
    findings.push(resolver::finding());
    findings.extend(state::findings(environment));
    findings.extend(programs::findings(environment, &system));
    findings
}

/// Whether a sandbox can be started with these findings.
#[must_use]
pub fn usable(findings: &[Finding]) -> bool {
    !findings
        .iter()
        .any(|finding| finding.need == Need::Required && finding.status == Status::Missing)
}

/// Reads a small text file of the kernel or the system; `None` when it is missing, unreadable or not text.
fn read(path: &str) -> Option<String> {
    use std::io::Read as _;
    const LIMIT: u64 = 64 << 10;
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(LIMIT)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// Reads a kernel setting that is a number.
fn setting(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check {
        name: "x",
        need: Need::Required,
        protects: "y",
    };

    #[test]
    fn only_a_missing_requirement_makes_a_host_unusable() {
        let optional = Check {
            need: Need::Optional,
            ..CHECK
        };
        let weak = CHECK.found(Status::Degraded, "", None);
        let none = optional.found(Status::Missing, "", None);
        assert!(usable(&[CHECK.ok(""), weak, none.clone()]));
        assert!(!usable(&[none, CHECK.found(Status::Missing, "", None)]));
    }

    #[test]
    fn findings_are_the_same_words_in_json() {
        let finding = CHECK.found(
            Status::Degraded,
            "z",
            Some(Fix::new("do", ["this".to_owned()])),
        );
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"name":"x","status":"degraded","need":"required","protects":"y","detail":"z","fix":{"text":"do","commands":["this"]}}"#
        );
    }
}
