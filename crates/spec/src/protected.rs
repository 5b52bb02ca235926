//! Names in a project that programs on the host execute or obey later.
//!
//! Must not be complete in spirit only: what stands here as read-only is what ordinary work of an agent never writes,
//! the rest is reported when it changes.

use serde::Serialize;

/// What is done about a protected name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtectedClass {
    /// Mounted read-only and pinned; a new one is reported at exit.
    ReadOnly,
    /// Writable, because work needs it; new and changed ones are reported at exit.
    Report,
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

const fn entry(
    place: ProtectedPlace,
    class: ProtectedClass,
    path: &'static str,
    reason: &'static str,
) -> ProtectedName {
    ProtectedName {
        path,
        place,
        class,
        reason,
    }
}

use ProtectedClass::{ReadOnly, Report};
use ProtectedPlace::{Anywhere, GitDirectory, Top};

/// The names that hold for every run; presets of agents add theirs.
pub const PROTECTED_NAMES: &[ProtectedName] = &[
    entry(
        GitDirectory,
        ReadOnly,
        "hooks/",
        "git runs these programs on commit, checkout, merge and push",
    ),
    entry(
        GitDirectory,
        ReadOnly,
        "config",
        "git runs programs that it names (pager, editor, fsmonitor, filters)",
    ),
    entry(
        GitDirectory,
        ReadOnly,
        "config.worktree",
        "git reads it as configuration of one worktree",
    ),
    entry(
        GitDirectory,
        ReadOnly,
        "info/attributes",
        "it attaches filter and merge programs to files",
    ),
    entry(
        GitDirectory,
        ReadOnly,
        "commondir",
        "it tells git which directory to take hooks and configuration from",
    ),
    entry(
        Anywhere,
        Report,
        ".gitattributes",
        "it attaches filter, diff and merge programs of the configuration to files",
    ),
    entry(
        Anywhere,
        Report,
        ".gitmodules",
        "git fetches and checks out what it names",
    ),
    entry(
        Top,
        ReadOnly,
        "rcc.toml",
        "it is the policy of this sandbox",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".envrc",
        "direnv runs it when a shell enters the directory",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".mise.toml",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "mise.toml",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".vscode/",
        "the editor runs its tasks, debuggers and settings",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".idea/",
        "the editor runs its run configurations and watchers",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".zed/",
        "the editor runs its tasks, debuggers and language servers",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".fleet/",
        "the editor runs its run configurations",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".nvim.lua",
        "the editor runs it with `exrc`",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".nvimrc",
        "the editor runs it with `exrc`",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".exrc",
        "the editor runs it with `exrc`",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".vimrc",
        "the editor runs it with `exrc`",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".dir-locals.el",
        "the editor evaluates it on opening a file",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".devcontainer/",
        "editors build and start containers from it, with host commands",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".devcontainer.json",
        "editors build and start containers from it, with host commands",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".mcp.json",
        "agents on the host start the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/settings.json",
        "Claude Code runs its hooks and obeys its permissions",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/settings.local.json",
        "Claude Code runs its hooks and obeys its permissions",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/hooks/",
        "Claude Code's settings run these programs",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/commands/",
        "Claude Code runs the shell lines in them",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/agents/",
        "Claude Code gives them tools and instructions",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/skills/",
        "Claude Code runs the programs in them",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".claude/plugins/",
        "Claude Code runs the hooks and servers in them",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".codex/",
        "Codex reads configuration, hooks and servers from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".gemini/",
        "Gemini CLI reads settings, commands and servers from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".opencode/",
        "opencode runs plugins, commands and tools from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "opencode.json",
        "opencode starts the servers, formatters and plugins it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "opencode.jsonc",
        "opencode starts the servers, formatters and plugins it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".aider.conf.yml",
        "aider runs the lint and test commands it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".cursor/",
        "Cursor obeys its rules and starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".windsurf/",
        "Windsurf obeys its rules and workflows",
    ),
    entry(Anywhere, ReadOnly, ".husky/", "its scripts are git hooks"),
    entry(
        Anywhere,
        ReadOnly,
        ".pre-commit-config.yaml",
        "pre-commit runs the hooks it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "lefthook.yml",
        "lefthook runs the commands it names as git hooks",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".overcommit.yml",
        "overcommit runs the commands it names as git hooks",
    ),
    entry(
        Anywhere,
        Report,
        ".github/workflows/",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".gitlab-ci.yml",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        "package.json",
        "npm runs its scripts on install and by name",
    ),
    entry(
        Anywhere,
        Report,
        ".npmrc",
        "npm takes registry, shell and scripts from it",
    ),
    entry(
        Anywhere,
        Report,
        ".yarnrc.yml",
        "yarn runs the program and plugins it names",
    ),
    entry(Anywhere, Report, "build.rs", "cargo runs it on every build"),
    entry(
        Anywhere,
        Report,
        ".cargo/config.toml",
        "cargo runs the wrappers, linkers and runners it names",
    ),
    entry(
        Anywhere,
        Report,
        "rust-toolchain.toml",
        "rustup installs and runs the toolchain it names",
    ),
    entry(Anywhere, Report, "Makefile", "make runs it"),
    entry(Anywhere, Report, "justfile", "just runs it"),
    entry(Anywhere, Report, "Taskfile.yml", "task runs it"),
    entry(
        Anywhere,
        Report,
        "CMakeLists.txt",
        "cmake runs it on configuration",
    ),
    entry(
        Anywhere,
        Report,
        "build.gradle",
        "gradle runs it on every build",
    ),
    entry(
        Anywhere,
        Report,
        "build.gradle.kts",
        "gradle runs it on every build",
    ),
    entry(
        Anywhere,
        Report,
        "gradlew",
        "it is the program that builds the project",
    ),
    entry(
        Anywhere,
        Report,
        "mvnw",
        "it is the program that builds the project",
    ),
    entry(Anywhere, Report, "setup.py", "pip runs it on install"),
    entry(
        Anywhere,
        Report,
        "conftest.py",
        "pytest runs it before any test",
    ),
    entry(
        Anywhere,
        Report,
        "sitecustomize.py",
        "python runs it on start when the directory is on its path",
    ),
    entry(Anywhere, Report, "noxfile.py", "nox runs it"),
    entry(Anywhere, Report, "Dockerfile", "an image is built from it"),
    entry(
        Anywhere,
        Report,
        "compose.yaml",
        "containers with host mounts are started from it",
    ),
    entry(
        Anywhere,
        Report,
        "docker-compose.yml",
        "containers with host mounts are started from it",
    ),
    entry(
        Anywhere,
        Report,
        "flake.nix",
        "nix evaluates it and builds what it says",
    ),
    entry(
        Anywhere,
        Report,
        "shell.nix",
        "nix evaluates it when a shell is opened",
    ),
    entry(
        Anywhere,
        Report,
        ".tool-versions",
        "version managers install and run what it names",
    ),
    entry(Anywhere, Report, "CLAUDE.md", "agents on the host obey it"),
    entry(Anywhere, Report, "AGENTS.md", "agents on the host obey it"),
    entry(Anywhere, Report, "GEMINI.md", "agents on the host obey it"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn what_work_needs_is_reported_only() {
        for path in [
            "package.json",
            "Makefile",
            "build.rs",
            "conftest.py",
            ".gitattributes",
            "CLAUDE.md",
        ] {
            assert_eq!(class_of(path), Some(Report), "{path}");
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
