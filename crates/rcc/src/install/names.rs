//! Names and versions of npm packages. They become arguments of a program and names of files, so only plain ones count.

use std::path::Path;

/// Ending of the names of packages for this platform, as npm spells it: `-linux-x64`, `-linux-arm64-musl`.
pub(super) fn platform() -> String {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let musl_only = Path::new("/lib").read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("ld-musl-"))
        })
    }) && !Path::new("/lib64/ld-linux-x86-64.so.2").exists()
        && !Path::new("/lib/ld-linux-aarch64.so.1").exists();
    format!("-linux-{cpu}{}", if musl_only { "-musl" } else { "" })
}

/// `NAME@VERSION` of a dependency; `npm:OTHER@VERSION` is an alias for another package.
pub(super) fn alias_target(name: &str, requirement: &str) -> String {
    match requirement.strip_prefix("npm:") {
        Some(other) => other.to_owned(),
        None => format!("{name}@{requirement}"),
    }
}

/// A package with an exact version: ranges would let the registry choose something that was not announced.
pub(super) fn is_exact(text: &str) -> bool {
    text.rsplit_once('@')
        .is_some_and(|(name, version)| is_package(name) && is_version(version))
}

/// Names of npm packages, as far as agents use them: `[@scope/]name` in lower case.
pub(super) fn is_package(text: &str) -> bool {
    let part = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && text.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            })
    };
    let (scope, name) = match text.strip_prefix('@').map(|rest| rest.split_once('/')) {
        Some(Some((scope, name))) => (scope, name),
        Some(None) => return false,
        None => ("x", text),
    };
    text.len() <= 214 && part(scope) && part(name)
}

/// Semantic versions, which are also file names.
pub(super) fn is_version(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
}

/// Sort key of versions: numbers by value, a pre-release before its release.
pub(super) fn order(version: &str) -> (Vec<u64>, bool, String) {
    let (numbers, rest) = version.split_once('-').unwrap_or((version, ""));
    let numbers = numbers
        .split(['.', '+'])
        .map(|part| part.parse().unwrap_or(0))
        .collect();
    (numbers, rest.is_empty(), rest.to_owned())
}
