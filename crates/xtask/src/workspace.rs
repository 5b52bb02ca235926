//! What the gates look at: the root directory, the files of the tree, and the packages by `cargo metadata`.
//!
//! Reads only.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// The checked-out workspace.
pub(crate) struct Workspace {
    /// Absolute path of the directory with the root manifest.
    pub(crate) root: PathBuf,
}

/// The part of `cargo metadata --format-version 1` that the gates use.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Resolve,
}

/// One package, of the workspace or from a registry.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// One declared dependency.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// One compilation root of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) src_path: PathBuf,
}

/// The resolved graph.
#[derive(Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package of the resolved graph.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDependency>,
}

/// One resolved edge.
#[derive(Deserialize)]
pub(crate) struct NodeDependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<DependencyKind>,
}

/// Why an edge exists.
#[derive(Deserialize)]
pub(crate) struct DependencyKind {
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// The packages of the workspace, by name.
    pub(crate) fn members(&self) -> BTreeMap<&str, &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
            .map(|package| (package.name.as_str(), package))
            .collect()
    }
}

impl Workspace {
    /// Finds the workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        // cargo sets it for `cargo xtask`; the compiled-in value serves a direct start of the binary.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).join("../..");
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot find the workspace at {}", root.display()))?;
        Ok(Self { root })
    }

    /// A `cargo` command in the root, the same cargo that started this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments);
        // Set by cargo for this program. Build scripts that look at them would run at each change.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(of_package) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Reads `cargo metadata`, locked, with the resolved graph.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let mut command = self.cargo(&["metadata", "--locked", "--format-version", "1"]);
        let output = process::capture(&mut command)?;
        if !output.status.success() {
            bail!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("cannot read the output of cargo metadata")
    }

    /// Where cargo puts its output.
    pub(crate) fn target_directory(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from)
    }

    /// Where cargo puts the programs of a profile: `debug` or `release`.
    pub(crate) fn programs(&self, profile: &str) -> PathBuf {
        self.target_directory().join(profile)
    }

    /// Every file that is, or would be, in the repository: relative paths, sorted.
    ///
    /// Asks git; a tree that git refuses to read (a source archive, another owner's clone) is walked instead.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut command = Command::new("git");
        command.current_dir(&self.root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ]);
        let mut files: Vec<PathBuf> = match process::capture(&mut command) {
            Ok(output) if output.status.success() => output
                .stdout
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
                .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
                .filter(|name| self.root.join(name).is_file())
                .collect(),
            _ => {
                let mut found = Vec::new();
                walk(&self.root, Path::new(""), &mut found)?;
                found
            }
        };
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The Rust sources among [`Workspace::files`].
    pub(crate) fn rust_files(&self) -> Result<Vec<PathBuf>> {
        Ok(self
            .files()?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "rs"))
            .collect())
    }

    /// Reads a file of the tree as text; `None` when it is not UTF-8.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

/// True for the variables that cargo sets for the package whose program it runs.
fn of_package(name: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn walk(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let directory = root.join(below);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let name = below.join(entry.file_name());
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot look at {}", name.display()))?;
        if kind.is_dir() {
            let skipped = entry.file_name() == ".git" || name == Path::new("target");
            if !skipped {
                walk(root, &name, found)?;
            }
        } else if kind.is_file() {
            found.push(name);
        }
    }
    Ok(())
}
