//! Names in a project that programs on the host execute or obey later.
//!
//! Must not be complete in spirit only: what stands here as read-only is what ordinary work of an agent never writes,
//! the rest is reported when it changes.

use std::path::Path;

use serde::Serialize;

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

use ProtectedClass::{Build, ReadOnly, Report};
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
        GitDirectory,
        ReadOnly,
        "gitdir",
        "it tells git which worktree belongs to it",
    ),
    entry(
        GitDirectory,
        ReadOnly,
        "objects/info/alternates",
        "it tells git to take objects from elsewhere",
    ),
    entry(
        Anywhere,
        Build,
        ".gitattributes",
        "it attaches filter, diff and merge programs of the configuration to files",
    ),
    entry(
        Anywhere,
        Build,
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
        ".mise.local.toml",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "mise.local.toml",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".mise/",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".config/mise.toml",
        "mise runs its tasks and hooks and sets variables from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".config/mise/",
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
        ".nvim/",
        "the editor runs it with `exrc`",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".lvimrc",
        "a plugin of the editor runs it",
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
        ".dir-locals-2.el",
        "the editor evaluates it on opening a file",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".gdbinit",
        "the debugger runs it on start",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".lldbinit",
        "the debugger runs it on start",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".Rprofile",
        "R runs it on start in the directory",
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
    entry(
        Anywhere,
        ReadOnly,
        ".qwen/",
        "Qwen Code reads settings, commands and servers from it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".kiro/",
        "Kiro runs the hooks and servers in it",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".amazonq/",
        "Amazon Q starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".roo/",
        "Roo Code obeys its rules and starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".continue/",
        "Continue starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".junie/",
        "Junie obeys its rules and starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".crush.json",
        "Crush starts the servers it names",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "crush.json",
        "Crush starts the servers it names",
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
        "lefthook.yaml",
        "lefthook runs the commands it names as git hooks",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".lefthook.yml",
        "lefthook runs the commands it names as git hooks",
    ),
    entry(
        Anywhere,
        ReadOnly,
        ".lefthook.yaml",
        "lefthook runs the commands it names as git hooks",
    ),
    entry(
        Anywhere,
        ReadOnly,
        "lefthook-local.yml",
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
        ".github/actions/",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".circleci/",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        "azure-pipelines.yml",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        "Jenkinsfile",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".woodpecker.yml",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".drone.yml",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".forgejo/workflows/",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Report,
        ".gitea/workflows/",
        "the forge runs it with the repository's secrets after a push",
    ),
    entry(
        Anywhere,
        Build,
        "package.json",
        "npm runs its scripts on install and by name",
    ),
    entry(
        Anywhere,
        Build,
        ".npmrc",
        "npm takes registry, shell and scripts from it",
    ),
    entry(
        Anywhere,
        Build,
        ".yarnrc.yml",
        "yarn runs the program and plugins it names",
    ),
    entry(Anywhere, Build, ".yarnrc", "yarn runs the program it names"),
    entry(Anywhere, Build, ".pnpmfile.cjs", "pnpm runs it on install"),
    entry(
        Anywhere,
        Build,
        ".pnp.cjs",
        "node runs it before every program of the project",
    ),
    entry(
        Anywhere,
        Build,
        "eslint.config.js",
        "the linter of the editor runs it",
    ),
    entry(
        Anywhere,
        Build,
        ".eslintrc.js",
        "the linter of the editor runs it",
    ),
    entry(Anywhere, Build, "vite.config.js", "vite runs it"),
    entry(Anywhere, Build, "vite.config.ts", "vite runs it"),
    entry(Anywhere, Build, "build.rs", "cargo runs it on every build"),
    entry(
        Anywhere,
        Build,
        ".cargo/config.toml",
        "cargo runs the wrappers, linkers and runners it names",
    ),
    entry(
        Anywhere,
        Build,
        ".cargo/config",
        "cargo runs the wrappers, linkers and runners it names",
    ),
    entry(
        Anywhere,
        Build,
        "rust-toolchain.toml",
        "rustup installs and runs the toolchain it names",
    ),
    entry(
        Anywhere,
        Build,
        "rust-toolchain",
        "rustup installs and runs the toolchain it names",
    ),
    entry(Anywhere, Build, "Makefile", "make runs it"),
    entry(Anywhere, Build, "makefile", "make runs it"),
    entry(Anywhere, Build, "GNUmakefile", "make runs it"),
    entry(Anywhere, Build, "justfile", "just runs it"),
    entry(Anywhere, Build, "Justfile", "just runs it"),
    entry(Anywhere, Build, "Taskfile.yml", "task runs it"),
    entry(
        Anywhere,
        Build,
        "CMakeLists.txt",
        "cmake runs it on configuration",
    ),
    entry(
        Anywhere,
        Build,
        "meson.build",
        "meson runs it on configuration",
    ),
    entry(
        Anywhere,
        Build,
        "build.gradle",
        "gradle runs it on every build",
    ),
    entry(
        Anywhere,
        Build,
        "build.gradle.kts",
        "gradle runs it on every build",
    ),
    entry(
        Anywhere,
        Build,
        "gradlew",
        "it is the program that builds the project",
    ),
    entry(
        Anywhere,
        Build,
        "mvnw",
        "it is the program that builds the project",
    ),
    entry(
        Anywhere,
        Build,
        "pom.xml",
        "maven runs the plugins it names",
    ),
    entry(
        Anywhere,
        Build,
        ".mvn/",
        "maven starts with the extensions and options in it",
    ),
    entry(
        Anywhere,
        Build,
        "composer.json",
        "composer runs its scripts",
    ),
    entry(Anywhere, Build, "Gemfile", "bundler runs it"),
    entry(Anywhere, Build, "Rakefile", "rake runs it"),
    entry(
        Anywhere,
        Build,
        ".bazelrc",
        "bazel takes options from it that run programs",
    ),
    entry(Anywhere, Build, "setup.py", "pip runs it on install"),
    entry(
        Anywhere,
        Build,
        "setup.cfg",
        "pip and test runners take options from it",
    ),
    entry(
        Anywhere,
        Build,
        "pyproject.toml",
        "pip runs the build backend it names",
    ),
    entry(
        Anywhere,
        Build,
        "conftest.py",
        "pytest runs it before any test",
    ),
    entry(
        Anywhere,
        Report,
        "sitecustomize.py",
        "python runs it on start when the directory is on its path",
    ),
    entry(Anywhere, Build, "noxfile.py", "nox runs it"),
    entry(Anywhere, Build, "tox.ini", "tox runs the commands it names"),
    entry(Anywhere, Build, "Dockerfile", "an image is built from it"),
    entry(
        Anywhere,
        Build,
        "compose.yaml",
        "containers with host mounts are started from it",
    ),
    entry(
        Anywhere,
        Build,
        "docker-compose.yml",
        "containers with host mounts are started from it",
    ),
    entry(
        Anywhere,
        Build,
        "flake.nix",
        "nix evaluates it and builds what it says",
    ),
    entry(
        Anywhere,
        Build,
        "shell.nix",
        "nix evaluates it when a shell is opened",
    ),
    entry(
        Anywhere,
        Build,
        ".tool-versions",
        "version managers install and run what it names",
    ),
    entry(
        Anywhere,
        Build,
        ".env",
        "agents, containers and build tools take variables from it",
    ),
    entry(Anywhere, Build, "CLAUDE.md", "agents on the host obey it"),
    entry(Anywhere, Build, "AGENTS.md", "agents on the host obey it"),
    entry(Anywhere, Build, "GEMINI.md", "agents on the host obey it"),
];

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
    let parts: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().to_lowercase())
        .collect();
    let in_git = parts.iter().position(|part| part == ".git");
    let git_file = parts.last().is_some_and(|last| last == ".git");
    PROTECTED_NAMES
        .iter()
        .filter(|name| name.class == ReadOnly)
        .any(|name| {
            let wanted: Vec<String> = name
                .path
                .trim_end_matches('/')
                .split('/')
                .map(str::to_lowercase)
                .collect();
            let found = parts
                .windows(wanted.len())
                .position(|window| window == wanted);
            match (name.place, found) {
                (_, None) => false,
                (Top, Some(at)) => at == 0,
                (Anywhere, Some(_)) => true,
                // `config` and `hooks` are ordinary names outside of one; `commondir` makes a directory one.
                (GitDirectory, Some(_)) => in_git.is_some_and(|git| {
                    parts
                        .get(git + 1..)
                        .unwrap_or_default()
                        .windows(wanted.len())
                        .any(|window| window == wanted)
                        && !is_git_data(parts.get(git + 1..).unwrap_or_default())
                }),
            }
        })
        || (git_file && parts.len() > 1)
}

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
