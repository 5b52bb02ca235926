//! Names in a project that programs on the host execute or obey later.
//!
//! Must not be complete in spirit only: what stands here as read-only is what ordinary work of an agent never writes,
//! the rest is reported when it changes.

mod names;

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::Serialize;

pub use names::PROTECTED_NAMES;

/// What is done about a protected name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtectedClass {
    /// Mounted read-only and pinned; a new one is reported at exit.
    ReadOnly,
    /// Writable, because work needs it, and run or obeyed without being asked: new and changed ones are listed at exit.
    Report,
    /// Writable, and run when someone builds, tests or opens the project: new and changed ones are counted at exit.
    Build,
}

/// Where the name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtectedPlace {
    /// Only in the project's top directory.
    Top,
    /// In every directory of the project: each can be opened as a project of its own.
    Anywhere,
    /// In every git directory (`.git`, `.git/worktrees/*`, `.git/modules/**`, bare repositories).
    GitDirectory,
}

/// A name with what is done about it and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProtectedName {
    /// Path relative to the place, without wildcards; a slash at the end marks a directory.
    pub path: &'static str,
    /// Where it counts.
    pub place: ProtectedPlace,
    /// What is done.
    pub class: ProtectedClass,
    /// What the host does with it, one sentence.
    pub reason: &'static str,
}

/// Directories that tools fill with other people's projects and throw away whole. What lies in them is neither mounted, or
/// `rm -rf` would fail, nor reported name by name; of the repositories in them what git would run is judged at exit.
pub const DEPENDENCY_DIRECTORIES: &[&str] = &[
    "node_modules",
    "bower_components",
    ".venv",
    "venv",
    ".tox",
    "target",
    "build",
    "_deps",
    ".terraform",
    ".build",
];

/// Whether the host executes or obeys what lies at this path of a project, wherever in it the name counts: the read-only
/// names, and whatever makes a directory a repository with another configuration.
///
/// Components are compared as bytes without regard to the case of letters: some file systems have none.
#[must_use]
pub fn is_host_executed(path: &Path) -> bool {
    let git_file = path
        .file_name()
        .is_some_and(|last| last.eq_ignore_ascii_case(".git"));
    (git_file && path.components().count() > 1)
        || matching(path).any(|name| name.class == ProtectedClass::ReadOnly)
}

/// The name of the table that counts at this path of a project, the most protected one where there are several.
///
/// Of what lies in directories of dependencies only what git runs counts, as [`DEPENDENCY_DIRECTORIES`] says.
#[must_use]
pub fn protected_name(path: &Path) -> Option<&'static ProtectedName> {
    let foreign = path
        .iter()
        .any(|part| DEPENDENCY_DIRECTORIES.iter().any(|name| part == *name));
    matching(path)
        .filter(|name| !foreign || name.place == ProtectedPlace::GitDirectory)
        .min_by_key(|name| name.class)
}

/// Every name of the table that a path is, or lies in.
fn matching(path: &Path) -> impl Iterator<Item = &'static ProtectedName> {
    let parts: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().to_lowercase())
        .collect();
    let in_git = parts.iter().position(|part| part == ".git");
    // A path can have thousands of parts, hardly any of them in the table: where they are is found in one pass.
    let mut starts: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        if let Some((first, _)) = TABLE.get_key_value(part.as_str()) {
            starts.entry(first).or_default().push(at);
        }
    }
    let mut found = Vec::new();
    for (first, starts) in starts {
        for (index, wanted) in TABLE.get(first).into_iter().flatten() {
            let Some(name) = PROTECTED_NAMES.get(*index) else {
                continue;
            };
            let is_at = |at: &usize| {
                let there = parts.get(*at..).unwrap_or_default();
                there.starts_with(wanted)
            };
            let mut starts = starts.iter().filter(|at| is_at(at));
            let counts = match name.place {
                ProtectedPlace::Top => starts.next() == Some(&0),
                ProtectedPlace::Anywhere => starts.next().is_some(),
                // `config` and `hooks` are ordinary names outside of one; `commondir` makes a directory one.
                ProtectedPlace::GitDirectory => in_git.is_some_and(|git| {
                    starts.any(|at| *at > git)
                        && !is_git_data(parts.get(git + 1..).unwrap_or_default())
                }),
            };
            if counts {
                found.push(*index);
            }
        }
    }
    found.sort_unstable();
    found
        .into_iter()
        .filter_map(|index| PROTECTED_NAMES.get(index))
}

/// The place of a name in the table and its parts.
type Parts = (usize, Vec<String>);

