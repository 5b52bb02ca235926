//! The agent's whole environment, built up from nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rcc_spec::{CredentialsFrom, Policy};

use crate::SafeBytes;
use crate::facts::HostFacts;

/// Variables of the caller that every run passes: terminal, language, time zone, colour. Nothing that names a socket, a
/// file, a program to be started, or a secret.
const PASSED: [&str; 11] = [
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "LANG",
    "LANGUAGE",
    "TZ",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
    "LINES",
];

/// `PATH` entries of every run, after the caller's.
const SYSTEM_PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Builds the environment: passed variables, then toolchains', then the policy's, then what is true of every sandbox.
pub(crate) fn environment(
    policy: &Policy,
    facts: &HostFacts,
    run_id: &str,
    visible: &[PathBuf],
) -> Vec<(SafeBytes, SafeBytes)> {
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    for (name, value) in &facts.environment {
        if passes(policy, name) {
            variables.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in facts.toolchains.iter().flat_map(|toolchain| &toolchain.env) {
        variables.insert(name.into(), value.clone());
    }
    variables.insert("PATH".into(), path(facts, visible));
    variables.insert("SHELL".into(), facts.user.shell.clone().into());
    for setting in &policy.env.set {
        variables.insert(
            setting.value.name.as_str().into(),
            setting.value.value.clone().into(),
        );
    }
    variables.insert("HOME".into(), facts.home.clone().into());
    variables.insert("USER".into(), facts.user.name.clone().into());
    variables.insert("LOGNAME".into(), facts.user.name.clone().into());
    variables.insert("RCC_RUN".into(), run_id.into());
    variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn passes(policy: &Policy, name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let credentials = policy.upstream_proxy.credentials.as_ref();
    if let Some(CredentialsFrom::Environment(secret)) = credentials.map(|from| &from.value)
        && secret.as_str() == name
    {
        return false;
    }
    PASSED.contains(&name)
        || name.starts_with("LC_")
        || policy
            .env
            .pass
            .iter()
            .any(|pattern| pattern.value.matches(name))
}

/// The caller's `PATH` without what is not visible inside; a relative entry would search the project.
fn path(facts: &HostFacts, visible: &[PathBuf]) -> OsString {
    let mut entries: Vec<&Path> = Vec::new();
    let callers = facts
        .path
        .iter()
        .map(PathBuf::as_path)
        .filter(|entry| visible.iter().any(|root| entry.starts_with(root)));
    for entry in callers.chain(SYSTEM_PATH.iter().map(Path::new)) {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    // An entry with a colon cannot have come out of a colon-separated list.
    std::env::join_paths(entries).unwrap_or_else(|_| SYSTEM_PATH.join(":").into())
}
