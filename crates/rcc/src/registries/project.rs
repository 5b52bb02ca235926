//! Hosts that files of the project name. They are only ever shown: whoever wrote the repository chose them.
//!
//! Must not follow a link in the project, and must not read more than a bounded part: a lock file has megabytes.

use std::os::fd::AsFd as _;
use std::path::Path;

use rcc_host::{Links, Project, read_below};
use rcc_spec::registries::{
    Endpoint, Found, LockFile, lock_file_urls, read_cargo_config, read_git_config, read_maven,
    read_npmrc, read_requirements, read_uv_toml,
};
use rcc_spec::{Effect, Origin, PackageManager, Ports, Rule, Transport};

/// Largest file that is looked into, in bytes.
const FILE_LIMIT_BYTES: usize = 8 << 20;
/// Most hosts that are shown.
const NAMED_LIMIT: usize = 30;

/// A host that a file of the project names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// What it would take to allow it.
    pub(crate) rule: Rule,
    /// The file, with the line.
    pub(crate) place: String,
}

/// Whether lock files are looked into, which takes time when they are large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockFiles {
    /// When a policy is written.
    Read,
    /// At every start.
    Skip,
}

/// Files that tell that a package manager is used.
const TRACES: [(&str, PackageManager); 20] = [
    ("package.json", PackageManager::Npm),
    ("package-lock.json", PackageManager::Npm),
    ("npm-shrinkwrap.json", PackageManager::Npm),
    ("pnpm-lock.yaml", PackageManager::Npm),
    ("yarn.lock", PackageManager::Npm),
    ("bun.lock", PackageManager::Npm),
    ("Cargo.toml", PackageManager::Cargo),
    ("Cargo.lock", PackageManager::Cargo),
    ("uv.lock", PackageManager::Pip),
    ("requirements.txt", PackageManager::Pip),
    ("pyproject.toml", PackageManager::Pip),
    ("setup.py", PackageManager::Pip),
    ("poetry.lock", PackageManager::Pip),
    ("Pipfile", PackageManager::Pip),
    ("Pipfile.lock", PackageManager::Pip),
    ("go.mod", PackageManager::Go),
    ("go.sum", PackageManager::Go),
    ("pom.xml", PackageManager::Maven),
    (".git", PackageManager::Git),
    (".gitmodules", PackageManager::Git),
];

/// The package managers whose files are in the project's top directory, sorted.
pub(crate) fn present(project: &Project) -> Vec<PackageManager> {
    let mut found: Vec<PackageManager> = TRACES
        .iter()
        .filter(|(name, _)| {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statat(&project.directory, *name, flags).is_ok()
        })
        .map(|(_, manager)| *manager)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Hosts that the project's files name for these package managers, without repetition.
pub(crate) fn named_by_project(
    project: &Project,
    managers: &[PackageManager],
    lock_files: LockFiles,
) -> Vec<Named> {
    let mut out = Collected {
        named: Vec::new(),
        lock_files,
    };
    for manager in managers {
        match manager {
            PackageManager::Npm => {
                // No variable is put in: a value of the caller's environment would be shown.
                out.file(project, ".npmrc", |text, place| {
                    read_npmrc(text, place, &|_| None)
                });
                for (name, kind) in [
                    ("package-lock.json", LockFile::Npm),
                    ("npm-shrinkwrap.json", LockFile::Npm),
                    ("yarn.lock", LockFile::Yarn),
                    ("pnpm-lock.yaml", LockFile::Pnpm),
                ] {
                    out.lock_file(project, name, kind);
                }
            }
            PackageManager::Cargo => {
                out.file(project, ".cargo/config.toml", read_cargo_config);
                out.file(project, ".cargo/config", read_cargo_config);
                out.lock_file(project, "Cargo.lock", LockFile::Cargo);
            }
            PackageManager::Pip => {
                out.file(project, "requirements.txt", read_requirements);
                out.file(project, "uv.toml", read_uv_toml);
                out.lock_file(project, "uv.lock", LockFile::Uv);
            }
            PackageManager::Maven => {
                out.file(project, "pom.xml", |text, place| {
                    read_maven(text, place, &|_| None)
                });
            }
            PackageManager::Git => {
                out.file(project, ".git/config", read_git_config);
                // `[submodule "x"] url = …` has the form of a remote.
                out.file(project, ".gitmodules", |text, place| {
                    read_git_config(&text.replace("[submodule ", "[remote "), place)
                });
            }
            PackageManager::Go | PackageManager::Apt => {}
        }
    }
    out.named
}

struct Collected {
    named: Vec<Named>,
    lock_files: LockFiles,
}

impl Collected {
    fn file(&mut self, project: &Project, name: &str, read: impl FnOnce(&str, &str) -> Found) {
        let Some(text) = text_of(project, name) else {
            return;
        };
        let found = read(&text, name);
        for rule in found.main.iter().flatten().chain(&found.others) {
            let place = place_of(&rule.origin).unwrap_or_else(|| name.to_owned());
            self.add(rule.clone(), place);
        }
    }

    fn lock_file(&mut self, project: &Project, name: &str, kind: LockFile) {
        if self.lock_files == LockFiles::Skip {
            return;
        }
        let Some(text) = text_of(project, name) else {
            return;
        };
        for (Endpoint { target, port }, line) in lock_file_urls(kind, &text) {
            let rule = Rule::new(
                Effect::Allow,
                target,
                Ports::single(port),
                Some(Transport::Tcp),
                Origin::DEFAULT,
            );
            self.add(rule, format!("{name}:{line}"));
        }
    }

    fn add(&mut self, rule: Rule, place: String) {
        let is_known = self
            .named
            .iter()
            .any(|known| known.rule.target == rule.target && known.rule.ports == rule.ports);
        if !is_known && self.named.len() < NAMED_LIMIT {
            self.named.push(Named { rule, place });
        }
    }
}

/// The place in `preset npm (PLACE)`.
fn place_of(origin: &Origin) -> Option<String> {
    let text = origin.to_string();
    let (_, place) = text.split_once('(')?;
    Some(place.strip_suffix(')')?.to_owned())
}

/// A file of the project; one that is missing, no text, too large or behind a link names nothing.
fn text_of(project: &Project, name: &str) -> Option<String> {
    read_below(
        project.directory.as_fd(),
        &project.root,
        Path::new(name),
        FILE_LIMIT_BYTES,
        Links::Refuse,
    )
    .ok()
    .flatten()
    .map(|content| content.text)
}