/// The names of the table by their first part, in small letters.
static TABLE: LazyLock<HashMap<String, Vec<Parts>>> = LazyLock::new(|| {
    let mut table: HashMap<String, Vec<Parts>> = HashMap::new();
    for (index, name) in PROTECTED_NAMES.iter().enumerate() {
        let parts = name.path.trim_end_matches('/').split('/');
        let parts: Vec<String> = parts.map(str::to_lowercase).collect();
        let first = parts.first().cloned().unwrap_or_default();
        table.entry(first).or_default().push((index, parts));
    }
    table
});

/// Names of branches and objects in a git directory: a branch may be called `config`.
fn is_git_data(below: &[String]) -> bool {
    let mut below = below;
    // `modules/NAME/…` and `worktrees/NAME/…` are git directories again; names of modules have slashes, so look on.
    if let Some((first, _)) = below.split_first()
        && (first == "modules" || first == "worktrees")
    {
        below = below.get(1..).unwrap_or_default();
        return below
            .iter()
            .position(|part| part == "refs" || part == "objects" || part == "logs")
            .is_some_and(|at| {
                !below
                    .get(..at)
                    .unwrap_or_default()
                    .iter()
                    .any(|part| part == "hooks")
            });
    }
    below
        .first()
        .is_some_and(|first| first == "refs" || first == "objects" || first == "logs")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ProtectedClass::{Build, ReadOnly};
    use super::*;

    fn class_of(path: &str) -> Option<ProtectedClass> {
        PROTECTED_NAMES
            .iter()
            .find(|name| name.path == path)
            .map(|name| name.class)
    }

    #[test]
    fn names_are_unique_and_stay_inside() {
        let mut seen = BTreeSet::new();
        for name in PROTECTED_NAMES {
            assert!(
                seen.insert((name.place as u8, name.path)),
                "{} stands twice",
                name.path
            );
            assert!(
                !name.path.starts_with('/')
                    && !name.path.contains("..")
                    && !name.path.contains('*'),
                "{}",
                name.path
            );
            assert!(
                !name.reason.is_empty() && !name.reason.ends_with('.'),
                "{}",
                name.path
            );
        }
    }

    #[test]
    fn what_the_host_executes_is_found_anywhere_and_under_any_case() {
        for path in [
            "rcc.toml",
            ".envrc",
            "a/b/.envrc",
            "a/.ENVRC",
            ".vscode/tasks.json",
            "sub/.husky/pre-commit",
            ".git/hooks/pre-commit",
            ".git/config",
            "a/.git/config",
            ".git/modules/x/y/config",
            ".git/worktrees/w/commondir",
            ".git/info/attributes",
            "sub/.git",
            ".claude/settings.json",
        ] {
            assert!(is_host_executed(Path::new(path)), "{path}");
        }
        for path in [
            "src/main.rs",
            "config",
            "src/hooks/useState.ts",
            "sub/rcc.toml",
            ".git/index",
            ".git/refs/heads/config",
            ".git/logs/refs/heads/hooks",
            ".git/objects/aa/bb",
            ".git/modules/x/refs/heads/config",
            "package.json",
            ".git",
        ] {
            assert!(!is_host_executed(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_path_has_the_class_of_the_name_that_it_is_or_lies_in() {
        let class = |path: &str| protected_name(Path::new(path)).map(|name| name.class);
        assert_eq!(class("a/.envrc"), Some(ReadOnly));
        assert_eq!(class("sub/.husky/pre-commit"), Some(ReadOnly));
        assert_eq!(class("a/package.json"), Some(Build));
        assert_eq!(class("node_modules/a/package.json"), None);
        assert_eq!(class("node_modules/a/.git/config"), Some(ReadOnly));
        assert_eq!(class("src/main.rs"), None);
    }

    #[test]
    fn what_work_needs_is_reported_only() {
        for path in [
            "package.json",
            "Makefile",
            "build.rs",
            "conftest.py",
            ".gitattributes",
            "CLAUDE.md",
        ] {
            assert_eq!(class_of(path), Some(Build), "{path}");
        }
        for path in [
            "hooks/",
            "config",
            "rcc.toml",
            ".envrc",
            ".vscode/",
            ".mcp.json",
            ".claude/settings.json",
            ".husky/",
        ] {
            assert_eq!(class_of(path), Some(ReadOnly), "{path}");
        }
    }

    #[test]
    fn every_run_protects_what_any_preset_protects() {
        for preset in crate::AgentPreset::builtin_names().filter_map(crate::AgentPreset::builtin) {
            for protected in &preset.project_protected {
                let path = protected.path.as_str();
                let covered = PROTECTED_NAMES
                    .iter()
                    .any(|name| name.class == ReadOnly && name.path.trim_end_matches('/') == path);
                assert!(
                    covered,
                    "{path} of {} is protected only in its own runs",
                    preset.name
                );
            }
        }
    }
}
